"""What a run is to do and what came of it: the two messages between the command and its client processes."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmarks.arrivals import Arrivals
from benchmarks.recording import Histogram, Recorder
from benchmarks.slices import Slice

#: A frame is on time when its mask arrives within this, in ms: a frame's time at 60 and at 30 fps.
ON_TIME_MS = (16.7, 33.3)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Everything a client process needs to know; the same for all processes but ``numbers``."""

    address: str
    sessions: int
    fps: float
    warmup_s: float
    measured_s: float
    arrivals: Arrivals
    seed: int
    model: str
    """Empty: the server's default."""
    width: int
    height: int
    pixel_format: str
    """``i420``, ``rgb24`` or ``jpeg``."""
    temporal: str
    """``off``, ``low`` or ``high``."""
    clip: str | None
    """Path of a video file; None: drawn pictures."""
    policy: str = "newest"
    """``newest`` or ``every``: what becomes of a frame that comes while an earlier one is worked on."""
    numbers: tuple[int, ...] = ()
    """Which of the sessions this process runs."""
    is_first: bool = False
    """Whether this process opens a stream for one frame before all others: the server's first mask."""

    @property
    def duration_s(self) -> float:
        """Warm-up and measured part together, in seconds."""
        return self.warmup_s + self.measured_s

    def shares(self, processes: int) -> list["LoadPlan"]:
        """The plan dealt out to at most so many processes, session by session in turn."""
        used = min(processes, self.sessions)
        return [
            replace(self, numbers=tuple(range(first, self.sessions, used)), is_first=first == 0)
            for first in range(used)
        ]

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "LoadPlan":
        """Read what `to_json` wrote."""
        values = json.loads(text)
        values["arrivals"] = Arrivals(values["arrivals"])
        values["numbers"] = tuple(values["numbers"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Served:
    """What the server said it runs, in its answer to the first config."""

    model: str
    version: str
    engine: str
    network_width_px: int
    network_height_px: int


@dataclass(frozen=True, slots=True)
class SessionFigures:
    """What one session got, to see whether all got the same."""

    session: int
    sent: int
    masks: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(slots=True)
class Outcome:
    """What sessions saw in the measured part of a run; the warm-up is in ``first_mask_ms`` alone."""

    recorder: Recorder = field(default_factory=Recorder)
    stages: dict[str, Histogram] = field(default_factory=dict)
    """Per stage of the server, then ``unexplained`` and ``transport``; see `clients.record_stages`."""
    first_mask_ms: list[float] = field(default_factory=list)
    """Per session, from opening the stream to its first mask, in the order of opening."""
    join_ms: list[float] = field(default_factory=list)
    """The same for those who came later, while the load was on (`Arrivals.CHURN`)."""
    sessions: list[SessionFigures] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    """The measured part cut into slices of equal length, by the intended send time."""
    frames: Counter[str] = field(default_factory=Counter)
    """``sent``, ``masks``, ``unanswered``."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Frames without a mask, by the server's reason."""
    on_time: Counter[str] = field(default_factory=Counter)
    """Masks that came within so many ms of the intended send time; keys are the limits of `ON_TIME_MS`."""

    def merge(self, other: "Outcome") -> None:
        """Add what other sessions saw."""
        self.recorder.merge(other.recorder)
        for stage, histogram in other.stages.items():
            self.stages.setdefault(stage, Histogram()).merge(histogram)
        self.first_mask_ms += other.first_mask_ms
        self.join_ms += other.join_ms
        self.sessions += other.sessions
        self.slices += [Slice() for _ in range(len(other.slices) - len(self.slices))]
        for mine, theirs in zip(self.slices, other.slices, strict=False):
            mine.merge(theirs)
        self.frames += other.frames
        self.dropped += other.dropped
        self.on_time += other.on_time

    def to_plain(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return {
            "latency": self.recorder.latency.encode(),
            "from_send": self.recorder.from_send.encode(),
            "send_lag": self.recorder.send_lag.encode(),
            "stages": {stage: histogram.encode() for stage, histogram in self.stages.items()},
            "first_mask_ms": self.first_mask_ms,
            "join_ms": self.join_ms,
            "sessions": [asdict(session) for session in self.sessions],
            "slices": [one.to_plain() for one in self.slices],
            "frames": self.frames,
            "dropped": self.dropped,
            "on_time": self.on_time,
        }

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "Outcome":
        """Read what `to_plain` wrote."""
        return cls(
            Recorder(*(Histogram.decode(values[key]) for key in ("latency", "from_send", "send_lag"))),
            {stage: Histogram.decode(text) for stage, text in values["stages"].items()},
            values["first_mask_ms"],
            values["join_ms"],
            [SessionFigures(**session) for session in values["sessions"]],
            [Slice.from_plain(one) for one in values["slices"]],
            Counter(values["frames"]),
            Counter(values["dropped"]),
            Counter(values["on_time"]),
        )
