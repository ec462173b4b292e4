"""What the figures of two clients, taken in turns, say together. No I/O."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.validity import MAX_SEND_LAG_P99_MS

AGREE, DISAGREE, UNDECIDED = "AGREE", "DISAGREE", "UNDECIDED"
#: What two clients may differ by: so much in the figure's unit, or this share of it, whichever is more. The clients are
#: different programs (asyncio here, threads there) and both may send late by as much as a valid run allows.
ALLOWED = {
    "p50_ms": (1.0, 0.05),
    "p90_ms": (1.0, 0.05),
    "p99_ms": (MAX_SEND_LAG_P99_MS, 0.10),
    "cpu_ms_per_mask": (0.2, 0.05),
}
#: 97.5 % quantiles of Student's t with 1, 2, .. degrees of freedom: NIST/SEMATECH e-Handbook, 1.3.6.7.2.
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093,
)  # fmt: skip
MOST_ROUNDS = len(T_QUANTILES) + 1


@dataclass(frozen=True, slots=True)
class Round:
    """A run of each client, one right after the other; figures by the keys of `ALLOWED`."""

    benchmark: Mapping[str, float]
    independent: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both clients."""

    figure: str
    benchmark: float
    """Mean of the rounds."""
    independent: float
    difference: float
    """Independent minus benchmark."""
    interval: tuple[float, float]
    """95 % confidence of the difference."""
    allowed: float
    """How far from zero it may be."""
    verdict: str


def compare(rounds: Sequence[Round]) -> list[Row]:
    """Every figure that all rounds have of both clients; at least 2 rounds, at most `MOST_ROUNDS`."""
    return [
        _row(figure, [one.benchmark[figure] for one in rounds], [one.independent[figure] for one in rounds])
        for figure in ALLOWED
        if all(figure in one.benchmark and figure in one.independent for one in rounds)
    ]


def _row(figure: str, benchmark: Sequence[float], independent: Sequence[float]) -> Row:
    differences = [theirs - ours for ours, theirs in zip(benchmark, independent, strict=True)]
    mean, number = statistics.mean(differences), len(differences)
    half = T_QUANTILES[number - 2] * statistics.stdev(differences) / math.sqrt(number)
    at_least, share = ALLOWED[figure]
    allowed = max(at_least, share * statistics.mean(benchmark))
    verdict = UNDECIDED
    if abs(mean) + half <= allowed:
        verdict = AGREE
    if abs(mean) - half > allowed:
        verdict = DISAGREE
    ours, theirs = statistics.mean(benchmark), statistics.mean(independent)
    return Row(figure, ours, theirs, mean, (mean - half, mean + half), allowed, verdict)


def conclude(rows: Sequence[Row], complaints: Sequence[str]) -> str:
    """One verdict from those of all figures; runs that are not to be quoted decide nothing in favour."""
    verdicts = {row.verdict for row in rows}
    if DISAGREE in verdicts:
        return DISAGREE
    return AGREE if verdicts == {AGREE} and not complaints else UNDECIDED


def figures_of(run: Mapping[str, Any], latency: str = "latency_from_intended_send") -> dict[str, float]:
    """A run of the benchmark (`run_figures`) by the keys of `ALLOWED`, without those that are not known."""
    found = {**run[latency], **run["server"]}
    return {key: found[key] for key in ALLOWED if found[key] is not None}
