"""How people and cameras of synthetic clips move: functions of time in seconds, the same at every frame rate; no torch.

All places are pixels of the canvas, x to the right and y downward.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from humanseg.vision.arrays import Field

#: One fast move, and the rest after it.
MOVE_S, REST_S = 0.3, 0.3


@dataclass(frozen=True, slots=True)
class Pose:
    """Where something stands against its place at rest: shifted, turned and scaled about a point of its own."""

    x_px: float = 0.0
    y_px: float = 0.0
    turn_rad: float = 0.0
    zoom: float = 1.0

    def matrix(self, pivot: tuple[float, float]) -> NDArray[np.float64]:
        """(3, 3): from the place at rest to the place now, turning and scaling about ``pivot``."""
        cosine, sine = self.zoom * math.cos(self.turn_rad), self.zoom * math.sin(self.turn_rad)
        x, y = pivot
        return np.array(
            [
                [cosine, -sine, x + self.x_px - cosine * x + sine * y],
                [sine, cosine, y + self.y_px - sine * x - cosine * y],
                [0.0, 0.0, 1.0],
            ]
        )


class Path(Protocol):
    """A pose for every moment."""

    def at(self, time_s: float) -> Pose:
        """The pose at a time from 0 on."""
        ...


@dataclass(frozen=True, slots=True)
class Wave:
    """A sum of sines: amplitudes, periods in seconds and phases, of equal length."""

    amplitudes: tuple[float, ...]
    periods_s: tuple[float, ...]
    phases: tuple[float, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, amplitude: float, shortest_s: float, longest_s: float) -> "Wave":
        """Three sines whose amplitudes add up to ``amplitude``, slower ones larger."""
        periods_s = np.sort(rng.uniform(shortest_s, longest_s, 3))
        weights = periods_s * rng.uniform(0.5, 1.0, 3)
        amplitudes = amplitude * weights / weights.sum()
        phases = rng.uniform(0, 2 * math.pi, 3)
        return cls(tuple(amplitudes.tolist()), tuple(periods_s.tolist()), tuple(phases.tolist()))

    def at(self, time_s: float) -> float:
        """The value at a time."""
        return sum(
            amplitude * math.sin(2 * math.pi * time_s / period_s + phase)
            for amplitude, period_s, phase in zip(self.amplitudes, self.periods_s, self.phases, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing moves."""

    def at(self, time_s: float) -> Pose:
        """Always the place at rest."""
        return Pose()


@dataclass(frozen=True, slots=True)
class Sway:
    """Gentle movement about the place at rest."""

    x_px: Wave
    y_px: Wave
    turn_rad: Wave
    zoom: Wave

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        *,
        x_px: float,
        y_px: float,
        turn_degrees: float,
        zoom: float,
        shortest_s: float,
        longest_s: float,
    ) -> "Sway":
        """Up to so many pixels, degrees and parts of the size to either side."""
        return cls(
            *(
                Wave.draw(rng, amplitude, shortest_s, longest_s)
                for amplitude in (x_px, y_px, math.radians(turn_degrees), zoom)
            )
        )

    def at(self, time_s: float) -> Pose:
        """The pose at a time."""
        return Pose(self.x_px.at(time_s), self.y_px.at(time_s), self.turn_rad.at(time_s), 1.0 + self.zoom.at(time_s))


@dataclass(frozen=True, slots=True)
class Dash:
    """Sudden moves to one side and back, then to the other side: `MOVE_S` for each, `REST_S` between them."""

    x_px: float
    start_s: float
    """How far in the cycle time 0 is."""

    def at(self, time_s: float) -> Pose:
        """The pose at a time."""
        beat, within_s = divmod(time_s + self.start_s, MOVE_S + REST_S)
        # Even beats go out, odd ones come back; every other pair to the other side.
        done = 0.5 - 0.5 * math.cos(math.pi * min(within_s / MOVE_S, 1.0))
        share = done if int(beat) % 2 == 0 else 1.0 - done
        side = 1.0 if int(beat) % 4 < 2 else -1.0
        return Pose(x_px=side * share * self.x_px)


@dataclass(frozen=True, slots=True)
class Warp:
    """A smooth local displacement of a surface that changes with time; no ripples for a surface that keeps its shape.

    Each ripple is (amplitude x, amplitude y, wave number x, wave number y, phase, period in seconds, phase in time).
    Amplitude times wave number stays far below 1, so that the surface never folds.
    """

    ripples: tuple[tuple[float, float, float, float, float, float, float], ...] = ()

    @classmethod
    def draw(cls, rng: np.random.Generator, amplitude_px: float) -> "Warp":
        """Three ripples of 90 to 260 px in length that together move a point by up to ``amplitude_px``."""
        ripples = []
        for _ in range(3):
            direction, facing = rng.uniform(0, 2 * math.pi, 2)
            number = 2 * math.pi / rng.uniform(90, 260)
            ripples.append(
                (
                    amplitude_px / 3 * math.cos(direction),
                    amplitude_px / 3 * math.sin(direction),
                    number * math.cos(facing),
                    number * math.sin(facing),
                    float(rng.uniform(0, 2 * math.pi)),
                    float(rng.uniform(0.8, 2.5)),
                    float(rng.uniform(0, 2 * math.pi)),
                )
            )
        return cls(tuple(ripples))

    def at(self, x: Field, y: Field, time_s: float) -> tuple[Field, Field]:
        """Displacement in x and y at places (H, W) float32 of the surface."""
        shift_x, shift_y = np.zeros_like(x), np.zeros_like(y)
        for along_x, along_y, number_x, number_y, phase, period_s, phase_s in self.ripples:
            swing = math.sin(2 * math.pi * time_s / period_s + phase_s)
            ripple = np.sin(x * np.float32(number_x) + y * np.float32(number_y) + np.float32(phase))
            shift_x += np.float32(along_x * swing) * ripple
            shift_y += np.float32(along_y * swing) * ripple
        return shift_x, shift_y

    def undone(self, x: Field, y: Field, time_s: float) -> tuple[Field, Field]:
        """The places that `at` displaces to ``x`` and ``y``: solved by iteration, to a hundredth of a pixel."""
        if not self.ripples:
            return x, y
        from_x, from_y = x, y
        for _ in range(4):
            shift_x, shift_y = self.at(from_x, from_y, time_s)
            from_x, from_y = x - shift_x, y - shift_y
        return from_x, from_y
