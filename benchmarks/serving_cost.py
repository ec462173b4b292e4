"""``python -m benchmarks.serving_cost``: what the serving around the engine costs, beside the least that it can cost.

Two questions, each answered in one run on one machine, in passes that take turns:

- **cost**: CPU time of the server process for each mask beyond engine and fusion, one frame under way, beside that of a
  server that is nothing but grpc.aio and protobuf and passes messages of the same sizes (`benchmarks.echo_server`);
- **saturation**: masks a second with fusion off and always a frame that waits, over the frames a second that the engine
  gives with nothing around it on as many threads (`benchmarks.bare`).

The client takes part of the same machine (`benchmarks.closed_loop`), as little as it can.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.bare import BareError, measure_bare
from benchmarks.closed_loop import ClosedLoop, Count, Drive, LoopError, opened
from benchmarks.cost_figures import CostPass, judge
from benchmarks.echo_server import EchoServer
from benchmarks.footage import load
from benchmarks.machine import describe, usable_cores
from benchmarks.scrape import MODEL_STAGES, ScrapeError, Snapshot
from benchmarks.target import LocalServer, TargetError
from humanseg.frames import PixelFormat
from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size

HELD, NOT_HELD, FAILED = 0, 3, 1
SIZE = Size(640, 360)
#: Pictures that are sent in turns.
PICTURES = 30
#: Frames of each session at saturation: one that is worked on, one that waits, one on its way.
UNDER_WAY = 3


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving_cost", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--passes", type=_at_least_one, default=5, metavar="N", help="of each contestant (default 5)")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="S", help="of each pass (default 8)")
    parser.add_argument("--warmup-s", type=float, default=1.0, metavar="S", help="before each pass (default 1)")
    parser.add_argument(
        "--fusion", choices=[level.name.lower() for level in TemporalFusion], default="high", help="for the cost"
    )
    parser.add_argument("--models", type=Path, metavar="DIR", help="*.onnx of the server started here")
    parser.add_argument("--sessions", type=_at_least_one, metavar="N", help="at saturation (default 2 a runner)")
    parser.add_argument("--server-cpus", metavar="LIST", help="CPUs of the servers and the engine, as 0,2-3")
    parser.add_argument("--out", type=Path, default=Path("out/serving-cost"), metavar="DIR")
    return parser


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.warmup_s <= 0:
        parser.error(f"--seconds {options.seconds:g}, --warmup-s {options.warmup_s:g}: both must be above 0")
    return options


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: must be at least 1")
    return number


async def drive_once(server: LocalServer, drive: Drive, seconds: float, warmup_s: float) -> tuple[Count, CostPass]:
    """One pass; the CPU time is that of the server's process.

    Raises:
        LoopError, ScrapeError, TargetError: the server does not answer as it should, or is gone.
    """
    async with opened(server.address, drive) as loop:
        await loop.run(warmup_s)
        return await _measured(server, loop, seconds)


async def _measured(server: LocalServer, loop: ClosedLoop, seconds: float) -> tuple[Count, CostPass]:
    before = _models_cpu_s(server)  # before the CPU time is read: a scrape costs the server some milliseconds
    used_before = server.usage()
    count = await loop.run(seconds)
    used_after = server.usage()
    if used_before is None or used_after is None:
        server.check_alive()  # raises, with its log's last lines
        raise TargetError("the server's process is gone")
    models_cpu_s = _models_cpu_s(server) - before
    return count, CostPass(count.masks, used_after.cpu_s - used_before.cpu_s, models_cpu_s)


def _models_cpu_s(server: LocalServer) -> float:
    """CPU time of engine and fusion so far; none where there are neither."""
    page: Snapshot | None = None if isinstance(server, EchoServer) else server.metrics()
    if page is None:
        return 0.0
    return sum(page.value("humanseg_stage_cpu_seconds_total", stage=stage) for stage in MODEL_STAGES)


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All passes; the figures and the verdict.

    Raises:
        BareError, LoopError, ScrapeError, TargetError: it could not be measured.
    """
    machine = describe()
    pictures = tuple(load(None, SIZE, PixelFormat.I420)[:PICTURES])
    flags = ["--max-messages-per-s", "0"]  # as fast as it goes
    flags += ["--models", str(options.models.resolve())] if options.models else []
    costs: dict[str, list[CostPass]] = {"service": [], "echo": [], "echo_malloc": []}
    served_fps, bare_fps = [], []
    with ExitStack() as stack:
        server = stack.enter_context(LocalServer(options.out / "server.log", flags, cpus=options.server_cpus))
        echoes = {
            name: stack.enter_context(
                EchoServer(options.out / f"{name}.log", SIZE.area_px, keeps_memory=keeps, cpus=options.server_cpus)
            )
            for name, keeps in (("echo", False), ("echo_malloc", True))
        }
        settings = server.settings()
        runners = int(settings["runners"]) or usable_cores()
        alone = Drive(SIZE, pictures, TemporalFusion[options.fusion.upper()], sessions=1, under_way=1)
        full = Drive(SIZE, pictures, TemporalFusion.OFF, options.sessions or 2 * runners, UNDER_WAY)
        contestants: dict[str, LocalServer] = {"service": server, **echoes}
        for number in range(options.passes):
            console.print(f"pass {number + 1} of {options.passes}", style="dim")
            for name, contestant in contestants.items():
                _, cost = asyncio.run(drive_once(contestant, alone, options.seconds, options.warmup_s))
                costs[name].append(cost)
            count, _ = asyncio.run(drive_once(server, full, options.seconds, options.warmup_s))
            served_fps.append(count.fps)
            bare = measure_bare(
                Path(settings["models"]), settings["default_model"], settings["engine"], runners, options.seconds,
                options.server_cpus,
            )  # fmt: skip
            bare_fps.append(bare.fps)
    plan = {
        "passes": options.passes, "seconds": options.seconds, "fusion": options.fusion, "size": str(SIZE),
        "saturation_sessions": full.sessions, "engine_threads": runners,
    }  # fmt: skip
    raw = {name: [asdict(each) for each in passes] for name, passes in costs.items()}
    return {
        "schema": "humanseg.benchmark.serving_cost/1",
        "machine": machine,
        "server": settings,
        "plan": plan,
        **judge(costs, served_fps, bare_fps),
        "passes": {**raw, "served_fps": served_fps, "bare_fps": bare_fps},
    }


def show(report: dict[str, Any], console: Console) -> None:
    """The figures as tables."""
    table = Table(title="server CPU for each 640x360 I420 -> ALPHA8 mask, ms")
    for heading in ("", "min", "median", "max", "masks a pass"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, figures in report["cost"].items():
        values = (f"{figures[key]:.3f}" for key in ("min_ms", "median_ms", "max_ms"))
        table.add_row(name, *values, str(figures["least_masks"]))
    console.print(table)
    console.print(
        f"service, beyond engine and fusion, over echo: {report['cost_ratio']['median']:.2f} (medians),"
        f" {report['cost_ratio']['min']:.2f} (minima)"
    )
    saturation = report["saturation"]
    console.print(
        f"at saturation {saturation['served_fps']:.1f} of {saturation['bare_fps']:.1f} frames/s:"
        f" {saturation['efficiency']:.1%} (passes {saturation['least']:.1%} to {saturation['most']:.1%})"
    )
    console.print("held" if report["held"] else "NOT held: " + "; ".join(report["complaints"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 0 held, 3 not held (the figures say why), 1 could not be measured."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    try:
        report = measure(options, console)
    except (BareError, LoopError, ScrapeError, TargetError, OSError) as error:
        print(f"benchmarks/serving_cost.py: {error}", file=sys.stderr)
        return FAILED
    (options.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    show(report, console)
    console.print(f"report: {options.out / 'report.json'}")
    return HELD if report["held"] else NOT_HELD


if __name__ == "__main__":
    sys.exit(main())
