"""Does a figure that was watched for a long time grow? Pure functions of the samples.

Samples of memory are not independent: it goes up and down for minutes. So a line is fitted to the means of a few long
blocks, whose scatter says how far such a line may lean by chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

BLOCKS = 8
#: Student's t with `BLOCKS` - 2 degrees of freedom, one-sided 0.5 %: so seldom does chance alone lean more.
_T_LIMIT = 3.707
#: Samples a block at least; with fewer nothing is said.
LEAST_SAMPLES = 5 * BLOCKS


@dataclass(frozen=True, slots=True)
class Drift:
    """A line through the samples."""

    per_hour: float
    """Growth, in the figure's own unit."""
    chance_per_hour: float
    """As much growth may be chance."""

    @property
    def grows(self) -> bool:
        """Whether it grows by more than chance explains."""
        return self.per_hour > self.chance_per_hour


def fit(times_s: Sequence[float], values: Sequence[float]) -> Drift | None:
    """The drift of equally spaced samples, None where there are too few.

    Ordinary least squares on block means; the standard error of its slope from the residuals.
    """
    if len(times_s) != len(values):
        raise ValueError(f"{len(times_s)} times for {len(values)} values; give one each")
    if len(values) < LEAST_SAMPLES:
        return None
    edges = [round(block * len(values) / BLOCKS) for block in range(BLOCKS + 1)]
    x = [_mean(times_s[low:high]) for low, high in pairwise(edges)]
    y = [_mean(values[low:high]) for low, high in pairwise(edges)]
    mean_x, mean_y = _mean(x), _mean(y)
    spread = sum((at - mean_x) ** 2 for at in x)
    slope = sum((at - mean_x) * (value - mean_y) for at, value in zip(x, y, strict=True)) / spread
    residuals = [value - mean_y - slope * (at - mean_x) for at, value in zip(x, y, strict=True)]
    error = math.sqrt(sum(residual**2 for residual in residuals) / (BLOCKS - 2) / spread)
    return Drift(3600 * slope, 3600 * _T_LIMIT * error)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def svg_lines(times_s: Sequence[float], figures: Mapping[str, Sequence[float]]) -> str:
    """A picture with one panel a figure, over time; the axis of each from its least to its largest value."""
    width, height, left, gap = 900, 150, 90, 30
    span_s = max(times_s[-1] - times_s[0], 1e-9)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{len(figures) * (height + gap) + gap}"'
        ' font-family="sans-serif" font-size="12">'
    ]
    for number, (name, values) in enumerate(figures.items()):
        top = gap + number * (height + gap)
        low, high = min(values), max(values)
        scale = height / (high - low) if high > low else 0.0
        x = [left + (at_s - times_s[0]) / span_s * (width - left - 10) for at_s in times_s]
        y = [top + height - (value - low) * scale for value in values]
        points = " ".join(f"{across:.1f},{down:.1f}" for across, down in zip(x, y, strict=True))
        parts.append(f'<text x="{left}" y="{top - 6}">{name}, {span_s / 60:.1f} min</text>')
        parts.append(f'<text x="4" y="{top + 10}">{high:g}</text><text x="4" y="{top + height}">{low:g}</text>')
        parts.append(f'<polyline fill="none" stroke="#1f5fa8" points="{points}"/>')
    return "\n".join([*parts, "</svg>", ""])
