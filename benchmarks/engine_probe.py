"""One engine in a process of its own: what it costs from a cold start on. `benchmarks.engines` runs it.

Prints a line as each part is done, so that the caller can show how far it is, and leaves figures and masks in a folder.
"""

import argparse
import json
import re
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from engines.registry import open_runner, warm_up
from engines.runner import EngineError, EngineUnavailableError, Runner

OK, FAILED, UNAVAILABLE = 0, 1, 3
FIGURES, MASKS = "figures.json", "masks.npz"
#: However slow the engine is, a figure is the median of at least so many runs.
LEAST_RUNS = 5


@dataclass(frozen=True, slots=True)
class Cell:
    """One batch size on one canvas."""

    canvas: str
    batch: int
    runs: int
    cpu_ms_per_frame: float
    """CPU time of the whole process, all its threads, median over the runs."""
    wall_ms: float
    """Of a run of the whole batch, median."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one engine costs."""

    cold_start_s: float
    """From the start of the process to the first mask of every canvas, imports included."""
    cold_start_cpu_s: float
    peak_rss_mib: float | None
    cells: list[Cell]

    @classmethod
    def read(cls, folder: Path) -> "Figures":
        """What a probe has left there."""
        found = json.loads((folder / FIGURES).read_text())
        return cls(**{**found, "cells": [Cell(**cell) for cell in found["cells"]]})


def measure(runner: Runner, frames: NDArray[np.uint8], batch: int, seconds: float) -> Cell:
    """Run a batch again and again for so long; frames (N, H, W, 3) are taken in turns."""
    cpu_ms: list[float] = []
    wall_ms: list[float] = []
    rolled = np.concatenate([frames] * (1 + batch // len(frames)))[:batch]
    runner.run(rolled)  # memory for this batch size
    ends = time.monotonic() + seconds
    while len(wall_ms) < LEAST_RUNS or time.monotonic() < ends:
        wall_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
        runner.run(rolled)
        cpu_ms.append((time.process_time_ns() - cpu_ns) / 1e6 / batch)
        wall_ms.append((time.monotonic_ns() - wall_ns) / 1e6)
    canvas = f"{frames.shape[2]}x{frames.shape[1]}"
    return Cell(canvas, batch, len(wall_ms), statistics.median(cpu_ms), statistics.median(wall_ms))


def peak_rss_mib() -> float | None:
    """Most memory this process has held; None where the system does not say (not Linux)."""
    # Not getrusage: its figure begins with that of the process which started this one.
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE) if status.is_file() else None
    return int(found[1]) / 1024 if found else None


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_probe", description=__doc__)
    parser.add_argument("engine", help="its name in the registry")
    parser.add_argument("model", type=Path, help="the ONNX file")
    parser.add_argument("frames", type=Path, help=".npz of (N, H, W, 3) uint8, one array a canvas")
    parser.add_argument("out", type=Path, help="folder for figures and masks")
    parser.add_argument("--batch", type=int, nargs="*", default=[], help="batch sizes; none: masks alone")
    parser.add_argument("--concurrency", type=int, default=1, help="threads that the engine is opened for, default 1")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure, default 1")
    options = parser.parse_args()
    with np.load(options.frames) as file:
        frames: dict[str, NDArray[np.uint8]] = dict(file)
    try:
        runner = open_runner(
            options.engine, options.model, max_batch=max([1, *options.batch]), concurrency=options.concurrency
        )
        warm_up(runner)
        cold_start_s, cold_start_cpu_s = time.time() - psutil.Process().create_time(), time.process_time()
        print("open", flush=True)
        cells = []
        for batch in options.batch:
            for pictures in frames.values():
                cells.append(measure(runner, pictures, batch, options.seconds))
                print(f"batch {batch}", flush=True)
        masks = {
            name: np.concatenate([runner.run(picture[None]) for picture in pictures])
            for name, pictures in frames.items()
        }
    except EngineError as error:
        print(f"{error}", file=sys.stderr)
        return UNAVAILABLE if isinstance(error, EngineUnavailableError) else FAILED
    np.savez(options.out / MASKS, **masks)  # type: ignore[arg-type]  # no canvas is named like an option of savez
    figures = Figures(cold_start_s, cold_start_cpu_s, peak_rss_mib(), cells)
    (options.out / FIGURES).write_text(json.dumps(asdict(figures)))
    return OK


if __name__ == "__main__":
    sys.exit(main())
