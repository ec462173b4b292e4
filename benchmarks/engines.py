"""``python -m benchmarks.engines``: what each engine that is installed costs on a model, and how near its masks are."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks import engine_probe
from benchmarks.engine_probe import Figures
from benchmarks.machine import ROOT, describe
from benchmarks.report import write_json
from engines.registry import DEFAULT_ENGINE, ENGINES, open_runner
from engines.runner import EngineError
from humanseg.video import VideoError, read_rgb
from humanseg.vision.letterbox import letterbox

OK, FAILED, INTERRUPTED = 0, 1, 130
MODEL = ROOT / "engines" / "models" / "medium.onnx"
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"
#: Frames of the clip that every engine segments, this far apart.
FRAMES, APART = 8, 24

EXAMPLES = """examples:
  python -m benchmarks.engines                                   all engines on medium, about a minute
  python -m benchmarks.engines --engine onnxruntime-cpu openvino-f32 --batch 1 8 --seconds 3
  python -m benchmarks.engines --model medium.onnx medium_int8.onnx      two files on the same frames

Each engine, the default one among them in any case, runs in a process of its own, opened for one caller. Columns: cold
start, from the start of the process to the first mask of every canvas, imports included, and its CPU time; parity, mean
absolute difference of alpha from onnxruntime-cpu on the first model, mean over frames and the worst one; peak RSS; then
CPU ms of the whole process a frame. Wall times count only on a machine that does nothing else. report.json in --out has
all of it.
"""


class ProbeError(Exception):
    """An engine could not be measured; the message is what it said."""


@dataclass(slots=True)
class Result:
    """What came out of one engine on one model."""

    engine: str
    model: Path
    unavailable: str | None = None
    """Why it cannot run here; the rest is empty then."""
    figures: Figures | None = None
    parity_mean: float | None = None
    parity_worst_frame: float | None = None

    def to_plain(self) -> dict[str, object]:
        """For JSON."""
        about: dict[str, object] = {"engine": self.engine, "model": self.model.name}
        if self.figures is None:
            return {**about, "unavailable": self.unavailable}
        parity = {"parity_mean": self.parity_mean, "parity_worst_frame": self.parity_worst_frame}
        return {**about, **asdict(self.figures), **parity}


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; usage errors end the program with status 2, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines",
        description="Compare engines: cold start, CPU and wall time by batch size, parity, memory.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, nargs="+", default=[MODEL], metavar="FILE", help="default medium")
    parser.add_argument(
        "--engine", nargs="+", choices=sorted(ENGINES), default=sorted(ENGINES), metavar="NAME",
        help=f"of {', '.join(sorted(ENGINES))}; default all",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="default 1 2 4 8")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="for each figure, default 1")
    parser.add_argument("--clip", type=Path, default=CLIP, metavar="FILE", help="frames of it; default the demo's")
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench-engines"), metavar="DIR", help="default out/bench-engines"
    )
    options = parser.parse_args(arguments)
    if min(options.batch) < 1 or options.seconds < 0:
        parser.error(f"--batch {options.batch} must be 1 or more each, --seconds {options.seconds} not below 0")
    return options


def frames_of(clip: Path, model: Path) -> dict[str, NDArray[np.uint8]]:
    """Network inputs from a clip, (N, H, W, 3) uint8 for each canvas of a model.

    Raises:
        EngineError: the model cannot be used.
        VideoError: the clip cannot be read.
    """
    runner = open_runner(DEFAULT_ENGINE, model, max_batch=1, concurrency=1)
    pictures = list(islice(read_rgb(clip), 0, FRAMES * APART, APART))
    if not pictures:
        raise VideoError(f"{clip} holds no frame")
    return {
        str(canvas): np.stack([letterbox(picture, canvas)[0] for picture in pictures])
        for canvas in runner.info.model.canvases
    }


def probe(
    result: Result, frames: Path, options: argparse.Namespace, progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """Measure one engine on one model in a child process; fills ``result``, returns the masks by canvas.

    Raises:
        ProbeError: the engine failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "benchmarks.engine_probe", result.engine, str(result.model.resolve()), str(frames),
            folder, "--seconds", str(options.seconds), "--batch", *map(str, options.batch),
        ]  # fmt: skip
        task = progress.add_task(f"{result.engine}, {result.model.name}", total=1 + 2 * len(options.batch))
        # Into a file: a pipe that nobody reads meanwhile would stop a child that has much to say.
        with (
            (Path(folder) / "said.txt").open("w+") as said_file,
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said_file, text=True) as child,
        ):
            try:
                assert child.stdout is not None
                for _ in child.stdout:
                    progress.advance(task)
                status = child.wait()
            finally:
                child.kill()
            said_file.seek(0)
            said = said_file.read().strip()
        if status == engine_probe.UNAVAILABLE:
            result.unavailable = said
            return {}
        if status != engine_probe.OK:
            raise ProbeError(f"{result.engine} with {result.model} ended with status {status}: {said}")
        result.figures = Figures.read(Path(folder))
        with np.load(Path(folder) / engine_probe.MASKS) as masks:
            return dict(masks)


def compare(result: Result, masks: dict[str, NDArray[np.float32]], reference: dict[str, NDArray[np.float32]]) -> None:
    """Fill in the parity, where both have the same canvases."""
    if masks.keys() != reference.keys():
        return
    apart = np.concatenate([np.abs(masks[name] - reference[name]).mean(axis=(1, 2)) for name in reference])
    result.parity_mean, result.parity_worst_frame = float(apart.mean()), float(apart.max())


def print_report(results: Sequence[Result], batches: Sequence[int], console: Console) -> None:
    """Two tables."""
    whole, by_batch = (Table(box=None, header_style="bold") for _ in range(2))
    for table, more in ((whole, ()), (by_batch, ("canvas",))):
        for title in ("engine", "model", *more):
            table.add_column(title, no_wrap=True)
    for title in ("cold s", "CPU s", "parity", "worst", "RSS MiB"):
        whole.add_column(title, justify="right")
    for batch in batches:
        by_batch.add_column(f"batch of {batch}", justify="right")
    for result in results:
        figures = result.figures
        if figures is None:
            whole.add_row(result.engine, result.model.name, "-", "-", "-", "-", "-")
            continue
        whole.add_row(
            result.engine, result.model.name, f"{figures.cold_start_s:.2f}", f"{figures.cold_start_cpu_s:.2f}",
            *("-" if value is None else f"{value:.5f}" for value in (result.parity_mean, result.parity_worst_frame)),
            "-" if figures.peak_rss_mib is None else f"{figures.peak_rss_mib:.0f}",
        )  # fmt: skip
        for canvas in dict.fromkeys(cell.canvas for cell in figures.cells):
            cells = [cell for cell in figures.cells if cell.canvas == canvas]
            row = (f"{cell.cpu_ms_per_frame:.1f} ({cell.wall_ms:.1f})" for cell in cells)
            by_batch.add_row(result.engine, result.model.name, canvas, *row)
    console.print(whole)
    console.print("\nCPU ms a frame (wall ms of the whole batch), medians", highlight=False)
    console.print(by_batch)
    for result in results:
        if result.unavailable is not None:
            console.print(result.unavailable, highlight=False, markup=False)  # names extras in brackets


def run(options: argparse.Namespace, command: list[str], console: Console) -> None:
    """Do it all.

    Raises:
        EngineError, ProbeError, VideoError, OSError: a model, an engine or the clip cannot be used.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    machine = describe()
    results: list[Result] = []
    reference: dict[str, NDArray[np.float32]] = {}
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    # The default engine first: the others are held against its masks.
    engines = sorted({*options.engine, DEFAULT_ENGINE}, key=lambda name: name != DEFAULT_ENGINE)
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=console, transient=True) as progress:
        for model in options.model:
            frames = Path(folder) / "frames.npz"
            np.savez(frames, **frames_of(options.clip, model))  # type: ignore[arg-type]
            for engine in engines:
                result = Result(engine, model)
                masks = probe(result, frames, options, progress)
                reference = reference or masks
                compare(result, masks, reference)
                results.append(result)
    report = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": machine,
        "results": [result.to_plain() for result in results],
    }
    write_json(report, options.out / "report.json")
    print_report(results, options.batch, console)
    console.print(f"report.json: {options.out}", highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(given)
    try:
        run(options, ["python", "-m", "benchmarks.engines", *given], Console())
    except (EngineError, ProbeError, VideoError, OSError) as error:
        print(f"benchmarks.engines: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("benchmarks.engines: interrupted, nothing is reported", file=sys.stderr)
        return INTERRUPTED
    return OK


if __name__ == "__main__":
    sys.exit(main())
