"""Choices of a session that client, service and vision share; the names are those of the proto's enums."""

import enum
from typing import NamedTuple


class TemporalFusion(enum.Enum):
    """How strongly masks are fused over time along the optical flow."""

    OFF = enum.auto()
    LOW = enum.auto()
    HIGH = enum.auto()


class FramePolicy(enum.Enum):
    """What happens to frames that arrive while an earlier one is still worked on."""

    NEWEST = enum.auto()
    EVERY = enum.auto()


class People(enum.Enum):
    """Whose masks are wanted; everybody else is background."""

    ALL = enum.auto()
    MAIN = enum.auto()


class Degradation(enum.Enum):
    """What the server may do with a live stream when there is more to do than its engines can."""

    OFF = enum.auto()
    MODEL = enum.auto()
    MODEL_AND_RATE = enum.auto()


class Estimates(enum.Enum):
    """Which frames that the network does not see are answered with an earlier mask carried along the optical flow."""

    OFF = enum.auto()
    SUPERSEDED = enum.auto()


class ColorMatrix(enum.Enum):
    """By which matrix the YUV of an I420 or NV12 frame was made of RGB: ITU-R BT.601 or BT.709."""

    BT601 = enum.auto()
    BT709 = enum.auto()


class ColorRange(enum.Enum):
    """Which levels the YUV of an I420 or NV12 frame uses: Y 16..235, U and V 16..240, or all of 0..255."""

    LIMITED = enum.auto()
    FULL = enum.auto()


class YuvColor(NamedTuple):
    """What the levels of an I420 or NV12 frame mean; for other formats nothing."""

    matrix: ColorMatrix = ColorMatrix.BT601
    range: ColorRange = ColorRange.LIMITED

    def __str__(self) -> str:
        return f"{self.matrix.name} {self.range.name}"


#: What webcams and WebRTC send, and what is meant where nothing is said.
BT601_LIMITED = YuvColor()
