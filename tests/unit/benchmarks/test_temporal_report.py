"""Means, changes and bars of the fusion comparison, on figures made by hand."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks.temporal_estimates import EstimateFigures
from benchmarks.temporal_figures import COST_SIZES, Cost, Figures
from benchmarks.temporal_report import Limit, Row, build, hold_against_bars, limits, print_report, summarize
from humanseg.vision.temporal_alternatives import Alternative

OFF = Figures(
    group="talk 30 fps",
    name="talk_0",
    alternative=Alternative.OFF,
    frames=60,
    iou_percent=90.0,
    mad=10.0,
    dtssd=2.0,
    messddt=1.0,
    warped_error=1.0,
    flicker=4.0,
    static_flicker=1.0,
    ghost_percent=0.0,
    cut_residue=0.0,
)
HIGH = replace(OFF, alternative=Alternative.HIGH, iou_percent=90.5, dtssd=1.0, flicker=1.0, ghost_percent=0.5)
LAGS: dict[Alternative, int | None] = dict.fromkeys(Alternative, 2)
COSTS = [
    Cost(name, size, cpu_ms, cpu_ms / 0.5, 200_000)
    for size in COST_SIZES
    for name, cpu_ms in ((None, 0.5), (Alternative.OFF, 0.01), (Alternative.HIGH, 1.5))
]


def rows(*figures: Figures) -> dict[tuple[str, Alternative], Row]:
    return {(row.group, row.alternative): row for row in summarize(figures, LAGS, COSTS)}


def met(*figures: Figures, costs: list[Cost] = COSTS, lag: int | None = 2) -> dict[str, bool]:
    lags = {**LAGS, Alternative.HIGH: lag}
    return {bar.name: bar.is_met for bar in hold_against_bars(summarize(figures, lags, costs), costs)}


def test_changes_are_against_off_on_the_same_sequences() -> None:
    worse = replace(OFF, name="talk_1", flicker=2.0, iou_percent=80.0)
    kept = replace(HIGH, name="talk_1", flicker=2.0, iou_percent=79.9, ghost_percent=1.5)
    row = rows(OFF, HIGH, worse, kept)["talk 30 fps", Alternative.HIGH]
    assert row.sequences == 2
    assert row.flicker == pytest.approx(1.5)
    assert row.flicker_change_percent == pytest.approx(-50)  # mean 1.5 of mean 3
    assert row.iou_change == pytest.approx(0.2)  # +0.5 and -0.1
    assert row.iou_worst_change == pytest.approx(-0.1)
    assert row.ghost_percent == 1.5  # the worst, not the mean
    assert row.cpu_ms == 1.5


def test_without_truth_there_is_no_accuracy() -> None:
    unknown = {"iou_percent": None, "mad": None, "dtssd": None, "messddt": None, "ghost_percent": None}
    row = rows(replace(OFF, **unknown), replace(HIGH, **unknown))["talk 30 fps", Alternative.HIGH]
    assert row.iou_change is row.dtssd_change_percent is row.ghost_percent is None
    assert row.flicker_change_percent == pytest.approx(-75)


def test_what_off_does_not_have_cannot_be_improved() -> None:
    steady = replace(OFF, static_flicker=0.0)
    assert rows(steady, HIGH)["talk 30 fps", Alternative.HIGH].static_flicker_change_percent is None


def test_all_bars_can_be_met() -> None:
    assert all(met(OFF, HIGH).values())
    assert {"talk 30 fps: flicker, %", "talk 30 fps: dtSSD, %"} <= met(OFF, HIGH).keys()


@pytest.mark.parametrize(
    ("change", "bar"),
    [
        ({"flicker": 1.9}, "talk 30 fps: flicker, %"),
        ({"dtssd": 1.5}, "talk 30 fps: dtSSD, %"),
        ({"iou_percent": 89.9}, "talk 30 fps: IoU, worst clip, points"),
        ({"ghost_percent": 2.1}, "talk 30 fps: ghost, %"),
        ({"cut_residue": 0.01}, "first frame after a cut, largest difference"),
    ],
)
def test_each_bar_can_be_missed(change: dict[str, float], bar: str) -> None:
    missed = [name for name, is_met in met(OFF, replace(HIGH, **change)).items() if not is_met]  # type: ignore[arg-type]
    assert missed == [bar]


def test_costs_and_lag_have_bars_too() -> None:
    slow = [replace(cost, cpu_ms=3.1, ratio=3.6, state_bytes=350_001) for cost in COSTS]
    missed = {name for name, is_met in met(OFF, HIGH, costs=slow).items() if not is_met}
    assert missed == {
        f"{what} at {size}{unit}"
        for size in COST_SIZES
        for what, unit in (("CPU", ", ms"), ("CPU", ", times the bare flow"), ("state", ", bytes"))
    }
    assert not met(OFF, HIGH, lag=3)["lag, frames"]
    assert not met(OFF, HIGH, lag=None)["lag, frames"]


def test_at_ten_frames_a_second_two_thirds_are_enough() -> None:
    slow_off, slow = replace(OFF, group="talk 10 fps"), replace(HIGH, group="talk 10 fps")
    assert met(slow_off, replace(slow, flicker=4.0 * (1 - 0.37)))["talk 10 fps: flicker, %"]
    assert not met(slow_off, replace(slow, flicker=4.0 * (1 - 0.36)))["talk 10 fps: flicker, %"]


def test_limits_are_against_off_of_the_same_group_alone() -> None:
    real = replace(OFF, group="jog (real)", dtssd=100.0, flicker=100.0)
    exact = [replace(OFF, dtssd=1.5, flicker=0.4), replace(OFF, name="talk_1", dtssd=1.5, flicker=0.4)]
    other = replace(OFF, name="talk_1", dtssd=4.0)
    assert limits([OFF, HIGH, other, real], exact) == [
        Limit("talk 30 fps", pytest.approx(-50), pytest.approx(-90))  # 1.5 of the mean of 2 and 4
    ]


ESTIMATES = [
    EstimateFigures("talk 30 fps", "talk_0", 40, 96.0, 95.5, 90.0, 1.0, 1.5, 4.0),
    EstimateFigures("talk 30 fps", "talk_1", 38, 94.0, 93.5, 88.0, 2.0, 2.5, 5.0),
]


def test_the_report_is_plain_and_the_table_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    figures = [OFF, HIGH]
    summary = summarize(figures, LAGS, COSTS)
    bars = hold_against_bars(summary, COSTS)
    report = build(
        summary,
        figures,
        [Limit("talk 30 fps", -20.0, -90.0)],
        ESTIMATES,
        COSTS,
        bars,
        {Alternative.HIGH: [0.4, 0.93]},
        {"created": "today"},
    )
    again = json.loads(json.dumps(report))
    assert again["rows"][1]["alternative"] == "high"
    assert again["rows"][1]["flicker_change_percent"] == -75
    assert again["costs"][0]["what"] == "bare flow"
    print_report(summary, [Limit("talk 30 fps", -20.0, -90.0)], ESTIMATES, COSTS, bars, Console(width=80))
    shown = capsys.readouterr().out
    assert "-75%" in shown
    assert "…" not in shown
    assert again["limits"] == [{"group": "talk 30 fps", "dtssd_change_percent": -20.0, "flicker_change_percent": -90.0}]
    (group,) = again["estimates"]["groups"]
    assert (group["estimated"], group["iou_estimate"], group["flicker_repeated"]) == (78, 94.5, 4.5)
    assert "94.50" in shown
