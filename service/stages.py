"""Where the time of a frame goes: one clock a frame, wall and CPU time by stage."""

import time
from types import TracebackType
from typing import Literal, get_args

Stage = Literal[
    "wait", "decode", "preprocess", "queue", "inference", "fusion", "postprocess", "encode", "total"
]  # fmt: skip
#: In the order in which a frame passes them; ``total`` spans them all. Names are those of the proto's StageTimes.
STAGES: tuple[Stage, ...] = get_args(Stage)


class StageClock:
    """Collects the times of one picture. Stages run one after another, on whatever thread."""

    __slots__ = ("arrived_ns", "cpu_ns", "wall_ns")

    def __init__(self, arrived_ns: int) -> None:
        """``arrived_ns``: monotonic nanoseconds at which the picture was received."""
        self.arrived_ns = arrived_ns
        self.wall_ns: dict[Stage, int] = {}
        self.cpu_ns: dict[Stage, int] = {}

    def stage(self, name: Stage) -> "StageTimer":
        """Time a stage that runs on this thread: ``with clock.stage(name):``."""
        return StageTimer(self, name)

    def started(self) -> None:
        """Work on the picture begins; it has waited until now."""
        self.wall_ns["wait"] = time.monotonic_ns() - self.arrived_ns

    def answered(self) -> None:
        """The answer is ready."""
        self.wall_ns["total"] = time.monotonic_ns() - self.arrived_ns


class StageTimer:
    """A stage that is being timed, also where it raises; a class, since a generator costs twice as much to enter."""

    __slots__ = ("_clock", "_cpu", "_name", "_wall")

    def __init__(self, clock: StageClock, name: Stage) -> None:
        self._clock = clock
        self._name = name

    def __enter__(self) -> None:
        self._wall, self._cpu = time.monotonic_ns(), time.thread_time_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clock, name = self._clock, self._name
        clock.wall_ns[name] = time.monotonic_ns() - self._wall
        clock.cpu_ns[name] = time.thread_time_ns() - self._cpu
