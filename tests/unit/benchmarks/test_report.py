"""The report: figures by hand, and what a person sees."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.arrivals import Arrivals
from benchmarks.conductor import Finished, Reading
from benchmarks.plan import LoadPlan, Outcome, Served
from benchmarks.recording import FrameTimes, Histogram, judge
from benchmarks.report import build, print_report, server_costs, write_json
from benchmarks.scrape import parse
from benchmarks.target import Usage

MS = 1_000_000
NOTHING = Reading(None, None)

BEFORE = """
humanseg_frames_total{outcome="mask",reason=""} 100
humanseg_stage_cpu_seconds_total{stage="inference"} 1.0
humanseg_stage_cpu_seconds_total{stage="fusion"} 0.5
humanseg_stage_cpu_seconds_total{stage="preprocess"} 0.1
"""
AFTER = """
humanseg_frames_total{outcome="mask",reason=""} 300
humanseg_frames_total{outcome="dropped",reason="superseded"} 7
humanseg_stage_cpu_seconds_total{stage="inference"} 3.0
humanseg_stage_cpu_seconds_total{stage="fusion"} 0.9
humanseg_stage_cpu_seconds_total{stage="preprocess"} 0.2
"""


def reading(page: str, cpu_s: float, rss_mib: int) -> Reading:
    return Reading(Usage(cpu_s, rss_mib * 2**20), parse(page))


def test_server_costs_are_those_of_the_measured_part_for_each_mask() -> None:
    costs = server_costs(reading(BEFORE, 10.0, 100), reading(AFTER, 12.8, 120))
    # 200 masks: 2.8 s of the process are 14 ms each, of which 2.0 s are inference and 0.4 s fusion: 2 ms are left.
    assert costs["masks_counted_by_server"] == 200
    assert costs["cpu_ms_per_mask"] == pytest.approx(14.0)
    assert costs["cpu_ms_per_mask_by_stage"] == pytest.approx({"inference": 10.0, "fusion": 2.0, "preprocess": 0.5})
    assert costs["cpu_ms_per_mask_beyond_engine_and_fusion"] == pytest.approx(2.0)
    assert (costs["rss_begin_bytes"], costs["rss_end_bytes"]) == (100 * 2**20, 120 * 2**20)


def test_costs_that_cannot_be_seen_are_none_and_never_zero() -> None:
    assert set(server_costs(NOTHING, NOTHING).values()) == {None}
    no_masks = server_costs(reading(BEFORE, 10.0, 100), reading(BEFORE, 10.5, 100))
    assert no_masks["cpu_ms_per_mask"] is None
    assert no_masks["masks_counted_by_server"] == 0


def run_report(frames: int, *, before: Reading = NOTHING, after: Reading = NOTHING, exit_status: int | None = 0) -> Any:
    plan = LoadPlan(
        "127.0.0.1:1", 2, 30.0, 1.0, 5.0, Arrivals.PACED, 1, "", 640, 360, "i420", "high", "/some/where/talk.mp4"
    )
    outcome = Outcome(
        first_mask_ms=[80.0, 20.0],
        frames=Counter(sent=frames + 3, masks=frames),
        dropped=Counter(SUPERSEDED=3),
        on_time=Counter({"16.7": 0, "33.3": frames}),
    )
    outcome.stages["total"] = Histogram()
    for number in range(frames):
        times = FrameTimes(number * 33 * MS, number * 33 * MS, number * 33 * MS)
        outcome.recorder.sent(times)
        outcome.recorder.answered(times, (number * 33 + 20) * MS)
        outcome.stages["total"].record_us(12_000)
    return build(
        plan=plan,
        finished=Finished(outcome, Served("medium", "7", "onnxruntime-cpu", 320, 192), before, after),
        verdict=judge(outcome.recorder, 0, exit_status),
        machine={"cpu_model": "a CPU", "cpu_cores_usable": 2, "load_average_1min": 0.5},
        command=["python", "benchmarks/run.py"],
        server_exit_status=exit_status,
    )


def printed(report: Any) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_report(report, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def test_the_report_is_json_with_ratios_of_all_that_was_sent(tmp_path: Path) -> None:
    write_json(run_report(997), tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["on_time_ratio"] == {"within_16.7_ms": 0.0, "within_33.3_ms": 0.997}
    assert report["first_mask_ms"] == {"first_session": 80.0, "all_sessions": [20.0, 80.0]}
    assert report["frames"]["masks_per_s"] == pytest.approx(997 / 5)
    assert report["load"]["clip"] == "talk.mp4", "a report that is passed on names no folder of its maker"
    assert report["latency_from_intended_send"]["p50_ms"] == pytest.approx(20, rel=0.002)


def test_a_valid_run_is_called_so_and_shows_every_percentile() -> None:
    text = printed(run_report(1000, before=reading(BEFORE, 10.0, 100), after=reading(AFTER, 12.8, 120)))
    assert "\nVALID" in text
    assert "INVALID" not in text
    for column in ("p50", "p90", "p95", "p99", "p99.9", "max"):
        assert f" {column} " in text
    assert "14.00 ms of server CPU a mask, 2.00 of it beyond engine and fusion; RSS 100 -> 120 MiB" in text
    assert "1003 sent, 1000 masks, 0 unanswered, dropped: 3 SUPERSEDED" in text
    assert "0.0 % within 16.7 ms, 99.7 % within 33.3 ms" in text


def test_percentiles_on_thin_ice_are_marked_and_the_run_is_invalid() -> None:
    text = printed(run_report(300))
    assert "~20.0" in text
    assert "INVALID  too few samples for p99: 300 masks, needed are 1000" in text
    assert "\nVALID" not in text
    assert "cost     not seen" in text


def test_a_run_in_which_nothing_was_answered_can_be_shown() -> None:
    text = printed(run_report(0))
    assert "3 sent, 0 masks" in text
    assert "INVALID" in text


def test_a_server_that_did_not_end_well_makes_its_run_invalid() -> None:
    report = run_report(1000, exit_status=-11)
    assert not report["valid"]
    assert report["served"]["exit_status"] == -11
    assert "INVALID  the server ended with status -11" in printed(report)
