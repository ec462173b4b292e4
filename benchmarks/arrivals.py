"""When frames ought to be sent: pure functions of the plan and a seed, no clock.

Times are nanoseconds from the common start of all sessions. A load generator that derives the next send time from the
last answer hides every stall of the server (coordinated omission); these times are fixed before the first frame is
sent, and latency counts from them.
"""

import random
from enum import StrEnum

NS_PER_S = 1_000_000_000


class Arrivals(StrEnum):
    """How the frames of one session lie in time."""

    PACED = "paced"
    """A camera: every 1/fps, each session at a phase of its own."""
    POISSON = "poisson"
    """Independent gaps with the mean 1/fps: what a jittery network makes of many cameras."""


def paced_ns(fps: float, duration_s: float, phase_ratio: float) -> list[int]:
    """Send times at equal distances, the first at ``phase_ratio`` (0 to 1) of a frame's distance.

    Computed from the frame's number, never by adding up, so that no error grows.
    """
    return [round((number + phase_ratio) * NS_PER_S / fps) for number in range(round(fps * duration_s))]


def poisson_ns(fps: float, duration_s: float, rng: random.Random) -> list[int]:
    """Send times of a Poisson process of ``fps`` events a second within ``duration_s``."""
    times: list[int] = []
    at_s = rng.expovariate(fps)
    while at_s < duration_s:
        times.append(round(at_s * NS_PER_S))
        at_s += rng.expovariate(fps)
    return times


def plan_ns(arrivals: Arrivals, sessions: int, fps: float, duration_s: float, seed: int) -> list[list[int]]:
    """Send times of every session, the same for the same seed; adding a session leaves the others as they were.

    Raises:
        ValueError: a figure that describes no load at all.
    """
    if sessions < 1 or not fps > 0 or not duration_s > 0:
        raise ValueError(f"{sessions} sessions at {fps} fps for {duration_s} s is no load; all three must be above 0")
    plans = []
    for session in range(sessions):
        rng = random.Random(f"{seed}/{session}")
        if arrivals is Arrivals.PACED:
            plans.append(paced_ns(fps, duration_s, phase_ratio=rng.random()))
        else:
            plans.append(poisson_ns(fps, duration_s, rng))
    return plans
