"""Under which name and version a model stands in a Triton server: known to who writes it there and to who asks for it.

Each input size is a Triton model of its own, with fixed shapes: Triton joins only requests of equal shapes into a
batch, and a queue of both orientations would be cut at every change. The version is made from the file's hash, so a
request names the very file, and a server that has another one refuses it.
"""

import re

from engines.metadata import ModelMetadata
from engines.runner import ModelFileError
from humanseg.vision.arrays import Size

#: Key of the ONNX file's SHA-256 among the parameters of a Triton model.
HASH_PARAMETER = "humanseg.onnx_sha256"
#: 48 bits: Triton reads the name of a version's folder as a 64-bit number.
_VERSION_DIGITS = 12
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def triton_name(metadata: ModelMetadata, canvas: Size) -> str:
    """Name of the Triton model for one input size: ``medium-320x192``.

    Raises:
        ModelFileError: the model's own name is none for a folder.
    """
    if not _SAFE_NAME.fullmatch(metadata.name):
        raise ModelFileError(
            f"model name {metadata.name!r} cannot name a folder of a Triton repository;"
            " letters, digits, dot, dash and underscore are allowed: export the model under such a name"
        )
    return f"{metadata.name}-{canvas}"


def triton_version(onnx_sha256: str) -> str:
    """Version of a Triton model, a whole number above 0, from the ONNX file's SHA-256 in hex."""
    return str(int(onnx_sha256[:_VERSION_DIGITS], 16) or 1)
