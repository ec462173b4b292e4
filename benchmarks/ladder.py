"""The same sessions at several loads, for latency over offered load and for what the service gives at most."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.plan import LoadPlan

#: A step is saturated when fewer masks than this share of the frames offered come back.
SATURATED_BELOW = 0.95


def steps(
    plan: LoadPlan, reference_fps: float, shares: Sequence[float], warmup_s: float, measured_s: float
) -> list[LoadPlan]:
    """Plans that offer ``share * reference_fps`` frames a second each, by more or fewer sessions of about ``plan.fps``.

    Whole sessions of the plan's frame rate rarely make the wanted sum, so the frame rate gives way a little.
    """
    plans = []
    for share in sorted(shares):
        offered_fps = share * reference_fps
        sessions = max(1, round(offered_fps / plan.fps))
        plans.append(
            replace(plan, sessions=sessions, fps=offered_fps / sessions, warmup_s=warmup_s, measured_s=measured_s)
        )
    return plans


def efficiency(runs: Sequence[Mapping[str, Any]], bare_fps: float) -> dict[str, Any]:
    """What is left of the bare engine's frames a second when the service is around it.

    Only runs that offered more than was served show what it gives at most; without one the ratio is None.
    """
    saturated = [
        run["frames"]["masks_per_s"]
        for run in runs
        if run["frames"]["masks_per_s"] < SATURATED_BELOW * run["frames"]["sent_per_s"]
    ]
    most = max(saturated, default=None)
    return {
        "most_masks_per_s": most,
        "bare_engine_fps": bare_fps,
        "ratio": None if most is None or not bare_fps else round(most / bare_fps, 4),
    }
