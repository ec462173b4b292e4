"""Confidence intervals against theory: how often they cover the truth, and what they do with bursts."""

import json
import math
import random
from collections import Counter

import pytest

from benchmarks.slices import (
    Slice,
    coarse_us,
    count_slices,
    percentile_intervals,
    percentile_ratio_interval,
    ratio_interval,
    slice_length_s,
)

P99 = {"p99": 99.0}


def test_a_coarse_time_stays_within_three_tenths_of_a_percent() -> None:
    rng = random.Random(3)
    for _ in range(2000):
        time_us = rng.lognormvariate(9, 3)
        assert coarse_us(time_us) == pytest.approx(max(1, time_us), rel=0.003, abs=0.51)
    assert coarse_us(-4) == 1


def test_a_run_has_slices_of_half_a_second_or_120_of_them() -> None:
    assert [(slice_length_s(seconds), count_slices(seconds)) for seconds in (0.2, 3.0, 60.0, 3600.0)] == [
        (0.5, 1),
        (0.5, 6),
        (0.5, 120),
        (30.0, 120),
    ]


def test_a_slice_crosses_over_as_json() -> None:
    one = Slice(Counter({1000: 2, 2000: 1}), Counter(sent=4, masks=3))
    other = Slice.from_plain(json.loads(json.dumps(one.to_plain())))
    other.merge(Slice(Counter({1000: 1}), Counter(sent=1, masks=1)))
    assert other == Slice(Counter({1000: 3, 2000: 1}), Counter(sent=5, masks=4))


def test_the_interval_covers_the_true_percentile_about_as_often_as_it_promises() -> None:
    """Independent exponential latencies, where the median is known: mean * ln 2."""
    truth, covered, widths = 20_000 * math.log(2), 0, []
    for run in range(100):
        rng = random.Random(run)
        slices = [Counter(coarse_us(rng.expovariate(1 / 20_000)) for _ in range(40)) for _ in range(40)]
        low, high = percentile_intervals(slices, {"p50": 50.0}, seed=run)["p50"]
        covered += low <= truth <= high
        widths.append(high - low)
    # 95 % promised; 3.3 standard deviations of a binomial lie between 88 and 100.
    assert covered >= 88
    # The median of n samples has the standard error 1 / (2 f sqrt(n)), and f(median) = 1 / (2 mean) here.
    assert sum(widths) / len(widths) == pytest.approx(2 * 1.96 * 20_000 / math.sqrt(1600), rel=0.15)


def test_slow_frames_that_come_together_make_the_interval_wider_than_scattered_ones() -> None:
    """The same 2 % of slow frames: spread over all slices, p99 is certain; in one slice, one slice may not come."""
    scattered = [Counter({10_000: 98, 200_000: 2}) for _ in range(20)]
    together = [Counter({10_000: 100}) for _ in range(19)] + [Counter({10_000: 60, 200_000: 40})]
    assert percentile_intervals(scattered, P99)["p99"] == (200_000, 200_000)
    assert percentile_intervals(together, P99)["p99"] == (10_000, 200_000)


def test_too_short_a_run_has_no_interval() -> None:
    assert percentile_intervals([Counter({10: 100})] * 9, P99) == {}
    assert percentile_intervals([Counter()] * 20, P99) == {}
    assert ratio_interval([1] * 9, [2] * 9) is None
    assert ratio_interval([0] * 10, [0] * 10) is None


def test_the_interval_of_a_ratio() -> None:
    assert ratio_interval([29] * 20, [30] * 20) == pytest.approx((29 / 30, 29 / 30))
    low, high = ratio_interval([30] * 10 + [0] * 10, [30] * 20) or (0, 0)
    # Slices are all or nothing: the standard error is 0.5 / sqrt(20).
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.112, 0.5 + 1.96 * 0.112), abs=0.05)


def test_the_interval_of_a_ratio_holds_the_true_one_and_is_wider_where_time_is_uneven() -> None:
    rng = random.Random(5)
    calm = [Counter({rng.randint(95, 105): 20}) for _ in range(40)]
    twice = [Counter({rng.randint(190, 210): 20}) for _ in range(40)]
    low, high = percentile_ratio_interval(twice, calm, rank=50) or (0, 0)
    assert 1.9 < low < 2 < high < 2.1
    uneven = [Counter({200: 20} if number % 4 else {600: 20}) for number in range(40)]
    wide = percentile_ratio_interval(uneven, calm, rank=80) or (0, 0)
    assert wide[0] < 2.2
    assert wide[1] > 5.5
    assert percentile_ratio_interval(twice[:9], calm, rank=50) is None
