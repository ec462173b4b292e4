"""The figures of one run as plain values with units in the keys: what reports, comparisons and searches are made of."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.conductor import Finished, Reading, Sample
from benchmarks.plan import ON_TIME_MS, LoadPlan, Outcome, SessionFigures
from benchmarks.recording import PERCENTILES, Histogram
from benchmarks.scrape import MODEL_STAGES, batch_frames
from benchmarks.slices import Interval, percentile_intervals, ratio_interval, slice_length_s
from benchmarks.validity import Verdict

#: Stages of the server in the order in which a frame passes them, then what they leave over.
STAGE_ORDER = (
    "wait", "decode", "preprocess", "queue", "inference", "fusion", "postprocess", "encode", "unexplained", "total",
    "transport",
)  # fmt: skip
#: With fewer samples of the memory a slope says nothing.
FEWEST_SAMPLES = 10


def run_figures(plan: LoadPlan, finished: Finished, verdict: Verdict) -> dict[str, Any]:
    """All that is known of one run."""
    outcome = finished.outcome
    sent = outcome.frames["sent"]
    return {
        "valid": verdict.valid,
        "complaints": list(verdict.complaints),
        "load": load_of(plan),
        "served": {
            "model": finished.served.model,
            "version": finished.served.version,
            "engine": finished.served.engine,
            "network_width_px": finished.served.network_width_px,
            "network_height_px": finished.served.network_height_px,
        },
        "frames": {
            "sent": sent,
            "masks": outcome.frames["masks"],
            "dropped": dict(outcome.dropped),
            "unanswered": outcome.frames["unanswered"],
            "sent_per_s": round(sent / plan.measured_s, 2),
            "masks_per_s": round(outcome.frames["masks"] / plan.measured_s, 2),
        },
        "latency_from_intended_send": with_intervals(outcome),
        "latency_from_actual_send": outcome.recorder.from_send.summary(),
        "load_generator_lag": outcome.recorder.send_lag.summary(),
        "clock_jump_ms": round(finished.clock_jump_ms, 3),
        "on_time_ratio": {f"within_{limit}_ms": _ratio(outcome.on_time[str(limit)], sent) for limit in ON_TIME_MS},
        "on_time_ratio_ci95": on_time_intervals(outcome),
        "first_mask_ms": {
            "very_first": round(finished.very_first_mask_ms, 3),
            "all_sessions": sorted(round(waited, 3) for waited in outcome.first_mask_ms),
            "joins_under_load": sorted(round(waited, 3) for waited in outcome.join_ms),
        },
        "stages": stage_summaries(outcome.stages),
        "slowest_stage": slowest_stage(outcome.stages),
        "server": server_costs(finished.before, finished.after) | memory_slope(finished.samples),
        "fairness": fairness(outcome.sessions),
        "timeline": timeline(outcome, plan.measured_s),
        "server_samples": [
            {"at_s": round(sample.at_s, 3), "cpu_s": round(sample.usage.cpu_s, 3), "rss_bytes": sample.usage.rss_bytes}
            for sample in finished.samples
        ],
    }


def load_of(plan: LoadPlan) -> dict[str, Any]:
    """What was asked of the server."""
    return {
        "sessions": plan.sessions,
        "fps": round(plan.fps, 4),
        "offered_fps": round(plan.sessions * plan.fps, 2),
        "arrivals": str(plan.arrivals),
        "seed": plan.seed,
        "warmup_s": plan.warmup_s,
        "measured_s": plan.measured_s,
        "width_px": plan.width,
        "height_px": plan.height,
        "pixel_format": plan.pixel_format,
        "mask_encoding": "alpha8",
        "temporal": plan.temporal,
        "frame_policy": plan.policy,
        "clip": Path(plan.clip).name if plan.clip else "drawn",
        "transport": "unix" if plan.address.startswith("unix:") else "tcp",
    }


def load_text(load: Mapping[str, Any]) -> str:
    """A load, as `load_of` has it, in one line."""
    return (
        f"{load['sessions']} sessions x {load['fps']:g} fps {load['arrivals']}, {load['width_px']}x{load['height_px']}"
        f" {load['pixel_format']}, {load['clip']}, fusion {load['temporal']}, policy {load['frame_policy']},"
        f" over {load['transport']}, {load['measured_s']:g} s after {load['warmup_s']:g} s of warm-up,"
        f" seed {load['seed']}"
    )


def with_intervals(outcome: Outcome) -> dict[str, Any]:
    """The latencies, with 95 % confidence intervals of those percentiles that have enough samples."""
    summary: dict[str, Any] = outcome.recorder.latency.summary()
    ranks = {name: rank for name, rank in PERCENTILES.items() if name not in summary["thin"]}
    intervals = percentile_intervals([one.latency_us for one in outcome.slices], ranks)
    summary["ci95_ms"] = {name: _rounded(interval, 1000) for name, interval in intervals.items()}
    return summary


def on_time_intervals(outcome: Outcome) -> dict[str, list[float] | None]:
    """95 % confidence intervals of the on-time ratios; None for a run that is too short."""
    sent = [one.counts["sent"] for one in outcome.slices]
    found: dict[str, list[float] | None] = {}
    for limit in ON_TIME_MS:
        interval = ratio_interval([one.counts[f"on_time_{limit}"] for one in outcome.slices], sent)
        found[f"within_{limit}_ms"] = None if interval is None else [round(end, 5) for end in interval]
    return found


def stage_summaries(stages: Mapping[str, Histogram]) -> dict[str, Any]:
    """Percentiles of every stage that ran, in the order of a frame's way."""
    return {name: stages[name].summary() for name in STAGE_ORDER if name in stages and stages[name].count}


def mean_share_ms(stages: Mapping[str, Histogram], name: str) -> float:
    """What a stage adds to the mean frame: one that ran for some frames only counts less."""
    masks = stages["total"].count
    return stages[name].mean_ms * stages[name].count / masks if masks else 0.0


def slowest_stage(stages: Mapping[str, Histogram]) -> dict[str, Any] | None:
    """The stage to blame first, the unexplained rest and the transport included; None without masks."""
    ran = [name for name in STAGE_ORDER if name != "total" and name in stages and stages[name].count]
    if not ran:
        return None
    shares_ms = {name: mean_share_ms(stages, name) for name in ran}
    slowest = max(ran, key=lambda name: shares_ms[name])
    whole_ms = sum(shares_ms.values())
    return {
        "stage": slowest,
        "mean_ms": round(shares_ms[slowest], 3),
        "share_of_round_trip": round(shares_ms[slowest] / whole_ms, 4) if whole_ms else None,
    }


def fairness(sessions: Sequence[SessionFigures]) -> dict[str, Any]:
    """Whether all sessions got the same: Jain's index of the shares answered (1: all equal, 1/n: one got all)."""
    shares = [session.masks / session.sent for session in sessions if session.sent]
    squares = sum(share * share for share in shares)
    ordered = sorted(sessions, key=lambda session: session.session)
    return {
        "jain_index": round(sum(shares) ** 2 / (len(shares) * squares), 5) if squares else None,
        "masks_ratio_worst": round(min(shares), 5) if shares else None,
        "masks_ratio_best": round(max(shares), 5) if shares else None,
        "p99_worst_ms": round(max((session.p99_ms for session in sessions), default=0.0), 3),
        "p99_best_ms": round(min((session.p99_ms for session in sessions), default=0.0), 3),
        "sessions": [
            {
                "session": session.session,
                "sent": session.sent,
                "masks": session.masks,
                "p50_ms": round(session.p50_ms, 3),
                "p99_ms": round(session.p99_ms, 3),
                "max_ms": round(session.max_ms, 3),
            }
            for session in ordered
        ],
    }


def timeline(outcome: Outcome, measured_s: float) -> list[dict[str, Any]]:
    """The run slice by slice, by the intended send time; latencies are None where no mask came."""
    length_s = slice_length_s(measured_s)
    rows = []
    for number, one in enumerate(outcome.slices):
        ordered = sorted(one.latency_us.elements())
        rows.append(
            {
                "at_s": round(number * length_s, 3),
                "sent": one.counts["sent"],
                "masks": one.counts["masks"],
                "dropped": one.counts["dropped"],
                "unanswered": one.counts["unanswered"],
                "p50_ms": ordered[len(ordered) // 2] / 1000 if ordered else None,
                "max_ms": ordered[-1] / 1000 if ordered else None,
            }
        )
    return rows


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


def memory_slope(samples: Sequence[Sample]) -> dict[str, float | None]:
    """How fast the server's memory grows: least squares over the samples, in bytes a minute; None with too few."""
    if len(samples) < FEWEST_SAMPLES:
        return {"rss_slope_bytes_per_min": None}
    slope = statistics.linear_regression(
        [sample.at_s / 60 for sample in samples], [float(sample.usage.rss_bytes) for sample in samples]
    ).slope
    return {"rss_slope_bytes_per_min": round(slope)}


def _rounded(interval: Interval, divisor: float) -> list[float]:
    return [round(end / divisor, 3) for end in interval]


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 5) if whole else None
