"""What ONNX Runtime says about a model file, whichever of its providers runs it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from engines.files import loading, read_model_file
from engines.graph import Port, check_graph
from engines.metadata import MetadataError, ModelMetadata
from engines.runner import ModelFileError

#: For messages about what it cannot load.
LIBRARY = f"ONNX Runtime {ort.__version__}"
#: Names of ONNX Runtime's types in numpy's words.
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def read_metadata(path: Path, session: ort.InferenceSession) -> ModelMetadata:
    """What an open model says about itself.

    Raises:
        ModelFileError: not enough.
    """
    try:
        return ModelMetadata.from_properties(session.get_modelmeta().custom_metadata_map)
    except MetadataError as error:
        raise ModelFileError(f"{path}: {error}") from error


def check_ports(path: Path, session: ort.InferenceSession, metadata: ModelMetadata) -> tuple[str, str]:
    """Hold an open model against its metadata; the names of its input and output.

    Raises:
        ModelFileError: naming what was seen and what is expected.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    check_graph(
        path,
        metadata,
        [Port(port.name, _DTYPES.get(port.type, port.type), port.shape) for port in inputs],
        [Port(port.name, _DTYPES.get(port.type, port.type), port.shape) for port in outputs],
    )
    return str(inputs[0].name), str(outputs[0].name)


@dataclass(frozen=True, slots=True)
class InspectedModel:
    """A model file as it is from outside."""

    metadata: ModelMetadata
    content: bytes
    sha256: str
    """Of ``content``, in hex."""
    input_name: str
    output_name: str


def inspect(path: Path) -> InspectedModel:
    """Open a model file only to see what it is; its bytes are read once, so that hash and description are of the same.

    Raises:
        ModelFileError: it is missing, not a model, or does not describe itself.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    with loading(path, LIBRARY):
        content = read_model_file(path)
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        metadata = read_metadata(path, session)
        input_name, output_name = check_ports(path, session, metadata)
    return InspectedModel(metadata, content, hashlib.sha256(content).hexdigest(), input_name, output_name)


def describe(path: Path) -> ModelMetadata:
    """What a model file says about itself.

    Raises:
        ModelFileError: it is missing, not a model, or does not describe itself.
    """
    return inspect(path).metadata
