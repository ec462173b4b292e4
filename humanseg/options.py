"""Choices of a session that client, service and vision share; the names are those of the proto's enums."""

import enum


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
