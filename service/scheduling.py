"""Which waiting pictures make the next batch: pure policy, no clock, no threads.

A session has at most one picture here, so that the order of arrival is fair between sessions.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Lane:
    """Pictures that may share a batch: those for the same model and canvas."""

    model: str
    shape: Hashable


class Waiting(Protocol):
    """A picture that waits."""

    @property
    def lane(self) -> Lane:
        """With which others it may share a batch."""
        ...

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        ...


def choose_batch(waiting: Sequence[Waiting], preferred_batch: Mapping[str, int]) -> list[int]:
    """Positions of the pictures that are to run next, oldest first; empty if nobody waits.

    The oldest decides the lane, and others of that lane join it up to the batch that its model's engine prefers.
    ``waiting`` is in order of arrival; abandoned pictures are never chosen.
    """
    chosen: list[int] = []
    lane: Lane | None = None
    for position, item in enumerate(waiting):
        if item.abandoned or (lane is not None and item.lane != lane):
            continue
        lane = item.lane
        chosen.append(position)
        if len(chosen) >= preferred_batch[lane.model]:
            break
    return chosen
