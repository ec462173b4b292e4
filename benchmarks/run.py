"""``python benchmarks/run.py``: drive a server like a conference does, and report latency that may be quoted.

Open loop: every session sends at times fixed beforehand, and a frame's latency counts from its intended send time, so
that a stalled server shows (no coordinated omission). Works from any directory, without an install of the project.
"""

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

if not __package__:
    # Run as a file: Python put this folder first on the path, where its modules would stand in for others of the same
    # name, and the package that they belong to cannot be found.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rich.console import Console

from benchmarks import ladder, page, report, series
from benchmarks.command_line import STEP_WARMUP_S, parse_arguments
from benchmarks.compare import CompareError, print_comparison
from benchmarks.conductor import START_DELAY_S, LoadError
from benchmarks.machine import ROOT, describe
from benchmarks.measuring import Bench, open_server
from benchmarks.peers import contest
from benchmarks.plan import LoadPlan
from benchmarks.scrape import ScrapeError
from benchmarks.target import TargetError

#: Exit statuses: the figures stand, they must not be quoted, they could not be taken, interrupted.
OK, INVALID, FAILED, INTERRUPTED = 0, 3, 1, 130
#: Width of what is printed where it does not go to a terminal.
PIPE_COLUMNS = 160


def make_plan(options: argparse.Namespace) -> LoadPlan:
    """The plan that the command line describes, without the server's address."""
    return LoadPlan(
        address="",
        sessions=options.sessions,
        fps=options.fps,
        warmup_s=options.warmup_s,
        measured_s=options.seconds,
        arrivals=options.arrivals,
        seed=options.seed,
        model=options.model,
        width=options.size.width,
        height=options.size.height,
        pixel_format=options.format,
        temporal=options.temporal,
        policy=options.policy,
        clip=str(options.clip.resolve()) if options.clip else None,
    )


def open_bench(options: argparse.Namespace, console: Console) -> Bench:
    """The server that the command line asks for, not started yet.

    Raises:
        TargetError: it cannot be had.
    """
    server = open_server(
        target=options.target,
        metrics_url=options.metrics_url,
        log_path=options.out / "server.log",
        models=options.models,
        flags=options.server_flag,
        cpus=options.server_cpus,
        transport=options.transport,
        niceness=options.server_nice,
    )
    return Bench(server, options.clients, console)


def measure(options: argparse.Namespace, command: list[str], console: Console) -> int:
    """Carry a run out and report it; the exit status.

    Raises:
        TargetError, LoadError, ScrapeError: it could not be carried out.
    """
    machine = describe()
    plan = make_plan(options)
    steps = []
    with open_bench(options, console) as bench:
        main_run = bench.run(plan)
        served = main_run["served"]
        bare = bench.bare_engine(served["model"], served["engine"], options.server_cpus)
        reference_fps = bare.get("fps") or plan.sessions * plan.fps
        plans = ladder.steps(plan, reference_fps, options.ladder, STEP_WARMUP_S, options.step_s)
        for number, step in enumerate(plans, 1):
            steps.append(bench.step(step, f"load {number} of {len(plans)}: "))
    figures = report.build(
        main=main_run, ladder=steps, bare_engine=bare, machine=machine, command=command, server=bench.facts()
    )
    report.write_json(figures, options.out / "report.json")
    (options.out / "report.html").write_text(page.render(figures), encoding="utf-8")
    report.print_report(figures, console)
    console.print(f"report   {options.out / 'report.html'}, {options.out / 'report.json'}", highlight=False)
    return OK if figures["valid"] else INVALID


def find_capacity(options: argparse.Namespace, console: Console) -> series.Series:
    """The search that `--find-capacity` asks for.

    Raises:
        TargetError, ScrapeError: the server cannot be had, or is gone.
    """
    with open_bench(options, console) as bench:
        return series.search_capacity(bench, make_plan(options), options.step_s)


def sweep(options: argparse.Namespace, console: Console) -> series.Series:
    """Every combination that `--sweep` names, each server started once.

    Raises:
        TargetError, ScrapeError: a server cannot be had, or is gone.
    """
    runs: list[tuple[str, Mapping[str, Any]]] = []
    servers = [
        list(group) for _, group in groupby(options.cells, key=lambda cell: (cell[1].transport, *cell[1].server_flag))
    ]
    took_s = sum(cell.warmup_s + cell.seconds + START_DELAY_S for _, cell in options.cells)
    console.print(
        f"sweep    {len(options.cells)} runs, {took_s / 60:.1f} min of load, and {len(servers)} starts of a server",
        highlight=False,
    )
    for members in servers:
        with open_bench(members[0][1], console) as bench:
            for name, cell in members:
                step = bench.step(make_plan(cell), f"{len(runs) + 1} of {len(options.cells)}, {name}: ")
                runs.append((name, step))
    return series.Series("sweep", runs, f"{len(runs)} runs: {' x '.join(options.sweep)}", {"sweep": options.sweep})


def report_series(
    found: series.Series, machine: dict[str, object], out: Path, command: list[str], console: Console
) -> int:
    """Leave and show a series; the exit status is that of its worst run, but a search's tries may be short."""
    figures = series.report_of(found, machine, command)
    report.write_json(figures, out / "report.json")
    (out / "report.html").write_text(series.render(figures), encoding="utf-8")
    series.print_series(figures, console)
    console.print(f"report   {out / 'report.html'}, {out / 'report.json'}", highlight=False)
    if found.kind == "capacity":
        return INVALID if found.values["generator_lagged"] else OK
    return OK if all(run.get("valid", False) for _, run in found.runs) else INVALID


def peers(options: argparse.Namespace, command: list[str], console: Console) -> int:
    """The comparison that `--peers` asks for; the exit status.

    Raises:
        ContestError: it could not be made.
    """
    machine = describe()
    conditions = contest.Conditions(
        models=(options.models or ROOT / "engines" / "models").resolve(),
        model=options.model or "medium",
        tflite=tuple(file.resolve() for file in options.tflite),
        data=options.peers.resolve(),
        photos=options.photos,
        takes_all_photos=options.all_photos,
        frames=options.frames,
        size=options.size,
        clip=options.clip.resolve() if options.clip else None,
        triton=options.triton,
    )
    with console.status("peers") as status:
        measured = contest.hold(conditions, lambda name: status.update(name))
    figures = contest.report_of(measured, conditions, machine, command)
    report.write_json(figures, options.out / "report.json")
    (options.out / "report.html").write_text(contest.render(figures), encoding="utf-8")
    contest.print_contest(figures, console)
    console.print(f"report   {options.out / 'report.html'}, {options.out / 'report.json'}", highlight=False)
    return OK


def do(options: argparse.Namespace, command: list[str], console: Console) -> int:
    """What the command line asks for; the exit status.

    Raises:
        TargetError, LoadError, ScrapeError, CompareError, ContestError: it could not be done.
    """
    if options.compare:
        print_comparison(options.compare, console)
        return OK
    options.out.mkdir(parents=True, exist_ok=True)
    if options.peers:
        return peers(options, command, console)
    if options.find_capacity or options.sweep:
        machine = describe()
        found = find_capacity(options, console) if options.find_capacity else sweep(options, console)
        failures = [run["failed"] for _, run in found.runs if "failed" in run]
        if len(failures) == len(found.runs):
            raise LoadError(f"{failures[0]}; none of {len(failures)} runs could be taken")
        return report_series(found, machine, options.out, command, console)
    return measure(options, command, console)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(given)
    # These end a run as Ctrl-C does, with its processes stopped; SIGHUP is a terminal that was closed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return do(options, ["python", "benchmarks/run.py", *given], _console())
    except (TargetError, LoadError, ScrapeError, CompareError, contest.ContestError, OSError) as error:
        print(f"benchmarks/run.py: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("benchmarks/run.py: interrupted; server and clients are stopped", file=sys.stderr)
        return INTERRUPTED


def _console() -> Console:
    # A pipe says nothing about its width; rich would take 80 columns and cut names off.
    return Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
