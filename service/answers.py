"""What a session takes in and gives out, whatever protocol its client speaks."""

from dataclasses import dataclass

from service.pipeline import EncodedMask
from service.resume import ResumeOutcome
from service.stages import StageClock
from service.stream_config import RequestedConfig
from service.stream_protocol import (
    ConfigEntry,
    DegradeEntry,
    DropEntry,
    DropReason,
    FrameEntry,
    NoticeEntry,
    ReceivedFrame,
)


@dataclass(frozen=True, slots=True)
class ReceivedImage:
    """A background image as the client sent it: a file that nobody has looked into yet."""

    image_id: str
    file: bytes


Incoming = RequestedConfig | ReceivedFrame | ReceivedImage


@dataclass(frozen=True, slots=True)
class MaskAnswer:
    """A frame was segmented."""

    entry: FrameEntry
    mask: EncodedMask
    clock: StageClock
    level: int
    model: str
    """The one it was made with, which a degraded stream did not ask for."""


@dataclass(frozen=True, slots=True)
class EstimateAnswer:
    """A frame was not segmented, and an earlier mask carried along for it."""

    entry: FrameEntry
    mask: EncodedMask
    clock: StageClock
    level: int
    model: str
    """The one it was made for, which a degraded stream did not ask for."""


@dataclass(frozen=True, slots=True)
class DropAnswer:
    """A frame has no mask."""

    entry: FrameEntry | DropEntry
    reason: DropReason
    detail: str
    clock: StageClock


@dataclass(frozen=True, slots=True)
class AcceptAnswer:
    """A config holds; what became of its resume token, None where there was none."""

    entry: ConfigEntry
    resume: ResumeOutcome | None


@dataclass(frozen=True, slots=True)
class ResumeAnswer:
    """Where another stream can go on, with the mask of this frame behind it."""

    token: bytes
    frame_id: int


Answer = AcceptAnswer | ResumeAnswer | NoticeEntry | DegradeEntry | MaskAnswer | EstimateAnswer | DropAnswer
