"""The parent's side of the client processes: start, common start time, progress, results, and never one left behind.

Client processes are started by exec, never by fork (grpc does not survive a fork), and speak lines of JSON: the plan
goes in, ``opened`` comes out, the common start time goes in, ``progress`` and at last ``done`` or ``failed`` come out.
"""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.clock import ClockWatch
from benchmarks.machine import ROOT
from benchmarks.plan import LoadPlan, Outcome, Served
from benchmarks.scrape import ScrapeError, Snapshot
from benchmarks.target import Target, Usage

#: From "all sessions are open" to time zero: every process must have read the start time by then.
START_DELAY_S = 0.5
#: All sessions open their stream and get their first mask within this.
OPEN_TIMEOUT_S = 120.0
#: Beyond the plan's own duration: what is in flight is answered or given up.
FINISH_TIMEOUT_S = 45.0
#: Longest line of a client: some dozen encoded histograms.
LINE_LIMIT_BYTES = 16 * 2**20


class LoadError(Exception):
    """The load could not be carried out; one line for people."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The server at one moment, as far as it can be seen."""

    usage: Usage | None
    metrics: Snapshot | None


@dataclass(frozen=True, slots=True)
class Sample:
    """The server's use of the machine at one moment of the measured part."""

    at_s: float
    """From the end of the warm-up."""
    usage: Usage


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that was carried out."""

    outcome: Outcome
    served: Served
    before: Reading
    """When the warm-up was over."""
    after: Reading
    """When the last frame was answered."""
    very_first_mask_ms: float
    """Of a session before all others: cold, if the server was started for this run."""
    clock_jump_ms: float
    samples: tuple[Sample, ...] = ()
    """In the order of time; empty where the server cannot be seen."""


async def conduct(plan: LoadPlan, processes: int, target: Target, on_progress: Callable[[float], None]) -> Finished:
    """Carry a plan out.

    Args:
        plan: what to do; ``plan.numbers`` is dealt out here.
        processes: how many client processes at most.
        target: the server, to be watched meanwhile.
        on_progress: told the share (0 to 1) of the plan that is over.

    Raises:
        LoadError: a client process failed or stayed silent.
        TargetError: the server ended.
        ScrapeError: its metrics can no longer be read.
    """
    clients: list[_Client] = []
    clock = ClockWatch()
    try:
        for share in plan.shares(processes):
            # one by one: those that were started must be stopped if the next cannot be
            clients.append(await _Client.start(share))
            if share.is_first:
                try:
                    (probed,) = await _all_within(OPEN_TIMEOUT_S, "to get a first mask", [clients[0].line("probed")])
                except LoadError as error:
                    raise LoadError(f"{error} (asked was {plan.address})") from None
        opened = await _all_within(
            OPEN_TIMEOUT_S, "to open all sessions", [client.line("opened") for client in clients]
        )
        start_ns = time.monotonic_ns() + round(START_DELAY_S * 1e9)
        for client in clients:
            await client.tell(str(start_ns))
        limit_s = START_DELAY_S + plan.duration_s + FINISH_TIMEOUT_S
        load = asyncio.create_task(_all_within(limit_s, "to finish", [client.line("done") for client in clients]))
        watch = asyncio.create_task(_watch(plan, start_ns, target, clock, on_progress))
        try:
            done, (before, samples) = await asyncio.gather(load, watch)
        finally:
            for task in (load, watch):
                task.cancel()
            await asyncio.gather(load, watch, return_exceptions=True)
        outcome = Outcome()
        for client_opened, client_done in zip(opened, done, strict=True):
            outcome.merge(Outcome.from_plain(client_done["outcome"]))
            outcome.first_mask_ms += client_opened["first_mask_ms"]
        return Finished(
            outcome=outcome,
            served=Served(**opened[0]["served"]),
            before=before,
            after=await read(target),
            very_first_mask_ms=probed["first_mask_ms"],
            clock_jump_ms=clock.largest_jump_ms,
            samples=tuple(samples),
        )
    except (LoadError, ScrapeError):
        # A server that died explains a client that failed, not the other way round.
        await asyncio.sleep(0.2)
        target.check_alive()
        raise
    finally:
        await asyncio.gather(*(client.stop() for client in clients))


async def read(target: Target) -> Reading:
    """Take CPU time, memory and metrics now, without holding up the loop."""
    return Reading(await asyncio.to_thread(target.usage), await asyncio.to_thread(target.metrics))


async def _watch(
    plan: LoadPlan, start_ns: int, target: Target, clock: ClockWatch, on_progress: Callable[[float], None]
) -> tuple[Reading, list[Sample]]:
    """Until the plan is over by the clock (the load is an open loop): progress, clock and the server's use of things.

    Returns:
        The reading at the end of the warm-up, and samples of the measured part.
    """
    before: Reading | None = None
    samples: list[Sample] = []
    while True:
        clock.look()
        over_s = (time.monotonic_ns() - start_ns) / 1e9
        measured_s = over_s - plan.warmup_s
        if before is None and measured_s >= 0:
            before = await read(target)
        if before is not None and measured_s >= len(samples) * target.sample_every_s:
            usage = await asyncio.to_thread(target.usage)
            if usage is not None:
                samples.append(Sample(measured_s, usage))
        on_progress(min(max(over_s / plan.duration_s, 0.0), 1.0))
        if before is not None and over_s >= plan.duration_s:
            return before, samples
        await asyncio.sleep(0.1 if before is not None else max(0.0, min(0.1, -measured_s)))


async def _all_within(
    limit_s: float, what: str, lines: Sequence[Coroutine[Any, Any, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """A line of every client, in their order; the first that failed decides."""
    try:
        async with asyncio.timeout(limit_s):
            return await asyncio.gather(*lines)
    except TimeoutError:
        raise LoadError(
            f"the client processes took more than {limit_s:.0f} s {what}: more load than can be sent or served here;"
            " take fewer --sessions, a smaller --size or a lower --fps"
        ) from None


class _Client:
    """One client process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, plan: LoadPlan) -> "_Client":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.clients",
            cwd=ROOT,
            stdin=PIPE,
            stdout=PIPE,
            limit=LINE_LIMIT_BYTES,
            # Ctrl-C reaches the command alone; it ends its clients itself.
            start_new_session=True,
        )
        client = cls(process)
        await client.tell(plan.to_json())
        return client

    async def tell(self, line: str) -> None:
        assert self._process.stdin is not None  # PIPE above
        with suppress(ConnectionError):  # it failed already, and says so on its last line
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()

    async def line(self, event: str) -> dict[str, Any]:
        assert self._process.stdout is not None  # PIPE above
        text = await self._process.stdout.readline()
        if not text:
            raise LoadError(f"a client process ended with status {await self._process.wait()}")
        message: dict[str, Any] = json.loads(text)
        if message["event"] == "failed":
            raise LoadError(str(message["message"]))
        assert message["event"] == event, message
        return message

    async def stop(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
