"""Which charts show a run: from the values of ``report.json`` to SVG."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.bars import Row, Stack, columns, rows
from benchmarks.charts import Mark, Point, Series, line_chart, linear, logarithmic, number_text, spanning

Figures = Mapping[str, Any]
#: The percentiles of the lines, with their classes.
LINES = (("p50", "s1"), ("p95", "s3"), ("p99", "s2"))
FRAME_MS = 33.3
#: Of sessions that are shown one by one.
MOST_SESSIONS = 24


def offered_runs(report: Figures) -> list[Figures]:
    """The main run and the ladder, by the load offered; without loads that the server did not take."""
    runs = [report, *(step for step in report["ladder"] if "failed" not in step)]
    return sorted(runs, key=lambda run: float(run["frames"]["sent_per_s"]))


def over_load(runs: Sequence[Figures], bare_fps: float | None, *, has_lines: bool = True) -> str:
    """Latency percentiles over the load offered; without lines where the runs differ in more than the load."""
    lines = []
    for name, css in LINES:
        points = [_point(run, name) for run in runs]
        lines.append(Series(name, css, points, has_line=has_lines))
    marks = [Mark(FRAME_MS, "33.3 ms: a frame at 30 fps")]
    if bare_fps:
        marks.append(Mark(bare_fps, f"engine alone: {number_text(bare_fps)} fps", is_vertical=True))
    return line_chart(
        lines,
        x_label="frames offered a second, all sessions together",
        y_label="ms from intended send, log",
        y_scale=logarithmic,
        marks=marks,
        title="Latency percentiles over offered load",
    )


def _point(run: Figures, name: str) -> Point:
    summary, load = run["latency_from_intended_send"], run["load"]
    low, high = summary["ci95_ms"].get(name, (None, None))
    note = f"{name} {summary[f'{name}_ms']:.1f} ms of {summary['n']} masks, {load['sessions']} sessions"
    value = summary[f"{name}_ms"] if summary["n"] else None
    return Point(run["frames"]["sent_per_s"], value, name in summary["thin"], low, high, note)


def answered_and_dropped(runs: Sequence[Figures]) -> str:
    """What became of the frames at each load, a second."""
    stacks = []
    for run in runs:
        frames, measured_s = run["frames"], run["load"]["measured_s"]
        dropped = sum(frames["dropped"].values()) / measured_s
        unanswered = frames["unanswered"] / measured_s
        reasons = ", ".join(f"{count} {reason}" for reason, count in frames["dropped"].items()) or "none"
        stacks.append(
            Stack(
                number_text(frames["sent_per_s"]),
                [("s1", frames["masks_per_s"]), ("s2", dropped), ("s4", unanswered)],
                f"{frames['masks']} masks, dropped: {reasons}; {frames['unanswered']} unanswered",
            )
        )
    return columns(
        stacks,
        names=[("masks", "s1"), ("dropped", "s2"), ("unanswered", "s4")],
        x_label="frames offered a second",
        y_label="frames a second",
        title="Masks and drops at each load",
    )


def stages(report: Figures) -> str:
    """A waterfall of mean times, one stage after the other, to the mean time from the actual send to the mask."""
    entries, at_ms = [], 0.0
    for name, summary in report["stages"].items():
        if name == "total":
            continue
        # A stage that ran for some frames only counts for what it adds to the mean frame.
        mean_ms = summary["mean_ms"] * summary["n"] / report["stages"]["total"]["n"]
        css = {"inference": "s1", "unexplained": "s2", "transport": "mute"}.get(name, "light")
        text = f"{mean_ms:.2f} ms, p99 {'~' if 'p99' in summary['thin'] else ''}{summary['p99_ms']:.1f}"
        entries.append(Row(name, at_ms, at_ms + mean_ms, css, text))
        at_ms += mean_ms
    return rows(entries, x_label="ms since the actual send, mean", title="Where a frame's time goes")


def latency_over_time(report: Figures) -> str:
    """Median and worst latency, slice by slice."""
    lines = [
        Series("median", "s1", [Point(row["at_s"], row["p50_ms"]) for row in report["timeline"]], has_dots=False),
        Series("worst", "s2", [Point(row["at_s"], row["max_ms"]) for row in report["timeline"]], has_dots=False),
    ]
    return line_chart(
        lines,
        x_label="s since the end of the warm-up",
        y_label="ms from intended send, log",
        y_scale=logarithmic,
        marks=[Mark(FRAME_MS, "33.3 ms")],
        title="Latency over time",
    )


def frames_over_time(report: Figures) -> str:
    """Masks and drops, slice by slice."""
    stacks = [
        Stack(
            number_text(row["at_s"]),
            [("s1", row["masks"]), ("s2", row["dropped"]), ("s4", row["unanswered"])],
            f"{row['at_s']:g} s: {row['masks']} masks, {row['dropped']} dropped, {row['unanswered']} unanswered",
        )
        for row in report["timeline"]
    ]
    return columns(
        stacks,
        names=[("masks", "s1"), ("dropped", "s2"), ("unanswered", "s4")],
        x_label="s since the end of the warm-up",
        y_label="frames",
        height=240,
        title="Masks and drops over time",
    )


def cpu_over_time(report: Figures) -> str:
    """CPUs in use by the server."""
    samples = report["server_samples"]
    points = [
        Point(now["at_s"], (now["cpu_s"] - before["cpu_s"]) / (now["at_s"] - before["at_s"]))
        for before, now in pairwise(samples)
        if now["at_s"] > before["at_s"]
    ]
    return line_chart(
        [Series("CPUs", "s1", points, has_dots=False)],
        x_label="s since the end of the warm-up",
        y_label="CPUs in use",
        y_scale=linear,
        height=220,
        title="CPU of the server over time",
    )


def memory_over_time(report: Figures) -> str:
    """Resident memory of the server."""
    points = [Point(sample["at_s"], sample["rss_bytes"] / 2**20) for sample in report["server_samples"]]
    return line_chart(
        [Series("RSS", "s1", points, has_dots=False)],
        x_label="s since the end of the warm-up",
        y_label="MiB resident",
        y_scale=spanning,
        height=220,
        title="Memory of the server over time",
    )


def batches(report: Figures) -> str:
    """How many frames the engine's runs held."""
    found = report["server"]["batch_frames"]
    edges = [1, *(int(float(bound)) + 1 for bound in found if float(bound) != float("inf"))]
    stacks = []
    for bound, count in found.items():
        below = max((edge for edge in edges if edge - 1 < float(bound)), default=1)
        label = bound if bound == "1" else f"up to {bound}" if bound != "inf" else f"{below} and more"
        stacks.append(Stack(label, [("s1", count)], f"{count} runs"))
    return columns(
        stacks,
        names=[("runs", "s1")],
        x_label="frames in a run of the engine",
        y_label="runs",
        height=240,
        title="Batch sizes",
    )


def sessions(report: Figures) -> str:
    """Median to p99 of each session; with many sessions, those with the best and the worst p99."""
    found = sorted(report["fairness"]["sessions"], key=lambda session: float(session["p99_ms"]))
    if len(found) > MOST_SESSIONS:
        found = found[: MOST_SESSIONS // 2] + found[-MOST_SESSIONS // 2 :]
    entries = [
        Row(
            f"session {session['session']}",
            session["p50_ms"],
            session["p99_ms"],
            "s1",
            f"{session['p50_ms']:.1f} to {session['p99_ms']:.1f} ms, {session['masks']} of {session['sent']}",
        )
        for session in found
    ]
    return rows(entries, x_label="ms from intended send, p50 to p99", title="Latency of each session")
