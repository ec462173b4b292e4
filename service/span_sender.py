"""Spans on their way out: a bounded queue and a thread that sends what is in it. Knows nothing of what a span is."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from service import log
from service.metrics import ServiceMetrics

#: A frame with its stages is about ten spans of some 2 KB.
MAX_WAITING = 4096
MAX_BATCH = 512
SEND_INTERVAL_S = 2.0
#: How long the end of the process may wait for what is left, and then for the try that was broken off.
CLOSE_TIMEOUT_S = 2.0
BREAK_OFF_TIMEOUT_S = 1.0
#: After so long without a loss the next one is told of again.
CALM_S = 10.0

SpanT = TypeVar("SpanT")


class SendError(Exception):
    """A batch did not arrive; the message says why."""


class SpanSender(Generic[SpanT]):
    """Sends spans on a thread of its own; what cannot be sent in time is dropped and counted."""

    def __init__(
        self,
        send: Callable[[Sequence[SpanT]], None],
        break_off: Callable[[], None],
        endpoint: str,
        metrics: ServiceMetrics,
        *,
        calm_s: float = CALM_S,
    ) -> None:
        """Start the thread.

        Args:
            send: takes at most `MAX_BATCH` spans, may block, raises SendError; called on the thread.
            break_off: ends a `send` that is under way, and every later one.
            endpoint: where they go, for the log.
            metrics: counts the spans.
            calm_s: after so long without a loss the next one is told of again.
        """
        self._send_batch, self._break_off = send, break_off
        self._endpoint, self._calm_s = endpoint, calm_s
        self._sent, self._dropped = metrics.trace_spans.labels("sent"), metrics.trace_spans.labels("dropped")
        self._waiting: deque[SpanT] = deque()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._state = threading.Lock()
        self._is_losing, self._lost_s = False, 0.0
        self._thread = threading.Thread(target=self._run, name="trace-sender", daemon=True)
        self._thread.start()

    def put(self, spans: Sequence[SpanT]) -> None:
        """Take spans, all of them or none; never waits. From one thread only, or the bound would not hold."""
        if len(self._waiting) + len(spans) > MAX_WAITING:
            self._lost(len(spans), f"{MAX_WAITING} spans wait already")
            return
        self._waiting.extend(spans)
        if len(self._waiting) >= MAX_BATCH:
            self._wake.set()

    def close(self) -> None:
        """Send what is left as far as there is time; the rest is dropped and counted. Nothing may be put after it."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_TIMEOUT_S)
        self._break_off()
        self._thread.join(BREAK_OFF_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(SEND_INTERVAL_S)
            self._wake.clear()
            while self._waiting:
                self._send([self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))])

    def _send(self, batch: Sequence[SpanT]) -> None:
        try:
            self._send_batch(batch)
        except Exception as error:  # the border of the thread: it must go on, whatever a span or a collector did
            self._lost(len(batch), str(error) if isinstance(error, SendError) else repr(error))
            return
        self._sent.inc(len(batch))
        with self._state:
            is_restored = self._is_losing and time.monotonic() - self._lost_s >= self._calm_s
            self._is_losing = self._is_losing and not is_restored
        if is_restored:
            log.event("trace_export_restored", endpoint=self._endpoint)

    def _lost(self, spans: int, why: str) -> None:
        """One line when spans begin to be lost; the counter tells how many."""
        self._dropped.inc(spans)
        with self._state:
            is_new = not self._is_losing
            self._is_losing, self._lost_s = True, time.monotonic()
        if is_new:
            log.event("trace_export_failed", level=logging.WARNING, endpoint=self._endpoint, why=why)
