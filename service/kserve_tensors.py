"""KServe's tensors and parameters to plain objects, and masks to tensors; all that is wrong is named together."""

from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from humanseg.frames import PixelFormat, frame_bytes
from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size
from service.call_errors import CallError, Reason, invalid
from service.kserve_memory import Place, RegionBook
from service.kserve_models import MASK, VERSION, KserveModel, KserveModels
from service.stream_config import SizeLimits

_REGION, _OFFSET, _BYTE_SIZE = "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"
#: Parameter -> the kinds of value that it may have. The last three are taken and mean nothing here.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "sequence_id": ("int64_param", "uint64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "capture_time_us": ("int64_param", "uint64_param"),
    "temporal_fusion": ("string_param",),
    "priority": ("uint64_param", "int64_param"),
    "timeout": ("int64_param", "uint64_param"),
    "triton_enable_empty_final_response": ("bool_param",),
}
_SHARED_PARAMETERS: dict[str, tuple[str, ...]] = {
    _REGION: ("string_param",),
    _OFFSET: ("int64_param", "uint64_param"),
    _BYTE_SIZE: ("int64_param", "uint64_param"),
}
#: BYTES tensors: each element's length stands before it, in so many bytes, little-endian.
_LENGTH_BYTES = 4
_LARGEST_TIME_US = 2**62

Complaints = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class SequenceTurn:
    """What a request says of its sequence."""

    sequence_id: int | str
    starts: bool
    ends: bool
    capture_time_us: int | None
    fusion: TemporalFusion | None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request as it is meant, checked but for what stands in the picture itself."""

    request_id: str
    model: KserveModel
    picture: bytes | Place
    size: Size | None
    """None: a file says it itself."""
    output: Place | None
    """Where the mask is to be written; None: into the answer."""
    turn: SequenceTurn | None
    """None: a picture by itself."""


def read_request(
    message: Any, models: KserveModels, limits: SizeLimits, regions: RegionBook, tenant: str, peer: str
) -> InferRequest:
    """A ModelInferRequest as a plain object.

    Raises:
        CallError: MODEL_UNKNOWN, CONFIG_INVALID with all that is wrong, LIMIT_EXCEEDED, SHARED_MEMORY_REFUSED.
    """
    model = models.find(message.model_name, message.model_version)
    complaints: Complaints = []
    values = _parameters(message.parameters, _PARAMETERS, "parameters", complaints)
    turn = _turn(values, complaints)
    size = _input_size(message, model, limits, complaints)
    shared = [_parameters(tensor.parameters, _SHARED_PARAMETERS, tensor.name, complaints) for tensor in message.inputs]
    outputs = [tensor.name for tensor in message.outputs]
    if outputs not in ([], [MASK]):
        complaints.append(("outputs", f"{', '.join(outputs)[:80]} asked for, there is {MASK!r}, once"))
    wanted = [_parameters(tensor.parameters, _SHARED_PARAMETERS, tensor.name, complaints) for tensor in message.outputs]
    _raise(complaints)
    picture = _picture(message, model, size, limits, shared[0], regions, tenant, peer)
    output = _shared_place(wanted[0], regions, tenant, peer) if wanted else None
    if output is not None and size is not None and output.byte_size < size.area_px:
        text = f"{output.byte_size} bytes for a mask of {size}, which has {size.area_px}; give it more"
        _raise([(f"{MASK}.{_BYTE_SIZE}", text)])
    return InferRequest(message.id, model, picture, size, output, turn)


def file_in(tensor: bytes | memoryview) -> bytes:
    """The one element of a BYTES tensor.

    Raises:
        CallError: CONFIG_INVALID.
    """
    length = int.from_bytes(tensor[:_LENGTH_BYTES], "little")
    if len(tensor) < _LENGTH_BYTES or len(tensor) != _LENGTH_BYTES + length:
        text = f"{len(tensor)} bytes, expected {_LENGTH_BYTES} with the file's length, little-endian, and as many more"
        _raise([("jpeg", text)])
    return bytes(tensor[_LENGTH_BYTES:])


def infer_response(request: InferRequest, mask: bytes, size: Size) -> Any:
    """ModelInferResponse with a mask, or without it where it lies in shared memory."""
    response = service_pb2.ModelInferResponse(
        model_name=request.model.name, model_version=VERSION, id=request.request_id
    )
    tensor = response.outputs.add(name=MASK, datatype="UINT8", shape=size.shape)
    if request.output is None:
        response.raw_output_contents.append(mask)
    else:
        tensor.parameters[_REGION].string_param = request.output.region.name
        tensor.parameters[_OFFSET].int64_param = request.output.offset
        tensor.parameters[_BYTE_SIZE].int64_param = len(mask)
        # NVIDIA's C++ client takes one for each output, wherever it lies; without it perf_analyzer 2.51 dies (SIGSEGV).
        response.raw_output_contents.append(b"")
    return response


def _parameters(found: Any, known: dict[str, tuple[str, ...]], path: str, complaints: Complaints) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in found:
        kind = found[name].WhichOneof("parameter_choice")
        if name not in known:
            complaints.append((path, f"parameter {name[:80]!r} is not known, known are {', '.join(known)}"))
        elif kind not in known[name]:
            complaints.append((path, f"parameter {name!r} as {kind}, allowed is {' or '.join(known[name])}"))
        else:
            values[name] = getattr(found[name], kind)
    return values


def _turn(values: dict[str, Any], complaints: Complaints) -> SequenceTurn | None:
    sequence_id = values.get("sequence_id", 0)
    starts, ends = values.get("sequence_start", False), values.get("sequence_end", False)
    time_us, fusion_name = values.get("capture_time_us"), values.get("temporal_fusion")
    if sequence_id in (0, ""):
        for name in ("sequence_start", "sequence_end", "capture_time_us", "temporal_fusion"):
            if values.get(name):
                complaints.append(("parameters", f"{name} without a sequence_id; give one that is not 0 or empty"))
        return None
    if isinstance(sequence_id, str) and len(sequence_id) > 128:
        complaints.append(("parameters", f"sequence_id of {len(sequence_id)} characters, allowed are 128"))
    if time_us is not None and not 0 <= time_us <= _LARGEST_TIME_US:
        complaints.append(("parameters", f"capture_time_us {time_us}, allowed are 0 to {_LARGEST_TIME_US}"))
    fusion = None
    if fusion_name is not None:
        if fusion_name not in TemporalFusion.__members__:
            allowed = ", ".join(TemporalFusion.__members__)
            complaints.append(("parameters", f"temporal_fusion {fusion_name[:80]!r}, allowed are {allowed}"))
        elif not starts:
            complaints.append(("parameters", "temporal_fusion in the midst of a sequence; give it with sequence_start"))
        else:
            fusion = TemporalFusion[fusion_name]
    return SequenceTurn(sequence_id, starts, ends, time_us, fusion)


def _input_size(message: Any, model: KserveModel, limits: SizeLimits, complaints: Complaints) -> Size | None:
    names = [tensor.name for tensor in message.inputs]
    if names != [model.input_name]:
        text = f"{', '.join(names)[:80] or 'none'} given, {model.name} takes {model.input_name!r} alone"
        complaints.append(("inputs", text))
        return None
    tensor = message.inputs[0]
    shape, datatype = list(tensor.shape), "BYTES" if model.takes_jpeg else "UINT8"
    if tensor.datatype != datatype:
        complaints.append((tensor.name, f"datatype {tensor.datatype[:80]!r}, allowed is {datatype}"))
    if model.takes_jpeg:
        if shape != [1]:
            complaints.append((tensor.name, f"shape {shape[:8]}, allowed is [1]: one file"))
        return None
    if len(shape) != 3 or shape[2] != 3:
        complaints.append((tensor.name, f"shape {shape[:8]}, allowed is [height, width, 3]: one RGB picture"))
        return None
    size = Size(shape[1], shape[0])
    if complaint := limits.complaint(size):
        complaints.append((tensor.name, complaint))
        return None
    return size


def _picture(
    message: Any,
    model: KserveModel,
    size: Size | None,
    limits: SizeLimits,
    shared: dict[str, Any],
    regions: RegionBook,
    tenant: str,
    peer: str,
) -> bytes | Place:
    tensor = message.inputs[0]
    place = _shared_place(shared, regions, tenant, peer)
    raw_count = len(message.raw_input_contents)
    picture: bytes | Place
    if place is not None:
        if raw_count or tensor.HasField("contents"):
            _raise([(tensor.name, "both in shared memory and in the message; give it once")])
        picture, count = place, place.byte_size
    else:
        picture = _content(message, tensor, raw_count, model)
        count = len(picture)
    if size is not None and count != (expected := frame_bytes(PixelFormat.RGB24, size)):
        _raise([(tensor.name, f"{count} bytes for {size} RGB, expected {expected}; send whole rows")])
    if count > limits.max_frame_bytes + _LENGTH_BYTES:
        raise CallError(
            Reason.LIMIT_EXCEEDED,
            f"picture of {count} bytes exceeds max_frame_bytes {limits.max_frame_bytes}; send it smaller",
            metadata={"max_frame_bytes": str(limits.max_frame_bytes)},
        )
    return picture


def _content(message: Any, tensor: Any, raw_count: int, model: KserveModel) -> bytes:
    """The tensor's bytes, from whichever of the protocol's two places they are in."""
    if raw_count and tensor.HasField("contents"):
        _raise([(tensor.name, "both in contents and in raw_input_contents; give it once")])
    if raw_count != 1 and not tensor.HasField("contents"):
        _raise([("raw_input_contents", f"{raw_count} given for one input; give one, or shared memory")])
    if raw_count:
        raw: bytes = message.raw_input_contents[0]
        return raw
    if model.takes_jpeg:
        files = tensor.contents.bytes_contents
        if len(files) != 1:
            _raise([(tensor.name, f"bytes_contents of {len(files)} elements, expected 1")])
        file: bytes = files[0]
        return len(file).to_bytes(_LENGTH_BYTES, "little") + file
    try:
        return bytes(tensor.contents.uint_contents)
    except ValueError:
        _raise([(tensor.name, "uint_contents with a value above 255, which is no UINT8")])
        raise


def _shared_place(values: dict[str, Any], regions: RegionBook, tenant: str, peer: str) -> Place | None:
    if not values:
        return None
    if _REGION not in values or _BYTE_SIZE not in values:
        _raise([(_REGION, f"{_REGION} and {_BYTE_SIZE} belong together; give both or neither")])
    return regions.place(tenant, peer, values[_REGION], values.get(_OFFSET, 0), values[_BYTE_SIZE])


def _raise(complaints: Complaints) -> None:
    if complaints:
        raise invalid(Reason.CONFIG_INVALID, "request is not acceptable", complaints)
