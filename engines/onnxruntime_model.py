"""What ONNX Runtime says about a model file, whichever of its providers runs it."""

from pathlib import Path

import onnxruntime as ort

from engines.files import loading, read_model_file
from engines.graph import Port, check_graph
from engines.metadata import MetadataError, ModelMetadata
from engines.runner import ModelFileError

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


def describe(path: Path) -> ModelMetadata:
    """Open a model file only to see what it is.

    Raises:
        ModelFileError: it is missing, not a model, or does not describe itself.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    with loading(path, f"ONNX Runtime {ort.__version__}"):
        session = ort.InferenceSession(read_model_file(path), options, providers=["CPUExecutionProvider"])
        metadata = read_metadata(path, session)
        check_ports(path, session, metadata)
    return metadata
