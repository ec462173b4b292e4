"""``python -m benchmarks.hostile`` as people call it, short: its clients do what it says, and the server sees it."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.server import ROOT
from support.timing import limit_s

IDLE, CONNECTS = 7, 80


def run(models: Path, out: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks.hostile", "--models", str(models), "--out", str(out)]
    short = ["--sessions", "1", "--fps", "10", "--seconds", "1", "--warmup-s", "0.2", "--rounds", "2"]
    return subprocess.run(
        [*command, *short, *flags], cwd=ROOT, capture_output=True, text=True, timeout=limit_s(120), check=False
    )


@pytest.mark.slow
def test_the_hostile_clients_are_there_half_of_the_time(models_folder: Path, tmp_path: Path) -> None:
    done = run(models_folder, tmp_path, "--idle", str(IDLE), "--connects", str(CONNECTS))
    assert done.returncode == 3, done.stderr  # so few masks are INVALID, whatever the rest was
    report = json.loads((tmp_path / "report.json").read_text())
    assert json.loads(done.stdout) == report
    assert not report["valid"]
    assert any("too few samples for p99" in complaint for complaint in report["complaints"])
    assert all(0 < report[part]["n"] <= 20 for part in ("alone", "beside"))
    assert report["p99_ratio"] == pytest.approx(report["beside"]["p99_ms"] / report["alone"]["p99_ms"], abs=0.001)

    hostile = report["hostile"]
    assert (hostile["idle_streams"], hostile["slow_readers"], hostile["not_taken"]) == (IDLE, 1, 0)
    ways = hostile["by_way"]
    assert set(ways) == {"connect", "hello", "call", "config"}
    assert max(ways.values()) - min(ways.values()) <= 2, "each part of the run stops anywhere in the turn"
    assert min(ways.values()) > CONNECTS / 4, "they were there for longer than the measured two seconds"
    assert hostile["calls_seen_by_the_server_per_s"] > 0

    log = (tmp_path / "server.log").read_text()
    labels = Counter(re.findall(r'event=session_configured .*?label=("[^"]*"|\S*)', log))
    assert labels["idle"] == 2 * IDLE
    assert labels['"does not read"'] == 2
    # On a busy machine many are gone before the server has looked at them.
    assert ways["config"] / 10 < labels["vanishes"] <= ways["config"]
    # Sessions, visitors, idle streams and slow readers beside them.
    opened = log.count("event=session_opened") - 4 * 2 - 2 * (IDLE + 1)
    assert (ways["call"] + ways["config"]) / 10 < opened <= ways["call"] + ways["config"]
    assert "Traceback" not in log
    assert "event=stopped sessions_cut=0" in log


def test_one_round_is_no_comparison(models_folder: Path, tmp_path: Path) -> None:
    done = run(models_folder, tmp_path, "--rounds", "1")
    assert done.returncode == 2
    assert "at least 2" in done.stderr


def test_a_server_that_does_not_start_is_said_in_one_line(tmp_path: Path) -> None:
    done = run(tmp_path / "no models here", tmp_path)
    assert done.returncode == 1
    assert "benchmarks/hostile.py: the server ended with status 1" in done.stderr
