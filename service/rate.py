"""How fast one stream is read: a token bucket, pure."""


class MessageRate:
    """So many messages a second on average, and a second's worth at once."""

    def __init__(self, per_s: float, now_ns: int) -> None:
        """``per_s``: 0 is no limit."""
        self._per_s = per_s
        self._left = per_s
        self._seen_ns = now_ns

    def take(self, now_ns: int) -> float:
        """Count a message; returns for how many seconds no other one ought to be read."""
        if self._per_s == 0:
            return 0.0
        self._left = min(self._per_s, self._left + (now_ns - self._seen_ns) * 1e-9 * self._per_s) - 1.0
        self._seen_ns = now_ns
        return max(0.0, -self._left / self._per_s)
