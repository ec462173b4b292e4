"""What ONNX Runtime says about a model file, whichever of its providers runs it."""

from pathlib import Path

import onnxruntime as ort

from engines.graph import Port, check_graph
from engines.metadata import MetadataError, ModelMetadata
from engines.runner import ModelFileError

#: Names of ONNX Runtime's types in numpy's words.
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def require_file(path: Path) -> None:
    """Raises ModelFileError where there is no file."""
    if not path.is_file():
        raise ModelFileError(f"no model file {path}; see engines/models/README.md for what ships and how to train one")


def cannot_load(path: Path, error: Exception) -> ModelFileError:
    """What to raise when ONNX Runtime refuses a file; its errors share no other base than Exception."""
    return ModelFileError(f"{path} is not a model that ONNX Runtime {ort.__version__} can load: {error}")


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


def describe(path: Path) -> ModelMetadata:
    """Open a model file only to see what it is.

    Raises:
        ModelFileError: it is missing, not a model, or does not describe itself.
    """
    require_file(path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise cannot_load(path, error) from error
    metadata = read_metadata(path, session)
    check_ports(path, session, metadata)
    return metadata
