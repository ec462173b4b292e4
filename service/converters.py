"""Protobuf to plain objects and back, and no decisions but one: an enum value that we do not know is a bad field.

The picture of a frame and its mask never pass through a message: `service.wire` has them beside it.
"""

import enum
from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from engines.runner import RunnerInfo
from humanseg.frames import MOST_PLANES, PACKED, Layout, PixelFormat, PlaneLayout
from humanseg.masks import MaskEncoding
from humanseg.options import Estimates, People, TemporalFusion
from humanseg.proto_enums import (
    COLOR_MATRIX,
    COLOR_RANGE,
    DEGRADATION,
    ESTIMATES,
    FRAME_POLICY,
    MASK_ENCODING,
    PEOPLE,
    PIXEL_FORMAT,
    ROTATION,
    TEMPORAL_FUSION,
    Number,
    ProtoEnum,
    UnknownChoiceError,
)
from humanseg.shared_memory import RegionLayout, Span
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation
from humanseg.vision.temporal import ResetReason
from service.call_errors import CallError, Reason, invalid
from service.composite_messages import composite_message, requested_composite
from service.picture_form import check_color, check_layout
from service.pipeline import EncodedMask, PictureTask
from service.resume import ResumeOutcome
from service.settings import Settings
from service.shared_memory import RegionRequest
from service.stages import STAGES, Stage, StageClock
from service.still_composite import check_still_composite
from service.stream_config import RequestedConfig, SizeLimits, StreamConfig, check_mask_size
from service.stream_protocol import (
    ConfigEntry,
    DegradeEntry,
    DropEntry,
    DropReason,
    FrameEntry,
    NoticeEntry,
    NoticeReason,
    ReceivedFrame,
)

Choice = TypeVar("Choice", bound=enum.Enum)

_DROP_REASON = ProtoEnum(pb.DropReason, "DROP_REASON_", {reason.name: reason for reason in DropReason})
_NOTICE_REASON = ProtoEnum(pb.NoticeReason, "NOTICE_REASON_", {reason.name: reason for reason in NoticeReason})
_STATE_RESET = ProtoEnum(pb.StateReset, "STATE_RESET_", {reason.name: reason for reason in ResetReason})
_RESUME_OUTCOME = ProtoEnum(pb.ResumeOutcome, "RESUME_OUTCOME_", {outcome.name: outcome for outcome in ResumeOutcome})
# Every reason that the service can give must exist in the contract; found at import, not at three in the morning.
ProtoEnum(pb.ErrorReason, "ERROR_REASON_", {reason.name: reason for reason in Reason})

#: The field of StageTimes for each stage.
_TIME_FIELDS: dict[Stage, str] = {stage: f"{stage}_us" for stage in STAGES}
#: 2**32 - 1 microseconds are 71 minutes: a stage that took longer stands at the end of the scale.
_LARGEST_UINT32 = 2**32 - 1


def requested_config(message: pb.SessionConfig) -> RequestedConfig:
    """A config as sent.

    Raises:
        CallError: CONFIG_INVALID, naming each enum value that is not known here.
    """
    unknown: list[tuple[str, str]] = []
    requested = RequestedConfig(
        model=message.model,
        width=message.width,
        height=message.height,
        pixel_format=_choice(PIXEL_FORMAT, message.pixel_format, "config.pixel_format", unknown),
        rotation=_choice(ROTATION, message.rotation, "config.rotation", unknown),
        mirrored=message.mirrored,
        fusion=_choice(TEMPORAL_FUSION, message.temporal_fusion, "config.temporal_fusion", unknown),
        encoding=_choice(MASK_ENCODING, message.mask_encoding, "config.mask_encoding", unknown),
        mask_width=message.mask_width,
        mask_height=message.mask_height,
        policy=_choice(FRAME_POLICY, message.frame_policy, "config.frame_policy", unknown),
        label=message.session_label,
        estimates=_choice(ESTIMATES, message.estimates, "config.estimates", unknown),
        frame_deadline_ns=_deadline_ns(message),
        degradation=_choice(DEGRADATION, message.degradation, "config.degradation", unknown),
        resume_token=message.resume_token,
        # By hand: the message's own conversion raises on durations of more than ten thousand years.
        resume_interval_s=message.resume_interval.seconds + message.resume_interval.nanos * 1e-9,
        composite=requested_composite(message.composite, unknown) if message.HasField("composite") else None,
        layout=_layout(message.planes),
        color_matrix=_choice(COLOR_MATRIX, message.color_matrix, "config.color_matrix", unknown),
        color_range=_choice(COLOR_RANGE, message.color_range, "config.color_range", unknown),
        people=_choice(PEOPLE, message.people, "config.people", unknown),
    )
    if unknown:
        raise invalid(Reason.CONFIG_INVALID, "config is not acceptable", unknown)
    return requested


def received_frame(message: pb.Frame, picture: bytes | memoryview) -> ReceivedFrame:
    """A frame as sent; an unknown enum value is noted, since it costs the frame and not the stream."""
    unknown: list[tuple[str, str]] = []
    rotation = _choice(ROTATION, message.rotation, "rotation", unknown)
    return ReceivedFrame(
        frame_id=message.frame_id,
        capture_time_us=message.capture_time_us,
        picture=picture,
        width=message.width,
        height=message.height,
        rotation=rotation,
        mirrored=message.mirrored if message.HasField("mirrored") else None,
        unknown_field="; ".join(f"{path}: {text}" for path, text in unknown),
        layout=_layout(message.planes),
    )


def region_request(message: pb.SessionConfig) -> RegionRequest | None:
    """The shared region that a config names, not checked."""
    if not message.HasField("shared_memory"):
        return None
    return RegionRequest(RegionLayout.from_message(message.shared_memory), message.shared_memory.token)


def shared_span(message: pb.Frame) -> Span | None:
    """Where a frame's picture lies in the shared region, not checked."""
    if not message.HasField("shared_picture"):
        return None
    span = message.shared_picture
    return Span(span.slot, span.offset_bytes, span.length_bytes)


def still_task(message: pb.SegmentRequest, limits: SizeLimits) -> PictureTask:
    """A still picture as a task, the image behind its people not decoded yet.

    Raises:
        CallError: LIMIT_EXCEEDED, or CONFIG_INVALID with every offending field.
    """
    complaints: list[tuple[str, str]] = []
    pixel_format = _choice(PIXEL_FORMAT, message.pixel_format, "pixel_format", complaints)
    rotation = _choice(ROTATION, message.rotation, "rotation", complaints)
    encoding = _choice(MASK_ENCODING, message.mask_encoding, "mask_encoding", complaints)
    matrix = _choice(COLOR_MATRIX, message.color_matrix, "color_matrix", complaints)
    levels = _choice(COLOR_RANGE, message.color_range, "color_range", complaints)
    people = _choice(PEOPLE, message.people, "people", complaints)
    picture = message.picture  # once: every access of a bytes field copies it (96 us for 1.4 MB, protobuf 7 upb)
    image_bytes = len(message.background_image)
    if len(picture) + image_bytes > limits.max_frame_bytes:
        what = f"picture of {len(picture)} bytes"
        if image_bytes:
            what += f" with a background image of {image_bytes}"
        raise CallError(
            Reason.LIMIT_EXCEEDED,
            f"{what} exceeds max_frame_bytes {limits.max_frame_bytes}; send it smaller",
            metadata={"max_frame_bytes": str(limits.max_frame_bytes)},
        )
    if pixel_format is None:
        pixel_format = PixelFormat.PNG if picture.startswith(b"\x89PNG") else PixelFormat.JPEG
    declared, layout = Size(message.width, message.height), _layout(message.planes)
    size = None if declared == (0, 0) and pixel_format.compressed else declared
    if size is not None and (complaint := limits.complaint(size)):
        complaints.append(("width, height", complaint))
    else:
        check_layout("", layout, pixel_format, declared, limits.max_frame_bytes, complaints)
    color = check_color("", pixel_format, matrix, levels, complaints)
    mask_size = check_mask_size("", message.mask_width, message.mask_height, limits, complaints)
    composite = check_still_composite(message, pixel_format, encoding, complaints)
    if complaints:
        raise invalid(Reason.CONFIG_INVALID, "request is not acceptable", complaints)
    return PictureTask(
        picture=picture,
        pixel_format=pixel_format,
        size=size,
        rotation=rotation or Rotation.DEG_0,
        mirrored=False,
        encoding=encoding or MaskEncoding.ALPHA8,
        mask_size=mask_size,
        fusion=TemporalFusion.OFF,
        estimates=Estimates.OFF,
        capture_time_us=0,
        exif=True,
        layout=layout,
        color=color,
        people=people or People.ALL,
        composite=composite,
    )


def frame_task(entry: FrameEntry) -> PictureTask:
    """A frame of a stream as a task."""
    return PictureTask(
        picture=entry.picture,
        pixel_format=entry.config.pixel_format,
        size=entry.size,
        rotation=entry.rotation,
        mirrored=entry.mirrored,
        encoding=entry.config.encoding,
        mask_size=entry.config.mask_size,
        fusion=entry.config.fusion,
        estimates=entry.config.estimates,
        capture_time_us=entry.capture_time_us,
        exif=False,
        composite=entry.config.composite,
        layout=entry.layout,
        color=entry.config.color,
        people=entry.config.people,
    )


def accepted_message(
    entry: ConfigEntry, resume: ResumeOutcome | None, model: pb.ModelInfo, limits: pb.Limits
) -> pb.StreamSegmentResponse:
    """The answer to a config."""
    return pb.StreamSegmentResponse(
        accepted=pb.AcceptedConfig(
            config=config_message(entry.config),
            model=model,
            limits=limits,
            resets=[_STATE_RESET.number(reset) for reset in entry.resets],
            resume=_RESUME_OUTCOME.number(resume),
        )
    )


def config_message(config: StreamConfig) -> pb.SessionConfig:
    """A config that holds, every default filled in."""
    mask_size = config.mask_size or Size(0, 0)
    deadline_ns = config.frame_deadline_ns
    color = config.color if config.pixel_format.is_yuv else None
    return pb.SessionConfig(
        model=config.model,
        width=config.size.width,
        height=config.size.height,
        pixel_format=PIXEL_FORMAT.number(config.pixel_format),
        rotation=ROTATION.number(config.rotation),
        mirrored=config.mirrored,
        temporal_fusion=TEMPORAL_FUSION.number(config.fusion),
        mask_encoding=MASK_ENCODING.number(config.encoding),
        mask_width=mask_size.width,
        mask_height=mask_size.height,
        frame_policy=FRAME_POLICY.number(config.policy),
        session_label=config.label,
        estimates=ESTIMATES.number(config.estimates),
        degradation=DEGRADATION.number(config.degradation),
        frame_deadline=None if deadline_ns is None else duration(deadline_ns * 1e-9),
        resume_interval=duration(config.resume_interval_s) if config.resume_interval_s else None,
        composite=None if config.composite is None else composite_message(config.composite),
        shared_memory=None if config.shared_memory is None else config.shared_memory.to_message(),
        planes=[pb.PlaneLayout(offset_bytes=p.offset_bytes, stride_bytes=p.stride_bytes) for p in config.layout],
        color_matrix=COLOR_MATRIX.number(color and color.matrix),
        color_range=COLOR_RANGE.number(color and color.range),
        people=PEOPLE.number(config.people),
    )


def mask_message(entry: FrameEntry, mask: EncodedMask, clock: StageClock, level: int) -> pb.StreamSegmentResponse:
    """All about a frame's mask, or the picture made with it, but its bytes."""
    response = pb.StreamSegmentResponse()
    outcome = pb.FRAME_OUTCOME_MASK if mask.picture_format is None else pb.FRAME_OUTCOME_PICTURE
    _fill_result(response.result, entry, outcome, mask, clock, level)
    return response


def estimate_message(entry: FrameEntry, mask: EncodedMask, clock: StageClock, level: int) -> pb.StreamSegmentResponse:
    """All about a frame's mask as it is likely to be, made without the network, but its bytes."""
    response = pb.StreamSegmentResponse()
    _fill_result(response.result, entry, pb.FRAME_OUTCOME_ESTIMATE, mask, clock, level)
    return response


def _fill_result(
    result: pb.FrameResult,
    entry: FrameEntry,
    outcome: "pb.FrameOutcome.ValueType",
    mask: EncodedMask,
    clock: StageClock,
    level: int,
) -> None:
    result.frame_id = entry.frame_id
    result.capture_time_us = entry.capture_time_us
    result.outcome = outcome
    if mask.picture_format is None:
        result.mask_encoding = MASK_ENCODING.number(mask.encoding)
        result.mask_width, result.mask_height = mask.size
    else:
        result.picture_format = PIXEL_FORMAT.number(mask.picture_format)
        result.picture_width, result.picture_height = mask.size
    result.degrade_level = level
    result.reset = _STATE_RESET.number(mask.reset)
    if mask.shared is not None:
        span = result.shared_mask if mask.picture_format is None else result.shared_picture
        # Offset 0 stays unset: it is what a reader takes it for.
        span.slot, span.length_bytes = mask.shared.slot, mask.shared.length_bytes
    _fill_times(result.times, clock)


def dropped_message(
    entry: FrameEntry | DropEntry, reason: DropReason, detail: str, clock: StageClock
) -> pb.StreamSegmentResponse:
    """A frame without a mask."""
    return pb.StreamSegmentResponse(
        result=pb.FrameResult(
            frame_id=entry.frame_id,
            capture_time_us=entry.capture_time_us,
            outcome=pb.FRAME_OUTCOME_DROPPED,
            drop_reason=_DROP_REASON.number(reason),
            drop_detail=detail,
            times=times_message(clock),
        )
    )


def notice_message(entry: NoticeEntry) -> pb.StreamSegmentResponse:
    """The stream ends soon."""
    notice = pb.Notice(reason=_NOTICE_REASON.number(entry.reason), time_left=duration(entry.time_left_s))
    return pb.StreamSegmentResponse(notice=notice)


def degrade_message(entry: DegradeEntry) -> pb.StreamSegmentResponse:
    """The stream is served at another level."""
    notice = pb.Notice(
        reason=pb.NOTICE_REASON_DEGRADED if entry.went_down else pb.NOTICE_REASON_RESTORED,
        degrade_level=entry.level,
        model=entry.model,
        every_second=entry.every_second,
    )
    return pb.StreamSegmentResponse(notice=notice)


def resume_message(token: bytes, frame_id: int) -> pb.StreamSegmentResponse:
    """Where another stream can go on."""
    return pb.StreamSegmentResponse(resume_point=pb.ResumePoint(token=token, frame_id=frame_id))


def still_message(mask: EncodedMask, model: pb.ModelInfo, clock: StageClock) -> pb.SegmentResponse:
    """A still picture's mask, or the picture made with it."""
    if mask.picture_format is not None:
        return pb.SegmentResponse(
            picture=mask.payload,
            picture_format=PIXEL_FORMAT.number(mask.picture_format),
            picture_width=mask.size.width,
            picture_height=mask.size.height,
            model=model,
            times=times_message(clock),
        )
    return pb.SegmentResponse(
        mask=mask.payload,
        mask_encoding=MASK_ENCODING.number(mask.encoding),
        mask_width=mask.size.width,
        mask_height=mask.size.height,
        model=model,
        times=times_message(clock),
    )


def model_message(info: RunnerInfo, *, is_default: bool) -> pb.ModelInfo:
    """A model as it is served."""
    return pb.ModelInfo(
        name=info.model.name,
        version=info.model.version,
        engine=info.engine,
        network_width=info.model.landscape.width,
        network_height=info.model.landscape.height,
        is_default=is_default,
    )


def limits_message(settings: Settings) -> pb.Limits:
    """What a client may not exceed."""
    return pb.Limits(
        max_frame_bytes=settings.max_frame_bytes,
        max_frame_px=settings.max_frame_px,
        max_side_px=settings.max_side_px,
        config_timeout=duration(settings.config_timeout_s),
        idle_timeout=duration(settings.idle_timeout_s),
        write_timeout=duration(settings.write_timeout_s),
        max_stream_age=duration(settings.max_stream_age_s),
    )


def times_message(clock: StageClock) -> pb.StageTimes:
    """The times of a picture."""
    times = pb.StageTimes()
    _fill_times(times, clock)
    return times


def _fill_times(times: pb.StageTimes, clock: StageClock) -> None:
    for stage, wall_ns in clock.wall_ns.items():
        setattr(times, _TIME_FIELDS[stage], min(wall_ns // 1000, _LARGEST_UINT32))


def duration(seconds: float) -> Duration:
    """Seconds as a protobuf Duration, to the millisecond."""
    message = Duration()
    message.FromMilliseconds(round(seconds * 1000))
    return message


def _layout(planes: Sequence[pb.PlaneLayout]) -> Layout:
    """Where planes are said to lie, not checked; of more than any format has, one more."""
    if not planes:
        return PACKED
    return tuple(PlaneLayout(plane.offset_bytes, plane.stride_bytes) for plane in planes[: MOST_PLANES + 1])


def _deadline_ns(message: pb.SessionConfig) -> int | None:
    if not message.HasField("frame_deadline"):
        return None
    # Not ToNanoseconds, which raises where the parts are out of range: what is too long is named with the other faults.
    return message.frame_deadline.seconds * 10**9 + message.frame_deadline.nanos


def _choice(
    proto_enum: "ProtoEnum[Number, Choice]", number: int, path: str, complaints: list[tuple[str, str]]
) -> Choice | None:
    try:
        return proto_enum.choice(number)
    except UnknownChoiceError as error:
        complaints.append((path, str(error)))
        return None
