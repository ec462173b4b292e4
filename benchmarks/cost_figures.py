"""Figures and verdict of `benchmarks.serving_cost`; pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Most that a mask may cost beyond engine and fusion, in ms of CPU time; on a machine with nothing else to do.
MOST_MS = 1.0
#: And over what a bare echo server costs in the same run.
MOST_RATIO = 1.0
#: Least share of the bare engine's frames a second.
LEAST_EFFICIENCY = 0.85
#: Below so many masks in a pass its CPU time, which the system counts in hundredths of a second, says too little.
LEAST_MASKS = 200


@dataclass(frozen=True, slots=True)
class CostPass:
    """What one pass took of the server."""

    masks: int
    cpu_s: float
    """User and system time of its process."""
    models_cpu_s: float
    """Of that, in engine and fusion."""

    @property
    def serving_ms(self) -> float:
        """For each mask, beyond engine and fusion."""
        return (self.cpu_s - self.models_cpu_s) * 1000 / self.masks


def judge(
    costs: Mapping[str, Sequence[CostPass]], served_fps: Sequence[float], bare_fps: Sequence[float]
) -> dict[str, Any]:
    """The figures of all passes, and whether the bars are held.

    Args:
        costs: passes of ``service``, ``echo`` and others.
        served_fps: frames a second at saturation, a value a pass.
        bare_fps: those of the engine alone, of the same passes.
    """
    cost = {name: _summary(passes) for name, passes in costs.items()}
    ours, floor = cost["service"], cost["echo"]
    ratio = {key: round(ours[f"{key}_ms"] / floor[f"{key}_ms"], 3) for key in ("min", "median")}
    by_pass = [served / bare for served, bare in zip(served_fps, bare_fps, strict=True)]
    saturation = {
        "served_fps": round(statistics.median(served_fps), 2),
        "bare_fps": round(statistics.median(bare_fps), 2),
        # Neighbors in time: what else the machine did meanwhile hit both of a pass.
        "efficiency": round(statistics.median(by_pass), 4),
        "least": round(min(by_pass), 4),
        "most": round(max(by_pass), 4),
    }
    complaints = []
    if ours["median_ms"] > MOST_MS:
        complaints.append(f"{ours['median_ms']:.2f} ms a mask, allowed are {MOST_MS:g} on a quiet machine")
    if ratio["median"] > MOST_RATIO:
        complaints.append(f"{ratio['median']:.2f} of the bare echo server, allowed are {MOST_RATIO:g}")
    if saturation["efficiency"] < LEAST_EFFICIENCY:
        complaints.append(f"{saturation['efficiency']:.1%} of the bare engine, wanted are {LEAST_EFFICIENCY:.0%}")
    least_masks = min(figures["least_masks"] for figures in cost.values())
    if least_masks < LEAST_MASKS:
        complaints.append(f"a pass of {least_masks} masks, {LEAST_MASKS} are needed; give it more --seconds")
    return {
        "cost": cost,
        "cost_ratio": ratio,
        "saturation": saturation,
        "held": not complaints,
        "complaints": complaints,
    }


def _summary(passes: Sequence[CostPass]) -> dict[str, Any]:
    each_ms = [each.serving_ms for each in passes]
    return {
        "min_ms": round(min(each_ms), 4),
        "median_ms": round(statistics.median(each_ms), 4),
        "max_ms": round(max(each_ms), 4),
        "least_masks": min(each.masks for each in passes),
    }
