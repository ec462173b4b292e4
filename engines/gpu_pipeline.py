"""One GPU and the thread that owns it: batches come from any thread, and their copies overlap with the computing.

The owner makes and destroys all streams, programs and graphs, and queues every batch; a second thread only waits for
events, so that the owner can queue the next batch while one is being computed. The callers copy into and out of pinned
memory themselves, on their own threads. Two slots a shape: while one is computed, the other is filled or read.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field

from engines.cuda import Cuda, DeviceMemoryError
from engines.gpu_slot import GpuTimes, Launch, ProgramFactory, Slot, SlotShape, Streams
from engines.runner import EngineError, EngineFailedError, EngineLostError
from humanseg.vision.arrays import AlphaBatch, Batch

LOGGER = logging.getLogger("humanseg.engines.gpu")
SLOTS_A_SHAPE = 2
#: A batch takes milliseconds; a device that has not answered by then never will.
ANSWER_TIMEOUT_S = 30.0

#: Called on the owner's thread with (cuda, resources, compute stream): loads what the programs share.
Loader = Callable[[Cuda, ExitStack, int], ProgramFactory]


class DeviceLostError(EngineLostError):
    """A GPU failed for good, or answers no more: nothing runs on it until the service is started again."""


@dataclass(slots=True)
class _Job:
    slot: Slot
    count: int
    answer: "Future[GpuTimes | None]" = field(default_factory=Future)
    timed: bool = False


class GpuPipeline:
    """An open device with everything warm. `run` may be called from several threads at once."""

    def __init__(
        self, open_device: Callable[[], Cuda], shapes: Sequence[SlotShape], load: Loader, *, launch: Launch
    ) -> None:
        """Start the device's thread, load the programs, and run and capture each shape; returns when all is warm.

        Args:
            open_device: called on the owner's thread.
            shapes: the buckets of every canvas.
            load: makes the programs.
            launch: `Launch.GRAPH` where the CUDA package has graphs.

        Raises:
            DeviceMemoryError: no room on the device; nothing is left behind on it.
            EngineError: anything else that keeps it from working.
        """
        self._open_device, self._shapes, self._load, self._launch = open_device, tuple(shapes), load, launch
        self._free: dict[SlotShape, queue.SimpleQueue[Slot]] = {shape: queue.SimpleQueue() for shape in shapes}
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._cuda: Cuda
        self._begun: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._state = threading.Condition()
        self._running = 0
        self._closed = False
        self._fault: str | None = None
        self._without_graph: str | None = None
        self._started: Future[None] = Future()
        self._owner = threading.Thread(target=self._own, name="gpu-owner", daemon=True)
        self._owner.start()
        self._started.result()

    @property
    def cuda(self) -> Cuda:
        """The device."""
        return self._cuda

    @property
    def launch(self) -> Launch:
        """How batches are launched; plain where a graph was asked for and could not be captured."""
        return Launch.PLAIN if self._without_graph else self._launch

    def run(self, batch: Batch) -> AlphaBatch:
        """Compute a batch, (N, H, W, C) uint8 of a shape that fits; (N, H, W) float32, the caller's own.

        Raises:
            DeviceMemoryError: the device had no memory for this batch; others are not harmed.
            DeviceLostError: the device is of no use any more.
            EngineFailedError: the batch was refused, or the pipeline is closed.
        """
        return self._run(batch, timed=False)[0]

    def run_timed(self, batch: Batch) -> tuple[AlphaBatch, GpuTimes]:
        """As `run`, with what the device's events say."""
        alpha, times = self._run(batch, timed=True)
        assert times is not None
        return alpha, times

    def close(self) -> None:
        """Let what runs end, free everything in reverse, and stop the threads. Closing twice is allowed."""
        with self._state:
            self._closed = True
            idle = self._state.wait_for(lambda: not self._running, ANSWER_TIMEOUT_S)
        if idle:
            self._jobs.put(None)
            self._owner.join(ANSWER_TIMEOUT_S)
        if self._owner.is_alive():
            # Its threads hang in the driver, and end with the process.
            LOGGER.error("GPU %d does not answer; its memory is freed when the process ends", self._cuda.device)

    def _run(self, batch: Batch, *, timed: bool) -> tuple[AlphaBatch, GpuTimes | None]:
        count = len(batch)
        self._enter()
        try:
            free = self._free[self._shape_for(batch)]
            deadline = time.monotonic() + ANSWER_TIMEOUT_S
            try:
                slot = free.get(timeout=ANSWER_TIMEOUT_S)
            except queue.Empty:
                raise self._lost(f"its buffers did not become free within {ANSWER_TIMEOUT_S:g} s") from None
            slot.host_input[:count] = batch
            job = _Job(slot, count, timed=timed)
            self._jobs.put(job)
            try:
                times = job.answer.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                # The slot stays taken: the device may still write to it.
                raise self._lost(f"no answer within {ANSWER_TIMEOUT_S:g} s") from None
            except EngineError:
                free.put(slot)
                raise
            alpha = slot.host_output[:count].copy()
            free.put(slot)
            return alpha, times
        finally:
            self._leave()

    def _shape_for(self, batch: Batch) -> SlotShape:
        fitting = [shape for shape in self._shapes if shape.input[1:] == batch.shape[1:] and shape.bucket >= len(batch)]
        if not fitting:
            raise EngineFailedError(f"no buffers for a batch of {batch.shape}; there are {self._shapes}")
        return min(fitting, key=lambda shape: shape.bucket)

    def _enter(self) -> None:
        with self._state:
            if self._closed:
                raise EngineFailedError("this runner is closed")
            if self._fault:
                raise DeviceLostError(f"{self._fault} earlier; restart the service")
            self._running += 1

    def _leave(self) -> None:
        with self._state:
            self._running -= 1
            self._state.notify_all()

    def _lost(self, what: str) -> DeviceLostError:
        with self._state:
            if self._fault is None:
                LOGGER.error("GPU %d is lost: %s", self._cuda.device, what)
            self._fault = self._fault or f"GPU {self._cuda.device} is lost: {what}"
        return DeviceLostError(f"{self._fault}; restart the service")

    def _own(self) -> None:
        """The owner's life: everything on the device is made and given back here."""
        try:
            with ExitStack() as resources:
                cuda = self._open_device()
                cuda.attach()
                resources.callback(cuda.detach)
                streams = Streams.create(cuda, resources)
                self._fill(cuda, resources, streams)
                waiter = threading.Thread(target=self._wait, args=(cuda,), name="gpu-waiter", daemon=True)
                waiter.start()
                resources.callback(waiter.join)
                resources.callback(self._begun.put, None)
                self._cuda = cuda
                self._started.set_result(None)
                while (job := self._jobs.get()) is not None:
                    self._begin(cuda, streams, job)
        except Exception as error:  # the border of the thread: the one who waits for the start is told
            if not self._started.done():
                self._started.set_exception(error)
            else:
                LOGGER.warning("a GPU could not be freed in order: %s", error)

    def _fill(self, cuda: Cuda, resources: ExitStack, streams: Streams) -> None:
        resources.callback(self._free.clear)
        factory = self._load(cuda, resources, streams.compute)
        launch = self._launch if cuda.has_graphs else Launch.PLAIN
        if launch is not self._launch:
            self._without_graph = f"{cuda.package} has no CUDA graphs"
        for shape in self._shapes:
            for _ in range(SLOTS_A_SHAPE):
                slot = Slot(cuda, resources, shape, factory, streams, launch)
                self._without_graph = self._without_graph or slot.capture_refused
                self._free[shape].put(slot)
        if self._without_graph:
            LOGGER.warning("batches are launched without a CUDA graph: %s", self._without_graph)

    def _begin(self, cuda: Cuda, streams: Streams, job: _Job) -> None:
        try:
            job.slot.begin(job.count)
        except Exception as error:  # told to the one who waits for this batch
            # What was queued before it failed must be over before the slot is used again.
            try:
                streams.synchronize(cuda)
            except EngineError as second:
                job.answer.set_exception(self._lost(f"{error}, then {second}"))
            else:
                job.answer.set_exception(_failed(error))
            return
        self._begun.put(job)

    def _wait(self, cuda: Cuda) -> None:
        """The second thread: waits for events in the order in which the batches were queued."""
        cuda.attach()
        try:
            while (job := self._begun.get()) is not None:
                try:
                    job.slot.wait()
                    job.answer.set_result(job.slot.times() if job.timed else None)
                except DeviceMemoryError as error:
                    job.answer.set_exception(error)
                except Exception as error:  # a kernel that fails leaves the whole context unusable
                    job.answer.set_exception(self._lost(str(error)))
        finally:
            cuda.detach()


def _failed(error: Exception) -> EngineError:
    return error if isinstance(error, EngineError) else EngineFailedError(f"a GPU failed on a batch: {error!r}")
