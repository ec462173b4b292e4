"""The degrade ladder of one live stream: a smaller model first, then every second frame. Pure; time is passed in.

A stream *struggles* with a frame that was superseded or late. Down one rung after a window in which it struggled with
many, up one rung after a calm time in which it struggled with hardly any; what lies between changes nothing. A stream
that had to go down again soon after it went up waits twice as long before the next try.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from humanseg.options import Degradation
from service.stream_config import StreamConfig

#: From the best model to the cheapest; others have no smaller one.
MODELS_BY_COST = ("large", "medium", "small")


class Fate(enum.Enum):
    """What became of a frame that was meant for the engine."""

    MASK = enum.auto()
    LATE = enum.auto()
    SUPERSEDED = enum.auto()


@dataclass(frozen=True, slots=True)
class Rung:
    """How frames are worked on at one level."""

    model: str
    every_second: bool = False
    """Every second frame is answered with an estimate instead of going to the engine."""


def rungs(config: StreamConfig, served: Sequence[str]) -> tuple[Rung, ...]:
    """What a stream may be brought down to, from what it asked for to the cheapest."""
    found = [Rung(config.model)]
    if config.degradation is Degradation.OFF:
        return tuple(found)
    if config.model in MODELS_BY_COST:
        cheaper = MODELS_BY_COST[MODELS_BY_COST.index(config.model) + 1 :]
        found += [Rung(model) for model in cheaper if model in served]
    if config.degradation is Degradation.MODEL_AND_RATE:
        found.append(Rung(found[-1].model, every_second=True))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class LadderRules:
    """When a stream changes its rung."""

    window_ns: int = 2_000_000_000
    """Frames are judged in windows of at least this."""
    least_frames: int = 10
    """A window lasts until it has so many."""
    least_turns: int = 3
    """And so many that were not superseded: while one run of a slow model lasts, nothing is known of the next rung."""
    down_ratio: float = 0.3
    """Struggling with this share of a window's frames or more, it goes down."""
    calm_ratio: float = 0.05
    """Struggling with this share or less, it is calm."""
    calm_ns: int = 10_000_000_000
    """After so much calm it goes up."""
    longest_calm_factor: int = 16
    """So many times that calm at most, however often it went down again."""


class Ladder:
    """Where one stream stands."""

    def __init__(self, rules: LadderRules, jitter: float) -> None:
        """``jitter`` in [0, 1]: by how much of it this stream's calm is longer, so that not all go up together."""
        self._rules = rules
        self._jitter = jitter
        self._rungs: tuple[Rung, ...] = ()
        self._level = 0
        self._window_began_ns: int | None = None
        self._frames = 0
        self._turns = 0
        self._struggles = 0
        self._calm_since_ns = 0
        self._calm_wanted_ns = rules.calm_ns
        self._went_up_ns: int | None = None

    @property
    def level(self) -> int:
        """0: as it was asked for."""
        return self._level

    @property
    def rung(self) -> Rung:
        """What holds now; there is none before the first `configure`."""
        return self._rungs[self._level]

    def configure(self, available: tuple[Rung, ...]) -> bool:
        """A config holds from here on; the load is the same as before, and so is the level, as far as it exists.

        Returns whether the stream is to be told: of another level, or of another meaning of the one that it is on.
        """
        before = self._rungs[self._level] if self._rungs else None
        level, self._rungs = self._level, available
        self._level = min(level, len(available) - 1)
        return self._level != level or (level > 0 and self.rung != before)

    def saw(self, fate: Fate, now_ns: int) -> bool:
        """A frame meant for the engine was answered; returns whether the level changed by that."""
        if self._window_began_ns is None:
            self._window_began_ns = self._calm_since_ns = now_ns
        self._frames += 1
        self._turns += fate is not Fate.SUPERSEDED
        self._struggles += fate is not Fate.MASK
        too_short = now_ns - self._window_began_ns < self._rules.window_ns
        if too_short or self._frames < self._rules.least_frames or self._turns < self._rules.least_turns:
            return False
        ratio = self._struggles / self._frames
        self._window_began_ns, self._frames, self._turns, self._struggles = now_ns, 0, 0, 0
        if ratio > self._rules.calm_ratio:
            self._calm_since_ns = now_ns
        if ratio >= self._rules.down_ratio:
            return self._go_down(now_ns)
        if self._level and now_ns - self._calm_since_ns >= self._calm_wanted_ns * (1 + self._jitter):
            self._level -= 1
            self._went_up_ns = self._calm_since_ns = now_ns
            return True
        return False

    def _go_down(self, now_ns: int) -> bool:
        if self._level + 1 >= len(self._rungs):
            return False
        went_up_too_soon = self._went_up_ns is not None and now_ns - self._went_up_ns <= self._calm_wanted_ns
        longer_ns = min(2 * self._calm_wanted_ns, self._rules.longest_calm_factor * self._rules.calm_ns)
        self._calm_wanted_ns = longer_ns if went_up_too_soon else self._rules.calm_ns
        self._went_up_ns = None
        self._level += 1
        return True
