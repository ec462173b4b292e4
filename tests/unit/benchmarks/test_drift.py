"""Growth is told from noise: lines with known slopes, and memory that only wanders."""

import random

import pytest

from benchmarks.drift import LEAST_SAMPLES, fit, svg_lines

HOUR_S = [10.0 * number for number in range(360)]


def wandering(seed: int, step: float = 0.4) -> list[float]:
    """Memory that drifts back to 300 MiB, slowly: neighbors are alike, so that single samples prove nothing."""
    rng, value, values = random.Random(seed), 300.0, []
    for _ in HOUR_S:
        value += rng.gauss(0, step) - 0.1 * (value - 300.0)
        values.append(value)
    return values


def test_a_line_is_found_as_it_is() -> None:
    drift = fit(HOUR_S, [300 + 0.01 * at_s for at_s in HOUR_S])
    assert drift is not None
    assert drift.per_hour == pytest.approx(36)
    assert drift.chance_per_hour == pytest.approx(0, abs=1e-6)
    assert drift.grows


def test_what_wanders_does_not_grow() -> None:
    drifts = [fit(HOUR_S, wandering(seed)) for seed in range(100)]
    assert sum(drift is not None and drift.grows for drift in drifts) <= 3


def test_a_leak_shows_through_the_noise() -> None:
    """20 MiB an hour."""
    for seed in range(20):
        leaking = [value + at_s * 20 / 3600 for at_s, value in zip(HOUR_S, wandering(seed), strict=True)]
        drift = fit(HOUR_S, leaking)
        assert drift is not None
        assert drift.grows
        assert drift.per_hour == pytest.approx(20, abs=8)


def test_shrinking_is_not_growth() -> None:
    drift = fit(HOUR_S, [300 - 0.01 * at_s for at_s in HOUR_S])
    assert drift is not None
    assert not drift.grows


def test_few_samples_say_nothing() -> None:
    assert fit(HOUR_S[: LEAST_SAMPLES - 1], [1.0] * (LEAST_SAMPLES - 1)) is None
    assert fit(HOUR_S[:LEAST_SAMPLES], [1.0] * LEAST_SAMPLES) is not None
    with pytest.raises(ValueError, match="3 times for 2 values"):
        fit([1.0, 2.0, 3.0], [1.0, 2.0])


def test_the_picture_has_a_line_for_each_figure() -> None:
    picture = svg_lines([0.0, 1.0, 2.0], {"rss_mib": [1.0, 3.0, 2.0], "threads": [4, 4, 4]})
    assert picture.count("<polyline") == 2
    assert "rss_mib, 0.0 min" in picture
