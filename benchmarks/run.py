"""``python benchmarks/run.py``: drive a server like a conference does, and report latency that may be quoted.

Open loop: every session sends at times fixed beforehand, and a frame's latency counts from its intended send time, so
that a stalled server shows (no coordinated omission). Works from any directory, without an install of the project.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn

if not __package__:
    # Run as a file: Python put this folder first on the path, where its modules would stand in for others of the same
    # name, and the package that they belong to cannot be found.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import report
from benchmarks.arrivals import Arrivals
from benchmarks.conductor import Finished, LoadError, conduct
from benchmarks.machine import describe, usable_cores
from benchmarks.plan import LoadPlan
from benchmarks.recording import judge
from benchmarks.scrape import ScrapeError
from benchmarks.target import LocalServer, Target, TargetError, attach
from humanseg.vision.arrays import Size

#: Exit statuses: the figures stand, they must not be quoted, they could not be taken, interrupted.
OK, INVALID, FAILED, INTERRUPTED = 0, 3, 1, 130

EXAMPLES = """examples:
  python benchmarks/run.py                                   2 sessions at 30 fps, half a minute, own server
  python benchmarks/run.py --quick                           the same in about ten seconds; p99 of few samples
  python benchmarks/run.py --sessions 4 --fps 15 --temporal off --clip talk.mp4
  python benchmarks/run.py --size 1280x720 --format jpeg --out out/bench-720p
  python benchmarks/run.py --target 127.0.0.1:50051 --metrics-url http://127.0.0.1:9464/metrics

The server started here reads HUMANSEG_* variables like any other (relative paths in them: from the checkout).

exit status: 0 valid, 3 measured but INVALID (the report says why), 1 could not measure, 2 usage, 130 interrupted
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; usage errors end the program with status 2, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/run.py",
        description="Measure latency, drops and CPU cost of the service under paced load.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    load = parser.add_argument_group("load")
    load.add_argument("--sessions", type=_positive_int, default=2, metavar="N", help="streams at once (default 2)")
    load.add_argument("--fps", type=_positive, default=30.0, help="frames a second of each session (default 30)")
    load.add_argument("--seconds", type=_positive, metavar="S", help="measured part (default 25; with --quick 5)")
    load.add_argument("--warmup-s", type=_positive, metavar="S", help="left out before it (default 3; with --quick 1)")
    load.add_argument("--arrivals", type=Arrivals, choices=list(Arrivals), default=Arrivals.PACED, help="default paced")
    load.add_argument("--seed", type=int, default=1, help="of the sessions' phases (default 1)")
    load.add_argument("--clip", type=Path, metavar="FILE", help="video to send (default: drawn pictures)")
    load.add_argument(
        "--size", type=_size, default=Size(640, 360), metavar="WxH", help="of the frames (default 640x360)"
    )
    load.add_argument(
        "--format", choices=("i420", "rgb24", "jpeg"), default="i420", help="of the frames (default i420)"
    )
    load.add_argument("--quick", action="store_true", help="a short run, to see that all works")
    server = parser.add_argument_group("server")
    server.add_argument("--model", default="", help="default: the server's own default")
    server.add_argument("--temporal", choices=("off", "low", "high"), default="high", help="fusion (default high)")
    server.add_argument("--target", metavar="HOST:PORT", help="measure this server instead of starting one")
    server.add_argument("--metrics-url", metavar="URL", help="its Prometheus page, for CPU figures")
    server.add_argument("--models", type=Path, metavar="DIR", help="*.onnx of the server started here")
    server.add_argument("--server-cpus", metavar="LIST", help="pin the server started here to these CPUs, as 0,2-3")
    parser.add_argument(
        "--clients", type=_positive_int, metavar="N", help="client processes (default: a quarter of the cores)"
    )
    parser.add_argument("--out", type=Path, default=Path("out/bench"), metavar="DIR", help="default out/bench")
    options = parser.parse_args(arguments)
    if options.metrics_url and not options.target:
        parser.error("--metrics-url belongs to --target; of its own server the address is known")
    for flag in ("--server-cpus", "--models"):
        if options.target and getattr(options, flag.removeprefix("--").replace("-", "_")):
            parser.error(f"{flag} is for the server started here, not for one given by --target")
    if options.clip and not options.clip.is_file():
        parser.error(f"--clip {options.clip}: no such file")
    return options


def make_plan(options: argparse.Namespace, address: str) -> LoadPlan:
    """The plan that the command line describes."""
    default_s, default_warmup_s = (5.0, 1.0) if options.quick else (25.0, 3.0)
    return LoadPlan(
        address=address,
        sessions=options.sessions,
        fps=options.fps,
        warmup_s=default_warmup_s if options.warmup_s is None else options.warmup_s,
        measured_s=default_s if options.seconds is None else options.seconds,
        arrivals=options.arrivals,
        seed=options.seed,
        model=options.model,
        width=options.size.width,
        height=options.size.height,
        pixel_format=options.format,
        temporal=options.temporal,
        clip=str(options.clip.resolve()) if options.clip else None,
    )


def open_target(options: argparse.Namespace, out: Path) -> AbstractContextManager[Target]:
    """The server to measure: a new one that is stopped at the end, or the one named.

    Raises:
        TargetError: it cannot be had.
    """
    if options.target:
        return nullcontext(attach(options.target, options.metrics_url))
    arguments = ["--models", str(options.models.resolve())] if options.models else []
    return LocalServer(out / "server.log", arguments, cpus=options.server_cpus)


def measure(options: argparse.Namespace, command: list[str], console: Console) -> int:
    """Carry a run out and report it; the exit status.

    Raises:
        TargetError, LoadError, ScrapeError: it could not be carried out.
    """
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    machine = describe()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting the server", total=None)
        with open_target(options, out) as target:
            plan = make_plan(options, target.address)
            progress.update(task, description="opening the sessions")

            def show(share: float) -> None:
                what = "warming up" if share * plan.duration_s < plan.warmup_s else "measuring"
                progress.update(task, description=what, total=1.0, completed=share)

            processes = options.clients or max(1, usable_cores() // 4)
            finished: Finished = asyncio.run(conduct(plan, processes, target, show))
    exit_status = target.exit_status if isinstance(target, LocalServer) else None
    verdict = judge(finished.outcome.recorder, finished.outcome.frames["unanswered"], exit_status)
    figures = report.build(
        plan=plan,
        finished=finished,
        verdict=verdict,
        machine=machine,
        command=command,
        server_exit_status=exit_status,
    )
    path = out / "report.json"
    report.write_json(figures, path)
    report.print_report(figures, console)
    console.print(f"report   {path}", highlight=False)
    return OK if verdict.valid else INVALID


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(given)
    # These end a run as Ctrl-C does, with its processes stopped; SIGHUP is a terminal that was closed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return measure(options, ["python", "benchmarks/run.py", *given], Console())
    except (TargetError, LoadError, ScrapeError, OSError) as error:
        print(f"benchmarks/run.py: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("benchmarks/run.py: interrupted; server and clients are stopped", file=sys.stderr)
        return INTERRUPTED


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def _size(text: str) -> Size:
    try:
        return Size.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
