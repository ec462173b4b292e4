"""What two clients' figures say together: intervals, verdicts; and the plain parts of the independent client."""

import math
import os
from pathlib import Path

import psutil
import pytest

from benchmarks.agreement_verdict import AGREE, ALLOWED, DISAGREE, UNDECIDED, Round, compare, conclude
from benchmarks.independent import cpu_s, cut


def rounds(ours_ms: list[float], theirs_ms: list[float]) -> list[Round]:
    return [Round({"p50_ms": ours}, {"p50_ms": theirs}) for ours, theirs in zip(ours_ms, theirs_ms, strict=True)]


def test_the_interval_is_that_of_students_t_for_the_rounds_differences() -> None:
    (row,) = compare(rounds([10, 10, 10, 10], [10, 11, 12, 13]))
    half = 3.182 * math.sqrt(5 / 3) / math.sqrt(4)
    assert row.difference == pytest.approx(1.5)
    assert row.interval == pytest.approx((1.5 - half, 1.5 + half))


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([20.0, 21.0, 20.5], [20.2, 21.1, 20.8], AGREE),
        # 10 % of 20 ms off, every time: above 1 ms and 5 %.
        ([20.0, 21.0, 20.5], [22.0, 23.1, 22.4], DISAGREE),
        ([20.0, 21.0, 20.5], [18.0, 18.9, 18.6], DISAGREE),
        # The mean is the same, and the rounds are too unlike to say so.
        ([20.0, 25.0, 20.0], [25.0, 20.0, 20.0], UNDECIDED),
        # 2 ms of 100 are within 5 %.
        ([100.0, 101.0, 100.5], [102.0, 103.0, 102.5], AGREE),
    ],
)
def test_agreement_is_shown_and_not_only_no_difference_found(
    ours: list[float], theirs: list[float], verdict: str
) -> None:
    (row,) = compare(rounds(ours, theirs))
    assert row.verdict == verdict


def test_a_figure_that_one_client_lacks_is_not_compared() -> None:
    both = [Round({"p50_ms": 1.0, "cpu_ms_per_mask": 2.0}, {"p50_ms": 1.0}) for _ in range(2)]
    assert [row.figure for row in compare(both)] == ["p50_ms"]


def test_one_figure_off_decides_and_an_invalid_run_is_never_in_favour() -> None:
    same, off = dict.fromkeys(ALLOWED, 50.0), dict.fromkeys(ALLOWED, 50.0) | {"p99_ms": 90.0}
    agreeing, disagreeing = compare([Round(same, same)] * 2), compare([Round(same, off)] * 2)
    assert conclude(agreeing, []) == AGREE
    assert conclude(agreeing, ["the load generator lags"]) == UNDECIDED
    assert conclude(disagreeing, []) == conclude(disagreeing, ["the load generator lags"]) == DISAGREE
    assert conclude([], []) == UNDECIDED


def test_frames_are_cut_from_a_file_of_whole_frames_only(tmp_path: Path) -> None:
    file = tmp_path / "frames"
    file.write_bytes(bytes(range(45)))
    # 5x3 I420: 15 bytes of luma, twice 3x2 of chroma.
    with pytest.raises(ValueError, match="holds 45 bytes, which are no whole frames of 27 bytes"):
        cut(file, 5, 3)
    file.write_bytes(bytes(range(54)))
    assert cut(file, 5, 3) == [bytes(range(27)), bytes(range(27, 54))]


def test_cpu_time_is_that_of_the_system_and_the_children_count() -> None:
    sum(number * number for number in range(2_000_000))
    times = psutil.Process(os.getpid()).cpu_times()
    assert cpu_s(os.getpid()) == pytest.approx(times.user + times.system, abs=0.5)
