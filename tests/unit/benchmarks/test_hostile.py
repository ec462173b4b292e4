"""The verdict on measurements whose truth is known."""

from collections import Counter
from typing import Any

import pytest

from benchmarks.conductor import Finished, Reading
from benchmarks.hostile import Part, judge, parse_arguments
from benchmarks.hostile_clients import WAYS
from benchmarks.plan import Outcome, Served
from benchmarks.recording import FrameTimes
from benchmarks.scrape import Snapshot
from benchmarks.slices import Slice, coarse_us
from benchmarks.target import Usage

SECONDS, CONNECTS = 10, 200
SERVED = Served("medium", "test", "none", 320, 192)
OPTIONS = parse_arguments(["--seconds", str(SECONDS), "--connects", str(CONNECTS)])


def part(*, beside: bool, latency_ms: float, lag_ms: float = 0.1, calls: int = SECONDS * 100, made: int = 500) -> Part:
    """Ten seconds of a frame every ten ms, each with this latency, and what the server and the clients counted."""
    outcome = Outcome(slices=[Slice() for _ in range(2 * SECONDS)])
    for number in range(100 * SECONDS):
        intended_ns = number * 10_000_000
        times = FrameTimes(intended_ns, intended_ns, intended_ns + round(lag_ms * 1e6))
        outcome.recorder.sent(times)
        outcome.recorder.answered(times, intended_ns + round(latency_ms * 1e6))
        outcome.slices[number // 50].latency_us[coarse_us(latency_ms * 1000)] += 1
    before = Reading(Usage(1.0, 0), Snapshot({("humanseg_sessions_admitted_total", frozenset()): 7.0}))
    after = Reading(Usage(3.0, 0), Snapshot({("humanseg_sessions_admitted_total", frozenset()): 7.0 + calls}))
    finished = Finished(outcome, SERVED, before, after, very_first_mask_ms=1.0, clock_jump_ms=0.0)
    counts = Counter(dict.fromkeys(WAYS, made)) if beside else None
    return Part(beside, finished, hostile_s=float(SECONDS), counts=counts)


def verdict(beside_ms: float, **hostile: Any) -> dict[str, Any]:
    alone, beside = part(beside=False, latency_ms=20.0), part(beside=True, latency_ms=beside_ms, **hostile)
    return judge([alone, beside, beside, alone], OPTIONS)


def test_a_p99_that_grows_less_than_allowed_is_held() -> None:
    figures = verdict(25.0)
    assert figures["complaints"] == []
    assert (figures["valid"], figures["held"]) == (True, True)
    assert figures["p99_ratio"] == pytest.approx(1.25, rel=0.01)
    assert figures["p99_ratio_ci95"] == pytest.approx([1.25, 1.25], rel=0.01)
    assert figures["server_cpu_s_per_s"] == {"alone": 0.2, "beside": 0.2}
    assert figures["hostile"]["connects_per_s"] == CONNECTS
    assert figures["hostile"]["calls_seen_by_the_server_per_s"] == 100


def test_one_that_grows_more_is_not() -> None:
    figures = verdict(27.0)
    assert (figures["valid"], figures["held"]) == (True, False)
    assert figures["complaints"] == ["p99 is 1.35 times that alone, allowed are 1.3"]


@pytest.mark.parametrize(
    ("hostile", "complaint"),
    [
        ({"lag_ms": 3.0}, "beside: the load generator lags"),
        ({"made": 400}, "made 160 connects a second of 200"),
        ({"calls": 0}, "of 100 calls a second that vanish the server saw 0"),
    ],
)
def test_a_run_in_which_something_did_not_happen_is_invalid(hostile: dict[str, Any], complaint: str) -> None:
    figures = verdict(20.0, **hostile)
    assert (figures["valid"], figures["held"]) == (False, False)
    assert any(complaint in one for one in figures["complaints"]), figures["complaints"]
