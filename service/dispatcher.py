"""Carries pictures of all sessions to the engines and their masks back; every future is resolved on every path.

Which picture goes next is decided in `service.scheduling`. A batch is never waited for: on CPUs it gains nothing
(docs/design.md), and while an engine that gains from batches is busy, those that come meanwhile make the next one.

A job runs on one worker thread from its first byte to its encoded mask: a hop between threads costs about as much as
the whole letterbox, and on CPUs the engine's threads are the cores anyway. Futures belong to the job, so that a caller
who is cancelled leaves the others of its batch alone (a well-known server leaves them unanswered for ever).
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from engines.runner import EngineFailedError, EngineLostError, Runner
from humanseg.vision.arrays import AlphaBatch, Batch
from service.capacity import RunTimes
from service.metrics import ServiceMetrics
from service.models import ModelCatalog
from service.pipeline import EncodedMask, FusionMemory, PictureTask, Prepared, finish, geometry, prepare
from service.scheduling import Lane, Urgency, choose_batch
from service.stages import StageClock
from service.stream_config import SizeLimits
from service.worker_threads import WorkerThreads


class DispatcherClosed(Exception):
    """The server stops; the picture was not segmented."""


class FrameLate(Exception):
    """The mask would have come after its deadline, so the engine was spared the picture."""


@dataclass(slots=True, eq=False)
class _Job:
    task: PictureTask
    runner: Runner
    memory: FusionMemory
    clock: StageClock
    lane: Lane
    urgency: Urgency
    future: "asyncio.Future[EncodedMask]"
    submitted_ns: int
    outcome: EncodedMask | BaseException | None = field(default=None)

    @property
    def abandoned(self) -> bool:
        return self.future.done()


class Dispatcher:
    """The queue before the engines. Belongs to one event loop; only `_work` runs on other threads."""

    def __init__(self, catalog: ModelCatalog, limits: SizeLimits, metrics: ServiceMetrics, *, threads: int) -> None:
        self._catalog = catalog
        self._limits = limits
        self._metrics = metrics
        self._waiting: list[_Job] = []
        self._preferred: Mapping[str, int] = catalog.preferred_batches
        self._run_times = RunTimes(catalog.first_run_ns)
        self._free_threads = threads
        self._pool: WorkerThreads[list[_Job]] = WorkerThreads(threads, "engine", self._work)
        self._observe_batch: dict[str, Callable[[float], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.engine_lost: asyncio.Future[tuple[str, EngineLostError]] = self._loop.create_future()
        """Resolved with a model and why, once its engine can never work again."""

    @property
    def waiting(self) -> int:
        """Pictures that wait for a thread. At most one a session, so bounded by the sessions admitted."""
        return len(self._waiting)

    @property
    def run_times(self) -> RunTimes:
        """How long pictures occupy a runner."""
        return self._run_times

    async def segment(
        self,
        task: PictureTask,
        model: str,
        memory: FusionMemory,
        clock: StageClock,
        *,
        deadline_ns: int | None = None,
        hungry_since_ns: int | None = None,
    ) -> EncodedMask:
        """Segment one picture. ``memory`` is the session's, touched by one job at a time.

        Args:
            task: the picture.
            model: one that is served.
            memory: what the session remembers.
            clock: collects the picture's times; its arrival counts for the order.
            deadline_ns: when the mask is of no use any more; see `scheduling.Urgency`.
            hungry_since_ns: since when the session waits for a mask; see `scheduling.Urgency`.

        Raises:
            DecodeError, FrameError: the picture is not what it is said to be.
            FrameLate: the mask would come after its deadline.
            EngineError: the engine failed on it.
            DispatcherClosed: the server stops.
        """
        if self._closed:
            raise DispatcherClosed("the server stops")
        runner = self._catalog.runner(model)
        lane = Lane(model, None if task.size is None else geometry(runner.info.model, task.size, task.rotation).canvas)
        urgency = Urgency(clock.arrived_ns, deadline_ns, hungry_since_ns)
        future: asyncio.Future[EncodedMask] = self._loop.create_future()
        job = _Job(task, runner, memory, clock, lane, urgency, future, time.monotonic_ns())
        self._waiting.append(job)
        self._start_batches()
        try:
            return await future
        except asyncio.CancelledError:
            # Its picture is let go now, not when a thread gets round to it: clients may vanish by the hundred.
            if job in self._waiting:
                self._waiting.remove(job)
            raise

    def close(self) -> None:
        """Refuse what waits, let the running batches end, and stop the threads."""
        self._closed = True
        for job in self._waiting:
            _resolve(job.future, DispatcherClosed("the server stops"))
        self._waiting.clear()
        self._pool.shutdown()

    def _start_batches(self) -> None:
        while self._free_threads and self._waiting:
            choice = choose_batch(self._waiting, self._preferred, self._run_times.batch_ns, time.monotonic_ns())
            jobs = [self._waiting[position] for position in choice.batch]
            late = [self._waiting[position] for position in choice.late]
            gone = {*choice.batch, *choice.late}
            self._waiting = [job for at, job in enumerate(self._waiting) if at not in gone and not job.abandoned]
            for job in late:
                _resolve(job.future, _too_late(job, self._run_times))
            if jobs:
                self._start(jobs)

    def _start(self, jobs: list[_Job]) -> None:
        self._free_threads -= 1
        try:
            self._pool.submit(jobs)
        except RuntimeError as error:  # the system has no thread for the pool
            self._free_threads += 1
            for job in jobs:
                _resolve(job.future, _as_engine_error(error))

    def _work(self, jobs: list[_Job]) -> None:
        """One batch on a worker thread; whatever happens, every job gets an outcome."""
        began_ns = time.monotonic_ns()
        try:
            _run_jobs(jobs, self._limits, self._run_times, self._batch_observer(jobs[0].lane.model))
        except BaseException as error:  # the border of the worker: no job may stay unanswered, whatever it was
            for job in jobs:
                job.outcome = job.outcome or error
        # On a loop that is closed already nobody waits for the outcome any more.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._batch_done, jobs, time.monotonic_ns() - began_ns)

    def _batch_observer(self, model: str) -> Callable[[float], None]:
        """Found once a model: looking a label up takes longer than the count itself."""
        observe = self._observe_batch.get(model)
        if observe is None:
            observe = self._observe_batch[model] = self._metrics.batch_frames.labels(model).observe
        return observe

    def _batch_done(self, jobs: list[_Job], took_ns: int) -> None:
        self._free_threads += 1
        masks = sum(isinstance(job.outcome, EncodedMask) for job in jobs)
        if masks:
            self._run_times.add(jobs[0].lane.model, took_ns, masks)
        for job in jobs:
            if isinstance(job.outcome, EngineLostError) and not self.engine_lost.done():
                self.engine_lost.set_result((job.lane.model, job.outcome))
            _resolve(job.future, job.outcome or EngineFailedError("the job ended without an outcome"))
        if not self._closed:
            self._start_batches()


def _run_jobs(
    jobs: list[_Job], limits: SizeLimits, run_times: RunTimes, observe_batch: Callable[[float], None]
) -> None:
    """Prepare, run and finish a batch; sets the outcome of every job, a fault in one is the fault of that one alone."""
    started_ns = time.monotonic_ns()
    ready: list[tuple[_Job, Prepared]] = []
    for job in jobs:
        job.clock.passed("queue", job.submitted_ns, started_ns)
        if job.abandoned:
            continue
        try:
            ready.append((job, prepare(job.task, job.runner.info.model, limits, job.clock)))
        except Exception as error:  # told to the caller of this job, who knows its type
            job.outcome = error
            continue
        # Reading a large file takes its time: one that became late by it is still kept from the engine.
        if job.urgency.is_late(time.monotonic_ns(), run_times.batch_ns.get(job.lane.model, 0)):
            ready.pop()
            job.outcome = _too_late(job, run_times)
    for group in _by_shape(ready):
        _run_group(group, observe_batch)


def _by_shape(ready: list[tuple[_Job, Prepared]]) -> list[list[tuple[_Job, Prepared]]]:
    """Stills of unknown size may turn out to need another canvas than their batch: run each canvas by itself."""
    groups: dict[tuple[int, ...], list[tuple[_Job, Prepared]]] = {}
    for job, prepared in ready:
        groups.setdefault(prepared.network_input.shape, []).append((job, prepared))
    return list(groups.values())


def _run_group(group: list[tuple[_Job, Prepared]], observe_batch: Callable[[float], None]) -> None:
    inputs = [prepared.network_input for _, prepared in group]
    batch = inputs[0][np.newaxis] if len(inputs) == 1 else np.stack(inputs)
    began_ns, cpu = time.monotonic_ns(), time.thread_time_ns()
    try:
        alphas = _run_checked(group[0][0].runner, batch)
    except Exception as error:
        for job, _ in group:
            job.outcome = error
        return
    ended_ns, cpu = time.monotonic_ns(), time.thread_time_ns() - cpu
    if group[0][0].runner.info.own_threads:
        cpu = ended_ns - began_ns  # one core worked on it for that long, or waited for its turn: an upper bound
    observe_batch(len(group))
    for (job, prepared), alpha in zip(group, alphas, strict=True):
        job.clock.passed("inference", began_ns, ended_ns)
        job.clock.cpu_ns["inference"] = cpu // len(group)
        try:
            job.outcome = finish(job.task, job.runner.info.model, prepared, alpha, job.memory, job.clock)
        except Exception as error:
            job.outcome = error


def _run_checked(runner: Runner, batch: Batch) -> AlphaBatch:
    """Run a batch. Were its answer of another length, nobody could tell whose mask is whose: all of it is refused."""
    alphas = runner.run(batch)
    if len(alphas) != len(batch):
        raise EngineFailedError(f"{runner.info.path} answers {len(alphas)} alphas to a batch of {len(batch)}")
    return alphas


def _too_late(job: _Job, run_times: RunTimes) -> FrameLate:
    urgency = job.urgency
    allowed_ms = ((urgency.deadline_ns or urgency.arrived_ns) - urgency.arrived_ns) / 1e6
    waited_ms = (time.monotonic_ns() - urgency.arrived_ns) / 1e6
    takes_ms = run_times.batch_ns.get(job.lane.model, 0) / 1e6
    return FrameLate(f"waited {waited_ms:.0f} ms of {allowed_ms:.0f} allowed, and a run takes {takes_ms:.0f}")


def _as_engine_error(error: BaseException) -> EngineFailedError:
    failed = EngineFailedError(f"the batch broke off: {error!r}")
    failed.__cause__ = error
    return failed


def _resolve(future: "asyncio.Future[EncodedMask]", outcome: EncodedMask | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, EncodedMask):
        future.set_result(outcome)
    elif isinstance(outcome, StopIteration) or not isinstance(outcome, Exception):
        # A future refuses StopIteration and leaves its caller waiting; a cancellation or an exit out of an engine would
        # pass for the caller's own.
        future.set_exception(_as_engine_error(outcome))
    else:
        future.set_exception(outcome)
