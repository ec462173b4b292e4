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
from dataclasses import dataclass

from humanseg.frames import PACKED, Layout, byte_count_complaint, layout_complaint
from humanseg.options import Estimates, FramePolicy
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation
from humanseg.vision.temporal import ResetReason
from service.call_errors import CallError, ProtocolViolation, Reason, invalid
from service.compositing import IMAGES_LIMIT, BackgroundImage, image_complaint
from service.picture_form import layout_of_frame
from service.region import SharedPicture
from service.stream_config import (
    NO_DEFAULTS,
    Catalog,
    ConfigDefaults,
    RequestedConfig,
    SizeLimits,
    StreamConfig,
    check_config,
)

#: Frames that may wait under policy EVERY: one being read while one is worked on keeps the engine busy.
EVERY_WAITING = 2
#: Answers that may wait for the shell. A client that floods is held back here, not in memory.
BACKLOG_LIMIT = 256
#: Superseded frames that wait for an estimate: each holds its picture. The oldest gives way.
ESTIMATES_WAITING = 4
#: Estimates between two frames for the engine: were each as slow as the frames are fast, no mask would ever come.
ESTIMATES_IN_A_ROW = 8


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

    def __init__(self, catalog: Catalog, limits: SizeLimits, defaults: ConfigDefaults = NO_DEFAULTS) -> None:
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
        """Turn the frames that still wait into estimates or drops, in place, so that the order of answers holds.

        Not those that came under a config with EVERY, which a later config does not take back.
        """
        if not self._waiting_frames:
            return
        for index, entry in enumerate(self._entries):
            if isinstance(entry, FrameEntry) and entry.config.policy is FramePolicy.NEWEST:
                detail = f"frame {entry.frame_id}: frame {newer_id} arrived before the engine was free"
                estimate = EstimateEntry(entry, detail)
                is_wanted = entry.config.estimates is Estimates.SUPERSEDED
                self._entries[index] = estimate if is_wanted else estimate.dropped()
                self._waiting_frames -= 1
        self._give_up_oldest_estimates()

    def _give_up_oldest_estimates(self) -> None:
        waiting = [index for index, entry in enumerate(self._entries) if isinstance(entry, EstimateEntry)]
        for index in waiting[:-ESTIMATES_WAITING]:
            entry = self._entries[index]
            if isinstance(entry, EstimateEntry):
                self._entries[index] = entry.dropped()
