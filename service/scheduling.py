"""Which waiting pictures make the next batch, and which come too late for one: pure policy, no clock, no threads.

The order: first the sessions that starve, the longest first; then by deadline, the oldest first; then, without one, by
arrival. A session has at most one picture here, so that all three are fair between sessions: whoever was just served
stands behind those who were not.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

#: A session that had frames but no mask for so long goes before every deadline. Beyond half a second fusion and
#: estimates have nothing to go on, and the mask on the screen stands still.
STARVING_NS = 500_000_000


@dataclass(frozen=True, slots=True)
class Lane:
    """Pictures that may share a batch: those for the same model, hence the same engine, and the same canvas."""

    model: str
    shape: Hashable


@dataclass(frozen=True, slots=True)
class Urgency:
    """How badly a picture wants its turn; all in monotonic nanoseconds."""

    arrived_ns: int
    deadline_ns: int | None = None
    """When its mask is of no use any more; None: it can wait."""
    hungry_since_ns: int | None = None
    """Arrival of the session's first frame after its last mask; None: this picture's own."""

    @property
    def unserved_since_ns(self) -> int:
        """Since when its session waits for a mask."""
        return self.arrived_ns if self.hungry_since_ns is None else self.hungry_since_ns

    def is_late(self, now_ns: int, run_ns: int) -> bool:
        """Whether a run of ``run_ns`` that begins now would end behind the deadline.

        Half of the time between arrival and deadline is always enough: were the expected time too large once, nothing
        would run any more, and so nothing would ever correct it.
        """
        if self.deadline_ns is None:
            return False
        return now_ns > self.deadline_ns - min(run_ns, (self.deadline_ns - self.arrived_ns) // 2)


class Waiting(Protocol):
    """A picture that waits."""

    @property
    def lane(self) -> Lane:
        """With which others it may share a batch."""
        ...

    @property
    def urgency(self) -> Urgency:
        """How badly it wants its turn."""
        ...

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """Positions in the list of those that wait."""

    batch: tuple[int, ...]
    """Those that are to run now, the most urgent first; empty if nobody waits in time."""
    late: tuple[int, ...]
    """Those that must not run any more."""


def choose_batch(
    waiting: Sequence[Waiting], preferred_batch: Mapping[str, int], run_ns: Mapping[str, int], now_ns: int
) -> Choice:
    """The next batch: the most urgent picture decides the lane, and others of that lane fill it up to a bucket.

    Args:
        waiting: in order of arrival; abandoned ones are neither chosen nor late.
        preferred_batch: by model, the batch beyond which its engine gains nothing.
        run_ns: by model, how long a batch is expected to take.
        now_ns: on the clock of the urgencies.
    """
    alive = [position for position, item in enumerate(waiting) if not item.abandoned]
    if len(alive) == 1:  # most often so, and then there is nothing to order
        only = waiting[alive[0]]
        is_late = only.urgency.is_late(now_ns, run_ns.get(only.lane.model, 0))
        return Choice((), (alive[0],)) if is_late else Choice((alive[0],), ())
    late = tuple(
        position
        for position in alive
        if waiting[position].urgency.is_late(now_ns, run_ns.get(waiting[position].lane.model, 0))
    )
    too_late = set(late)
    in_order = sorted(
        (position for position in alive if position not in too_late),
        key=lambda position: _rank(waiting[position].urgency, now_ns),
    )
    if not in_order:
        return Choice((), late)
    lane = waiting[in_order[0]].lane
    same_lane = [position for position in in_order if waiting[position].lane == lane]
    return Choice(tuple(same_lane[: bucket(len(same_lane), preferred_batch[lane.model])]), late)


def bucket(count: int, preferred: int) -> int:
    """How many of ``count`` pictures run together: a power of two, or the preferred batch itself.

    Engines keep memory and kernels for each batch size, so few sizes are used; what does not fit runs next.
    """
    if count >= preferred:
        return preferred
    return 1 << (count.bit_length() - 1)


def _rank(urgency: Urgency, now_ns: int) -> tuple[int, int]:
    if now_ns - urgency.unserved_since_ns >= STARVING_NS:
        return (0, urgency.unserved_since_ns)
    if urgency.deadline_ns is not None:
        return (1, urgency.deadline_ns)
    return (2, urgency.arrived_ns)
