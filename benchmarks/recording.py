"""Latency histograms.

HdrHistogram keeps every sample within 0.1 % of its value at constant memory, and histograms of several client
processes add up exactly, which percentiles do not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram

#: Longest time that is kept apart, in µs; longer ones count as this much.
LONGEST_US = 600_000_000
SIGNIFICANT_DIGITS = 3
#: Names of the percentiles that are reported, with their ranks.
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}
#: A percentile rests on at least this many samples beyond it; fewer, and one unlucky frame moves it.
SAMPLES_BEYOND = 10


class Histogram:
    """Times in whole microseconds, recorded one by one, merged across processes."""

    def __init__(self, _inner: HdrHistogram | None = None) -> None:
        self._inner = _inner or HdrHistogram(1, LONGEST_US, SIGNIFICANT_DIGITS)
        # Kept while nothing is added: the mean walks over all buckets.
        self._mean_ms: float | None = None

    def record_us(self, time_us: float) -> None:
        """Add one sample; below 1 µs counts as 1 µs, above `LONGEST_US` as that."""
        self._mean_ms = None
        self._inner.record_value(min(max(round(time_us), 1), LONGEST_US))

    @property
    def count(self) -> int:
        """Number of samples."""
        return int(self._inner.get_total_count())

    @property
    def max_ms(self) -> float:
        """The largest sample, in ms; 0 without samples."""
        return float(self._inner.get_max_value()) / 1000 if self.count else 0.0

    @property
    def mean_ms(self) -> float:
        """Mean in ms; 0 without samples."""
        if self._mean_ms is None:
            self._mean_ms = float(self._inner.get_mean_value()) / 1000 if self.count else 0.0
        return self._mean_ms

    def percentile_ms(self, percentile: float) -> float:
        """Value at a percentile (0 to 100) in ms; 0 without samples."""
        return float(self._inner.get_value_at_percentile(percentile)) / 1000 if self.count else 0.0

    def merge(self, other: "Histogram") -> None:
        """Add all samples of another histogram to this one."""
        self._mean_ms = None
        self._inner.add(other._inner)

    def encode(self) -> str:
        """As text, for another process."""
        return bytes(self._inner.encode()).decode("ascii")

    @classmethod
    def decode(cls, text: str) -> "Histogram":
        """Read what `encode` wrote."""
        histogram = cls()
        histogram._inner.decode_and_add(text.encode("ascii"))
        return histogram

    def summary(self) -> dict[str, float | int | list[str]]:
        """All figures that are reported, in ms with the unit in the key, and which percentiles stand on thin ice."""
        figures: dict[str, float | int | list[str]] = {"n": self.count, "mean_ms": round(self.mean_ms, 3)}
        for name, rank in PERCENTILES.items():
            figures[f"{name}_ms"] = round(self.percentile_ms(rank), 3)
        figures["max_ms"] = round(self.max_ms, 3)
        figures["thin"] = [name for name, rank in PERCENTILES.items() if self.count < samples_needed(rank)]
        return figures


def samples_needed(percentile: float) -> int:
    """How many samples a percentile needs: `SAMPLES_BEYOND` of them lie beyond it."""
    return round(SAMPLES_BEYOND / (1 - percentile / 100))


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram with the samples of all."""
    whole = Histogram()
    for histogram in histograms:
        whole.merge(histogram)
    return whole


@dataclass(slots=True)
class FrameTimes:
    """The clock readings of one frame at the client, in monotonic nanoseconds, taken by `Recorder`."""

    intended_ns: int
    """When it ought to have been sent."""
    free_ns: int
    """When the sender could have sent it: the intended time, or later when an earlier send was still blocked."""
    started_ns: int
    """When the sender really began."""


@dataclass(slots=True)
class Recorder:
    """What one or more sessions saw, as histograms.

    ``latency`` counts from the intended send time: what a user feels, stalls included. ``from_send`` counts from the
    real send, for comparison only. ``send_lag`` is the load generator's own fault: how long after it could have sent
    it did. Time blocked by the server's flow control is in ``latency`` but not in ``send_lag``.
    """

    latency: Histogram = field(default_factory=Histogram)
    from_send: Histogram = field(default_factory=Histogram)
    send_lag: Histogram = field(default_factory=Histogram)

    def sent(self, times: FrameTimes) -> None:
        """A frame was handed to the transport."""
        self.send_lag.record_us((times.started_ns - times.free_ns) / 1000)

    def answered(self, times: FrameTimes, now_ns: int) -> None:
        """Its mask arrived, or it was given up: then this is a lower bound."""
        self.latency.record_us((now_ns - times.intended_ns) / 1000)
        self.from_send.record_us((now_ns - times.started_ns) / 1000)

    def merge(self, other: "Recorder") -> None:
        """Add what another recorder saw."""
        self.latency.merge(other.latency)
        self.from_send.merge(other.from_send)
        self.send_lag.merge(other.send_lag)
