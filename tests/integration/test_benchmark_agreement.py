"""Whether the benchmark's figures are those that a plain, independent client sees."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from benchmarks.agreement import SIZE, STATUS, Duel, write_frames
from benchmarks.agreement_verdict import DISAGREE, compare
from benchmarks.arrivals import Arrivals
from benchmarks.measuring import Bench
from benchmarks.plan import LoadPlan
from benchmarks.target import Target
from support.server import ROOT, RunningServer, running_server
from support.timing import limit_s


def test_both_clients_measure_the_same_server_in_one_command(models_folder: Path, tmp_path: Path) -> None:
    flags = ["--models", str(models_folder), "--rounds", "2", "--sessions", "2", "--fps", "10", "--seconds", "1.5"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.agreement", *flags, "--policy", "every", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(100), check=False,
    )  # fmt: skip
    assert done.stderr == ""
    report = json.loads((tmp_path / "report.json").read_text())
    assert done.returncode == STATUS[report["verdict"]]
    assert [row["figure"] for row in report["rows"]] == ["p50_ms", "p90_ms", "p99_ms", "cpu_ms_per_mask"]
    assert len(report["rounds"]) == 2
    for one in report["rounds"]:
        ours, theirs = one["benchmark"], one["independent"]
        assert theirs["sent"] == theirs["masks"] == ours["frames"]["sent"] == ours["frames"]["masks"], "the same plan"
        assert theirs["unanswered"] == 0
        assert 0 < theirs["p50_ms"] <= theirs["p90_ms"] <= theirs["p99_ms"]
        assert theirs["cpu_ms_per_mask"] > 0
    assert "event=stopped sessions_cut=0" in (tmp_path / "server.log").read_text()


def test_a_server_that_dies_in_mid_run_is_named_as_the_cause(models_folder: Path, tmp_path: Path) -> None:
    flags = ["--models", str(models_folder), "--fps", "10", "--seconds", "60", "--out", str(tmp_path)]
    command = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.agreement", *flags], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = tmp_path / "server.log"
    deadline = time.monotonic() + limit_s(60)
    while not log.exists() or "event=session_opened" not in log.read_text():
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    family = psutil.Process(command.pid).children(recursive=True)
    next(process for process in family if "service" in process.cmdline()).kill()
    _, errors = command.communicate(timeout=limit_s(60))
    assert command.returncode == 1
    assert errors.startswith("benchmarks/agreement.py: the server ended with status -9\n")
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(family, timeout=limit_s(5))
    assert not alive


@contextmanager
def standing_still(server: RunningServer, stop_s: float, run_s: float) -> Iterator[None]:
    """The server stands still for ``stop_s``, goes on for ``run_s``, and so forth."""
    over = threading.Event()

    def stop_and_go() -> None:
        while not over.wait(run_s):
            server.process.send_signal(signal.SIGSTOP)
            over.wait(stop_s)
            server.process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_a_benchmark_that_counts_from_the_actual_send_is_found_on_a_server_that_stalls(
    models_folder: Path, tmp_path: Path
) -> None:
    """The planted fault is coordinated omission: the same runs, judged by latencies from the actual send."""
    # Twice as long as the server's own rhythm, so that it does not matter where in it a run begins.
    plan = LoadPlan(
        "", 2, 12.0, 0.3, 3.6, Arrivals.PACED, 1, "", SIZE.width, SIZE.height, "i420", "off", None, policy="every"
    )
    with (
        running_server(models_folder) as server,
        standing_still(server, stop_s=1.2, run_s=0.6),
        Bench(nullcontext(Target(server.target, None)), None, Console(quiet=True)) as bench,
    ):
        duel = Duel(bench, plan, None, write_frames(tmp_path, SIZE))
        duel.fight(4)
    honest = {row.figure: row for row in compare(duel.rounds())}
    faulty = {row.figure: row for row in compare(duel.rounds("latency_from_actual_send"))}
    assert DISAGREE in {row.verdict for row in faulty.values()}, faulty
    assert abs(honest["p50_ms"].difference) < faulty["p50_ms"].difference / 2, (honest, faulty)


def test_a_server_that_is_not_there_ends_the_independent_client_in_one_line(tmp_path: Path) -> None:
    flags = ["--target", "127.0.0.1:1", "--frames", str(write_frames(tmp_path, SIZE)), "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.independent", *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("benchmarks/independent.py: UNAVAILABLE: ")
