"""Carries pictures of all sessions to the engines and their masks back; every future is resolved on every path.

A job runs on one worker thread from its first byte to its encoded mask: a hop between threads costs about as much as
the whole letterbox, and on CPUs the engine's threads are the cores anyway. Futures belong to the job, so that a caller
who is cancelled leaves the others of its batch alone (a well-known server leaves them unanswered for ever).
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from engines.runner import EngineError, Runner
from service.metrics import ServiceMetrics
from service.models import ModelCatalog
from service.pipeline import EncodedMask, FusionMemory, PictureTask, Prepared, finish, geometry, prepare
from service.scheduling import Lane, choose_batch
from service.stages import StageClock
from service.stream_protocol import SizeLimits


class DispatcherClosed(Exception):
    """The server stops; the picture was not segmented."""


@dataclass(slots=True)
class _Job:
    task: PictureTask
    runner: Runner
    memory: FusionMemory
    clock: StageClock
    lane: Lane
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
        self._free_threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engine")
        self._loop = asyncio.get_running_loop()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Pictures that wait for a thread. At most one a session, so bounded by the sessions admitted."""
        return len(self._waiting)

    async def segment(self, task: PictureTask, model: str, memory: FusionMemory, clock: StageClock) -> EncodedMask:
        """Segment one picture. ``memory`` is the session's, touched by one job at a time.

        Raises:
            DecodeError, FrameError: the picture is not what it is said to be.
            EngineError: the engine failed on it.
            DispatcherClosed: the server stops.
        """
        if self._closed:
            raise DispatcherClosed("the server stops")
        runner = self._catalog.runner(model)
        lane = Lane(model, None if task.size is None else geometry(runner.info.model, task.size, task.rotation).canvas)
        future: asyncio.Future[EncodedMask] = self._loop.create_future()
        self._waiting.append(_Job(task, runner, memory, clock, lane, future, time.monotonic_ns()))
        self._start_batches()
        return await future

    def close(self) -> None:
        """Refuse what waits, let the running batches end, and stop the threads."""
        self._closed = True
        for job in self._waiting:
            _resolve(job.future, DispatcherClosed("the server stops"))
        self._waiting.clear()
        self._pool.shutdown(wait=True)

    def _start_batches(self) -> None:
        while self._free_threads and (positions := choose_batch(self._waiting, self._preferred)):
            jobs = [self._waiting[position] for position in positions]
            chosen = set(positions)
            self._waiting = [
                job for position, job in enumerate(self._waiting) if position not in chosen and not job.abandoned
            ]
            self._free_threads -= 1
            self._pool.submit(self._work, jobs)

    def _work(self, jobs: list[_Job]) -> None:
        """One batch on a worker thread; whatever happens, every job gets an outcome."""
        try:
            _run_jobs(jobs, self._limits, self._metrics.batch_frames.labels(jobs[0].lane.model).observe)
        except BaseException as error:  # the border of the worker: no job may stay unanswered, whatever it was
            for job in jobs:
                job.outcome = job.outcome or error
        # On a loop that is closed already nobody waits for the outcome any more.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._batch_done, jobs)

    def _batch_done(self, jobs: list[_Job]) -> None:
        self._free_threads += 1
        for job in jobs:
            _resolve(job.future, job.outcome or EngineError("the job ended without an outcome"))
        if not self._closed:
            self._start_batches()


def _run_jobs(jobs: list[_Job], limits: SizeLimits, observe_batch: Callable[[float], None]) -> None:
    """Prepare, run and finish a batch; sets the outcome of every job, a fault in one is the fault of that one alone."""
    started_ns = time.monotonic_ns()
    ready: list[tuple[_Job, Prepared]] = []
    for job in jobs:
        job.clock.wall_ns["queue"] = started_ns - job.submitted_ns
        try:
            ready.append((job, prepare(job.task, job.runner.info.model, limits, job.clock)))
        except Exception as error:  # told to the caller of this job, who knows its type
            job.outcome = error
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
    wall, cpu = time.monotonic_ns(), time.thread_time_ns()
    try:
        alphas = group[0][0].runner.run(batch)
    except Exception as error:
        for job, _ in group:
            job.outcome = error
        return
    wall, cpu = time.monotonic_ns() - wall, time.thread_time_ns() - cpu
    if group[0][0].runner.info.own_threads:
        cpu = wall  # one core worked on it for that long, or waited for its turn: an upper bound
    observe_batch(len(group))
    for (job, prepared), alpha in zip(group, alphas, strict=True):
        job.clock.wall_ns["inference"] = wall
        job.clock.cpu_ns["inference"] = cpu // len(group)
        try:
            job.outcome = finish(job.task, job.runner.info.model, prepared, alpha, job.memory, job.clock)
        except Exception as error:
            job.outcome = error


def _resolve(future: "asyncio.Future[EncodedMask]", outcome: EncodedMask | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
