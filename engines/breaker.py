"""When to leave an address alone, and when to try it again: pure, the time is handed in."""

from enum import StrEnum

#: Failures in a row after which an address is left alone: one may be a connection that was reset.
FAILURES_TO_OPEN = 3
#: How long an address is left alone before a single probe may try it.
COOL_DOWN_S = 1.0


class BreakerState(StrEnum):
    """What an address is good for."""

    CLOSED = "closed"
    """Calls go there."""
    OPEN = "open"
    """Nothing goes there."""
    HALF_OPEN = "half-open"
    """One probe is under way, nothing else goes there."""


class Breaker:
    """A circuit breaker. Not for several threads at once: the owner has the lock."""

    def __init__(self) -> None:
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._opened_ns = 0
        self._reason = ""

    @property
    def state(self) -> BreakerState:
        """What the address is good for now."""
        return self._state

    @property
    def reason(self) -> str:
        """Why the address is left alone; empty while it is not."""
        return "" if self._state is BreakerState.CLOSED else self._reason

    def answered(self) -> None:
        """A call was answered. While the address is left alone only a probe counts: this call began before."""
        if self._state is BreakerState.CLOSED:
            self._failures = 0

    def failed(self, reason: str, now_ns: int) -> bool:
        """A call or a look found the address wanting; whether it is left alone from here on."""
        if self._state is not BreakerState.CLOSED:
            return False
        self._failures += 1
        if self._failures < FAILURES_TO_OPEN:
            return False
        self.open(reason, now_ns)
        return True

    def open(self, reason: str, now_ns: int) -> None:
        """Leave the address alone from now on."""
        self._state, self._reason, self._opened_ns = BreakerState.OPEN, reason, now_ns

    def take_probe(self, now_ns: int) -> bool:
        """Whether the caller is to probe the address now; it then owes `probed`."""
        if self._state is not BreakerState.OPEN or now_ns - self._opened_ns < COOL_DOWN_S * 1e9:
            return False
        self._state = BreakerState.HALF_OPEN
        return True

    def probed(self, failure: str | None, now_ns: int) -> None:
        """The end of a probe: None where the address works."""
        if failure is None:
            self._state, self._failures = BreakerState.CLOSED, 0
        else:
            self.open(failure, now_ns)
