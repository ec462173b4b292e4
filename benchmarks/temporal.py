"""``python -m benchmarks.temporal``: what fusion over time takes away and what it costs, ours and other people's.

One model segments synthetic clips, whose alpha and motion are known exactly, and real ones; every alternative then
works on the same raw masks.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.machine import describe
from benchmarks.report import write_json
from benchmarks.temporal_estimates import EstimateFigures, judge_estimates
from benchmarks.temporal_figures import (
    Cost,
    Figures,
    along_exact_motion,
    at_picture_size,
    costs,
    judge,
    lag_frames,
    smooth,
    step_response,
)
from benchmarks.temporal_footage import Footage, find_real, from_clip, from_real
from benchmarks.temporal_pictures import plot_all, write_comparison
from benchmarks.temporal_report import Limit, build, hold_against_bars, limits, print_report, summarize
from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import EngineError, Runner
from humanseg.video import VideoError
from humanseg.vision.temporal_alternatives import Alternative
from train.clips import ClipKind, ClipPlan, make_clip, usable_people
from train.data import DataError, find_photos, split_photos

OK, FAILED, INTERRUPTED = 0, 1, 130
#: Columns of the videos.
SHOWN = (Alternative.OFF, Alternative.HIGH, Alternative.REFERENCE)

EXAMPLES = """examples:
  python -m benchmarks.temporal --model engines/models/medium.onnx --data ../shared/data/train --out out/temporal
  python -m benchmarks.temporal --model M.onnx --data DATA --videos ../shared/data/videos --seeds 3 4 5
  python -m benchmarks.temporal --model M.onnx --data DATA --kind talk --fps 30 --seeds 3     a quick look

report.json holds every figure, *.png the plots, *.mp4 the first clip of each kind with the change amplified. Photos
left aside for validation make the clips, so that the model has not learned from them. Run it on a machine that does
nothing else if you want to quote its times.
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; usage errors end the program with status 2, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.temporal",
        description="Compare ways to smooth masks over time: accuracy, flicker, lag, ghosts, cost.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = [str(kind) for kind in ClipKind]
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="the ONNX model that makes the masks")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <source>/images and masks")
    parser.add_argument(
        "--videos", type=Path, metavar="DIR", help="real sequences too: NAME/frames with NAME/masks, and NAME.mp4"
    )
    parser.add_argument("--kind", nargs="+", choices=kinds, default=kinds, help="of synthetic clips, default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[3, 4, 5], metavar="N", help="default 3 4 5")
    parser.add_argument("--fps", nargs="+", type=float, default=[30.0, 10.0], metavar="N", help="default 30 10")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each clip, default 2")
    parser.add_argument("--out", type=Path, default=Path("out/temporal"), metavar="DIR", help="default out/temporal")
    options = parser.parse_args(arguments)
    try:
        options.plans = [
            (kind, fps, [ClipPlan(ClipKind(kind), seed, fps=fps, duration_s=options.seconds) for seed in options.seeds])
            for fps in options.fps
            for kind in options.kind
        ]
    except ValueError as error:
        parser.error(str(error))
    return options


def footage_of(options: argparse.Namespace, runner: Runner) -> Iterator[Footage]:
    """Every sequence to measure on, one at a time.

    Raises:
        DataError, VideoError, EngineError: one cannot be made or read.
    """
    split = split_photos(find_photos(options.data))
    people = usable_people(split.validation)
    for kind, fps, plans in options.plans:
        for plan in plans:
            frames = list(make_clip(plan, people, split.validation_backgrounds))
            yield from_clip(f"{kind} {fps:g} fps", f"{kind}_{plan.seed}_{fps:g}", frames, runner)
    if options.videos:
        for path in find_real(options.videos):
            yield from_real(path, runner)


def run(options: argparse.Namespace, command: list[str], console: Console) -> int:
    """Do it all; the exit status.

    Raises:
        DataError, VideoError, EngineError, OSError: something cannot be read, run or written.
    """
    runner = open_runner(DEFAULT_ENGINE, options.model, max_batch=1, concurrency=1)
    model = runner.info.model
    if model.channels != 3:
        raise EngineError(f"{options.model} wants {model.channels} channels; compared are models of pictures alone (3)")
    total = sum(len(plans) for _, _, plans in options.plans) + (len(find_real(options.videos)) if options.videos else 0)
    options.out.mkdir(parents=True, exist_ok=True)
    machine = describe()
    figures: list[Figures] = []
    exact: list[Figures] = []
    estimates: list[EstimateFigures] = []
    first: Footage | None = None
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("first sequence", total=total)
        seen: set[str] = set()
        for footage in footage_of(options, runner):
            progress.update(task, description=footage.name)
            first = first or footage
            masks = {name: at_picture_size(smooth(name, footage), footage) for name in Alternative}
            figures += [judge(footage, name, masks[name], masks[Alternative.OFF]) for name in Alternative]
            off = masks[Alternative.OFF]
            if footage.is_exact:
                exact.append(judge(footage, Alternative.OFF, along_exact_motion(off, footage), off))
            estimated = judge_estimates(footage, off, masks[Alternative.HIGH])
            if estimated is not None:
                estimates.append(estimated)
            if footage.group not in seen:
                seen.add(footage.group)
                shown = {name: masks[name] for name in SHOWN}
                write_comparison(options.out / f"{footage.name}.mp4", footage, shown, _fps(footage))
            progress.advance(task)
        if first is None:
            raise DataError("nothing to measure on: name at least one kind and seed")
        progress.update(task, description="costs")
        cost = costs(first)
    _report(options, figures, limits(figures, exact), estimates, cost, first, {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": machine,
        "model": {"name": model.name, "version": model.version, "file": options.model.name},
    }, console)  # fmt: skip
    return OK


def _report(
    options: argparse.Namespace,
    figures: list[Figures],
    reachable: list[Limit],
    estimates: list[EstimateFigures],
    cost: list[Cost],
    still: Footage,
    about: dict[str, object],
    console: Console,
) -> None:
    person, grays = still.raws[0], still.grays[:1]
    lags = {name: lag_frames(name, grays, person) for name in Alternative}
    steps = {name: step_response(name, grays, person, appears=True) for name in Alternative}
    rows = summarize(figures, lags, cost)
    bars = hold_against_bars(rows, cost)
    write_json(build(rows, figures, reachable, estimates, cost, bars, steps, about), options.out / "report.json")
    plots = plot_all(rows, steps, options.out)
    print_report(rows, reachable, estimates, cost, bars, console)
    console.print(f"report.json, {', '.join(path.name for path in plots)} and videos: {options.out}", highlight=False)


def _fps(footage: Footage) -> Fraction:
    seconds = (footage.times_us[-1] - footage.times_us[0]) / 1e6
    return Fraction((len(footage.times_us) - 1) / seconds).limit_denominator(1001)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(given)
    try:
        return run(options, ["python", "-m", "benchmarks.temporal", *given], Console())
    except (DataError, VideoError, EngineError, OSError) as error:
        print(f"benchmarks.temporal: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("benchmarks.temporal: interrupted, nothing is reported", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
