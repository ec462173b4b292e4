"""Two runs side by side, with confidence intervals of the differences."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.recording import PERCENTILES
from benchmarks.report import SCHEMA

#: What must be equal for a difference to be the server's.
SAME = ("machine", "load", "served")
#: Of these, what says nothing about the server.
IGNORED = {"load_average_1min", "load_average_5min", "exit_status", "git_commit"}


class CompareError(Exception):
    """A file that is no report of this kind; one line for people."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and where it may lie with 95 % confidence; None where that is not known."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both runs; `difference` is B minus A."""

    name: str
    a: Estimate
    b: Estimate
    difference: Estimate

    @property
    def is_shown(self) -> bool:
        """Whether the interval of the difference excludes zero."""
        interval = self.difference.interval
        return interval is not None and (interval[0] > 0 or interval[1] < 0)


def subtract(a: Estimate, b: Estimate) -> Estimate:
    """B minus A with its interval from both intervals (MOVER: Zou and Donner, Statistics in Medicine 27, 2008)."""
    value = b.value - a.value
    if a.interval is None or b.interval is None:
        return Estimate(value)
    below = math.hypot(b.value - b.interval[0], a.interval[1] - a.value)
    above = math.hypot(b.interval[1] - b.value, a.value - a.interval[0])
    return Estimate(value, (value - below, value + above))


def load_report(path: Path) -> dict[str, Any]:
    """Read a ``report.json`` of a run.

    Raises:
        CompareError: it cannot be read, or is none.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CompareError(f"{path} cannot be read: {error}") from None
    schema = report.get("schema") if isinstance(report, dict) else None
    if schema != SCHEMA:
        raise CompareError(f"{path} has schema {schema!r}, expected {SCHEMA!r}: a report.json of benchmarks/run.py")
    return dict(report)


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Comparison]:
    """Every figure that both runs have."""
    theirs = dict(_estimates(b))
    return [
        Comparison(name, mine, theirs[name], subtract(mine, theirs[name]))
        for name, mine in _estimates(a)
        if name in theirs
    ]


def _estimates(report: Mapping[str, Any]) -> Iterator[tuple[str, Estimate]]:
    summary = report["latency_from_intended_send"]
    for name in PERCENTILES:
        if summary["n"] and name not in summary["thin"]:
            interval = summary["ci95_ms"].get(name)
            yield f"latency {name}, ms", Estimate(summary[f"{name}_ms"], tuple(interval) if interval else None)
    for name, ratio in report["on_time_ratio"].items():
        if ratio is not None:
            interval = report["on_time_ratio_ci95"][name]
            percent = (100 * interval[0], 100 * interval[1]) if interval else None
            yield f"on time {name.replace('_', ' ')}, %", Estimate(100 * ratio, percent)
    frames, server = report["frames"], report["server"]
    if frames["sent"]:
        yield "dropped, %", Estimate(100 * sum(frames["dropped"].values()) / frames["sent"])
    yield "masks a second", Estimate(frames["masks_per_s"])
    for key, name in (
        ("cpu_ms_per_mask", "server CPU a mask, ms"),
        ("cpu_ms_per_mask_beyond_engine_and_fusion", "of it beyond engine and fusion, ms"),
    ):
        if server[key] is not None:
            yield name, Estimate(server[key])
    if server["rss_end_bytes"] is not None:
        yield "RSS at the end, MiB", Estimate(server["rss_end_bytes"] / 2**20)
    if report["service_efficiency"]["ratio"] is not None:
        yield "service efficiency, %", Estimate(100 * report["service_efficiency"]["ratio"])
    yield "first mask of all, ms", Estimate(report["first_mask_ms"]["very_first"])


def unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What differs between the runs beside their figures, as ``load.size: this | that``."""
    found = []
    for part in SAME:
        for key in sorted({*a[part], *b[part]} - IGNORED):
            mine, theirs = a[part].get(key), b[part].get(key)
            if mine != theirs:
                found.append(f"{part}.{key}: {_inner(mine, theirs)}")
    return found


def _inner(mine: object, theirs: object) -> str:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        keys = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
        return ", ".join(f"{key} {mine.get(key)} | {theirs.get(key)}" for key in keys)
    return f"{mine} | {theirs}"


def print_comparison(paths: Sequence[Path], console: Console) -> None:
    """Show two reports side by side.

    Raises:
        CompareError: a file is no report.
    """
    a, b = (load_report(path) for path in paths)
    table = Table(title=f"A {paths[0]}\nB {paths[1]}", title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for name in ("", "A", "B", "B - A", ""):
        table.add_column(name, justify="right" if name else "left")
    for row in compare(a, b):
        change = f"{100 * row.difference.value / row.a.value:+.1f} %" if row.a.value else ""
        if row.difference.interval is None:
            word = f"{change} no interval"
        else:
            word = change if row.is_shown else f"{change} not shown"
        table.add_row(row.name, _text(row.a), _text(row.b), _text(row.difference, "+"), word.strip())
    console.print(table)
    console.print(
        "[a, b]: 95 % confidence within one run each; not shown: the interval of the difference includes 0."
        " Repeat both runs before a small difference is believed.",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    for label, report in (("A", a), ("B", b)):
        for complaint in report["complaints"]:
            console.print(f"{label} INVALID  {complaint}", highlight=False, markup=False, soft_wrap=True)
    for text in unlike(a, b):
        console.print(f"unlike   {text}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"commits  {a['machine']['git_commit']} | {b['machine']['git_commit']}", highlight=False)


def _text(estimate: Estimate, sign: str = "") -> str:
    form = f"{sign}.2f"
    value = format(estimate.value, form)
    if estimate.interval is None:
        return value
    low, high = estimate.interval
    # No rich markup in it: brackets are escaped.
    return f"{value} \\[{format(low, form)}, {format(high, form)}]"
