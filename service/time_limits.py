"""What time allows one stream: to its config, between two messages, for an answer to be read, and in all.

Decisions alone: time is passed in, and the greatest age is drawn at random once. `service.session` asks what is due and
sleeps until there can be news.
"""

import random
from dataclasses import dataclass

from service.call_errors import CallError, Reason

#: By how much of it the greatest age of a stream is shortened at most, at random: streams that were opened together
#: (after a rollout) would all come back together.
AGE_SPREAD_RATIO = 0.1

#: What the client is told at the end, after a notice.
_PARTING = {
    Reason.DRAINING: "the server stops; open a new stream, which reaches another replica",
    Reason.MAX_AGE: "the stream has reached its greatest age; open a new one",
}


@dataclass(frozen=True, slots=True)
class SessionTimeouts:
    """How long a session may keep the server waiting, and how long it may live, in seconds."""

    config_s: float
    idle_s: float
    write_s: float
    max_age_s: float
    """0: for ever."""
    age_notice_s: float

    @property
    def shortest_s(self) -> float:
        """No limit that begins from now on ends sooner than this: so long may the watch sleep."""
        return min(self.config_s, self.idle_s, self.write_s)

    def draw_age_s(self) -> tuple[float, float] | None:
        """(age at which a new session is told, age at which it ends); None where it may live for ever."""
        if self.max_age_s == 0:
            return None
        # Not a secret: any generator will do.
        age_s = self.max_age_s * random.uniform(1 - AGE_SPREAD_RATIO, 1)
        return age_s - min(self.age_notice_s, age_s / 2), age_s


@dataclass(frozen=True, slots=True)
class Due:
    """What time asks for now.

    Attributes:
        sleep_s: no sooner is anything else due, unless `TimeLimits.end_soon` is called.
        notice_s: the stream has reached the age at which its client is told, and ends in so long; None: not now.
        is_over: the end that the client was told of has come.
    """

    sleep_s: float
    notice_s: float | None
    is_over: bool


class TimeLimits:
    """The clock of one stream."""

    def __init__(self, timeouts: SessionTimeouts, now_ns: int) -> None:
        self._timeouts = timeouts
        self.opened_ns = self._last_message_ns = now_ns
        self._write_began_ns: int | None = None
        self._age_s = timeouts.draw_age_s()
        self._end: tuple[int, Reason] | None = None

    @property
    def has_end(self) -> bool:
        """Whether the client was told that its stream ends."""
        return self._end is not None

    def message_came(self, now_ns: int) -> None:
        """The client is there; also where the server held it back, and asks for messages again only now."""
        self._last_message_ns = now_ns

    def write_began(self, now_ns: int) -> None:
        """An answer is handed to the transport, which waits for the client to read."""
        self._write_began_ns = now_ns

    def write_ended(self, now_ns: int) -> int:
        """The transport has taken it; for how long it was waited, in ns."""
        began_ns, self._write_began_ns = self._write_began_ns, None
        assert began_ns is not None
        return now_ns - began_ns

    def end_soon(self, reason: Reason, time_left_s: float, now_ns: int) -> bool:
        """The stream ends in so long; False where it was to end before that already."""
        at_ns = now_ns + int(time_left_s * 1e9)
        if self._end is not None and self._end[0] <= at_ns:
            return False
        self._end = at_ns, reason
        return True

    def parting(self) -> CallError:
        """What the client is told at the end."""
        assert self._end is not None
        reason = self._end[1]
        return CallError(reason, _PARTING[reason])

    def due(self, now_ns: int, *, awaits_config: bool, awaits_message: bool) -> Due:
        """What is due, while the server waits for the first config, for any message, or for neither.

        Raises:
            CallError: CLIENT_NOT_READING, CONFIG_TIMEOUT, IDLE_TIMEOUT.
        """
        remaining_s = [self._timeouts.shortest_s]
        for began_ns, limit_s, reason, what in self._running(
            awaits_config=awaits_config, awaits_message=awaits_message
        ):
            left_s = limit_s - (now_ns - began_ns) * 1e-9
            if left_s <= 0:
                raise CallError(reason, f"{what} within {limit_s:g} s")
            remaining_s.append(left_s)
        notice_s = None
        if self._age_s is not None:
            told_at_s, ends_at_s = self._age_s
            age_s = (now_ns - self.opened_ns) * 1e-9
            if age_s >= told_at_s:
                self._age_s = None
                notice_s = max(0.0, ends_at_s - age_s)
                remaining_s.append(notice_s)
            else:
                remaining_s.append(told_at_s - age_s)
        is_over = False
        if self._end is not None:
            left_s = (self._end[0] - now_ns) * 1e-9
            is_over = left_s <= 0
            if not is_over:
                remaining_s.append(left_s)
        return Due(min(remaining_s), notice_s, is_over)

    def _running(self, awaits_config: bool, awaits_message: bool) -> list[tuple[int, float, Reason, str]]:
        """(began at, limit in seconds, reason, complaint) of each time limit that runs now."""
        limits = []
        if self._write_began_ns is not None:
            what = "the client did not read an answer"
            limits.append((self._write_began_ns, self._timeouts.write_s, Reason.CLIENT_NOT_READING, what))
        if awaits_config:
            limits.append((self.opened_ns, self._timeouts.config_s, Reason.CONFIG_TIMEOUT, "no config came"))
        elif awaits_message:
            limits.append((self._last_message_ns, self._timeouts.idle_s, Reason.IDLE_TIMEOUT, "no message came"))
        return limits
