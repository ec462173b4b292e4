"""Durations on the path of every frame: the families that the Prometheus client makes, at a fraction of the cost.

A frame is counted in a dozen series. The client's take two locks and a walk over the buckets for each observation;
these are written by one thread, so that a count is an addition, and read by whichever thread shows them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Series:
    """One series of a histogram. Written by one thread only."""

    __slots__ = ("counts", "edges_ns", "sum_ns")

    def __init__(self, edges_ns: Sequence[int]) -> None:
        self.edges_ns = edges_ns
        self.counts = [0] * (len(edges_ns) + 1)
        self.sum_ns = 0

    def observe_ns(self, took_ns: int) -> None:
        """Count a duration in nanoseconds."""
        self.sum_ns += took_ns
        # The first edge that is not below it: a bucket holds what equals its edge.
        self.counts[bisect_left(self.edges_ns, took_ns)] += 1


class DurationHistogram(Collector):
    """A histogram of durations in seconds, with one label or none."""

    def __init__(
        self,
        name: str,
        documentation: str,
        edges_s: Sequence[float],
        registry: CollectorRegistry,
        *,
        label: str | None = None,
        values: Sequence[str] = ("",),
    ) -> None:
        """``values``: of the label, all that there will be; each is shown from the start."""
        self._name = name
        self._documentation = documentation
        self._edges = [*(str(float(edge_s)) for edge_s in edges_s), "+Inf"]
        self._labels = () if label is None else (label,)
        edges_ns = [round(edge_s * 1e9) for edge_s in edges_s]
        self._series = {value: Series(edges_ns) for value in values}
        self._created_s = _begin_s()
        registry.register(self)

    def series(self, value: str = "") -> Series:
        """Where the durations for a value of the label are counted."""
        return self._series[value]

    def describe(self) -> Iterable[Metric]:
        """Its name, so that no other metric takes it."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """All series as they are now."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for value, series in self._series.items():
            labels = (value,) if self._labels else ()
            buckets, count = [], 0
            for edge, in_bucket in zip(self._edges, tuple(series.counts), strict=True):
                count += in_bucket
                buckets.append((edge, count))
            family.add_metric(labels, buckets, series.sum_ns / 1e9)
            if self._created_s is not None:
                family.add_sample(
                    f"{self._name}_created", dict(zip(self._labels, labels, strict=True)), self._created_s
                )
        return [family]


class DurationCounter(Collector):
    """Seconds by the values of one label, counted in nanoseconds."""

    def __init__(
        self, name: str, documentation: str, registry: CollectorRegistry, *, label: str, values: Sequence[str]
    ) -> None:
        """``values``: of the label, all that there will be; each is shown from the start."""
        self._name = name
        self._documentation = documentation
        self._label = label
        self._sums_ns = dict.fromkeys(values, 0)
        self._created_s = _begin_s()
        registry.register(self)

    def add_ns(self, value: str, took_ns: int) -> None:
        """Add a duration in nanoseconds."""
        self._sums_ns[value] += took_ns

    def describe(self) -> Iterable[Metric]:
        """Its name, so that no other metric takes it."""
        return [CounterMetricFamily(self._name, self._documentation, labels=[self._label])]

    def collect(self) -> Iterable[Metric]:
        """All sums as they are now."""
        family = CounterMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, sum_ns in self._sums_ns.items():
            family.add_metric([value], sum_ns / 1e9, created=self._created_s)
        return [family]


def _begin_s() -> float | None:
    """What the client shows as the begin of a series that is made now; None where it is set to show none."""
    (family,) = Counter("begin", "Never shown", registry=None).collect()
    return next((sample.value for sample in family.samples if sample.name.endswith("_created")), None)
