"""Reading the service's Prometheus page, and what changed between two readings."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 10.0
#: Stages whose CPU time belongs to the network and to the fusion, not to the serving around them.
MODEL_STAGES = ("inference", "fusion")

Labels = frozenset[tuple[str, str]]


class ScrapeError(Exception):
    """The metrics page cannot be read; the message says which and why."""


@dataclass(frozen=True)
class Snapshot:
    """All samples of one scrape, or their growth between two."""

    samples: Mapping[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float:
        """Sum of all samples of that name which carry these labels; 0 if there is none."""
        wanted = set(labels.items())
        return sum(value for (key, have), value in self.samples.items() if key == name and wanted <= have)

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Sums of the samples of that name, one entry a value of the label."""
        sums: dict[str, float] = {}
        for (key, have), value in self.samples.items():
            found = dict(have).get(label)
            if key == name and found is not None:
                sums[found] = sums.get(found, 0.0) + value
        return sums

    def since(self, earlier: "Snapshot") -> "Snapshot":
        """How much every sample grew; meaningful for counters and histograms, not for gauges."""
        return Snapshot({key: value - earlier.samples.get(key, 0.0) for key, value in self.samples.items()})


def parse(text: str) -> Snapshot:
    """Read a page in the text format.

    Raises:
        ScrapeError: it is none.
    """
    samples: dict[tuple[str, Labels], float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[sample.name, frozenset(sample.labels.items())] = sample.value
    except ValueError as error:
        raise ScrapeError(f"not a Prometheus page: {error}") from None
    return Snapshot(samples)


def scrape(url: str) -> Snapshot:
    """Fetch and read a page.

    Raises:
        ScrapeError: no answer, or not a Prometheus page.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return parse(answer.read().decode("utf-8"))
    except (urllib.error.URLError, OSError, UnicodeDecodeError, ValueError) as error:
        raise ScrapeError(f"no metrics at {url}: {error}; give their address with --metrics-url") from None


def batch_frames(growth: Snapshot) -> dict[str, int]:
    """How many runs of the engine held up to so many frames: ``{"1": 180, "2": 12, ...}``, empty buckets left out."""
    cumulative = sorted(
        (float(bound), count) for bound, count in growth.by_label("humanseg_batch_frames_bucket", "le").items()
    )
    counts: dict[str, int] = {}
    below = 0.0
    for bound, count in cumulative:
        if count > below:
            counts[f"{bound:g}"] = round(count - below)
        below = count
    return counts
