"""What an ONNX file must be before NVIDIA's parser sees it.

That parser takes empty bytes, plain text, a foreign domain, an unknown opset and NaN weights for a model, and builds
from most of them. So everything is checked here first; an error names the file, the check and how to mend it. The bytes
are read once: what is hashed, checked and parsed is the same.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from engines.graph import Port, check_graph
from engines.metadata import MetadataError, ModelMetadata
from engines.plan import Precision
from engines.runner import ModelFileError

#: protobuf's own limit; ours are a hundredth of it.
MAX_BYTES = 2**31 - 1
#: 13: constants as inputs, as our exporter writes them; 24: what TensorRT 10.16 and 11 both read (NVIDIA's opset guide
#: says 25 for 11).
OPSETS = range(13, 25)
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_EXPORT = "export it again by `python -m train.export`"


class OnnxCheckError(ModelFileError):
    """An ONNX file failed one of the checks."""

    def __init__(self, path: Path, check: str, found: str, mend: str) -> None:
        super().__init__(f"{path} failed the check of its {check}: {found}; {mend}")
        self.path = path
        self.check = check
        """Which: file, form, opset, domains, operators, constants, metadata or shapes."""


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """A model file that passed."""

    path: Path
    content: bytes
    sha256: str
    model: ModelProto
    metadata: ModelMetadata
    precision: Precision
    """What its weights are in."""


def check_model_file(path: Path) -> CheckedModel:
    """Read and check an ONNX file.

    Raises:
        OnnxCheckError: naming the file, the check and the mend.
    """
    content = _read(path)
    model = _decode(path, content)
    _check_constants_inside(path, model)  # before onnx.checker, which would open other files
    _check_opsets(path, model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise OnnxCheckError(path, "form", f"onnx.checker says {first!r}", _EXPORT) from error
    _check_operators(path, model)
    _check_finite(path, model)
    metadata = _metadata(path, model)
    _check_shapes(path, model, metadata)
    return CheckedModel(path, content, hashlib.sha256(content).hexdigest(), model, metadata, precision_of(model))


def weights(graph: GraphProto) -> Iterable[tuple[str, TensorProto]]:
    """All constants of a graph by name: initializers and Constant nodes."""
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            yield node.output[0], node.attribute[0].t


def precision_of(model: ModelProto) -> Precision:
    """Half if any weight is."""
    half = any(tensor.data_type == TensorProto.FLOAT16 for _, tensor in weights(model.graph))
    return Precision.FP16 if half else Precision.FP32


def _read(path: Path) -> bytes:
    mend = "see engines/models/README.md for what ships and how to train one"
    if not path.is_file():
        raise OnnxCheckError(path, "file", "there is no such file", mend)
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise OnnxCheckError(path, "file", f"it has {size} bytes, allowed are 1 to {MAX_BYTES}", mend)
        return path.read_bytes()
    except OSError as error:
        raise OnnxCheckError(path, "file", f"it cannot be read ({error.strerror})", mend) from error


def _decode(path: Path, content: bytes) -> ModelProto:
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise OnnxCheckError(path, "form", "it is no ONNX file, or cut off", _EXPORT) from None
    if not model.graph.node:
        raise OnnxCheckError(path, "form", "it holds no graph", _EXPORT)
    return model


def _check_constants_inside(path: Path, model: ModelProto) -> None:
    for name, tensor in weights(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            raise OnnxCheckError(
                path, "constants", f"{name} lies in another file, which the hash would not cover",
                "save it as one file (onnx.save with save_as_external_data=False)",
            )  # fmt: skip


def _check_opsets(path: Path, model: ModelProto) -> None:
    domains = {entry.domain: entry.version for entry in model.opset_import}
    used = domains.keys() | {node.domain for node in model.graph.node}
    if foreign := sorted(used - {"", "ai.onnx"}):
        raise OnnxCheckError(path, "domains", f"it uses {', '.join(foreign)}, allowed is ONNX's own", _EXPORT)
    version = domains.get("", domains.get("ai.onnx"))
    if version not in OPSETS:
        raise OnnxCheckError(path, "opset", f"it is {version}, allowed are {OPSETS[0]} to {OPSETS[-1]}", _EXPORT)


def _check_operators(path: Path, model: ModelProto) -> None:
    seen = {node.op_type for node in model.graph.node}
    if found := sorted(name for name in seen if name in _QUANTIZED or name.startswith("QLinear")):
        raise OnnxCheckError(
            path, "operators", f"it is quantized for CPUs ({', '.join(found)})",
            "build from the file in float32 and choose the precision by --precision",
        )  # fmt: skip


def _check_finite(path: Path, model: ModelProto) -> None:
    for name, tensor in weights(model.graph):
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
            continue
        values = numpy_helper.to_array(tensor)
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise OnnxCheckError(
                path, "constants", f"{name} holds NaN or infinity in {count} of {values.size} places",
                "the training went astray: export an earlier checkpoint",
            )  # fmt: skip


def _metadata(path: Path, model: ModelProto) -> ModelMetadata:
    try:
        return ModelMetadata.from_properties({entry.key: entry.value for entry in model.metadata_props})
    except MetadataError as error:
        raise OnnxCheckError(path, "metadata", str(error), _EXPORT) from None


def _check_shapes(path: Path, model: ModelProto, metadata: ModelMetadata) -> None:
    given = {tensor.name for tensor in model.graph.initializer}
    outputs = [_port(value) for value in model.graph.output]
    try:
        check_graph(path, metadata, [_port(value) for value in model.graph.input if value.name not in given], outputs)
    except ModelFileError as error:
        found = str(error).removeprefix(f"{path}").lstrip(": ")
        raise OnnxCheckError(path, "shapes", found, _EXPORT) from None
    if isinstance(outputs[0].shape[0], int):
        raise OnnxCheckError(
            path, "shapes", f"output {outputs[0].name} has a fixed batch of {outputs[0].shape[0]}", _EXPORT
        )


def _port(value: ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    try:
        dtype = str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError:
        dtype = f"type {kind.elem_type}"
    return Port(
        value.name,
        dtype,
        [side.dim_value if side.HasField("dim_value") else side.dim_param or None for side in kind.shape.dim],
    )
