"""Several runs as one report: a search for the capacity, or a sweep; JSON, terminal and page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape as rich_escape
from rich.table import Table

from benchmarks import page, page_charts, search
from benchmarks.measuring import Bench
from benchmarks.plan import LoadPlan

SCHEMA = "humanseg.benchmark.series/1"
#: More sessions than this are not tried; the server's own limit may be lower.
MOST_SESSIONS = 4096


@dataclass(frozen=True, slots=True)
class Series:
    """Runs that belong together, each with a name, and what follows from them."""

    kind: str
    """``capacity`` or ``sweep``."""
    runs: Sequence[tuple[str, Mapping[str, Any]]]
    conclusion: str
    values: Mapping[str, Any]
    """The conclusion as values."""


def search_capacity(bench: Bench, plan: LoadPlan, at_least_s: float) -> Series:
    """Find the largest number of sessions of the plan's frame rate that the server carries.

    Raises:
        ScrapeError, TargetError: the server is gone.
    """
    runs: list[tuple[str, Mapping[str, Any]]] = []

    def is_carried(sessions: int) -> bool:
        seconds = search.seconds_needed(sessions, plan.fps, at_least_s)
        run = bench.step(replace(plan, sessions=sessions, measured_s=seconds), f"{sessions} sessions: ")
        why_not = search.shortfalls(run)
        runs.append(("; ".join(why_not) or "carried", run))
        return not why_not

    found = search.find_capacity(is_carried, plan.sessions, MOST_SESSIONS)
    lagged = any("may be its own" in name for name, _ in runs)
    return Series(
        "capacity",
        runs,
        f"{found.sessions} sessions of {plan.fps:g} fps are carried: p99 <= {search.MAX_P99_MS} ms,"
        f" {100 * search.MIN_ON_TIME_RATIO:g} % on time, at most {100 * search.MAX_DROPPED_RATIO:g} % dropped,"
        f" {search.PASSES_WANTED} times out of {search.PASSES_WANTED}"
        + ("; the load generator lagged in loads that failed: the limit may be its own" if lagged else ""),
        {"sessions": found.sessions, "fps": plan.fps, "is_at_limit": found.is_at_limit, "generator_lagged": lagged},
    )


def report_of(series: Series, machine: Mapping[str, object], command: list[str]) -> dict[str, Any]:
    """The series as plain values."""
    return {
        "schema": SCHEMA,
        "kind": series.kind,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": dict(machine),
        "conclusion": series.conclusion,
        "values": dict(series.values),
        "runs": [{"name": name, **run} for name, run in series.runs],
    }


HEAD = ("", "offered fps", "sessions", "masks/s", "p50", "p95", "p99", "on time 33.3 ms", "dropped", "CPU ms/mask", "")


def lines_of(report: Mapping[str, Any]) -> list[list[str]]:
    """A line of text for each run, under `HEAD`."""
    lines = []
    for run in report["runs"]:
        load = run["load"]
        line = [run["name"], f"{load['offered_fps']:.1f}", str(load["sessions"])]
        if "failed" in run:
            lines.append([*line, *[""] * 7, f"not taken: {run['failed']}"])
            continue
        summary, on_time = run["latency_from_intended_send"], run["on_time_ratio"]["within_33.3_ms"]
        marks = {name: "~" if name in summary["thin"] else "" for name in ("p50", "p95", "p99")}
        cpu_ms = run["server"]["cpu_ms_per_mask"]
        line += [f"{run['frames']['masks_per_s']:.1f}"]
        line += [f"{mark}{summary[f'{name}_ms']:.1f}" for name, mark in marks.items()]
        line += ["" if on_time is None else f"{100 * on_time:.2f} %", str(sum(run["frames"]["dropped"].values()))]
        line += ["" if cpu_ms is None else f"{cpu_ms:.2f}", "" if run["valid"] else "INVALID"]
        lines.append(line)
    return lines


def print_series(report: Mapping[str, Any], console: Console) -> None:
    """Show a series in the terminal."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD)
    for number, name in enumerate(HEAD):
        table.add_column(name, justify="left" if number in (0, len(HEAD) - 1) else "right")
    for line in lines_of(report):
        table.add_row(*map(rich_escape, line))
    console.print(table)
    for complaint in dict.fromkeys(text for run in report["runs"] for text in run.get("complaints", [])):
        console.print(f"INVALID  {complaint}", highlight=False, markup=False, soft_wrap=True)
    console.print(report["conclusion"], highlight=False, markup=False, soft_wrap=True)


def render(report: Mapping[str, Any]) -> str:
    """A series as a page."""
    runs = [run for run in report["runs"] if "failed" not in run]
    ordered = sorted(runs, key=lambda run: float(run["frames"]["sent_per_s"]))
    parts = [
        f"<header><h1>humanseg benchmark: {report['kind']}</h1>",
        page.paragraph(report["conclusion"]),
        "</header>",
    ]
    if any(run["frames"]["masks"] for run in ordered):
        pictures = [
            page.figure(
                "Latency", "each run by the load offered", page_charts.over_load(ordered, None, has_lines=False)
            ),
            page.figure("Masks and drops", "each run", page_charts.answered_and_dropped(ordered)),
        ]
        parts.append(f'<section class="charts">{"".join(pictures)}</section>')
    parts += ["<section><h2>Runs</h2>", page.table(HEAD, lines_of(report)), "</section>", page.about(report)]
    return page.document(f"humanseg benchmark: {report['kind']}", parts)
