"""What is learnt of how long pictures take."""

import pytest

from service.capacity import RunTimes

MS = 1_000_000


def test_what_was_timed_at_the_start_holds_until_something_ran() -> None:
    times = RunTimes({"medium": 15 * MS})
    assert (times.batch_ns["medium"], times.picture_ns["medium"]) == (15 * MS, 15 * MS)
    assert "large" not in times.picture_ns


def test_a_change_of_load_is_believed_after_some_batches() -> None:
    times = RunTimes({"medium": 15 * MS})
    for _ in range(10):
        times.add("medium", 45 * MS, 1)
    assert 30 * MS < times.picture_ns["medium"] < 45 * MS
    for _ in range(60):
        times.add("medium", 45 * MS, 1)
    assert times.picture_ns["medium"] == pytest.approx(45 * MS, rel=0.01)


def test_one_slow_run_says_little() -> None:
    times = RunTimes({"medium": 15 * MS})
    times.add("medium", 150 * MS, 1)
    assert times.batch_ns["medium"] < 30 * MS


def test_a_picture_is_its_share_of_the_batch_and_models_are_apart() -> None:
    times = RunTimes({})
    times.add("large", 80 * MS, 4)
    times.add("small", 5 * MS, 1)
    assert (times.batch_ns["large"], times.picture_ns["large"]) == (80 * MS, 20 * MS)
    assert times.picture_ns["small"] == 5 * MS
