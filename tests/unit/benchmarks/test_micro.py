"""The comparison of stages with the baseline: by ratios of CPU time to fixed work, nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.micro.compare import BASELINE, FAILED, OK, REFERENCE, TOLERANCE, WORSE, main

MICRO = Path(BASELINE).parent


def results(path: Path, timer: str = "<built-in function process_time>", **least_s: float) -> Path:
    benchmarks: list[dict[str, Any]] = [
        {"name": name, "options": {"timer": timer}, "stats": {"min": value}} for name, value in least_s.items()
    ]
    path.write_text(json.dumps({"benchmarks": benchmarks}))
    return path


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    file = tmp_path / "baseline.json"
    made = results(tmp_path / "first.json", test_reference=0.001, test_fusion=0.002, test_encode=0.0001)
    assert main([str(made), "--baseline", str(file), "--write"]) == OK
    return file


def compared(tmp_path: Path, baseline: Path, **least_s: float) -> int:
    return main([str(results(tmp_path / "now.json", **least_s)), "--baseline", str(baseline)])


def test_a_machine_that_is_three_times_slower_in_everything_is_no_regression(tmp_path: Path, baseline: Path) -> None:
    assert compared(tmp_path, baseline, test_reference=0.003, test_fusion=0.006, test_encode=0.0003) == OK


def test_a_stage_beyond_the_tolerance_is_named_and_one_within_it_is_not(
    tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = {"test_reference": 0.001, "test_fusion": 0.002 * (TOLERANCE + 0.1), "test_encode": 0.0001 * (TOLERANCE - 0.1)}
    assert compared(tmp_path, baseline, **now) == WORSE
    last = capsys.readouterr().out.splitlines()[-1]
    assert "test_fusion" in last
    assert "test_encode" not in last


def test_a_stage_that_is_no_longer_measured_is_a_failure_and_a_new_one_is_not(tmp_path: Path, baseline: Path) -> None:
    assert compared(tmp_path, baseline, test_reference=0.001, test_fusion=0.002) == WORSE
    everything = {"test_reference": 0.001, "test_fusion": 0.002, "test_encode": 0.0001, "test_new": 5.0}
    assert compared(tmp_path, baseline, **everything) == OK


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"timer": "<built-in function perf_counter>", "test_fusion": 0.1}, "use --benchmark-timer=time.process_time"),
        ({"test_fusion": 0.1}, "no test_reference among 1 results"),
        (None, "cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(
    made: dict[str, Any] | None, message: str, tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results(tmp_path / "now.json", **made) if made else tmp_path / "missing.json"
    assert main([str(path), "--baseline", str(baseline)]) == FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_committed_baseline_knows_every_micro_benchmark() -> None:
    known = json.loads(BASELINE.read_text())["ratios"]
    assert all(ratio > 0 for ratio in known.values())
    written = {
        line.removeprefix("def ").partition("(")[0]
        for file in MICRO.glob("test_*.py")
        for line in file.read_text().splitlines()
        if line.startswith("def test_")
    }
    assert {name.partition("[")[0] for name in known} == written - {REFERENCE}
