"""The results of a run as ``report.json`` (units in the keys) and as a table in the terminal."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.conductor import Finished, Reading
from benchmarks.plan import ON_TIME_MS, LoadPlan
from benchmarks.recording import PERCENTILES, SAMPLES_BEYOND, Histogram, Verdict
from benchmarks.scrape import MODEL_STAGES, batch_frames

SCHEMA = "humanseg.benchmark.run/1"
#: Stages of the server in the order in which a frame passes them, then what they leave over.
STAGE_ORDER = (
    "wait", "decode", "preprocess", "queue", "inference", "fusion", "postprocess", "encode", "unexplained", "total",
    "transport",
)  # fmt: skip


def build(
    *,
    plan: LoadPlan,
    finished: Finished,
    verdict: Verdict,
    machine: Mapping[str, object],
    command: list[str],
    server_exit_status: int | None,
) -> dict[str, Any]:
    """Everything a reader needs to judge and to repeat a run, as plain values.

    ``server_exit_status`` is that of a server started and stopped for the run, None if it was another one.
    """
    outcome = finished.outcome
    sent = outcome.frames["sent"]
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "valid": verdict.valid,
        "complaints": list(verdict.complaints),
        "machine": dict(machine),
        "load": {
            "sessions": plan.sessions,
            "fps": plan.fps,
            "arrivals": str(plan.arrivals),
            "seed": plan.seed,
            "warmup_s": plan.warmup_s,
            "measured_s": plan.measured_s,
            "width_px": plan.width,
            "height_px": plan.height,
            "pixel_format": plan.pixel_format,
            "mask_encoding": "alpha8",
            "temporal": plan.temporal,
            "frame_policy": "newest",
            "clip": Path(plan.clip).name if plan.clip else "drawn",
        },
        "served": {
            "model": finished.served.model,
            "version": finished.served.version,
            "engine": finished.served.engine,
            "network_width_px": finished.served.network_width_px,
            "network_height_px": finished.served.network_height_px,
            "started_here": server_exit_status is not None,
            "exit_status": server_exit_status,
        },
        "frames": {
            "sent": sent,
            "masks": outcome.frames["masks"],
            "dropped": dict(outcome.dropped),
            "unanswered": outcome.frames["unanswered"],
            "masks_per_s": round(outcome.frames["masks"] / plan.measured_s, 2),
        },
        "latency_from_intended_send": outcome.recorder.latency.summary(),
        "latency_from_actual_send": outcome.recorder.from_send.summary(),
        "load_generator_lag": outcome.recorder.send_lag.summary(),
        "on_time_ratio": {f"within_{limit}_ms": _ratio(outcome.on_time[str(limit)], sent) for limit in ON_TIME_MS},
        "first_mask_ms": {
            "first_session": outcome.first_mask_ms[0] if outcome.first_mask_ms else None,
            "all_sessions": sorted(outcome.first_mask_ms),
        },
        "stages": stage_summaries(outcome.stages),
        "server": server_costs(finished.before, finished.after),
    }


def stage_summaries(stages: Mapping[str, Histogram]) -> dict[str, Any]:
    """Percentiles of every stage that ran, in the order of a frame's way."""
    return {name: stages[name].summary() for name in STAGE_ORDER if name in stages and stages[name].count}


def server_costs(before: Reading, after: Reading) -> dict[str, Any]:
    """CPU time per mask, memory and batches of the server between two readings; None where it could not be seen.

    ``cpu_ms_per_mask`` is of the whole process; ``beyond engine and fusion`` is that minus the thread CPU time that
    the server counted inside those two stages: transport, pixels, masks, Python.
    """
    costs: dict[str, Any] = {
        "cpu_ms_per_mask": None,
        "cpu_ms_per_mask_by_stage": None,
        "cpu_ms_per_mask_beyond_engine_and_fusion": None,
        "rss_begin_bytes": before.usage.rss_bytes if before.usage else None,
        "rss_end_bytes": after.usage.rss_bytes if after.usage else None,
        "batch_frames": None,
        "masks_counted_by_server": None,
    }
    if not (before.usage and after.usage and before.metrics and after.metrics):
        return costs
    growth = after.metrics.since(before.metrics)
    masks = round(growth.value("humanseg_frames_total", outcome="mask"))
    costs["masks_counted_by_server"] = masks
    costs["batch_frames"] = batch_frames(growth)
    if masks:
        process_ms = (after.usage.cpu_s - before.usage.cpu_s) * 1000 / masks
        by_stage = {
            stage: seconds * 1000 / masks
            for stage, seconds in growth.by_label("humanseg_stage_cpu_seconds_total", "stage").items()
            if seconds > 0
        }
        model_ms = sum(by_stage.get(stage, 0.0) for stage in MODEL_STAGES)
        costs["cpu_ms_per_mask"] = round(process_ms, 3)
        costs["cpu_ms_per_mask_by_stage"] = {stage: round(value, 3) for stage, value in by_stage.items()}
        costs["cpu_ms_per_mask_beyond_engine_and_fusion"] = round(process_ms - model_ms, 3)
    return costs


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Write a report, readable by people too."""
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def latency_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """A line per summary of `Histogram.summary`, in ms; percentiles with too few samples behind them carry a ``~``."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("ms")
    for name in ("n", *PERCENTILES, "max"):
        table.add_column(name, justify="right")
    for label, summary in rows.items():
        cells = [f"{'~' if name in summary['thin'] else ''}{summary[f'{name}_ms']:.1f}" for name in PERCENTILES]
        table.add_row(label, str(summary["n"]), *cells, f"{summary['max_ms']:.1f}")
    return table


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Show a run in the terminal."""

    def say(line: str) -> None:
        # one line each, for grep and for mail; the terminal wraps what is too long
        console.print(line, highlight=False, soft_wrap=True)

    load, served, frames, server = report["load"], report["served"], report["frames"], report["server"]
    say(
        f"load     {load['sessions']} sessions x {load['fps']:g} fps {load['arrivals']}, {load['width_px']}x"
        f"{load['height_px']} {load['pixel_format']}, {load['clip']}, fusion {load['temporal']}, {load['measured_s']:g}"
        f" s after {load['warmup_s']:g} s of warm-up, seed {load['seed']}"
    )
    say(
        f"server   model {served['model']} {served['version']} at {served['network_width_px']}x"
        f"{served['network_height_px']} on {served['engine']}"
    )
    machine = report["machine"]
    say(
        f"machine  {machine['cpu_model']}, {machine['cpu_cores_usable']} cores,"
        f" load average {machine['load_average_1min']} before the run"
    )
    rows = {
        "intended send -> mask": report["latency_from_intended_send"],
        "actual send -> mask": report["latency_from_actual_send"],
        "load generator's lag": report["load_generator_lag"],
    }
    console.print(latency_table("Latency at the client", rows))
    console.print(latency_table("Where a frame's time goes (server; transport: the rest)", report["stages"]))
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
    if first["all_sessions"]:
        say(
            f"joining  first mask after {first['first_session']:.0f} ms in the first session,"
            f" {first['all_sessions'][-1]:.0f} ms at worst"
        )
    if server["cpu_ms_per_mask"] is not None:
        say(
            f"cost     {server['cpu_ms_per_mask']:.2f} ms of server CPU a mask,"
            f" {server['cpu_ms_per_mask_beyond_engine_and_fusion']:.2f} of it beyond engine and fusion;"
            f" RSS {server['rss_begin_bytes'] / 2**20:.0f} -> {server['rss_end_bytes'] / 2**20:.0f} MiB"
        )
    else:
        say(
            "cost     not seen: --target without --metrics-url"
            if server["rss_end_bytes"] is None
            else "cost     no masks"
        )
    if report["valid"]:
        say("[green]VALID[/green]")
    for complaint in report["complaints"]:
        say(f"[red]INVALID[/red]  {complaint}")


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 5) if whole else None
