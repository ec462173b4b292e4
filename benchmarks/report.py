"""The results of a run as ``report.json`` (units in the keys) and as a table in the terminal."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape as rich_escape
from rich.table import Table

from benchmarks.figures import load_text
from benchmarks.ladder import efficiency
from benchmarks.recording import PERCENTILES, SAMPLES_BEYOND
from benchmarks.validity import judge_exit

#: Grows when a key changes its meaning or goes away; new keys do not change it.
SCHEMA = "humanseg.benchmark.run/2"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What is known of the server once a run is over."""

    started_here: bool
    exit_status: int | None
    """None: not ours to stop."""
    settings: Mapping[str, str]
    niceness: int | None = None
    """It ran at; None: not ours to say."""


def build(
    *,
    main: Mapping[str, Any],
    ladder: Sequence[Mapping[str, Any]],
    bare_engine: Mapping[str, Any],
    machine: Mapping[str, object],
    command: list[str],
    server: ServerFacts,
) -> dict[str, Any]:
    """Everything a reader needs to judge and to repeat a run, as plain values.

    Args:
        main: `figures.run_figures` of the load that was asked for.
        ladder: the same at other loads, or ``{"load", "failed"}`` where the server did not take one.
        bare_engine: `bare.BareFigures` as values, or ``{"not_measured": why}``.
        machine: `machine.describe` before the run.
        command: the command line.
        server: of the server, after it was stopped.
    """
    complaints = [*main["complaints"], *judge_exit(server.exit_status)]
    carried_out = [main, *(step for step in ladder if "failed" not in step)]
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        **main,
        "valid": not complaints,
        "complaints": complaints,
        "machine": dict(machine),
        "served": {
            **main["served"],
            "started_here": server.started_here,
            "exit_status": server.exit_status,
            "niceness": server.niceness,
            # a report that is passed on names no folder of its maker
            "settings": {
                name: Path(value).name if name == "models" else value for name, value in server.settings.items()
            },
        },
        "bare_engine": dict(bare_engine),
        "service_efficiency": efficiency(carried_out, bare_engine.get("fps", 0.0)),
        "ladder": [dict(step) for step in ladder],
    }


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Write a report, readable by people too."""
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def latency_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """A line per summary of `Histogram.summary`, in ms; percentiles with too few samples behind them carry a ``~``."""
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("ms")
    for name in ("n", *PERCENTILES, "max"):
        table.add_column(name, justify="right")
    for label, summary in rows.items():
        cells = [f"{'~' if name in summary['thin'] else ''}{summary[f'{name}_ms']:.1f}" for name in PERCENTILES]
        table.add_row(label, str(summary["n"]), *cells, f"{summary['max_ms']:.1f}")
    return table


def ladder_table(steps: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each load, in the order of the frames offered."""
    table = Table(
        title="Latency over offered load (from intended send)",
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
    )
    for name in ("offered fps", "sessions", "masks/s", "p50", "p95", "p99", "on time 33.3", "dropped", ""):
        table.add_column(name, justify="left" if not name else "right")
    for step in steps:
        load = step["load"]
        cells = [f"{load['offered_fps']:.1f}", str(load["sessions"])]
        if "failed" in step:
            table.add_row(*cells, "", "", "", "", "", "", f"failed: {rich_escape(step['failed'])}")
            continue
        summary, on_time = step["latency_from_intended_send"], step["on_time_ratio"]["within_33.3_ms"]
        percentiles = [
            f"{'~' if name in summary['thin'] else ''}{summary[f'{name}_ms']:.1f}" for name in ("p50", "p95", "p99")
        ]
        share = "" if on_time is None else f"{100 * on_time:.1f} %"
        # Short steps have no p99 to stand on; what counts here is whether the load itself was sent as planned.
        note = "generator lagged" if any("lags" in text for text in step["complaints"]) else ""
        dropped = str(sum(step["frames"]["dropped"].values()))
        table.add_row(*cells, f"{step['frames']['masks_per_s']:.1f}", *percentiles, share, dropped, note)
    return table


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Show a run in the terminal."""

    def say(line: str) -> None:
        # one line each, for grep and for mail; the terminal wraps what is too long
        console.print(line, highlight=False, soft_wrap=True)

    served, frames, server = report["served"], report["frames"], report["server"]
    say(f"load     {load_text(report['load'])}")
    say(
        f"server   model {served['model']} {served['version']} at {served['network_width_px']}x"
        f"{served['network_height_px']} on {served['engine']}"
        + (f", at nice {served['niceness']}" if served.get("niceness") else "")
    )
    machine = report["machine"]
    say(
        f"machine  {machine['cpu_model']}, {machine['cpu_cores_usable']} cores,"
        f" load average {machine['load_average_1min']} before the run"
    )
    rows = {
        "from intended send": report["latency_from_intended_send"],
        "from actual send": report["latency_from_actual_send"],
        "generator's lag": report["load_generator_lag"],
    }
    console.print(latency_table("Latency at the client", rows))
    say("95 %     " + ", ".join(_intervals(report["latency_from_intended_send"])) + "; within this run")
    console.print(latency_table("Where a frame's time goes (server; transport: the rest)", report["stages"]))
    slowest = report["slowest_stage"]
    if slowest and slowest["share_of_round_trip"] is not None:
        share = f"{100 * slowest['share_of_round_trip']:.0f} % of the mean round trip"
        say(f"slowest  {slowest['stage']}: {slowest['mean_ms']:.1f} ms, {share}")
    say(f"[dim]~ fewer than {SAMPLES_BEYOND} samples beyond it[/dim]")
    dropped = ", ".join(f"{count} {reason}" for reason, count in frames["dropped"].items()) or "none"
    say(
        f"frames   {frames['sent']} sent, {frames['masks']} masks, {frames['unanswered']} unanswered,"
        f" dropped: {dropped}"
    )
    on_time = ", ".join(
        f"{100 * ratio:.1f} % {name.replace('_', ' ')}"
        for name, ratio in report["on_time_ratio"].items()
        if ratio is not None
    )
    say(f"on time  {on_time or 'nothing was sent'}")
    first = report["first_mask_ms"]
    cold = "cold" if served["started_here"] else "in the first session here"
    say(
        f"joining  first mask after {first['very_first']:.0f} ms {cold}, {first['all_sessions'][0]:.0f} to"
        f" {first['all_sessions'][-1]:.0f} ms warm" + _joins(first["joins_under_load"])
    )
    fair = report["fairness"]
    if fair["jain_index"] is not None:
        say(
            f"fairness Jain's index {fair['jain_index']:.4f}; p99 of a session {fair['p99_best_ms']:.1f} to"
            f" {fair['p99_worst_ms']:.1f} ms"
        )
    if server["cpu_ms_per_mask"] is not None:
        say(
            f"cost     {server['cpu_ms_per_mask']:.2f} ms of server CPU a mask,"
            f" {server['cpu_ms_per_mask_beyond_engine_and_fusion']:.2f} of it beyond engine and fusion;"
            f" RSS {server['rss_begin_bytes'] / 2**20:.0f} -> {server['rss_end_bytes'] / 2**20:.0f} MiB"
            + _slope(server["rss_slope_bytes_per_min"])
        )
        batches = ", ".join(f"{count} of up to {frames}" for frames, count in server["batch_frames"].items())
        say(f"batches  {batches or 'none'}")
    else:
        say(
            "cost     not seen: --target without --metrics-url"
            if server["rss_end_bytes"] is None
            else "cost     no masks"
        )
    if report["ladder"]:
        console.print(ladder_table(report["ladder"]))
    _print_efficiency(report, say)
    if report["valid"]:
        say("[green]VALID[/green]")
    for complaint in report["complaints"]:
        say(f"[red]INVALID[/red]  {rich_escape(complaint)}")


def _intervals(summary: Mapping[str, Any]) -> list[str]:
    shown = [f"{name} {low:.1f} to {high:.1f} ms" for name, (low, high) in summary["ci95_ms"].items()]
    return shown or ["too short a run for confidence intervals"]


def _joins(waits_ms: Sequence[float]) -> str:
    if not waits_ms:
        return ""
    return f"; {len(waits_ms)} joined under load, {waits_ms[len(waits_ms) // 2]:.0f} ms, {waits_ms[-1]:.0f} at worst"


def _slope(bytes_per_min: float | None) -> str:
    return "" if bytes_per_min is None else f" ({bytes_per_min / 2**20:+.1f} MiB a minute)"


def _print_efficiency(report: Mapping[str, Any], say: Callable[[str], None]) -> None:
    bare, found = report["bare_engine"], report["service_efficiency"]
    if "not_measured" in bare:
        say(f"engine   not measured alone: {rich_escape(bare['not_measured'])}")
        return
    alone = f"alone {bare['fps']:.1f} fps on {bare['threads']} threads, {bare['cpu_ms_per_frame']:.2f} ms CPU a frame"
    around = (
        "no load here saturated the service"
        if found["ratio"] is None
        else f"in the service {found['most_masks_per_s']:.1f} masks/s at most: {100 * found['ratio']:.0f} %"
    )
    say(f"engine   {alone}; {around}")
