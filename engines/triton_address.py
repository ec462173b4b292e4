"""One address of a Triton server as the runner sees it: watched by a thread of its own, left alone while it fails."""

import logging
import threading
import time

from engines.breaker import Breaker, BreakerState
from engines.runner import EngineError
from engines.triton_memory import RegionPool
from engines.triton_server import ModelWanted, ServerFailed, TritonServer
from humanseg.vision.arrays import AlphaBatch, Batch

LOGGER = logging.getLogger("humanseg.engines")
#: How often a server is looked at, calls or no calls: without calls nobody else would find that it is gone, or back.
LOOK_INTERVAL_S = 0.5
LOOK_TIMEOUT_S = 1.0
#: Of each question of a check; the first picture after a start may take long.
CHECK_TIMEOUT_S = 5.0


class TritonAddress:
    """A server, its breaker, and what is under way there."""

    def __init__(self, address: str, wanted: ModelWanted, regions: RegionPool | None = None) -> None:
        """With regions the server is on this host, and pictures and alphas go through shared memory."""
        self.address = address
        self.under_way = 0
        """Batches sent and not answered; guarded by the runner."""
        self._wanted = wanted
        self._regions = regions
        self._server = TritonServer(address, wanted, regions)
        self._breaker = Breaker()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._keep_watch, name=f"triton-{address}", daemon=True)

    def start(self) -> str:
        """Check the server and watch it from now on, whatever the check gives; the server's release.

        Raises:
            EngineError, ServerFailed: it cannot be used now. It will be, once it passes the check.
        """
        try:
            return self._server.check(CHECK_TIMEOUT_S)
        except (EngineError, ServerFailed) as error:
            with self._lock:
                self._breaker.open(str(error), time.monotonic_ns())
            raise
        finally:
            self._watch.start()

    @property
    def takes_calls(self) -> bool:
        """Whether it is worth a call."""
        with self._lock:
            return self._breaker.state is BreakerState.CLOSED

    @property
    def reason(self) -> str:
        """Why it is not; empty where it is."""
        with self._lock:
            return self._breaker.reason

    def infer(self, batch: Batch, timeout_s: float) -> AlphaBatch:
        """As `TritonServer.infer`; whether it failed counts for the breaker."""
        try:
            alpha = self._server.infer(batch, timeout_s)
        except ServerFailed as error:
            self._failed(error)
            raise
        with self._lock:
            self._breaker.answered()
        return alpha

    def close(self) -> None:
        """End the watch; calls under way finish."""
        self._stopping.set()
        if self._watch.ident is not None:
            self._watch.join()
        if self._regions is not None:
            self._regions.close()
            self._server.unregister_retired(LOOK_TIMEOUT_S)
            if left := self._regions.retired():
                LOGGER.warning("Triton at %s keeps shared memory until it ends: %s", self.address, ", ".join(left))

    def _keep_watch(self) -> None:
        while not self._stopping.wait(LOOK_INTERVAL_S):
            with self._lock:
                is_closed = self._breaker.state is BreakerState.CLOSED
                is_due = self._breaker.take_probe(time.monotonic_ns())
            if is_closed:
                self._look()
                self._server.unregister_retired(LOOK_TIMEOUT_S)
            elif is_due:
                self._probe()

    def _look(self) -> None:
        try:
            self._server.look(LOOK_TIMEOUT_S)
        except ServerFailed as error:
            self._failed(error)
        except EngineError as error:
            self._failed(ServerFailed(str(error)))

    def _probe(self) -> None:
        """Try the address on a fresh connection: the old one may be dead without knowing it."""
        fresh = TritonServer(self.address, self._wanted, self._regions)
        failure: str | None = None
        try:
            fresh.check(CHECK_TIMEOUT_S)
        except (EngineError, ServerFailed) as error:
            failure = str(error)
            fresh.close()
        with self._lock:
            self._breaker.probed(failure, time.monotonic_ns())
            if failure is None:
                self._server = fresh  # the old one ends with the last call that holds it
        if failure is None:
            LOGGER.info("Triton at %s serves %s again", self.address, self._wanted.inspected.metadata.name)

    def _failed(self, error: ServerFailed) -> None:
        reason = str(error)
        with self._lock:
            is_opened = self._breaker.failed(reason, time.monotonic_ns())
        if is_opened:
            name = self._wanted.inspected.metadata.name
            LOGGER.warning("Triton at %s is left alone for %s until it answers again: %s", self.address, name, reason)
