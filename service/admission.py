"""Whether another live stream fits: what the engines are known to do already, and what the newcomer will ask for.

Pure decisions; time is passed in. Counted is the work for live streams (policy NEWEST) alone: offline work and stills
take what is left over, and give way (`service.scheduling`). A stream counts by an assumption (so many frames a second,
at what a picture takes) until what it really does has been measured for a whole window.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from service.call_errors import CallError, Reason

#: Work is measured over this time.
WINDOW_NS = 1_000_000_000
#: A stream's own work counts from the first of these ages on, and the assumption about it holds until the second.
_COUNTED_FROM_NS, _ASSUMED_UNTIL_NS = WINDOW_NS, 2 * WINDOW_NS
_SLOT_NS = WINDOW_NS // 10


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """What the operator decides."""

    load_ratio: float
    """Up to which share of the runners' time live streams are admitted; 0: whatever the load."""
    assumed_fps: float
    """Frames a second that a new stream is assumed to send."""
    runners: int


class Admission:
    """The work for live streams of one server. Belongs to one event loop."""

    def __init__(self, rules: AdmissionRules) -> None:
        self._rules = rules
        self._admitted_ns: dict[Hashable, int] = {}
        self._assumed_ns: dict[Hashable, float] = {}
        #: (begin of the slot, runner time spent in it), the oldest first; ten at most.
        self._slots: deque[tuple[int, int]] = deque()

    def load(self, now_ns: int) -> float:
        """Share of the runners' time that the admitted streams take, as far as known; above 1: more than there is."""
        measured = sum(work_ns for begin_ns, work_ns in self._slots if now_ns - begin_ns <= WINDOW_NS) / WINDOW_NS
        assumed = sum(
            runners for key, runners in self._assumed_ns.items() if now_ns - self._admitted_ns[key] < _ASSUMED_UNTIL_NS
        )
        return (measured + assumed) / self._rules.runners

    def admit(self, key: Hashable, picture_ns: int, now_ns: int) -> None:
        """Take a live stream whose pictures hold a runner for so long; one that is in already stays.

        Raises:
            CallError: OVERLOADED, it does not fit. The first one always does: there is nobody whom it could harm.
        """
        if key in self._admitted_ns:
            return
        newcomer = picture_ns * 1e-9 * self._rules.assumed_fps
        load = self.load(now_ns) + newcomer / self._rules.runners
        if self._admitted_ns and 0 < self._rules.load_ratio < load:
            percent, most = round(100 * load), round(100 * self._rules.load_ratio)
            raise CallError(
                Reason.OVERLOADED,
                f"with another live stream the engines would be busy for {percent} % of the time, allowed are {most} %;"
                " try another replica, or this one later",
                metadata={"load_percent": str(percent), "max_load_percent": str(most)},
            )
        self._admitted_ns[key] = now_ns
        self._assumed_ns[key] = newcomer

    def worked(self, key: Hashable, picture_ns: int, now_ns: int) -> None:
        """A frame of a stream held a runner for so long."""
        admitted_ns = self._admitted_ns.get(key)
        if admitted_ns is None or now_ns - admitted_ns < _COUNTED_FROM_NS:
            return
        while self._slots and now_ns - self._slots[0][0] > WINDOW_NS:
            self._slots.popleft()
        if self._slots and now_ns - self._slots[-1][0] < _SLOT_NS:
            begin_ns, work_ns = self._slots.pop()
            self._slots.append((begin_ns, work_ns + picture_ns))
        else:
            self._slots.append((now_ns, picture_ns))

    def leave(self, key: Hashable) -> None:
        """A stream ended, or is no longer live."""
        self._admitted_ns.pop(key, None)
        self._assumed_ns.pop(key, None)
