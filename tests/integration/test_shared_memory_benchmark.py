"""The benchmark that compares shared memory with messages, on a small scale."""

import json
import subprocess
import sys
from pathlib import Path

from support.server import ROOT
from support.timing import limit_s


def test_both_ways_are_measured(models_folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "benchmarks.shared_memory", "--models", str(models_folder), "--out", str(tmp_path),
        "--size", "64x48", "--format", "rgb24", "--rounds", "2", "--frames", "20",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s(60), check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) == {"messages", "shared memory"}
    for figures in report.values():
        beyond_ms = figures["beyond_engine_and_fusion_ms"]
        assert len(beyond_ms["blocks"]) == 2
        assert beyond_ms["min"] == min(beyond_ms["blocks"]) <= beyond_ms["median"]
        assert figures["by_stage_ms"]["preprocess"] > 0
    assert "event=shared_memory_opened" in (tmp_path / "server.log").read_text()


def test_a_server_that_does_not_start_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.shared_memory", "--models", str(tmp_path), "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s(60), check=False)
    assert done.returncode == 1
    assert "the server ended with status 1" in done.stderr
