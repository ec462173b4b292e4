"""All contestants one after the other: JSON, table and page, with the Pareto plot of accuracy over cost."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape as rich_escape
from rich.table import Table

from benchmarks import page
from benchmarks.charts import Point, Series, line_chart, logarithmic, spanning
from benchmarks.machine import ROOT
from benchmarks.peers.contestants import contestants
from humanseg.vision.arrays import Size

SCHEMA = "humanseg.benchmark.peers/1"
#: Longest time of one contestant.
TIMEOUT_S = 3600.0


class ContestError(Exception):
    """The comparison cannot be made; one line for people."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The same for all contestants."""

    models: Path
    model: str
    tflite: tuple[Path, ...]
    data: Path
    photos: int
    takes_all_photos: bool
    """Whether photos that a model may have learned from count, too."""
    frames: int
    size: Size
    clip: Path | None
    triton: str | None = None
    """HOST:PORT of a Triton server on this machine."""

    def arguments(self) -> list[str]:
        """For `measure`."""
        given = [
            "--models", str(self.models), "--model", self.model, "--data", str(self.data), "--photos", str(self.photos),
            "--frames", str(self.frames), "--size", str(self.size),
        ]  # fmt: skip
        given += ["--tflite", *map(str, self.tflite)] if self.tflite else []
        given += ["--all"] if self.takes_all_photos else []
        given += ["--triton", self.triton] if self.triton else []
        return given + (["--clip", str(self.clip)] if self.clip else [])


def hold(conditions: Conditions, on_progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure all of them; ``{"name", "how", ...figures}`` or ``{"name", "how", "not_run": why}`` each.

    Raises:
        ContestError: photos or clip cannot be read, or a contestant ended without an answer.
    """
    found = []
    for one in contestants(conditions.models, conditions.model, conditions.tflite, conditions.triton):
        on_progress(one.name)
        command = [sys.executable, "-m", "benchmarks.peers.measure", "--name", one.name, *conditions.arguments()]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise ContestError(f"{one.name} took longer than {TIMEOUT_S:.0f} s; take fewer --photos") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
            raise ContestError(f"{one.name}: {lines[-1]}")
        found.append({"name": one.name, "how": one.how, **json.loads(done.stdout.splitlines()[-1])})
    return found


def pareto(peers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of those that nobody beats in accuracy at the same or a lower cost, the cheapest first."""
    ran = [peer for peer in peers if "not_run" not in peer]
    ordered = sorted(ran, key=lambda peer: (peer["cpu_ms_per_frame"], -peer["mean_iou"]))
    best, names = -1.0, []
    for peer in ordered:
        if peer["mean_iou"] > best:
            best = peer["mean_iou"]
            names.append(str(peer["name"]))
    return names


def report_of(
    peers: Sequence[Mapping[str, Any]], conditions: Conditions, machine: Mapping[str, object], command: list[str]
) -> dict[str, Any]:
    """The comparison as plain values."""
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": dict(machine),
        "video": {
            "width_px": conditions.size.width,
            "height_px": conditions.size.height,
            "clip": conditions.clip.name if conditions.clip else "drawn",
        },
        "model": conditions.model,
        "takes_all_photos": conditions.takes_all_photos,
        "peers": [dict(peer) for peer in peers],
        "pareto": pareto(peers),
    }


HEAD = ("", "IoU", "boundary F", "CPU ms/frame", "p50 ms", "p99 ms", "")


def lines_of(report: Mapping[str, Any]) -> list[list[str]]:
    """A line of text for each contestant, under `HEAD`."""
    lines = []
    for peer in report["peers"]:
        if "not_run" in peer:
            lines.append([peer["name"], *[""] * 5, "not run"])
            continue
        figures = [f"{peer['mean_iou']:.4f}", f"{peer['boundary_f']:.3f}", f"{peer['cpu_ms_per_frame']:.2f}"]
        figures += [f"{peer['frame_p50_ms']:.1f}", f"{peer['frame_p99_ms']:.1f}"]
        lines.append([peer["name"], *figures, "Pareto" if peer["name"] in report["pareto"] else ""])
    return lines


def print_contest(report: Mapping[str, Any], console: Console) -> None:
    """Show it in the terminal."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD)
    for number, name in enumerate(HEAD):
        table.add_column(name, justify="left" if number in (0, len(HEAD) - 1) else "right", no_wrap=True)
    for line in lines_of(report):
        table.add_row(*map(rich_escape, line))
    console.print(table)
    for peer in report["peers"]:
        if "not_run" in peer:
            console.print(_absence(peer), highlight=False, markup=False, soft_wrap=True)
    console.print(_words(report), highlight=False, markup=False, soft_wrap=True)


def _absence(peer: Mapping[str, Any]) -> str:
    return f"{peer['name']} was not run: {peer['not_run']}"


def _words(report: Mapping[str, Any]) -> str:
    photos = max((peer.get("photos", 0) for peer in report["peers"]), default=0)
    kept = "all of them, learned from or not" if report["takes_all_photos"] else "left aside by training"
    video = report["video"]
    return (
        f"IoU and boundary F on the same {photos} photos ({kept}); CPU of all processes for a frame of {video['clip']}"
        f" at {video['width_px']}x{video['height_px']} RGB, one at a time, the least of three passes; model"
        f" {report['model']}"
    )


def pareto_plot(report: Mapping[str, Any]) -> str:
    """Accuracy over cost; the line joins those that nobody beats."""
    ran = [peer for peer in report["peers"] if "not_run" not in peer]
    front = [peer for name in report["pareto"] for peer in ran if peer["name"] == name]
    others = [peer for peer in ran if peer["name"] not in report["pareto"]]
    series = [
        Series("nobody is better at that cost", "s1", [_point(peer) for peer in front]),
        Series("others", "s2", [_point(peer) for peer in others], has_line=False),
    ]
    return line_chart(
        series,
        x_label="ms of CPU a frame, log",
        y_label="mean IoU",
        x_scale=logarithmic,
        y_scale=spanning,
        height=420,
        title="Accuracy over cost",
    )


def _point(peer: Mapping[str, Any]) -> Point:
    note = f"{peer['name']}: IoU {peer['mean_iou']:.4f}, {peer['cpu_ms_per_frame']:.2f} ms"
    return Point(peer["cpu_ms_per_frame"], peer["mean_iou"], note=note, text=str(peer["name"]))


def render(report: Mapping[str, Any]) -> str:
    """The comparison as a page."""
    parts = ["<header><h1>humanseg benchmark: peers</h1>", page.paragraph(_words(report)), "</header>"]
    if any("not_run" not in peer for peer in report["peers"]):
        picture = page.figure("Accuracy over cost", "up and to the left is better", pareto_plot(report))
        parts.append(f'<section class="charts">{picture}</section>')
    how = [[peer["name"], _absence(peer) if "not_run" in peer else peer["how"]] for peer in report["peers"]]
    parts += ["<section><h2>Contestants</h2>", page.table(HEAD, lines_of(report)), page.table([], how, "words")]
    parts += ["</section>", page.about(report)]
    return page.document("humanseg benchmark: peers", parts)
