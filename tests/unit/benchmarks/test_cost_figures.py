"""When the serving around the engine costs too much."""

import pytest

from benchmarks.cost_figures import LEAST_MASKS, CostPass, judge

#: 0.9 ms of serving and 12 ms of engine a mask.
GOOD = [CostPass(1000, 12.9, 12.0), CostPass(2000, 25.6, 24.0), CostPass(1000, 12.95, 12.0)]
ECHO = [CostPass(1000, 1.0, 0.0), CostPass(1000, 0.95, 0.0), CostPass(1000, 1.2, 0.0)]


def passes(serving_ms: float, masks: int = 1000) -> list[CostPass]:
    return [CostPass(masks, masks * (serving_ms + 12) / 1000, masks * 12 / 1000)] * 3


def test_engine_and_fusion_do_not_count_and_a_mask_is_what_is_paid_for() -> None:
    report = judge({"service": GOOD, "echo": ECHO}, [90.0, 88.0, 92.0], [100.0, 100.0, 100.0])
    assert report["cost"]["service"] == {"min_ms": 0.8, "median_ms": 0.9, "max_ms": 0.95, "least_masks": 1000}
    assert report["cost_ratio"] == {"min": pytest.approx(0.8 / 0.95, abs=1e-3), "median": 0.9}
    assert report["saturation"] == {
        "served_fps": 90.0, "bare_fps": 100.0, "efficiency": 0.9, "least": 0.88, "most": 0.92,
    }  # fmt: skip
    assert report["held"]
    assert not report["complaints"]


@pytest.mark.parametrize(
    ("service", "echo", "served", "complaint"),
    [
        (passes(1.01), passes(5.0), 90.0, "1.01 ms a mask, allowed are 1"),
        (passes(0.8), passes(0.75), 90.0, "1.07 of the bare echo server"),
        (passes(0.8), passes(0.9), 84.9, "84.9% of the bare engine, wanted are 85%"),
        (passes(0.8, LEAST_MASKS - 1), passes(0.9), 90.0, "199 masks, 200 are needed"),
    ],
)
def test_each_bar_is_named_where_it_is_not_held(
    service: list[CostPass], echo: list[CostPass], served: float, complaint: str
) -> None:
    report = judge({"service": service, "echo": echo}, [served] * 3, [100.0] * 3)
    assert not report["held"]
    (said,) = report["complaints"]
    assert complaint in said


def test_the_share_of_the_engine_is_taken_pass_by_pass() -> None:
    """A machine that was busy in one pass slowed both: their ratio stays."""
    report = judge({"service": GOOD, "echo": ECHO}, [90.0, 45.0, 20.0], [100.0, 50.0, 25.0])
    assert report["saturation"]["efficiency"] == 0.9
