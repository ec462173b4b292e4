"""A client process of a run: ``python -m benchmarks.clients``, started by `benchmarks.conductor`, not by hand.

Reads its plan from standard input, opens its sessions one after another (each until its first mask), waits for the
start time, and then sends every frame at its intended time whatever became of the earlier ones. When its parent goes
away, standard input ends and so does the process, whatever it is doing.
"""

import asyncio
import json
import os
import selectors
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import NoReturn

from benchmarks.arrivals import Stays, plan_ns
from benchmarks.footage import bounce, load
from benchmarks.plan import ON_TIME_MS, LoadPlan, Outcome, Served, SessionFigures
from benchmarks.recording import FrameTimes, Histogram
from benchmarks.slices import Slice, coarse_us, count_slices, slice_length_s
from humanseg.answers import Dropped, MaskAnswer, StageTimes
from humanseg.client import SegmentationClient
from humanseg.errors import SegmentationError
from humanseg.frames import FrameError, PixelFormat
from humanseg.options import FramePolicy, TemporalFusion
from humanseg.session_config import SessionConfig
from humanseg.stream import SegmentationStream
from humanseg.video import VideoError
from humanseg.vision.arrays import Size

#: What is still unanswered so long after the last frame is given up, and counted as at least this late.
GIVE_UP_S = 15.0
#: How far apart the sessions start in the footage, in frames: no two show the same picture at the same time.
OFFSET_FRAMES = 37


def record_stages(stages: dict[str, Histogram], times: StageTimes, round_trip_us: float) -> None:
    """Add one frame's stage times, in µs.

    ``unexplained`` is what lies between the server's stages: its total minus their sum. ``transport`` is the rest of
    the time from the actual send to the answer: both gRPC stacks, the wire, and the client itself.
    """
    known = {name.removesuffix("_us"): value for name, value in asdict(times).items()}
    total_us = known.pop("total")
    figures = {name: value for name, value in known.items() if value}
    figures["total"] = total_us
    figures["unexplained"] = max(0, total_us - sum(known.values()))
    figures["transport"] = max(0.0, round_trip_us - total_us)
    for name, value in figures.items():
        stages.setdefault(name, Histogram()).record_us(value)


class Session:
    """One stream of the load."""

    def __init__(self, number: int, plan: LoadPlan, stays: Stays, frames: Iterator[bytes]) -> None:
        """``stays`` count from the common start; what lies in the warm-up is sent but not recorded."""
        self.outcome = Outcome(slices=[Slice() for _ in range(count_slices(plan.measured_s))])
        self._number = number
        self._stays = stays
        self._warmup_ns = round(plan.warmup_s * 1e9)
        self._slice_ns = slice_length_s(plan.measured_s) * 1e9
        self._frames = frames
        self._under_way: dict[int, FrameTimes] = {}
        self._start_ns = 0
        self._last_frame_id = 0
        self._joining_since_ns: int | None = None

    async def open(self, stream: SegmentationStream, began_ns: int) -> float:
        """Send one frame and wait for its mask; the ms since ``began_ns``."""
        await stream.send(next(self._frames), capture_time_us=0, frame_id=self._next_frame_id())
        async for answer in stream:
            match answer:
                case MaskAnswer():
                    break
                case Dropped():
                    raise SessionFailed(f"the first frame was dropped: {answer.reason.name} {answer.detail}")
        return (time.monotonic_ns() - began_ns) / 1e6

    async def drive(
        self, stream: SegmentationStream, start_ns: int, client: SegmentationClient, config: SessionConfig
    ) -> None:
        """Send every frame at its time and record every answer; the first stay in ``stream``, others in new ones.

        Raises:
            SegmentationError: a stream failed.
        """
        self._start_ns = start_ns
        if self._stays:
            await self._stay(stream, self._stays[0])
        for stay in self._stays[1:]:
            self._joining_since_ns = start_ns + stay[0]
            await _sleep_until(self._joining_since_ns)
            async with client.stream(config) as joined:
                await self._stay(joined, stay)
        latency, counts = self.outcome.recorder.latency, self.outcome.frames
        figures = (latency.percentile_ms(50), latency.percentile_ms(99), latency.max_ms)
        self.outcome.sessions.append(SessionFigures(self._number, counts["sent"], counts["masks"], *figures))

    async def _stay(self, stream: SegmentationStream, send_times_ns: list[int]) -> None:
        # A reader that waits for ever is cancelled by the group when the sender fails, and the other way round.
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._receive(stream))
            await group.create_task(self._send(stream, send_times_ns))
            done, _ = await asyncio.wait([reader], timeout=GIVE_UP_S)
            if not done:
                reader.cancel()
        now_ns = time.monotonic_ns()
        for times in self._under_way.values():
            if self._measured(times):
                self.outcome.frames["unanswered"] += 1
                self._record_latency(times, now_ns, "unanswered")
        self._under_way.clear()

    async def _send(self, stream: SegmentationStream, send_times_ns: list[int]) -> None:
        sender_free_ns = self._joined_ns()
        for offset_ns in send_times_ns:
            intended_ns = self._start_ns + offset_ns
            picture = next(self._frames)
            await _sleep_until(intended_ns)
            times = FrameTimes(intended_ns, max(intended_ns, sender_free_ns), time.monotonic_ns())
            frame_id = self._next_frame_id()
            self._under_way[frame_id] = times
            if self._measured(times):
                self.outcome.recorder.sent(times)
                self.outcome.frames["sent"] += 1
                self._slice(times).counts["sent"] += 1
            await stream.send(picture, capture_time_us=intended_ns // 1000, frame_id=frame_id)
            sender_free_ns = time.monotonic_ns()
        await stream.finish()

    async def _receive(self, stream: SegmentationStream) -> None:
        async for answer in stream:
            now_ns = time.monotonic_ns()
            if not isinstance(answer, MaskAnswer | Dropped):
                continue
            times = self._under_way.pop(answer.frame_id)
            if self._joining_since_ns is not None and isinstance(answer, MaskAnswer):
                self.outcome.join_ms.append((now_ns - self._joining_since_ns) / 1e6)
                self._joining_since_ns = None
            if not self._measured(times):
                continue
            if isinstance(answer, Dropped):
                self.outcome.dropped[answer.reason.name] += 1
                self._slice(times).counts["dropped"] += 1
                continue
            self._record_latency(times, now_ns, "masks")
            self.outcome.frames["masks"] += 1
            for limit_ms in ON_TIME_MS:
                is_on_time = now_ns - times.intended_ns <= limit_ms * 1e6
                self.outcome.on_time[str(limit_ms)] += is_on_time
                self._slice(times).counts[f"on_time_{limit_ms}"] += is_on_time
            record_stages(self.outcome.stages, answer.times, (now_ns - times.started_ns) / 1000)

    def _record_latency(self, times: FrameTimes, now_ns: int, outcome: str) -> None:
        self.outcome.recorder.answered(times, now_ns)
        of_its_time = self._slice(times)
        of_its_time.latency_us[coarse_us((now_ns - times.intended_ns) / 1000)] += 1
        of_its_time.counts[outcome] += 1

    def _slice(self, times: FrameTimes) -> Slice:
        number = int((times.intended_ns - self._start_ns - self._warmup_ns) / self._slice_ns)
        return self.outcome.slices[min(number, len(self.outcome.slices) - 1)]

    def _joined_ns(self) -> int:
        """When a stream that was opened under load could be sent on: opening it is the server's time, not ours."""
        return time.monotonic_ns() if self._joining_since_ns is not None else 0

    def _next_frame_id(self) -> int:
        # Counted here: a frame must be known before it is sent, its answer may come before `send` returns.
        self._last_frame_id += 1
        return self._last_frame_id

    def _measured(self, times: FrameTimes) -> bool:
        return times.intended_ns - self._start_ns >= self._warmup_ns


class SessionFailed(Exception):
    """A session could not even begin; one line for people."""


async def carry_out(plan: LoadPlan, from_parent: "asyncio.Queue[str]") -> None:
    """Run the sessions of this process, and say on standard output how it goes.

    Raises:
        SegmentationError, SessionFailed, FrameError, VideoError: it does not go.
    """
    pixel_format = PixelFormat(plan.pixel_format)
    size = Size(plan.width, plan.height)
    footage = load(plan.clip, size, pixel_format)
    config = SessionConfig(
        size=size,
        model=plan.model,
        pixel_format=pixel_format,
        temporal_fusion=TemporalFusion[plan.temporal.upper()],
        frame_policy=FramePolicy[plan.policy.upper()],
        label="benchmark",
    )
    stays = plan_ns(plan.arrivals, plan.sessions, plan.fps, plan.duration_s, plan.seed)
    sessions = [
        Session(number, plan, stays[number], bounce(footage, number * OFFSET_FRAMES)) for number in plan.numbers
    ]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(SegmentationClient(plan.address))
        if plan.is_first:
            say("probed", first_mask_ms=await _open_and_leave(client, config, plan, footage))
        streams = []
        first_mask_ms = []
        for session in sessions:
            began_ns = time.monotonic_ns()
            streams.append(await stack.enter_async_context(client.stream(config)))
            first_mask_ms.append(await session.open(streams[-1], began_ns))
        model = streams[0].accepted.model
        served = Served(model.name, model.version, model.engine, *model.network_size)
        say("opened", first_mask_ms=first_mask_ms, served=asdict(served))
        start_ns = int(await from_parent.get())
        async with asyncio.TaskGroup() as group:
            for session, stream in zip(sessions, streams, strict=True):
                group.create_task(session.drive(stream, start_ns, client, config))
    outcome = Outcome()
    for session in sessions:
        outcome.merge(session.outcome)
    say("done", outcome=outcome.to_plain())


async def _open_and_leave(
    client: SegmentationClient, config: SessionConfig, plan: LoadPlan, footage: list[bytes]
) -> float:
    """What the first of all sessions waits for its first mask, in ms: models and memory may be cold."""
    visitor = Session(0, plan, [], bounce(footage, 0))
    began_ns = time.monotonic_ns()
    async with client.stream(config) as stream:
        waited_ms = await visitor.open(stream, began_ns)
        await stream.finish()
        async for _ in stream:
            pass
    return waited_ms


async def main() -> int:
    """Exit status for the parent, which gets the reason as a line before."""
    from_parent: asyncio.Queue[str] = asyncio.Queue(maxsize=2)  # the plan and the start time
    listener = asyncio.create_task(_listen(from_parent))
    plan = LoadPlan.from_json(await from_parent.get())
    status = 0
    try:
        await carry_out(plan, from_parent)
    except* (SegmentationError, SessionFailed, FrameError, VideoError) as errors:
        say("failed", message=first_line(errors))
        status = 1
    listener.cancel()
    return status


def say(event: str, **values: object) -> None:
    """Tell the parent."""
    print(json.dumps({"event": event, **values}), flush=True)


async def _sleep_until(at_ns: int) -> None:
    if (delay_ns := at_ns - time.monotonic_ns()) > 0:
        await asyncio.sleep(delay_ns / 1e9)


async def _listen(lines: "asyncio.Queue[str]") -> NoReturn:
    """Pass on what the parent says; once standard input ends, nobody reads the results any more."""
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        await lines.put(line.decode())
    os._exit(1)


def first_line(errors: BaseExceptionGroup[Exception]) -> str:
    """The first reason, whatever the depth."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def precise_loop() -> asyncio.AbstractEventLoop:
    """An event loop that wakes up on time: epoll, the default on Linux, rounds every wait up to a whole millisecond."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        sys.exit(runner.run(main()))
