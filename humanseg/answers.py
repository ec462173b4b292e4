"""What the server says, as plain typed objects; read from the messages of the contract.

A reason that this release does not know (a newer server's) becomes ``UNKNOWN``, never an error.
"""

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from google.protobuf.descriptor import EnumDescriptor
from numpy.typing import NDArray

from humanseg.frames import PixelFormat, frame_bytes
from humanseg.masks import MaskEncoding, decode_mask
from humanseg.pictures import unpack_picture
from humanseg.proto_enums import MASK_ENCODING, PIXEL_FORMAT
from humanseg.session_config import SessionConfig
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Alpha8, Size

if TYPE_CHECKING:
    from humanseg.shared_memory import ClientRegion


class DropReason(enum.Enum):
    """Why a frame has no mask; the names are those of the contract's ``DROP_REASON_<name>``."""

    UNKNOWN = enum.auto()
    SUPERSEDED = enum.auto()
    WRONG_BYTE_COUNT = enum.auto()
    UNDECODABLE = enum.auto()
    BAD_SIZE = enum.auto()
    BAD_FIELD = enum.auto()
    ENGINE_FAILED = enum.auto()
    LATE = enum.auto()
    BAD_SHARED_MEMORY = enum.auto()
    BAD_LAYOUT = enum.auto()


class StateReset(enum.Enum):
    """Why the memory of earlier frames was given up; the names are those of the contract's ``STATE_RESET_<name>``."""

    UNKNOWN = enum.auto()
    FIRST_FRAME = enum.auto()
    SIZE = enum.auto()
    ROTATION = enum.auto()
    MODEL = enum.auto()
    TIME = enum.auto()
    SCENE = enum.auto()


class ResumeOutcome(enum.Enum):
    """What became of a resume token; the names are those of the contract's ``RESUME_OUTCOME_<name>``."""

    UNKNOWN = enum.auto()
    RESUMED = enum.auto()
    MALFORMED = enum.auto()
    NOT_AUTHENTIC = enum.auto()
    EXPIRED = enum.auto()
    OTHER_VERSION = enum.auto()
    OTHER_MODEL = enum.auto()


class NoticeReason(enum.Enum):
    """Why the server speaks up on its own."""

    UNKNOWN = enum.auto()
    DRAINING = enum.auto()
    MAX_AGE = enum.auto()
    DEGRADED = enum.auto()
    RESTORED = enum.auto()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as the server serves it; ``network_size`` is its input for landscape pictures."""

    name: str
    version: str
    engine: str
    network_size: Size
    is_default: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server will not exceed; a ``max_stream_age_s`` of 0 is none."""

    max_frame_bytes: int
    max_frame_px: int
    max_side_px: int
    config_timeout_s: float
    idle_timeout_s: float
    write_timeout_s: float
    max_stream_age_s: float


@dataclass(frozen=True, slots=True)
class ModelList:
    """The models of a server, the default first, and the limits that hold for every call."""

    models: tuple[ModelInfo, ...]
    limits: Limits


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Time spent on a picture in the server, in microseconds; 0 for a stage that did not run."""

    wait_us: int
    decode_us: int
    preprocess_us: int
    queue_us: int
    inference_us: int
    fusion_us: int
    postprocess_us: int
    encode_us: int
    total_us: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A config holds from here on, every default filled in; ``resets`` says what it made the server forget.

    ``resume`` is what became of the earlier stream's memory, None where there was none to go on with.
    """

    config: SessionConfig
    model: ModelInfo
    limits: Limits
    resets: tuple[StateReset, ...]
    resume: ResumeOutcome | None


@dataclass(frozen=True, slots=True)
class MaskAnswer:
    """A frame's mask.

    ``alpha8`` is (H, W) uint8, 0 background to 255 person, of the frame's own size unless the config says otherwise;
    read-only where it is a view of the message. ``reset`` says why earlier frames had no part in it, None if they had
    or fusion is off.
    """

    frame_id: int
    capture_time_us: int
    alpha8: Alpha8
    reset: StateReset | None
    times: StageTimes
    degrade_level: int = 0
    """By how many steps the stream is served below what it asked for."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """A frame that the network did not see, with an earlier frame's mask carried along the optical flow.

    Only where `SessionConfig.estimates` or `SessionConfig.degradation` asks for it; ``alpha8`` as in `MaskAnswer`.
    """

    frame_id: int
    capture_time_us: int
    alpha8: Alpha8
    times: StageTimes
    degrade_level: int = 0


@dataclass(frozen=True, slots=True)
class PictureAnswer:
    """A frame's people before the background of `SessionConfig.composite`, lying as the frame was sent.

    ``data`` is a raw picture or a file of ``pixel_format``; `array` has raw ones as numpy. ``reset`` as in
    `MaskAnswer`.
    """

    frame_id: int
    capture_time_us: int
    data: bytes
    pixel_format: PixelFormat
    size: Size
    reset: StateReset | None
    times: StageTimes
    degrade_level: int = 0

    @property
    def array(self) -> NDArray[np.uint8]:
        """RGB24, BGR24: (H, W, 3); I420, NV12: (H * 3 / 2, W), flat for odd sizes; files: their bytes, flat. Read-only.

        As `SegmentationStream.send` takes them.
        """
        return unpack_picture(self.data, self.pixel_format, self.size)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A frame without a mask: why, and the same in words."""

    frame_id: int
    capture_time_us: int
    reason: DropReason
    detail: str
    times: StageTimes


@dataclass(frozen=True, slots=True)
class Notice:
    """A word from the server.

    DRAINING: the stream will be served for ``time_left_s`` more. DEGRADED and RESTORED: it is served ``degrade_level``
    steps below what it asked for from here on, by ``model``, and every second frame estimated where it says so.
    """

    reason: NoticeReason
    time_left_s: float
    degrade_level: int = 0
    model: str = ""
    every_second: bool = False


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where another stream can go on: `SegmentationClient.stream` takes it.

    ``token`` is opaque, and as private as the video: it holds the last picture in gray. ``frame_id`` is the last frame
    whose mask is in it.
    """

    token: bytes
    frame_id: int


#: What iterating over a stream yields.
Answer = Accepted | MaskAnswer | PictureAnswer | Estimated | Dropped | Notice


@dataclass(frozen=True, slots=True)
class Segmented:
    """The mask of a still picture: ``alpha8`` is (H, W) uint8, 0 background to 255 person."""

    alpha8: Alpha8
    model: ModelInfo
    times: StageTimes


def read_answer(message: pb.StreamSegmentResponse, region: "ClientRegion | None" = None) -> Answer | ResumePoint | None:
    """The message as an object; None for a kind that this release does not know. What is shared lies in ``region``.

    Raises:
        ValueError: the bytes are not a whole mask of the declared size (`MaskError`), or a choice that this release
            cannot have asked for.
    """
    match message.WhichOneof("message"):
        case "accepted":
            return read_accepted(message.accepted)
        case "result":
            return _read_result(message.result, region)
        case "notice":
            notice = message.notice
            reason = _member(NoticeReason, pb.NoticeReason.DESCRIPTOR, notice.reason)
            left_s = notice.time_left.ToTimedelta().total_seconds()
            return Notice(reason, left_s, notice.degrade_level, notice.model, notice.every_second)
        case "resume_point":
            return ResumePoint(message.resume_point.token, message.resume_point.frame_id)
        case _:
            return None


def read_accepted(message: pb.AcceptedConfig) -> Accepted:
    """The server's answer to a config."""
    return Accepted(
        config=SessionConfig.from_message(message.config),
        model=read_model(message.model),
        limits=_read_limits(message.limits),
        resets=tuple(_member(StateReset, pb.StateReset.DESCRIPTOR, number) for number in message.resets),
        resume=_member(ResumeOutcome, pb.ResumeOutcome.DESCRIPTOR, message.resume) if message.resume else None,
    )


def read_model_list(message: pb.ListModelsResponse) -> ModelList:
    """The models and limits of a server."""
    return ModelList(tuple(read_model(model) for model in message.models), _read_limits(message.limits))


def read_segmented(message: pb.SegmentResponse) -> Segmented:
    """The mask of a still picture.

    Raises:
        ValueError: the bytes are not a whole mask of the declared size (`MaskError`), or of an unknown encoding.
    """
    encoding = MASK_ENCODING.choice(message.mask_encoding) or MaskEncoding.ALPHA8
    alpha8 = decode_mask(message.mask, encoding, Size(message.mask_width, message.mask_height))
    return Segmented(alpha8, read_model(message.model), read_times(message.times))


def _read_result(
    message: pb.FrameResult, region: "ClientRegion | None"
) -> MaskAnswer | PictureAnswer | Estimated | Dropped:
    times = read_times(message.times)
    if message.outcome == pb.FRAME_OUTCOME_PICTURE:
        return _read_picture(message, times, region)
    if message.outcome not in (pb.FRAME_OUTCOME_MASK, pb.FRAME_OUTCOME_ESTIMATE):
        reason = _member(DropReason, pb.DropReason.DESCRIPTOR, message.drop_reason)
        return Dropped(message.frame_id, message.capture_time_us, reason, message.drop_detail, times)
    encoding = MASK_ENCODING.choice(message.mask_encoding) or MaskEncoding.ALPHA8
    # `message.mask` is read once: every access of a bytes field copies it.
    mask = message.mask if region is None else region.mask_of(message)
    alpha8 = decode_mask(mask, encoding, Size(message.mask_width, message.mask_height))
    if message.outcome == pb.FRAME_OUTCOME_ESTIMATE:
        return Estimated(message.frame_id, message.capture_time_us, alpha8, times, message.degrade_level)
    reset = _member(StateReset, pb.StateReset.DESCRIPTOR, message.reset) if message.reset else None
    return MaskAnswer(message.frame_id, message.capture_time_us, alpha8, reset, times, message.degrade_level)


def _read_picture(message: pb.FrameResult, times: StageTimes, region: "ClientRegion | None") -> PictureAnswer:
    pixel_format = PIXEL_FORMAT.choice(message.picture_format)
    size = Size(message.picture_width, message.picture_height)
    data = message.picture if region is None else region.picture_of(message)
    if pixel_format is None or not (pixel_format.compressed or len(data) == frame_bytes(pixel_format, size)):
        raise ValueError(f"picture of {len(data)} bytes is none of format {message.picture_format} and {size}")
    reset = _member(StateReset, pb.StateReset.DESCRIPTOR, message.reset) if message.reset else None
    return PictureAnswer(
        message.frame_id, message.capture_time_us, data, pixel_format, size, reset, times, message.degrade_level
    )


def read_times(message: pb.StageTimes) -> StageTimes:
    """Where the time went."""
    return StageTimes(
        wait_us=message.wait_us,
        decode_us=message.decode_us,
        preprocess_us=message.preprocess_us,
        queue_us=message.queue_us,
        inference_us=message.inference_us,
        fusion_us=message.fusion_us,
        postprocess_us=message.postprocess_us,
        encode_us=message.encode_us,
        total_us=message.total_us,
    )


def read_model(message: pb.ModelInfo) -> ModelInfo:
    """A model as the server serves it."""
    network_size = Size(message.network_width, message.network_height)
    return ModelInfo(message.name, message.version, message.engine, network_size, message.is_default)


def _read_limits(message: pb.Limits) -> Limits:
    return Limits(
        max_frame_bytes=message.max_frame_bytes,
        max_frame_px=message.max_frame_px,
        max_side_px=message.max_side_px,
        config_timeout_s=message.config_timeout.ToTimedelta().total_seconds(),
        idle_timeout_s=message.idle_timeout.ToTimedelta().total_seconds(),
        write_timeout_s=message.write_timeout.ToTimedelta().total_seconds(),
        max_stream_age_s=message.max_stream_age.ToTimedelta().total_seconds(),
    )


AnyEnum = TypeVar("AnyEnum", bound=enum.Enum)


def _member(kind: type[AnyEnum], descriptor: EnumDescriptor, number: int) -> AnyEnum:
    """Our member of the same name without the prefix, else ``UNKNOWN``."""
    known = descriptor.values_by_number.get(number)
    # Every value of an enum carries the enum's name, and the zero of each ends in UNSPECIFIED.
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    name = known.name.removeprefix(prefix) if known else "UNKNOWN"
    return kind.__members__.get(name, kind.__members__["UNKNOWN"])
