"""The report: figures by hand, and what a person sees."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.conductor import Reading, Sample
from benchmarks.figures import fairness, memory_slope, server_costs
from benchmarks.ladder import efficiency, steps
from benchmarks.plan import SessionFigures
from benchmarks.report import print_report, write_json
from benchmarks.scrape import parse
from benchmarks.target import Usage
from support.bench_reports import figures, plan, report

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


def printed(report: Any) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_report(report, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def test_the_report_is_json_with_ratios_of_all_that_was_sent(tmp_path: Path) -> None:
    write_json(report(median_ms=18), tmp_path / "report.json")
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["schema"] == "humanseg.benchmark.run/2"
    frames = values["frames"]
    assert (frames["sent"], frames["sent_per_s"], frames["masks_per_s"]) == (1200, 60.0, 60.0)
    assert values["first_mask_ms"] == {"very_first": 180.0, "all_sessions": [30.0, 31.0], "joins_under_load": []}
    assert values["load"]["clip"] == "talk.mp4", "a report that is passed on names no folder of its maker"
    assert values["served"]["settings"]["models"] == "models"
    # Lognormal: the median is the median, and ln(16.7 / 18) / 0.18 = -0.417 standard deviations leave 33.8 % below.
    latency = values["latency_from_intended_send"]
    assert latency["p50_ms"] == pytest.approx(18, rel=0.02)
    assert latency["ci95_ms"]["p50"][0] < latency["p50_ms"] < latency["ci95_ms"]["p50"][1]
    assert "p99.9" not in latency["ci95_ms"], "1,200 samples have no p99.9 to speak of"
    assert values["on_time_ratio"]["within_16.7_ms"] == pytest.approx(0.338, abs=0.04)
    low, high = values["on_time_ratio_ci95"]["within_16.7_ms"]
    assert low < values["on_time_ratio"]["within_16.7_ms"] < high


def test_the_timeline_and_the_sessions_add_up_to_the_whole() -> None:
    values = figures(plan(sessions=3), drop_share=0.2)
    for key, whole in (("sent", 1800), ("masks", values["frames"]["masks"])):
        assert sum(row[key] for row in values["timeline"]) == whole
        assert sum(session[key] for session in values["fairness"]["sessions"]) == whole
    assert sum(row["dropped"] for row in values["timeline"]) == values["frames"]["dropped"]["SUPERSEDED"] > 200
    assert max(row["max_ms"] for row in values["timeline"]) == pytest.approx(
        values["latency_from_intended_send"]["max_ms"], rel=0.01
    )


def test_memory_that_grows_by_a_fixed_amount_has_that_slope() -> None:
    samples = [Sample(float(second), Usage(0.0, 10**8 + 1000 * second)) for second in range(60)]
    assert memory_slope(samples) == {"rss_slope_bytes_per_min": 60_000}
    assert memory_slope(samples[:9]) == {"rss_slope_bytes_per_min": None}


def test_jains_index_tells_an_even_share_from_one_that_got_all() -> None:
    even = [SessionFigures(number, 100, 80, 10, 20, 30) for number in range(4)]
    assert fairness(even)["jain_index"] == 1
    one_got_all = [SessionFigures(0, 100, 100, 10, 20, 30), *(SessionFigures(n, 100, 0, 0, 0, 0) for n in (1, 2, 3))]
    assert fairness(one_got_all)["jain_index"] == 0.25
    assert fairness(one_got_all)["masks_ratio_worst"] == 0
    assert fairness([])["jain_index"] is None


def test_the_service_is_held_against_the_bare_engine_only_where_it_was_saturated() -> None:
    def ran(sent_per_s: float, masks_per_s: float) -> dict[str, Any]:
        return {"frames": {"sent_per_s": sent_per_s, "masks_per_s": masks_per_s}}

    assert efficiency([ran(60, 60), ran(150, 90), ran(120, 92)], 115.0)["ratio"] == 0.8
    assert efficiency([ran(60, 60), ran(100, 97)], 115.0)["ratio"] is None
    assert efficiency([ran(150, 90)], 0.0)["ratio"] is None


def test_a_ladder_offers_its_shares_of_the_reference_in_whole_sessions() -> None:
    plans = steps(plan(fps=30.0), reference_fps=110.0, shares=(1.3, 0.1, 0.5), warmup_s=1.0, measured_s=8.0)
    assert [(one.sessions, one.sessions * one.fps) for one in plans] == [
        (1, pytest.approx(11)),
        (2, pytest.approx(55)),
        (5, pytest.approx(143)),
    ]
    assert {(one.warmup_s, one.measured_s) for one in plans} == {(1.0, 8.0)}


def test_a_valid_run_is_called_so_and_shows_every_percentile() -> None:
    text = printed(report())
    assert "\nVALID" in text
    assert "INVALID" not in text
    for column in ("p50", "p90", "p95", "p99", "p99.9", "max"):
        assert f" {column} " in text
    assert "19.00 ms of server CPU a mask, 3.00 of it beyond engine and fusion; RSS 200 -> 203 MiB (+7.5 MiB a" in text
    assert "1200 sent, 1200 masks, 0 unanswered, dropped: none" in text
    assert "first mask after 180 ms cold, 30 to 31 ms warm" in text
    assert "batches  960 of up to 1, 120 of up to 2" in text
    assert "in the service 92.0 masks/s at most: 78 %" in text
    assert "failed:" in text


def test_percentiles_on_thin_ice_are_marked_and_the_run_is_invalid() -> None:
    text = printed(report(measured_s=4.0))
    assert "~" in text
    assert "INVALID  too few samples for p99: 240 masks, needed are 1000" in text
    assert "\nVALID" not in text
    assert "too short a run for confidence intervals" in text


def test_a_run_in_which_nothing_was_answered_can_be_shown() -> None:
    values = report()
    text = printed({**values, **figures(plan(), drop_share=1.1), "served": values["served"]})
    assert "1200 sent, 0 masks" in text
    assert "INVALID" in text


def test_a_server_that_did_not_end_well_makes_its_run_invalid() -> None:
    values = report(exit_status=-11)
    assert not values["valid"]
    assert values["served"]["exit_status"] == -11
    assert "INVALID  the server ended with status -11" in printed(values)
