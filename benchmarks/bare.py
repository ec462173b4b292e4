"""The engine alone: how many frames a second the network gives with nothing around it, measured in a child process.

``python -m benchmarks.bare``, started by `measure_bare`, not by hand. No transport, no pixels, no fusion: as many
threads as the server runs (one a CPU unless it was told otherwise), each with batches of one of the landscape canvas.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import ROOT, usable_cores
from benchmarks.target import pinned, read_cpus
from engines.registry import open_runner, warm_up
from engines.runner import EngineError, ModelFileError, Runner

#: Models load, and the machine may be busy.
TIMEOUT_S = 120.0
#: Run before the clock counts.
WARMUP_S = 0.5


class BareError(Exception):
    """The engine cannot be measured alone; one line for people."""


@dataclass(frozen=True, slots=True)
class BareFigures:
    """What an engine gives by itself."""

    fps: float
    """Frames a second of all threads together."""
    cpu_ms_per_frame: float
    threads: int


def measure_bare(
    models: Path, model: str, engine: str, threads: int, seconds: float, cpus: str | None = None
) -> BareFigures:
    """Measure in a process of its own, on the CPUs that the server may use.

    Raises:
        BareError: the model or the engine is not there, or it failed.
        TargetError: ``cpus`` cannot be read or used.
    """
    command = [
        sys.executable, "-m", "benchmarks.bare", "--models", str(models), "--model", model, "--engine", engine,
        "--threads", str(threads), "--seconds", str(seconds),
    ]  # fmt: skip
    with pinned(None if cpus is None else read_cpus(cpus)):
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S + seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise BareError(f"the bare engine took longer than {TIMEOUT_S + seconds:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise BareError(f"the bare engine cannot be measured: {lines[-1]}")
    return BareFigures(**json.loads(done.stdout.splitlines()[-1]))


def find_model(folder: Path, name: str, engine: str, threads: int) -> Runner:
    """Open the model of that name, whatever its file is called.

    Raises:
        EngineError: it is not in the folder, or the engine cannot run it.
    """
    files = sorted(folder.glob("*.onnx"), key=lambda file: file.stem != name)
    for file in files:
        runner = open_runner(engine, file, max_batch=1, concurrency=threads)
        if runner.info.model.name == name:
            return runner
        runner.close()
    raise ModelFileError(f"no model named {name!r} among the {len(files)} *.onnx of {folder}")


def drive(runner: Runner, threads: int, seconds: float) -> BareFigures:
    """Keep so many threads busy with one frame at a time."""
    canvas = runner.info.model.landscape
    shape = (1, canvas.height, canvas.width, runner.info.model.channels)
    frame = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    begin_ns = time.monotonic_ns() + round(WARMUP_S * 1e9)
    end_ns = begin_ns + round(seconds * 1e9)
    frames = [0] * threads
    failures: list[EngineError] = []

    def work(number: int) -> None:
        try:
            while (now_ns := time.monotonic_ns()) < end_ns:
                runner.run(frame)
                # a frame counts where it began: each thread has one that begins inside and ends outside
                frames[number] += now_ns >= begin_ns
        except EngineError as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    time.sleep(WARMUP_S)
    cpu_s, wall_ns = time.process_time(), time.monotonic_ns()
    for worker in workers:
        worker.join()
    cpu_s, wall_ns = time.process_time() - cpu_s, time.monotonic_ns() - wall_ns
    if failures:
        raise failures[0]
    count = max(1, sum(frames))
    return BareFigures(round(count / (wall_ns / 1e9), 2), round(cpu_s * 1000 / count, 3), threads)


def main(arguments: Sequence[str] | None = None) -> int:
    """The child process; figures as a line of JSON on standard output."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args(arguments)
    try:
        runner = find_model(options.models, options.model, options.engine, options.threads)
        warm_up(runner)
        figures = drive(runner, options.threads, options.seconds)
        runner.close()
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({name: getattr(figures, name) for name in BareFigures.__slots__}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
