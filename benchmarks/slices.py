"""Latencies kept apart by slices of time: what the timeline shows, and what confidence intervals are drawn from.

One slow second makes many slow frames, so that the frames of a run are no independent samples; slices of it nearly are.
The intervals here resample whole slices (a block bootstrap, Künsch 1989). They hold within one run: another run on the
same machine may differ by more.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: A run has at most this many slices, however long, and none is shorter than this.
MOST_SLICES = 120
SHORTEST_S = 0.5
#: With fewer slices an interval says nothing.
FEWEST_SLICES = 10
RESAMPLES = 1000
#: Of the intervals.
CONFIDENCE = 0.95
#: Bits of a latency that are kept: values stay within 0.3 %.
KEPT_BITS = 9

Interval = tuple[float, float]


def slice_length_s(measured_s: float) -> float:
    """How long a slice of a run of ``measured_s`` is, in seconds."""
    return max(SHORTEST_S, measured_s / MOST_SLICES)


def coarse_us(time_us: float) -> int:
    """A time in µs as the middle of its bucket, within 0.3 %, so that equal times can be counted together."""
    whole = max(1, round(time_us))
    shift = max(0, whole.bit_length() - KEPT_BITS)
    return (whole >> shift << shift) + (1 << shift >> 1)


@dataclass(slots=True)
class Slice:
    """What was intended to be sent within one slice of time."""

    latency_us: Counter[int] = field(default_factory=Counter)
    """How often each latency from the intended send occurred; see `coarse_us`."""
    counts: Counter[str] = field(default_factory=Counter)
    """``sent``, ``masks``, ``unanswered``, ``dropped``, and ``on_time_<limit>`` for each limit."""

    def merge(self, other: "Slice") -> None:
        """Add what another process saw in the same slice."""
        self.latency_us += other.latency_us
        self.counts += other.counts

    def to_plain(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return {"latency_us": self.latency_us, "counts": self.counts}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Slice":
        """Read what `to_plain` wrote; JSON made strings of the latencies."""
        return cls(Counter({int(us): count for us, count in values["latency_us"].items()}), Counter(values["counts"]))


def percentile_intervals(
    histograms: Sequence[Mapping[int, int]], ranks: Mapping[str, float], seed: int = 1
) -> dict[str, Interval]:
    """Confidence intervals of percentiles, in the unit of the histograms' keys.

    Args:
        histograms: one a slice of time, value to count.
        ranks: percentiles (0 to 100) by name.
        seed: of the resampling; the same gives the same.

    Returns:
        An interval for each name; nothing with fewer than `FEWEST_SLICES` slices or without samples.
    """
    return {name: _interval(estimates) for name, estimates in _resampled(histograms, ranks, seed).items()}


def percentile_ratio_interval(
    above: Sequence[Mapping[int, int]], below: Sequence[Mapping[int, int]], rank: float, seed: int = 1
) -> Interval | None:
    """Confidence interval of a percentile of one measurement over that of another; None with too few slices.

    Both are resampled, each by itself: slices of time of the two have nothing to do with one another.
    """
    over = _resampled(above, {"": rank}, seed).get("")
    under = _resampled(below, {"": rank}, seed + 1).get("")
    if over is None or under is None:
        return None
    pairs = min(len(over), len(under))
    return _interval(over[:pairs] / under[:pairs])


def _resampled(
    histograms: Sequence[Mapping[int, int]], ranks: Mapping[str, float], seed: int
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Each percentile of each resample; nothing with fewer than `FEWEST_SLICES` slices or without samples."""
    values = sorted(set().union(*histograms))
    if len(histograms) < FEWEST_SLICES or not values:
        return {}
    column = {value: number for number, value in enumerate(values)}
    table = np.zeros((len(histograms), len(values)))
    for row, histogram in zip(table, histograms, strict=True):
        for value, count in histogram.items():
            row[column[value]] = count
    # (RESAMPLES, values): how many samples of a resample lie at or below a value.
    below = np.cumsum(_weights(len(histograms), seed) @ table, axis=1)
    below = below[below[:, -1] > 0]
    axis = np.array(values, float)
    return {name: axis[(below >= np.ceil(rank / 100 * below[:, -1:])).argmax(axis=1)] for name, rank in ranks.items()}


def ratio_interval(parts: Sequence[int], wholes: Sequence[int], seed: int = 1) -> Interval | None:
    """Confidence interval of ``sum(parts) / sum(wholes)`` over slices of time; None with too few of them."""
    if len(parts) < FEWEST_SLICES:
        return None
    weights = _weights(len(parts), seed)
    sums = weights @ np.array(wholes, float)
    return _interval((weights @ np.array(parts, float))[sums > 0] / sums[sums > 0]) if sums.any() else None


def _weights(slices: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(RESAMPLES, slices): how often each slice is drawn in each resample."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(slices, [1 / slices] * slices, size=RESAMPLES).astype(np.float64)


def _interval(estimates: np.ndarray[Any, np.dtype[np.float64]]) -> Interval:
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(estimates, [outside, 1 - outside])
    return float(low), float(high)


def count_slices(measured_s: float) -> int:
    """How many slices a run of ``measured_s`` has."""
    return max(1, math.ceil(measured_s / slice_length_s(measured_s) - 1e-9))
