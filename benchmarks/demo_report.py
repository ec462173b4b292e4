"""The demo's ``report.json`` (units in the keys) and what it prints."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.demo_stream import Streamed
from benchmarks.figures import server_costs, stage_summaries
from benchmarks.report import latency_table

SCHEMA = "humanseg.demo/1"
#: The project's bar for server CPU time a frame beyond engine and fusion, at this size, I420 in and ALPHA8 out.
BAR_CPU_MS, BAR_SIZE = 2.0, (640, 360)


def build(
    *,
    streamed: Streamed,
    clip: Path,
    fps: float,
    machine: Mapping[str, object],
    command: list[str],
    server_exit_status: int | None,
    seconds: float,
) -> dict[str, Any]:
    """Everything a reader needs to judge and to repeat the run, as plain values."""
    config, model = streamed.accepted.config, streamed.accepted.model
    masks = streamed.round_trip.count
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": dict(machine),
        "input": {
            "file": str(clip),
            "width_px": config.size.width,
            "height_px": config.size.height,
            "fps": round(fps, 3),
        },
        "served": {
            "model": model.name,
            "version": model.version,
            "engine": model.engine,
            "network_width_px": model.network_size.width,
            "network_height_px": model.network_size.height,
            "exit_status": server_exit_status,
        },
        "stream": {
            "pixel_format": config.pixel_format.value,
            "mask_encoding": config.mask_encoding.value,
            "frame_policy": config.frame_policy.name.lower(),
            "temporal": config.temporal_fusion.name.lower(),
            "frames_under_way": 1,
        },
        "frames": {
            "sent": streamed.sent,
            "masks": masks,
            "dropped": dict(streamed.dropped),
            "fusion_resets": dict(streamed.resets),
            "masks_per_s": round(masks / streamed.seconds, 2),
        },
        "round_trip": streamed.round_trip.summary(),
        "stages": stage_summaries(streamed.stages),
        "server": server_costs(streamed.before, streamed.after),
        "seconds_in_all": round(seconds, 1),
    }


def print_summary(report: Mapping[str, Any], out: Path, console: Console) -> None:
    """Show in the terminal what was measured, and where the files are."""
    source, served, frames, server = report["input"], report["served"], report["frames"], report["server"]
    console.print(
        f"{source['file']}: {frames['sent']} frames of {source['width_px']}x{source['height_px']}, one at a time,"
        f" {report['stream']['pixel_format']}, fusion {report['stream']['temporal']}",
        highlight=False,
    )
    console.print(
        f"model {served['model']} {served['version']} at {served['network_width_px']}x{served['network_height_px']} on"
        f" {served['engine']}; {report['machine']['cpu_model']}, {report['machine']['cpu_cores_usable']} cores,"
        f" load {report['machine']['load_average_1min']} before",
        highlight=False,
    )
    rows = {"send -> mask": report["round_trip"], **report["stages"]}
    console.print(latency_table("Where a frame's time goes (total: in the server; transport: the rest)", rows))
    if any(summary["thin"] for summary in rows.values()):
        console.print("~ too few frames for this percentile to be steady", highlight=False)
    dropped = "; ".join(f"{count} x {reason}" for reason, count in frames["dropped"].items()) or "none"
    resets = ", ".join(f"{count} {reason.lower()}" for reason, count in frames["fusion_resets"].items())
    console.print(
        f"frames  {frames['masks']} masks, {frames['masks_per_s']:g} a second; dropped: {dropped};"
        f" fusion began anew: {resets or 'never'}",
        highlight=False,
    )
    beyond_ms = server["cpu_ms_per_mask_beyond_engine_and_fusion"]
    if beyond_ms is not None:
        at_bar = (source["width_px"], source["height_px"]) == BAR_SIZE
        bar = f" (the bar here: {BAR_CPU_MS:g})" if at_bar else ""
        console.print(
            f"server  {server['cpu_ms_per_mask']:.2f} ms CPU a frame, {beyond_ms:.2f} of it beyond engine and"
            f" fusion{bar}; {server['rss_end_bytes'] / 2**20:.0f} MiB",
            highlight=False,
        )
    for name, what in (
        ("demo.mp4", "input | mask | new background"),
        ("contact_sheet.png", "six frames of it"),
        ("report.json", "all figures"),
    ):
        console.print(f"{out / name}  {what}", highlight=False, soft_wrap=True)
