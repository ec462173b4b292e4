"""What the benchmark says of servers that misbehave in a known way: slowed in one place, stalled, gone."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.server import ROOT, RunningServer, running_server
from support.timing import limit_s

COMMAND = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--ladder", "none"]
DELAY_MS = 60


@pytest.fixture(scope="module")
def slow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("slow") / "place"
    file.write_text("")
    return file


@pytest.fixture(scope="module")
def slowed(models_folder: Path, slow_file: Path) -> Iterator[RunningServer]:
    program = [str(ROOT / "tests" / "support" / "slowed_server.py"), str(slow_file)]
    with running_server(models_folder, program=program) as running:
        yield running


@pytest.mark.parametrize("place", ["preprocess", "inference", "fusion", "encode", "unexplained", "transport"])
def test_a_server_slowed_in_one_place_is_blamed_on_that_place(
    place: str, slowed: RunningServer, slow_file: Path, tmp_path: Path
) -> None:
    slow_file.write_text(f"{place} {DELAY_MS}")
    flags = ["--target", slowed.target, "--sessions", "1", "--fps", "8", "--seconds", "1.5", "--warmup-s", "0.3"]
    done = subprocess.run(
        [*COMMAND, *flags, "--out", str(tmp_path)], capture_output=True, text=True, timeout=limit_s(60), check=False
    )
    assert done.returncode in (0, 3), done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert report["slowest_stage"]["stage"] == place, report["slowest_stage"]
    assert report["slowest_stage"]["mean_ms"] >= DELAY_MS
    assert f"slowest  {place}" in done.stdout
    # The others are not blamed for it.
    others = [one["mean_ms"] for name, one in report["stages"].items() if name not in (place, "total")]
    assert max(others) < report["slowest_stage"]["mean_ms"]


def start_load(server: RunningServer, out: Path, *flags: str) -> "subprocess.Popen[str]":
    """A run that is in its measured part, or about to be: its sessions are open."""
    command = [*COMMAND, "--target", server.target, "--warmup-s", "0.5", "--out", str(out), *flags]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # The visitor for the very first mask, and then the sessions of the load.
    deadline = time.monotonic() + limit_s(60)
    while server.log().count("event=session_opened") < 3:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.02)
    return run


def test_a_server_that_stands_still_for_300_ms_shows_in_the_p99(models_folder: Path, tmp_path: Path) -> None:
    """No coordinated omission: 18 frames were planned for those 300 ms, 5 % of the run; a closed loop sees two."""
    with running_server(models_folder) as server:
        run = start_load(server, tmp_path, "--policy", "every", "--sessions", "2", "--fps", "30", "--seconds", "6")
        # Half a second until time zero, as long a warm-up: this is in the middle of the measured part.
        time.sleep(3.0)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGCONT)
        _, errors = run.communicate(timeout=limit_s(60))
    assert run.returncode == 3, errors
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["frames"]["sent"] == pytest.approx(360, abs=2), "the load went on as planned"
    assert report["frames"]["masks"] == report["frames"]["sent"], "policy EVERY answers all"
    latency = report["latency_from_intended_send"]
    assert latency["max_ms"] >= 290
    assert latency["p99_ms"] >= 200
    assert max(row["max_ms"] for row in report["timeline"]) == pytest.approx(latency["max_ms"], rel=0.01)


def test_a_server_given_by_target_that_dies_in_mid_run_ends_it_in_one_line(models_folder: Path, tmp_path: Path) -> None:
    with running_server(models_folder) as server:
        run = start_load(server, tmp_path, "--seconds", "60")
        time.sleep(1.5)
        server.process.kill()
        _, errors = run.communicate(timeout=limit_s(30))
    assert run.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("benchmarks/run.py: UNAVAILABLE")
    assert not (tmp_path / "report.json").exists()
