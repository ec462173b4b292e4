"""The search for the capacity: right on every clear-cut server, and careful on one that wavers."""

import random
from typing import Any

import pytest

from benchmarks.search import PASSES_WANTED, find_capacity, seconds_needed, shortfalls
from support.bench_reports import figures, plan


@pytest.mark.parametrize("start", [1, 2, 7, 64])
@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 7, 40, 63, 64])
def test_a_server_with_a_clear_limit_is_found_out_exactly(capacity: int, start: int) -> None:
    tried: list[int] = []

    def is_carried(sessions: int) -> bool:
        tried.append(sessions)
        return sessions <= capacity

    found = find_capacity(is_carried, start, limit=64)
    assert found.sessions == capacity
    assert found.is_at_limit == (capacity == 64)
    assert all(1 <= sessions <= 64 for sessions in tried)
    if capacity:
        assert tried.count(capacity) >= PASSES_WANTED
    assert len(tried) <= 6 + 6 + PASSES_WANTED, "doubling, halving, repeating"


def test_a_number_that_passes_only_now_and_then_is_not_the_answer() -> None:
    rng = random.Random(4)
    for _ in range(200):
        # 10 sessions always pass, 13 never do, those between mostly do not.
        found = find_capacity(lambda n: n <= 10 or (n < 13 and rng.random() < 0.3), start=2, limit=64)
        assert 10 <= found.sessions < 13
    stable = [find_capacity(lambda n: n <= 10 or (n == 11 and rng.random() < 0.3), 2, 64).sessions for _ in range(200)]
    # 11 must pass three times: 2.7 %.
    assert stable.count(11) <= 15


def test_every_condition_counts_and_is_named_with_its_figure() -> None:
    good = figures(plan(), median_ms=18.0)
    assert shortfalls(good) == []
    slow = shortfalls(figures(plan(), median_ms=30.0))
    assert [text.split()[0] for text in slow] == ["p99", "on"]
    (dropping,) = shortfalls(figures(plan(), median_ms=15.0, drop_share=0.005))
    assert dropping.startswith("dropped 0.")
    assert shortfalls({"failed": "full"}) == ["not taken: full"]


def test_a_failure_under_a_generator_that_lags_is_said_to_be_perhaps_its_own() -> None:
    lagging: dict[str, Any] = {**figures(plan(), median_ms=30.0), "complaints": ["the load generator lags: p99"]}
    assert "the limit may be its own" in shortfalls(lagging)[-1]
    assert shortfalls({**figures(plan()), "complaints": ["the load generator lags: p99"]}) == []


def test_a_try_is_long_enough_for_a_p99() -> None:
    assert seconds_needed(1, 30.0, at_least_s=8.0) == pytest.approx(36.7, abs=0.1)
    assert seconds_needed(40, 30.0, at_least_s=8.0) == 8.0
