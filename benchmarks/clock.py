"""Whether the machine's clocks can be trusted during a run: a clock that was set, or a machine that was suspended."""

import time
from dataclasses import dataclass

#: The wall clock is slewed by at most half a millisecond a second (adjtime); more within one look was a jump.
MAX_JUMP_MS = 10.0
#: A look that took longer than this between its readings says nothing.
MAX_SPREAD_NS = 1_000_000


@dataclass(slots=True)
class ClockWatch:
    """Compares the wall clock with the monotonic one, look by look.

    A wall clock that is set jumps against it. So does one whose machine was suspended: on Linux the monotonic clock
    stands still meanwhile, and latencies across that gap are too short.
    """

    largest_jump_ms: float = 0.0
    """In either direction."""
    _offset_ns: int | None = None

    def look(self) -> None:
        """Read both clocks; to be called several times a second."""
        before_ns = time.monotonic_ns()
        wall_ns = time.time_ns()
        after_ns = time.monotonic_ns()
        if after_ns - before_ns <= MAX_SPREAD_NS:
            self.note((before_ns + after_ns) // 2, wall_ns)

    def note(self, monotonic_ns: int, wall_ns: int) -> None:
        """Take in a pair of readings of the same moment."""
        offset_ns = wall_ns - monotonic_ns
        if self._offset_ns is not None:
            self.largest_jump_ms = max(self.largest_jump_ms, abs(offset_ns - self._offset_ns) / 1e6)
        self._offset_ns = offset_ns
