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
    BURSTY = "bursty"
    """Every 1/fps, all sessions at the same instants: the worst that cameras can do to a server."""
    CHURN = "churn"
    """Cameras of people who come and go: a session leaves after some seconds, and joins anew soon after."""


#: The stays of one session in the order of time, each with its send times; one stay but under `Arrivals.CHURN`.
Stays = list[list[int]]
#: Under `Arrivals.CHURN`: stays and absences are never shorter than the first, and this long on average, in seconds.
SHORTEST_STAY_S, MEAN_STAY_S = 1.0, 6.0
SHORTEST_ABSENCE_S, MEAN_ABSENCE_S = 0.5, 2.0


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


def churn_ns(fps: float, duration_s: float, rng: random.Random) -> Stays:
    """Stays of a session that is there from the start, leaves, and joins anew; paced within each.

    The first frame of a stay is intended at the very moment of joining, so that its latency has the joining in it.
    """
    stays: Stays = []
    begin_s = 0.0
    while begin_s < duration_s:
        stay_s = SHORTEST_STAY_S + rng.expovariate(1 / (MEAN_STAY_S - SHORTEST_STAY_S))
        first = paced_ns(fps, min(stay_s, duration_s - begin_s), phase_ratio=0.0)
        if first:
            stays.append([round(begin_s * NS_PER_S) + at_ns for at_ns in first])
        absence_s = SHORTEST_ABSENCE_S + rng.expovariate(1 / (MEAN_ABSENCE_S - SHORTEST_ABSENCE_S))
        begin_s += stay_s + absence_s
    return stays


def plan_ns(arrivals: Arrivals, sessions: int, fps: float, duration_s: float, seed: int) -> list[Stays]:
    """Stays of every session, the same for the same seed; adding a session leaves the others as they were.

    Raises:
        ValueError: a figure that describes no load at all.
    """
    if sessions < 1 or not fps > 0 or not duration_s > 0:
        raise ValueError(f"{sessions} sessions at {fps} fps for {duration_s} s is no load; all three must be above 0")
    return [
        _stays(arrivals, fps, duration_s, random.Random(f"{seed}/{session}"), random.Random(f"{seed}"))
        for session in range(sessions)
    ]


def _stays(arrivals: Arrivals, fps: float, duration_s: float, own: random.Random, shared: random.Random) -> Stays:
    match arrivals:
        case Arrivals.PACED:
            return [paced_ns(fps, duration_s, phase_ratio=own.random())]
        case Arrivals.POISSON:
            return [poisson_ns(fps, duration_s, own)]
        case Arrivals.BURSTY:
            return [paced_ns(fps, duration_s, phase_ratio=shared.random())]
        case Arrivals.CHURN:
            return churn_ns(fps, duration_s, own)
