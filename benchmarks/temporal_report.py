"""The comparison as tables in the terminal and as plain values, held against the bars that the project set itself."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.temporal_estimates import SEEN_EVERY, EstimateFigures, mean_by_group
from benchmarks.temporal_figures import Cost, Figures
from humanseg.vision.temporal_alternatives import Alternative

SCHEMA = "humanseg.benchmark.temporal/1"


@dataclass(frozen=True, slots=True)
class Row:
    """An alternative over a group of sequences: means, but for ghost and cut, where the worst sequence counts.

    Changes are against OFF on the same sequences; None where there is no truth, or OFF has nothing to improve.
    """

    group: str
    alternative: Alternative
    sequences: int
    iou_percent: float | None
    iou_change: float | None
    iou_worst_change: float | None
    """Of the sequence that loses most."""
    mad: float | None
    dtssd: float | None
    dtssd_change_percent: float | None
    messddt: float | None
    warped_error: float
    flicker: float
    flicker_change_percent: float | None
    static_flicker: float
    static_flicker_change_percent: float | None
    ghost_percent: float | None
    cut_residue: float
    lag_frames: int | None
    cpu_ms: float

    def to_plain(self) -> dict[str, object]:
        """For JSON, rounded to what is known."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name in self.__slots__
            for value in (getattr(self, name),)
        }


@dataclass(frozen=True, slots=True)
class Limit:
    """What a mean along the exact motion reaches on a group, against OFF: smoothing along the motion gives no more."""

    group: str
    dtssd_change_percent: float
    flicker_change_percent: float

    def to_plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def limits(figures: Sequence[Figures], exact: Sequence[Figures]) -> list[Limit]:
    """A limit for each group with ``exact`` figures; OFF of the same sequences is found in ``figures``."""
    found = []
    for group in dict.fromkeys(one.group for one in exact):
        own = [one for one in exact if one.group == group]
        off = [one for one in figures if one.group == group and one.alternative is Alternative.OFF]

        def change(
            read: Callable[[Figures], float | None], own: list[Figures] = own, off: list[Figures] = off
        ) -> float:
            mine, theirs = _mean(own, read), _mean(off, read)
            return 100 * (mine / theirs - 1) if mine is not None and theirs else 0.0

        found.append(Limit(group, change(lambda one: one.dtssd), change(lambda one: one.flicker)))
    return found


def summarize(figures: Iterable[Figures], lags: Mapping[Alternative, int | None], costs: Sequence[Cost]) -> list[Row]:
    """A row for each group and alternative, in the order in which they come."""
    cpu_ms = {cost.alternative: cost.cpu_ms for cost in costs if cost.size == costs[-1].size}
    grouped: dict[tuple[str, Alternative], list[Figures]] = {}
    for one in figures:
        grouped.setdefault((one.group, one.alternative), []).append(one)
    rows = []
    for (group, alternative), own in grouped.items():
        off = grouped[group, Alternative.OFF]

        def change(
            read: Callable[[Figures], float | None], own: list[Figures] = own, off: list[Figures] = off
        ) -> float | None:
            mine, theirs = _mean(own, read), _mean(off, read)
            return None if mine is None or not theirs else 100 * (mine / theirs - 1)

        iou = _mean(own, _iou)
        gains = [
            mine.iou_percent - theirs.iou_percent
            for mine, theirs in zip(own, off, strict=True)
            if mine.iou_percent is not None and theirs.iou_percent is not None
        ]
        ghosts = [one.ghost_percent for one in own if one.ghost_percent is not None]
        rows.append(
            Row(
                group=group,
                alternative=alternative,
                sequences=len(own),
                iou_percent=iou,
                iou_change=statistics.fmean(gains) if gains else None,
                iou_worst_change=min(gains, default=None),
                mad=_mean(own, lambda one: one.mad),
                dtssd=_mean(own, lambda one: one.dtssd),
                dtssd_change_percent=change(lambda one: one.dtssd),
                messddt=_mean(own, lambda one: one.messddt),
                warped_error=statistics.fmean(one.warped_error for one in own),
                flicker=statistics.fmean(one.flicker for one in own),
                flicker_change_percent=change(lambda one: one.flicker),
                static_flicker=statistics.fmean(one.static_flicker for one in own),
                static_flicker_change_percent=change(lambda one: one.static_flicker),
                ghost_percent=max(ghosts, default=None),
                cut_residue=max(one.cut_residue for one in own),
                lag_frames=lags[alternative],
                cpu_ms=cpu_ms[alternative],
            )
        )
    return rows


def _iou(one: Figures) -> float | None:
    return one.iou_percent


def _mean(figures: Sequence[Figures], read: Callable[[Figures], float | None]) -> float | None:
    values = [value for one in figures if (value := read(one)) is not None]
    return statistics.fmean(values) if values else None


@dataclass(frozen=True, slots=True)
class Bar:
    """What HIGH must reach."""

    name: str
    wanted: str
    found: float | None
    is_met: bool


#: Group at 30 fps: least reduction in percent of static flicker, flicker, dtSSD; at 10 fps two thirds of it.
_REDUCTIONS = {"still": (75.0, None, None), "talk": (None, 55.0, 30.0), "handheld": (None, 50.0, 25.0)}
_MOST_GHOST_PERCENT, _MOST_LAG, _MOST_RATIO = 2.0, 2, 3.5
_MOST_CPU_MS = (2.0, 3.0)
_MOST_STATE_BYTES = 350_000


def hold_against_bars(rows: Sequence[Row], costs: Sequence[Cost]) -> list[Bar]:
    """HIGH against OFF on the synthetic clips, and its costs."""
    bars: list[Bar] = []
    high = [row for row in rows if row.alternative is Alternative.HIGH]
    for row in high:
        kind, _, rate = row.group.partition(" ")
        share = 1.0 if rate.startswith("30") else 2 / 3
        reached = (row.static_flicker_change_percent, row.flicker_change_percent, row.dtssd_change_percent)
        for name, wanted, found in zip(
            ("static flicker", "flicker", "dtSSD"), _REDUCTIONS.get(kind, (None,) * 3), reached, strict=True
        ):
            if wanted is not None and found is not None:
                bars.append(_at_most(f"{row.group}: {name}, %", -wanted * share, found))
        if row.iou_worst_change is not None:
            bars.append(
                Bar(f"{row.group}: IoU, worst clip, points", ">= 0", row.iou_worst_change, row.iou_worst_change >= 0)
            )
        if row.ghost_percent is not None:
            bars.append(_at_most(f"{row.group}: ghost, %", _MOST_GHOST_PERCENT, row.ghost_percent))
    bars.append(_at_most("first frame after a cut, largest difference", 0.0, max(row.cut_residue for row in high)))
    lag = high[0].lag_frames
    bars.append(Bar("lag, frames", f"<= {_MOST_LAG}", lag, lag is not None and lag <= _MOST_LAG))
    for cost, most_ms in zip(
        [cost for cost in costs if cost.alternative is Alternative.HIGH], _MOST_CPU_MS, strict=True
    ):
        bars.append(_at_most(f"CPU at {cost.size}, ms", most_ms, cost.cpu_ms))
        bars.append(_at_most(f"CPU at {cost.size}, times the bare flow", _MOST_RATIO, cost.ratio))
        bars.append(_at_most(f"state at {cost.size}, bytes", _MOST_STATE_BYTES, cost.state_bytes))
    return bars


def _at_most(name: str, wanted: float, found: float) -> Bar:
    return Bar(name, f"<= {wanted:.4g}", found, found <= wanted)


def build(
    rows: Sequence[Row],
    figures: Sequence[Figures],
    reachable: Sequence[Limit],
    estimates: Sequence[EstimateFigures],
    costs: Sequence[Cost],
    bars: Sequence[Bar],
    steps: Mapping[Alternative, list[float]],
    about: Mapping[str, object],
) -> dict[str, Any]:
    """Everything a reader needs to judge and to repeat a run, as plain values."""
    return {
        "schema": SCHEMA,
        **about,
        "rows": [row.to_plain() for row in rows],
        "bars": [{"name": bar.name, "wanted": bar.wanted, "found": bar.found, "met": bar.is_met} for bar in bars],
        "limits": [limit.to_plain() for limit in reachable],
        "estimates": {
            "seen_every": SEEN_EVERY,
            "groups": [one.to_plain() for one in mean_by_group(estimates)],
            "sequences": [one.to_plain() for one in estimates],
        },
        "costs": [
            {
                "what": cost.alternative or "bare flow",
                "size": str(cost.size),
                "cpu_ms": round(cost.cpu_ms, 4),
                "times_bare_flow": round(cost.ratio, 3),
                "state_bytes": cost.state_bytes,
            }
            for cost in costs
        ],
        "step_response": {name: [round(share, 4) for share in shares] for name, shares in steps.items()},
        "sequences": [one.to_plain() for one in figures],
    }


def print_report(
    rows: Sequence[Row],
    reachable: Sequence[Limit],
    estimates: Sequence[EstimateFigures],
    costs: Sequence[Cost],
    bars: Sequence[Bar],
    console: Console,
) -> None:
    """Show a run in the terminal."""
    console.print(
        "OFF as it is, the others by their change against it on the same masks: IoU in points (worst: of the sequence"
        " that loses most), dtSSD, flicker and static flicker in %; ghost in % of the person, cut as alpha, lag in"
        " frames, CPU in ms.",
        highlight=False,
    )
    for group in dict.fromkeys(row.group for row in rows):
        console.print(_group_table([row for row in rows if row.group == group]))
    console.print(_limit_table(reachable))
    console.print(_estimate_table(mean_by_group(estimates)))
    cost_table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    cost_table.add_column("CPU of one thread", no_wrap=True, min_width=22)
    for name in ("size", "ms", "x flow", "state KB"):
        cost_table.add_column(name, justify="right")
    for cost in costs:
        cost_table.add_row(
            str(cost.alternative or "bare flow"), str(cost.size), f"{cost.cpu_ms:.2f}", f"{cost.ratio:.1f}",
            f"{cost.state_bytes / 1000:.0f}",
        )  # fmt: skip
    console.print(cost_table)
    for bar in bars:
        mark = "[green]met[/green]   " if bar.is_met else "[red]missed[/red]"
        console.print(f"{mark} {bar.name}: {_text(bar.found, '.4g')} (wanted {bar.wanted})", highlight=False)


def _limit_table(reachable: Sequence[Limit]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("mean along exact motion", no_wrap=True, min_width=22)
    table.add_column("dtSSD", justify="right")
    table.add_column("flicker", justify="right")
    for limit in reachable:
        table.add_row(limit.group, f"{limit.dtssd_change_percent:+.0f}%", f"{limit.flicker_change_percent:+.0f}%")
    return table


def _estimate_table(estimates: Sequence[EstimateFigures]) -> Table:
    """IoU of estimated frames, and flicker of the sequence: had the network seen all, estimated, repeated."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(f"network sees 1 of {SEEN_EVERY}", no_wrap=True, min_width=22)
    for name in ("IoU seen", "estimate", "repeated", "flicker seen", "estimate", "repeated"):
        table.add_column(name, justify="right")
    for one in estimates:
        table.add_row(
            one.group, f"{one.iou_network:.2f}", f"{one.iou_estimate:.2f}", f"{one.iou_repeated:.2f}",
            f"{one.flicker_network:.2f}", f"{one.flicker_estimate:.2f}", f"{one.flicker_repeated:.2f}",
        )  # fmt: skip
    return table


def _group_table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    count = f" x{rows[0].sequences}" if rows[0].sequences > 1 else ""
    table.add_column(rows[0].group + count, no_wrap=True, min_width=22)
    for name in ("IoU", "worst", "dtSSD", "flicker", "static", "ghost", "cut", "lag", "ms"):
        table.add_column(name, justify="right", no_wrap=True, min_width=4)
    for row in rows:
        if row.alternative is Alternative.OFF:
            values = (row.iou_percent, None, row.dtssd, row.flicker, row.static_flicker)
            cells = [_text(value, ".2f") for value in values]
        else:
            changes = (row.dtssd_change_percent, row.flicker_change_percent, row.static_flicker_change_percent)
            cells = [_text(value, "+.2f") for value in (row.iou_change, row.iou_worst_change)]
            cells += [_text(value, "+.0f", "%") for value in changes]
        table.add_row(
            str(row.alternative),
            *cells,
            _text(row.ghost_percent, ".1f"),
            f"{row.cut_residue:.2f}",
            "-" if row.lag_frames is None else str(row.lag_frames),
            f"{row.cpu_ms:.2f}",
        )
    return table


def _text(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"
