"""``python -m benchmarks.engine_threads``: how many threads a frame should have on a CPU."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.engines import CLIP, MODEL, frames_of
from benchmarks.machine import describe, usable_cores
from benchmarks.report import write_json
from engines.registry import open_runner
from engines.runner import EngineError, EngineUnavailableError
from humanseg.video import VideoError

OK, FAILED, INTERRUPTED = 0, 1, 130
Run = Callable[[NDArray[np.uint8]], object]

EXAMPLES = """examples:
  python -m benchmarks.engine_threads                             all plans in turns, three rounds, about a minute
  python -m benchmarks.engine_threads --model large.onnx --seconds 4 --rounds 5

A plan is how many callers there are and how many threads each frame has; "served" are those of the service, "no spin"
is ONNX Runtime with session.intra_op.allow_spinning off, "async" one caller who spreads a batch over asynchronous
requests. CPU ms is that of the whole process a frame; wall ms is what a caller waits for a run. CPU ratios within one
run hold on a busy machine too; frames a second and wall times do not.
"""


@dataclass(slots=True)
class Plan:
    """A way to use the cores, and what came of it round by round."""

    name: str
    callers: int
    run: Run
    batch: int = 1
    cpu_ms_per_frame: list[float] = field(default_factory=list)
    frames_per_s: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    """Of every run."""

    def to_plain(self) -> dict[str, object]:
        """Medians, for JSON and for the table."""
        return {
            "plan": self.name,
            "callers": self.callers,
            "batch": self.batch,
            "cpu_ms_per_frame": statistics.median(self.cpu_ms_per_frame),
            "frames_per_s": statistics.median(self.frames_per_s),
            "wall_ms_p50": statistics.median(self.wall_ms),
            "wall_ms_p99": float(np.percentile(self.wall_ms, 99)),
        }


def ort_plans(model: Path, threads: int) -> list[Plan]:
    """ONNX Runtime: as it is served, and with its own threads."""

    def opened(intra: int, *, spinning: str) -> Run:
        options = ort.SessionOptions()
        options.intra_op_num_threads = intra
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        session = ort.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda batch: session.run(None, {name: batch})

    served = open_runner("onnxruntime-cpu", model, max_batch=threads, concurrency=threads)
    spinning, waiting = opened(threads, spinning="1"), opened(threads, spinning="0")
    return [
        Plan(f"ort: 1 thread, {threads} callers (served)", threads, served.run),
        Plan("ort: 1 thread, 1 caller", 1, served.run),
        Plan(f"ort: {threads} threads, 1 caller", 1, spinning),
        Plan(f"ort: {threads} threads, 1 caller, no spin", 1, waiting),
        Plan(f"ort: {threads} threads, {threads} callers", threads, spinning),
        Plan(f"ort: {threads} threads, {threads} callers, no spin", threads, waiting),
    ]


def openvino_plans(model: Path, threads: int, frames: NDArray[np.uint8]) -> list[Plan]:
    """OpenVINO: as it is served, and a batch spread over asynchronous requests.

    Raises:
        EngineUnavailableError: it is not installed.
    """
    served = open_runner("openvino-f32", model, max_batch=threads, concurrency=threads)
    import openvino as ov  # only where it is installed: the line above says so otherwise

    core = ov.Core()
    network = core.read_model(model.read_bytes())
    network.reshape({0: [1, *frames.shape[1:]]})
    settings = {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(network, "CPU", {**settings, "ENABLE_CPU_PINNING": False})
    requests = [compiled.create_infer_request() for _ in range(threads)]

    def spread(batch: NDArray[np.uint8]) -> object:
        for request, row in zip(requests, batch, strict=True):
            request.start_async([row[None]], share_inputs=True)
        for request in requests:
            request.wait()
        return requests[0].get_output_tensor(0).data

    return [
        Plan(f"openvino: 1 thread, {threads} callers (served)", threads, served.run),
        Plan(f"openvino: batch of {threads} row by row", 1, served.run, batch=threads),
        Plan(f"openvino: batch of {threads}, async", 1, spread, batch=threads),
    ]


def play(plan: Plan, frames: NDArray[np.uint8], seconds: float) -> None:
    """Run a plan for so long and note what it took."""

    def call(first: int) -> list[float]:
        walls: list[float] = []
        number = first
        while not walls or time.monotonic() < ends:
            rows = [(number + offset) % len(frames) for offset in range(plan.batch)]
            batch = frames[rows]
            began_ns = time.monotonic_ns()
            plan.run(batch)
            walls.append((time.monotonic_ns() - began_ns) / 1e6)
            number += 1
        return walls

    with ThreadPoolExecutor(plan.callers) as pool:
        began, cpu_began_ns = time.monotonic(), time.process_time_ns()
        ends = began + seconds
        walls = [wall for found in pool.map(call, range(plan.callers)) for wall in found]
        cpu_ms, elapsed_s = (time.process_time_ns() - cpu_began_ns) / 1e6, time.monotonic() - began
    count = len(walls) * plan.batch
    plan.cpu_ms_per_frame.append(cpu_ms / count)
    plan.frames_per_s.append(count / elapsed_s)
    plan.wall_ms += walls


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; usage errors end the program with status 2, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine_threads",
        description="Compare ways to spread frames over the cores of a CPU.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=MODEL, metavar="FILE", help="default medium")
    parser.add_argument("--threads", type=int, default=usable_cores(), metavar="N", help="default one a usable core")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of a plan in each round, default 2")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--clip", type=Path, default=CLIP, metavar="FILE", help="frames of it; default the demo's")
    parser.add_argument(
        "--out", type=Path, default=Path("out/engine_threads"), metavar="DIR", help="default out/engine_threads"
    )
    options = parser.parse_args(arguments)
    if not (1 <= options.threads <= 256 and options.rounds >= 1 and options.seconds >= 0):
        parser.error("--threads must be 1 to 256, --rounds 1 or more, --seconds not below 0")
    return options


def run(options: argparse.Namespace, command: list[str], console: Console) -> None:
    """Do it all.

    Raises:
        EngineError, VideoError, OSError: the model, an engine or the clip cannot be used.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    frames = next(iter(frames_of(options.clip, options.model).values()))
    plans = ort_plans(options.model, options.threads)
    try:
        plans += openvino_plans(options.model, options.threads, frames)
    except EngineUnavailableError as error:
        console.print(f"without OpenVINO: {error}", highlight=False, markup=False)
    machine = describe()
    for plan in plans:
        plan.run(frames[: plan.batch])  # memory, before anything counts
    turns = [plan for _ in range(options.rounds) for plan in plans]
    for plan in track(turns, "plans in turns", console=console, transient=True):
        play(plan, frames, options.seconds)
    rows = [plan.to_plain() for plan in plans]
    report = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": machine,
        "model": options.model.name,
        "plans": rows,
    }
    write_json(report, options.out / "report.json")
    table = Table(box=None, header_style="bold")
    table.add_column("plan", no_wrap=True)
    for title in ("CPU ms a frame", "frames/s", "wall ms p50", "p99"):
        table.add_column(title, justify="right")
    for row in rows:
        figures = (row[key] for key in ("cpu_ms_per_frame", "frames_per_s", "wall_ms_p50", "wall_ms_p99"))
        table.add_row(str(row["plan"]), *(f"{figure:.1f}" for figure in figures))
    console.print(table)
    console.print(f"report.json: {options.out}", highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(given)
    try:
        run(options, ["python", "-m", "benchmarks.engine_threads", *given], Console())
    except (EngineError, VideoError, OSError) as error:
        print(f"benchmarks.engine_threads: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("benchmarks.engine_threads: interrupted, nothing is reported", file=sys.stderr)
        return INTERRUPTED
    return OK


if __name__ == "__main__":
    sys.exit(main())
