"""How many sessions a server carries: the search, and what a load must hold to count as carried. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: A load is carried with p99 and the on-time ratio at a frame's time at 30 fps, and hardly a frame dropped.
MAX_P99_MS = 33.3
MIN_ON_TIME_RATIO = 0.99
MAX_DROPPED_RATIO = 0.001
#: The number found must pass so often altogether.
PASSES_WANTED = 3
#: Masks that a try should bring, so that its p99 has something to stand on.
MASKS_WANTED = 1100


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a search found."""

    sessions: int
    """The largest number that passed every time; 0: not even one session is carried."""
    is_at_limit: bool
    """The search ended at its upper end: the server may carry more."""


def shortfalls(run: Mapping[str, Any]) -> list[str]:
    """Why a run's figures do not count as carried; empty if they do."""
    if "failed" in run:
        return [f"not taken: {run['failed']}"]
    found = []
    p99_ms = run["latency_from_intended_send"]["p99_ms"]
    if p99_ms > MAX_P99_MS:
        found.append(f"p99 {p99_ms:.1f} ms > {MAX_P99_MS}")
    on_time = run["on_time_ratio"]["within_33.3_ms"]
    if on_time is None or on_time < MIN_ON_TIME_RATIO:
        found.append("nothing was sent" if on_time is None else f"on time {100 * on_time:.2f} % < 99 %")
    sent = run["frames"]["sent"]
    dropped_ratio = (sum(run["frames"]["dropped"].values()) + run["frames"]["unanswered"]) / max(1, sent)
    if dropped_ratio > MAX_DROPPED_RATIO:
        found.append(f"dropped {100 * dropped_ratio:.2f} % > 0.1 %")
    # Latencies of a generator that lags are too long, never too short: a run that passes all the same is carried.
    if found and any("lags" in complaint for complaint in run["complaints"]):
        found.append("the load generator lagged: the limit may be its own")
    return found


def seconds_needed(sessions: int, fps: float, at_least_s: float) -> float:
    """How long a try must run for `MASKS_WANTED`."""
    return max(at_least_s, MASKS_WANTED / (sessions * fps))


def find_capacity(is_carried: Callable[[int], bool], start: int, limit: int) -> Capacity:
    """The largest number of sessions that is carried `PASSES_WANTED` times out of as many.

    Doubles from ``start`` until a number fails, halves the gap, then repeats the number found; if a repetition fails,
    the search goes on below it. Numbers are tried from 1 to ``limit``.
    """
    carried, failing = 0, limit + 1
    number = min(start, limit)
    while failing - carried > 1:
        if is_carried(number):
            carried = number
        else:
            failing = number
        number = min(carried * 2, limit) if failing > limit else (carried + failing) // 2
        number = max(number, 1)
    while carried and not all(is_carried(carried) for _ in range(PASSES_WANTED - 1)):
        carried -= 1
        while carried and not is_carried(carried):
            carried -= 1
    return Capacity(carried, carried == limit)
