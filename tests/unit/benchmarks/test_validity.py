"""The verdict: what must not be quoted, why, and what to do; and the watch on the clock."""

import pytest

from benchmarks.clock import ClockWatch
from benchmarks.recording import Histogram, Recorder
from benchmarks.validity import judge, judge_exit

MS = 1_000_000


def histogram_of(*times_ms: float) -> Histogram:
    histogram = Histogram()
    for time_ms in times_ms:
        histogram.record_us(time_ms * 1000)
    return histogram


def recorder_with(count: int, lag_ms: float) -> Recorder:
    return Recorder(histogram_of(*[20.0] * count), histogram_of(*[20.0] * count), histogram_of(*[lag_ms] * count))


def test_a_good_run_is_valid() -> None:
    assert judge(recorder_with(1000, lag_ms=0.4), unanswered=0, clock_jump_ms=0.5).valid


@pytest.mark.parametrize(
    ("seen", "unanswered", "jump_ms", "complaint"),
    [
        (recorder_with(1000, lag_ms=3.0), 0, 0, "p99 of its send times is 3.0 ms late, allowed are 2.0 ms"),
        (recorder_with(999, lag_ms=0.4), 0, 0, "too few samples for p99: 999 masks, needed are 1000"),
        (recorder_with(1000, lag_ms=0.4), 2, 0, "2 frames were never answered"),
        (recorder_with(1000, lag_ms=0.4), 0, 3600e3, "the clock jumped by 3600000 ms, allowed are 10 ms"),
    ],
)
def test_a_run_that_must_not_be_quoted_says_why_and_what_to_do(
    seen: Recorder, unanswered: int, jump_ms: float, complaint: str
) -> None:
    verdict = judge(seen, unanswered, jump_ms)
    assert not verdict.valid
    assert len(verdict.complaints) == 1
    assert complaint in verdict.complaints[0]
    assert ";" in verdict.complaints[0], "a complaint ends in advice"


def test_a_server_that_did_not_end_well_is_a_complaint() -> None:
    assert judge_exit(None) == judge_exit(0) == []
    assert judge_exit(-11) == ["the server ended with status -11 when it was stopped; look at its log"]


def watched(*pairs_ms: tuple[float, float]) -> float:
    watch = ClockWatch()
    for monotonic_ms, wall_ms in pairs_ms:
        watch.note(round(monotonic_ms * MS), round(wall_ms * MS))
    return watch.largest_jump_ms


def test_clocks_that_run_side_by_side_or_are_slewed_do_not_jump() -> None:
    assert watched((0, 5_000), (100, 5_100), (200, 5_200)) == 0
    # adjtime: half a millisecond a second, for an hour.
    assert watched(*((second * 1000.0, second * 1000.5) for second in range(3600))) == pytest.approx(0.5)


@pytest.mark.parametrize("jump_ms", [-3_600_000.0, -20.0, 20.0, 60_000.0])
def test_a_clock_that_is_set_in_either_direction_or_a_suspended_machine_jumps(jump_ms: float) -> None:
    pairs = [(step * 100.0, 9e6 + step * 100.0 + (jump_ms if step >= 7 else 0.0)) for step in range(20)]
    assert watched(*pairs) == pytest.approx(abs(jump_ms))


def test_the_clock_of_this_machine_can_be_looked_at() -> None:
    watch = ClockWatch()
    for _ in range(3):
        watch.look()
    assert watch.largest_jump_ms >= 0
