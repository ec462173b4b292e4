"""The state machine of one stream, without I/O: which message is allowed when, and in which order answers are due.

A thin shell (`service.session`) feeds it messages and takes *entries* out, in the order in which the client must see
their answers; fuzzing and property tests drive it without a socket. The contract it implements is written in
``proto/humanseg/v1/segmentation.proto`` above ``StreamSegment``.

States: OPEN, until the first config; RUNNING; CLOSED, when the client half-closed, the server's drain is over, or the
protocol was violated. What was accepted before is still answered in CLOSED, except after a violation.

Bounded: at most one frame waits under NEWEST, at most `EVERY_WAITING` under EVERY, at most `ESTIMATES_WAITING` pictures
for an estimate, and at most `BACKLOG_LIMIT` answers altogether; beyond that `wants_input` is false and the shell stops
reading, so that HTTP/2 holds the client back.
"""

import enum
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from humanseg.frames import PACKED, Layout, PixelFormat, byte_count_complaint, layout_complaint
from humanseg.masks import MaskEncoding
from humanseg.options import (
    BT601_LIMITED,
    ColorMatrix,
    ColorRange,
    Degradation,
    Estimates,
    FramePolicy,
    People,
    TemporalFusion,
    YuvColor,
)
from humanseg.shared_memory import RegionLayout
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation
from humanseg.vision.temporal import ResetReason
from service.compositing import (
    IMAGES_LIMIT,
    BackgroundImage,
    CompositePlan,
    RequestedComposite,
    check_composite,
    image_complaint,
)
from service.picture_form import check_color, check_layout, layout_of_frame
from service.region import SharedPicture

#: Frames that may wait under policy EVERY: one being read while one is worked on keeps the engine busy.
EVERY_WAITING = 2
#: Answers that may wait for the shell. A client that floods is held back here, not in memory.
BACKLOG_LIMIT = 256
#: Superseded frames that wait for an estimate: each holds its picture. The oldest gives way.
ESTIMATES_WAITING = 4
#: Estimates between two frames for the engine: were each as slow as the frames are fast, no mask would ever come.
ESTIMATES_IN_A_ROW = 8
#: Least time between two resume points: each costs some milliseconds and up to 40 KB.
LEAST_RESUME_INTERVAL_S, LARGEST_RESUME_INTERVAL_S = 1.0, 86_400.0
LABEL_LIMIT = 64
SHORTEST_DEADLINE_NS, LONGEST_DEADLINE_NS = 1_000_000, 3600 * 10**9


class Reason(enum.Enum):
    """Why a stream or call ends with an error; names are those of the proto's ``ErrorReason``."""

    CONFIG_MISSING = enum.auto()
    CONFIG_TIMEOUT = enum.auto()
    CONFIG_INVALID = enum.auto()
    MODEL_UNKNOWN = enum.auto()
    FRAME_ID_NOT_INCREASING = enum.auto()
    MESSAGE_EMPTY = enum.auto()
    PICTURE_INVALID = enum.auto()
    TOO_MANY_SESSIONS = enum.auto()
    IDLE_TIMEOUT = enum.auto()
    CLIENT_NOT_READING = enum.auto()
    DRAINING = enum.auto()
    INTERNAL = enum.auto()
    LIMIT_EXCEEDED = enum.auto()
    OVERLOADED = enum.auto()
    MAX_AGE = enum.auto()
    UNAUTHENTICATED = enum.auto()
    TENANT_QUOTA = enum.auto()
    SHARED_MEMORY_REFUSED = enum.auto()


class NoticeReason(enum.Enum):
    """Why the client is told that its stream ends soon; names are those of the proto's ``NoticeReason``."""

    DRAINING = enum.auto()
    MAX_AGE = enum.auto()


class DropReason(enum.Enum):
    """Why a single frame has no mask; names are those of the proto's ``DropReason``."""

    SUPERSEDED = enum.auto()
    WRONG_BYTE_COUNT = enum.auto()
    UNDECODABLE = enum.auto()
    BAD_SIZE = enum.auto()
    BAD_FIELD = enum.auto()
    ENGINE_FAILED = enum.auto()
    LATE = enum.auto()
    BAD_SHARED_MEMORY = enum.auto()
    BAD_LAYOUT = enum.auto()


class CallError(Exception):
    """A call must end with an error status.

    Attributes:
        reason: decides the status code (`service.status`).
        fields: (path, description) of the offending fields of the request.
        metadata: figures for the client, units in the keys.
        quota_subject: whose quota is used up, where one is.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        fields: Sequence[tuple[str, str]] = (),
        metadata: dict[str, str] | None = None,
        quota_subject: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.fields = tuple(fields)
        self.metadata = metadata or {}
        self.quota_subject = quota_subject


class ProtocolViolation(CallError):
    """The client broke the rules of the stream; nothing more is answered."""


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """What a picture or mask may not exceed."""

    max_frame_bytes: int
    max_frame_px: int
    max_side_px: int

    def complaint(self, size: Size) -> str | None:
        """What is wrong with a size, if anything."""
        if size.width < 1 or size.height < 1:
            return f"size {size} is empty; both sides must be at least 1"
        if max(size) > self.max_side_px:
            return f"size {size} exceeds max_side_px {self.max_side_px}; send smaller frames"
        if size.area_px > self.max_frame_px:
            return f"size {size} ({size.area_px} px) exceeds max_frame_px {self.max_frame_px}; send smaller frames"
        return None


class Catalog(Protocol):
    """What the state machine must know of the models."""

    @property
    def default(self) -> str:
        """The model of a config that names none."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """All models, the default first."""
        ...

    def geometry(self, model: str, size: Size, rotation: Rotation) -> Hashable:
        """Equal for two kinds of frames whose network inputs lie on each other pixel by pixel."""
        ...


@dataclass(frozen=True, slots=True)
class RequestedConfig:
    """A config as the client sent it; None is "the server decides"."""

    model: str = ""
    width: int = 0
    height: int = 0
    pixel_format: PixelFormat | None = None
    rotation: Rotation | None = None
    mirrored: bool = False
    fusion: TemporalFusion | None = None
    encoding: MaskEncoding | None = None
    mask_width: int = 0
    mask_height: int = 0
    policy: FramePolicy | None = None
    label: str = ""
    estimates: Estimates | None = None
    frame_deadline_ns: int | None = None
    """0 is "none"."""
    degradation: Degradation | None = None
    resume_token: bytes = b""
    resume_interval_s: float = 0.0
    composite: RequestedComposite | None = None
    shared_memory: RegionLayout | None = None
    """A region that is open already."""
    layout: Layout = PACKED
    """Of frames of the config's size that say nothing about it."""
    color_matrix: ColorMatrix | None = None
    color_range: ColorRange | None = None
    people: People | None = None


@dataclass(frozen=True, slots=True)
class ConfigDefaults:
    """What the operator decides where a config leaves it to the server."""

    frame_deadline_ns: int | None = None
    """For policy NEWEST; None: frames never become too late."""
    degrades: bool = True
    """Whether streams may be degraded at all."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """A config that holds: checked, every default filled in."""

    model: str
    size: Size
    pixel_format: PixelFormat
    rotation: Rotation
    mirrored: bool
    fusion: TemporalFusion
    encoding: MaskEncoding
    mask_size: Size | None
    policy: FramePolicy
    label: str
    estimates: Estimates
    frame_deadline_ns: int | None
    """How old a frame may be when its mask is ready, from its arrival; None: whatever it takes."""
    degradation: Degradation
    resume_interval_s: float
    """0: only when the stream is about to end."""
    shared_memory: RegionLayout | None
    composite: CompositePlan | None = None
    """Finished pictures instead of masks."""
    layout: Layout = PACKED
    """Of frames of the config's size that say nothing about it."""
    color: YuvColor = BT601_LIMITED
    """What I420 and NV12 mean."""
    people: People = People.ALL


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A frame as the client sent it; size 0 and None are "as the config says"."""

    frame_id: int
    capture_time_us: int
    picture: bytes | memoryview | SharedPicture
    width: int = 0
    height: int = 0
    rotation: Rotation | None = None
    mirrored: bool | None = None
    unknown_field: str = ""
    """Set where the frame holds an enum value that this server does not know: which, and what is allowed."""
    shared_complaint: str = ""
    """Set where what the frame says of the shared region does not hold."""
    layout: Layout = PACKED
    """Empty: as the config says for a frame of its size."""


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """Answer the config: it holds from here on."""

    config: StreamConfig
    resets: tuple[ResetReason, ...]
    resume_token: bytes
    """Of the first config; empty where there is none."""


@dataclass(frozen=True, slots=True)
class FrameEntry:
    """Segment this frame and answer it."""

    frame_id: int
    capture_time_us: int
    picture: bytes | memoryview | SharedPicture
    config: StreamConfig
    size: Size
    rotation: Rotation
    mirrored: bool
    arrived_ns: int
    layout: Layout = PACKED
    """Where the planes lie, whoever said it."""


@dataclass(frozen=True, slots=True)
class DropEntry:
    """Answer this frame as dropped."""

    frame_id: int
    capture_time_us: int
    reason: DropReason
    detail: str
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class EstimateEntry:
    """Answer this frame, which was superseded, with an estimate; as dropped where there is nothing to make one of."""

    frame: FrameEntry
    detail: str
    """Why the network does not see it."""
    is_skipped: bool = False
    """The stream is degraded and this is its every second frame; without a mask to carry it goes to the network."""

    def dropped(self) -> DropEntry:
        """The same frame without a mask."""
        frame = self.frame
        return DropEntry(frame.frame_id, frame.capture_time_us, DropReason.SUPERSEDED, self.detail, frame.arrived_ns)


@dataclass(frozen=True, slots=True)
class NoticeEntry:
    """Tell the client that its stream ends in ``time_left_s``."""

    reason: NoticeReason
    time_left_s: float


@dataclass(frozen=True, slots=True)
class DegradeEntry:
    """Tell the client that its stream is served at another level from here on."""

    went_down: bool
    level: int
    model: str
    every_second: bool


Entry = ConfigEntry | FrameEntry | EstimateEntry | DropEntry | NoticeEntry | DegradeEntry


class State(enum.Enum):
    """Where a stream stands."""

    OPEN = enum.auto()
    RUNNING = enum.auto()
    CLOSED = enum.auto()


class StreamProtocol:
    """One stream. Feed it with `receive_config`, `receive_frame` and `close_input`; take work with `next_entry`."""

    def __init__(self, catalog: Catalog, limits: SizeLimits, defaults: ConfigDefaults = ConfigDefaults()) -> None:
        self._catalog = catalog
        self._limits = limits
        self._defaults = defaults
        self._state = State.OPEN
        self._config: StreamConfig | None = None
        self._images: dict[str, BackgroundImage] = {}
        self._last_frame_id: int | None = None
        self._entries: deque[Entry] = deque()
        self._waiting_frames = 0
        self._estimates_in_a_row = 0
        self._skips_every_second = False
        self._skipped_last = False

    @property
    def state(self) -> State:
        """Where the stream stands."""
        return self._state

    @property
    def config(self) -> StreamConfig | None:
        """The config that holds for the next frame received."""
        return self._config

    @property
    def limits(self) -> SizeLimits:
        """What pictures and images may not exceed."""
        return self._limits

    @property
    def wants_input(self) -> bool:
        """Whether the shell should read another message."""
        if self._state is State.CLOSED or len(self._entries) >= BACKLOG_LIMIT:
            return False
        every = self._config is not None and self._config.policy is FramePolicy.EVERY
        return not (every and self._waiting_frames >= EVERY_WAITING)

    @property
    def finished(self) -> bool:
        """Whether nothing more will come in, and nothing waits to go out."""
        return self._state is State.CLOSED and not self._entries

    @property
    def waiting_frames(self) -> int:
        """Frames that wait for `next_entry`."""
        return self._waiting_frames

    def receive_config(self, requested: RequestedConfig) -> None:
        """Take a config.

        Raises:
            ProtocolViolation: it is not acceptable; the stream is closed and nothing of it applied.
        """
        self._require_not_closed()
        try:
            if self._config is not None and requested.resume_token:
                where = "belongs into the first config only; leave it out of later ones"
                raise invalid(Reason.CONFIG_INVALID, "config is not acceptable", [("config.resume_token", where)])
            config = check_config(requested, self._catalog, self._limits, self._defaults, self._images)
        except CallError as error:
            raise self._violation(error) from None
        self._entries.append(ConfigEntry(config, self._resets(config), requested.resume_token))
        self._config = config
        self._state = State.RUNNING

    def require_room_for_image(self, image_id: str) -> None:
        """To be asked before an image is decoded.

        Raises:
            ProtocolViolation: no usable id, one that was used already, or too many images.
        """
        self._require_not_closed()
        if complaint := image_complaint(image_id, self._images):
            fields = [("background_image.image_id", complaint)]
            raise self._violation(invalid(Reason.CONFIG_INVALID, "background image is not acceptable", fields))
        if len(self._images) >= IMAGES_LIMIT:
            message = f"{IMAGES_LIMIT} background images are in this stream already; open a new one for others"
            limit = {"max_background_images": str(IMAGES_LIMIT)}
            raise self._violation(CallError(Reason.LIMIT_EXCEEDED, message, metadata=limit))

    def receive_image(self, image: BackgroundImage) -> None:
        """Take a background image for configs to refer to.

        Raises:
            ProtocolViolation: as `require_room_for_image`.
        """
        self.require_room_for_image(image.image_id)
        self._images[image.image_id] = image

    def receive_frame(self, frame: ReceivedFrame, now_ns: int) -> None:
        """Take a frame: it will be worked on, or answered as dropped.

        Raises:
            ProtocolViolation: no config came before it, or its id does not grow.
        """
        self._require_not_closed()
        config = self._config
        if config is None:
            message = f"frame {frame.frame_id} came before the first config; send `config` first"
            raise self._violation(CallError(Reason.CONFIG_MISSING, message, fields=[("config", message)]))
        last = self._last_frame_id
        if last is not None and frame.frame_id <= last:
            message = f"frame_id {frame.frame_id} after {last}; ids must grow from frame to frame"
            reason = Reason.FRAME_ID_NOT_INCREASING
            raise self._violation(CallError(reason, message, fields=[("frame.frame_id", message)]))
        self._last_frame_id = frame.frame_id
        checked = self._check_frame(frame, config, now_ns)
        if isinstance(checked, FrameEntry):
            if self._skips_every_second and config.policy is FramePolicy.NEWEST and not self._skipped_last:
                detail = f"frame {frame.frame_id}: the stream is degraded, every second frame is left out"
                self._entries.append(EstimateEntry(checked, detail, is_skipped=True))
                self._give_up_oldest_estimates()
                self._skipped_last = True
                return
            self._skipped_last = False
            if config.policy is FramePolicy.NEWEST:
                self._supersede_waiting(frame.frame_id)
            self._waiting_frames += 1
        self._entries.append(checked)

    def degrade(self, change: DegradeEntry) -> None:
        """Serve the frames that come from now on at another level, and tell the client in turn."""
        self._skips_every_second = change.every_second
        self._skipped_last = False
        if self._state is not State.CLOSED:
            self._entries.append(change)

    def notify(self, reason: NoticeReason, time_left_s: float) -> None:
        """Tell the client, in turn, that its stream ends soon."""
        if self._state is not State.CLOSED:
            self._entries.append(NoticeEntry(reason, time_left_s))

    def close_input(self) -> None:
        """The client half-closed, or is not listened to any more; what was accepted is still answered."""
        self._state = State.CLOSED

    def next_entry(self) -> Entry | None:
        """The next thing to answer, in order; None if there is nothing yet."""
        if not self._entries:
            return None
        entry = self._entries.popleft()
        if isinstance(entry, FrameEntry):
            self._waiting_frames -= 1
            self._estimates_in_a_row = 0
        elif isinstance(entry, EstimateEntry):
            if self._estimates_in_a_row == ESTIMATES_IN_A_ROW:
                return entry.dropped()
            self._estimates_in_a_row += 1
        return entry

    def _require_not_closed(self) -> None:
        if self._state is State.CLOSED:
            raise RuntimeError("the stream's input is closed; the shell must not feed it any more")

    def _violation(self, error: CallError) -> ProtocolViolation:
        self._state = State.CLOSED
        self._entries.clear()
        self._waiting_frames = 0
        return ProtocolViolation(error.reason, str(error), fields=error.fields, metadata=error.metadata)

    def _resets(self, config: StreamConfig) -> tuple[ResetReason, ...]:
        """What of the state no longer fits a config that replaces an earlier one."""
        old = self._config
        if old is None:
            return ()
        resets = []
        if config.model != old.model:
            resets.append(ResetReason.MODEL)
        if (config.rotation, config.mirrored) != (old.rotation, old.mirrored):
            resets.append(ResetReason.ROTATION)
        # A simulcast layer of the same shape lies on the network's input just as the old one did: no reset, no flicker.
        before, after = (self._catalog.geometry(config.model, c.size, config.rotation) for c in (old, config))
        if before != after:
            resets.append(ResetReason.SIZE)
        return tuple(resets)

    def _check_frame(self, frame: ReceivedFrame, config: StreamConfig, now_ns: int) -> FrameEntry | DropEntry:
        def drop(reason: DropReason, detail: str) -> DropEntry:
            return DropEntry(frame.frame_id, frame.capture_time_us, reason, f"frame {frame.frame_id}: {detail}", now_ns)

        if frame.unknown_field:
            return drop(DropReason.BAD_FIELD, frame.unknown_field)
        if frame.shared_complaint:
            return drop(DropReason.BAD_SHARED_MEMORY, frame.shared_complaint)
        if (frame.width == 0) != (frame.height == 0):
            seen = f"{frame.width}x{frame.height}"
            return drop(DropReason.BAD_SIZE, f"size {seen} gives one side only; give both, or neither for the config's")
        size = Size(frame.width, frame.height) if frame.width else config.size
        if complaint := self._limits.complaint(size):
            return drop(DropReason.BAD_SIZE, complaint)
        count, limit = len(frame.picture), self._limits.max_frame_bytes
        if count > limit:
            return drop(DropReason.BAD_SIZE, f"{count} bytes exceed max_frame_bytes {limit}; send smaller frames")
        layout = layout_of_frame(frame.layout, size, config.layout, config.size)
        if layout and (complaint := layout_complaint(layout, config.pixel_format, size)):
            return drop(DropReason.BAD_LAYOUT, complaint)
        if not config.pixel_format.compressed:
            if complaint := byte_count_complaint(count, config.pixel_format, size, layout):
                return drop(DropReason.WRONG_BYTE_COUNT, complaint)
        elif count == 0:
            return drop(DropReason.UNDECODABLE, f"0 bytes for {config.pixel_format.name} {size}; send a whole file")
        return FrameEntry(
            frame_id=frame.frame_id,
            capture_time_us=frame.capture_time_us,
            picture=frame.picture,
            config=config,
            size=size,
            rotation=config.rotation if frame.rotation is None else frame.rotation,
            mirrored=config.mirrored if frame.mirrored is None else frame.mirrored,
            arrived_ns=now_ns,
            layout=layout,
        )

    def _supersede_waiting(self, newer_id: int) -> None:
        """Turn the frames that still wait into estimates or drops, in place, so that the order of answers holds."""
        if not self._waiting_frames:
            return
        for index, entry in enumerate(self._entries):
            if isinstance(entry, FrameEntry):
                detail = f"frame {entry.frame_id}: frame {newer_id} arrived before the engine was free"
                estimate = EstimateEntry(entry, detail)
                is_wanted = entry.config.estimates is Estimates.SUPERSEDED
                self._entries[index] = estimate if is_wanted else estimate.dropped()
        self._waiting_frames = 0
        self._give_up_oldest_estimates()

    def _give_up_oldest_estimates(self) -> None:
        waiting = [index for index, entry in enumerate(self._entries) if isinstance(entry, EstimateEntry)]
        for index in waiting[:-ESTIMATES_WAITING]:
            entry = self._entries[index]
            if isinstance(entry, EstimateEntry):
                self._entries[index] = entry.dropped()


def check_config(
    requested: RequestedConfig,
    catalog: Catalog,
    limits: SizeLimits,
    defaults: ConfigDefaults,
    images: Mapping[str, BackgroundImage],
) -> StreamConfig:
    """Fill in the defaults and hold a config against the limits; all complaints come together.

    Raises:
        CallError: CONFIG_INVALID with every offending field, or MODEL_UNKNOWN.
    """
    fields: list[tuple[str, str]] = []
    size = Size(requested.width, requested.height)
    pixel_format = requested.pixel_format or PixelFormat.I420
    if complaint := limits.complaint(size):
        fields.append(("config.width, config.height", complaint))
    else:
        check_layout("config.", requested.layout, pixel_format, size, limits.max_frame_bytes, fields)
    color = check_color("config.", pixel_format, requested.color_matrix, requested.color_range, fields)
    if pixel_format is PixelFormat.PNG:
        fields.append(("config.pixel_format", "PNG is for Segment only; stream JPEG or raw pixels"))
    if not (len(requested.label) <= LABEL_LIMIT and requested.label.isascii() and requested.label.isprintable()):
        text = f"{requested.label[:LABEL_LIMIT]!r} ({len(requested.label)} characters) is not a label"
        fields.append(("config.session_label", f"{text}; allowed are up to {LABEL_LIMIT} printable ASCII characters"))
    mask_size = check_mask_size("config.", requested.mask_width, requested.mask_height, limits, fields)
    policy = requested.policy or FramePolicy.NEWEST
    deadline_ns = requested.frame_deadline_ns
    if deadline_ns is None:
        deadline_ns = defaults.frame_deadline_ns if policy is FramePolicy.NEWEST else None
    elif deadline_ns != 0 and not SHORTEST_DEADLINE_NS <= deadline_ns <= LONGEST_DEADLINE_NS:
        allowed = f"{SHORTEST_DEADLINE_NS / 1e9:g} to {LONGEST_DEADLINE_NS / 1e9:g} s, or 0 for none"
        fields.append(("config.frame_deadline", f"{deadline_ns / 1e9:g} s is out of range, allowed are {allowed}"))
    interval_s = requested.resume_interval_s
    if interval_s != 0 and not LEAST_RESUME_INTERVAL_S <= interval_s <= LARGEST_RESUME_INTERVAL_S:
        allowed = f"allowed are 0 and {LEAST_RESUME_INTERVAL_S:g} to {LARGEST_RESUME_INTERVAL_S:g} s"
        text = f"{interval_s:g} s, {allowed}"
        fields.append(("config.resume_interval", text))
    composite = None
    if requested.composite is not None:
        fields += _contradictions(requested)
        composite = check_composite(requested.composite, pixel_format, images, fields)
    if fields:
        raise invalid(Reason.CONFIG_INVALID, "config is not acceptable", fields)
    return StreamConfig(
        model=check_model(requested.model, catalog),
        size=size,
        pixel_format=pixel_format,
        rotation=Rotation.DEG_0 if requested.rotation is None else requested.rotation,
        mirrored=requested.mirrored,
        fusion=requested.fusion or TemporalFusion.HIGH,
        encoding=requested.encoding or MaskEncoding.ALPHA8,
        mask_size=mask_size,
        policy=policy,
        label=requested.label,
        estimates=requested.estimates or Estimates.OFF,
        frame_deadline_ns=deadline_ns or None,
        degradation=_degradation(requested, policy, defaults),
        resume_interval_s=interval_s,
        composite=composite,
        shared_memory=requested.shared_memory,
        layout=requested.layout,
        color=color,
        people=requested.people or People.ALL,
    )


def _contradictions(requested: RequestedConfig) -> list[tuple[str, str]]:
    """What cannot be had together with finished pictures, where no masks are sent and none is estimated."""
    found = []
    if requested.mask_width or requested.mask_height:
        text = f"{requested.mask_width}x{requested.mask_height} with a composite, which is of the frame's own size"
        found.append(("config.mask_width, config.mask_height", f"{text}; leave both 0"))
    if requested.encoding not in (None, MaskEncoding.ALPHA8):
        text = f"{requested.encoding.name} with a composite, which sends no masks; leave it out"
        found.append(("config.mask_encoding", text))
    if requested.estimates is Estimates.SUPERSEDED:
        text = "SUPERSEDED with a composite: an estimate may show the room where the person was; leave it out"
        found.append(("config.estimates", text))
    if requested.degradation is Degradation.MODEL_AND_RATE:
        text = "MODEL_AND_RATE with a composite, for which nothing is estimated; ask for MODEL or OFF"
        found.append(("config.degradation", text))
    return found


def _degradation(requested: RequestedConfig, policy: FramePolicy, defaults: ConfigDefaults) -> Degradation:
    if policy is not FramePolicy.NEWEST or not defaults.degrades:
        return Degradation.OFF
    if requested.degradation is not None:
        return requested.degradation
    # By itself the server sends no estimates: clients of earlier releases know them only where they asked.
    return Degradation.MODEL_AND_RATE if requested.estimates is Estimates.SUPERSEDED else Degradation.MODEL


def check_mask_size(
    prefix: str, width: int, height: int, limits: SizeLimits, fields: list[tuple[str, str]]
) -> Size | None:
    """The wanted size of masks, None for the frame's own; a complaint is added to ``fields``."""
    if width == 0 and height == 0:
        return None
    if complaint := limits.complaint(Size(width, height)):
        fields.append((f"{prefix}mask_width, {prefix}mask_height", f"{complaint}, or leave both 0 for the frame's own"))
    return Size(width, height)


def check_model(name: str, catalog: Catalog) -> str:
    """The model meant by a name, the default if it is empty.

    Raises:
        CallError: MODEL_UNKNOWN.
    """
    if not name:
        return catalog.default
    if name not in catalog.names:
        served = ", ".join(catalog.names)
        message = f"model {name[:80]!r} is not served here, served are {served}"
        raise CallError(Reason.MODEL_UNKNOWN, message, metadata={"served_models": served})
    return name


def invalid(reason: Reason, summary: str, fields: Sequence[tuple[str, str]]) -> CallError:
    """An error that names each offending field."""
    return CallError(reason, f"{summary}: " + "; ".join(f"{path}: {text}" for path, text in fields), fields=fields)
