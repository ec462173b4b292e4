"""One session: the asyncio shell round the stream's state machine, the fusion's memory, and the time limits.

Three tasks, all owned by `Session.run`: one reads what the client sends, always, so that the newest frame is known;
one works the entries off in order; one watches the clock. No message is read under a timeout of its own: grpc.aio
loses memory on each read that is cancelled, so the watch ends the whole stream instead.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from engines.runner import EngineError
from humanseg.frames import FrameError
from humanseg.options import Estimates, FramePolicy
from humanseg.vision.decode import DecodeError
from service import log
from service.admission import Admission
from service.answers import (
    AcceptAnswer,
    Answer,
    DropAnswer,
    EstimateAnswer,
    Incoming,
    MaskAnswer,
    ReceivedImage,
    ResumeAnswer,
)
from service.call_errors import CallError, Reason
from service.composite_messages import decode_image
from service.converters import frame_task
from service.degrade import Fate, Ladder, rungs
from service.dispatcher import Dispatcher, DispatcherClosed, FrameLate
from service.estimator import Estimator
from service.metrics import ServiceMetrics
from service.pipeline import FusionMemory
from service.rate import MessageRate
from service.region import SharedMemoryError
from service.resume import ResumeOutcome, Sealer, TokenRefused
from service.stages import StageClock
from service.stream_config import StreamConfig
from service.stream_protocol import (
    ConfigEntry,
    DegradeEntry,
    DropEntry,
    DropReason,
    EstimateEntry,
    FrameEntry,
    NoticeEntry,
    NoticeReason,
    ReceivedFrame,
    State,
    StreamProtocol,
)
from service.time_limits import SessionTimeouts, TimeLimits


class Session:
    """A stream from its first message to its end."""

    def __init__(
        self,
        session_id: str,
        protocol: StreamProtocol,
        dispatcher: Dispatcher,
        estimator: Estimator,
        metrics: ServiceMetrics,
        timeouts: SessionTimeouts,
        admission: Admission,
        ladder: Ladder,
        served: Sequence[str],
        sealer: Sealer,
        tenant: str,
        max_messages_per_s: float,
    ) -> None:
        self.session_id = session_id
        self.tenant = tenant
        self.frames = 0
        self.masks = 0
        self.estimates = 0
        self.drops = 0
        self._protocol = protocol
        self._dispatcher = dispatcher
        self._estimator = estimator
        self._metrics = metrics
        self._limits = TimeLimits(timeouts, time.monotonic_ns())
        self._admission = admission
        self._ladder = ladder
        self._served = served
        self._sealer = sealer
        self._memory = FusionMemory()
        self._remembered_frame_id: int | None = None
        self._resume_point_frame_id: int | None = None
        self._resume_point_ns = time.monotonic_ns()
        self._rate = MessageRate(max_messages_per_s, time.monotonic_ns())
        self._end_is_news = asyncio.Event()
        self._ended = False
        self._engine_failure_logged = False
        self._hungry_since_ns: int | None = None
        self._is_configured = False
        self._work_ready = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def label(self) -> str:
        """The client's name for this session, empty before the first config."""
        config = self._protocol.config
        return config.label if config else ""

    @property
    def model(self) -> str:
        """The model in use, empty before the first config."""
        config = self._protocol.config
        return config.model if config else ""

    async def run(self, incoming: AsyncIterator[Incoming], answer: Callable[[Answer], Awaitable[None]]) -> None:
        """Serve the stream to its end; returns when the client half-closed and everything is answered.

        Raises:
            CallError: the stream ends with an error status.
        """
        reader = asyncio.create_task(self._read(incoming))
        worker = asyncio.create_task(self._work(answer))
        watch = asyncio.create_task(self._watch())
        tasks = {reader, worker, watch}
        try:
            while not worker.done():
                await asyncio.wait(tasks - {task for task in tasks if task.done()}, return_when=asyncio.FIRST_COMPLETED)
                for task in (reader, watch):
                    if task.done():
                        task.result()  # raises what ended it
            worker.result()
        finally:
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:  # also where the call is cancelled once more meanwhile
                self._admission.leave(self)
                self._metrics.degraded(self._ladder.level, 0)
        if self._ended:
            raise self._limits.parting()

    def drain(self, time_left_s: float) -> None:
        """Tell the client that the server stops; frames are still taken for ``time_left_s``."""
        self._end_soon(Reason.DRAINING, NoticeReason.DRAINING, time_left_s)

    def _end_soon(self, reason: Reason, notice: NoticeReason, time_left_s: float) -> None:
        if not self._limits.end_soon(reason, time_left_s, time.monotonic_ns()):
            return  # told already, and of an earlier end
        self._end_is_news.set()
        self._protocol.notify(notice, time_left_s)
        self._work_ready.set()

    async def _read(self, incoming: AsyncIterator[Incoming]) -> None:
        async for message in incoming:
            now_ns = time.monotonic_ns()
            self._limits.message_came(now_ns)
            if self._protocol.state is State.CLOSED:
                return  # the end came while this message was on its way: it was never accepted
            if isinstance(message, ReceivedFrame):
                self._protocol.receive_frame(message, now_ns)
                self.frames += 1
            elif isinstance(message, ReceivedImage):
                await self._take_image(message)
            else:
                self._protocol.receive_config(message)
                self._ask_for_capacity(now_ns)
            self._work_ready.set()
            if hold_off_s := self._rate.take(now_ns):
                # What is not read is held back by HTTP/2 in the client.
                await asyncio.sleep(hold_off_s)
                self._limits.message_came(time.monotonic_ns())
            # mypy believes that the state is as it was above; the watch may have closed it meanwhile.
            while not self._protocol.wants_input and self._protocol.state is not State.CLOSED:  # type: ignore[comparison-overlap]
                self._room.clear()
                await self._room.wait()
                self._limits.message_came(time.monotonic_ns())
        self._protocol.close_input()
        self._work_ready.set()

    async def _take_image(self, image: ReceivedImage) -> None:
        """Raises CallError where it is not acceptable; nothing more is read meanwhile."""
        self._protocol.require_room_for_image(image.image_id)
        decoded = await asyncio.to_thread(decode_image, image.image_id, image.file, self._protocol.limits)
        if self._protocol.state is not State.CLOSED:
            self._protocol.receive_image(decoded)
        self._limits.message_came(time.monotonic_ns())

    def _ask_for_capacity(self, now_ns: int) -> None:
        """Raises CallError (OVERLOADED) where this session's config makes it a live stream that does not fit."""
        config = self._protocol.config
        if config is None or config.policy is not FramePolicy.NEWEST:
            self._admission.leave(self)
        else:
            self._admission.admit(self, self._dispatcher.run_times.picture_ns.get(config.model, 0), now_ns)

    def _choose_rungs(self, config: StreamConfig) -> None:
        """In its turn among the frames: those before it belong to the config before."""
        before = self._ladder.level
        if self._ladder.configure(rungs(config, self._served)):
            self._tell_level(before)

    def _saw(self, fate: Fate) -> None:
        """A frame meant for the engine was answered: perhaps the level does not fit any more."""
        before = self._ladder.level
        if self._ladder.saw(fate, time.monotonic_ns()):
            self._metrics.degrade_step(went_down=self._ladder.level > before)
            self._tell_level(before)

    def _tell_level(self, before: int) -> None:
        level, rung = self._ladder.level, self._ladder.rung
        self._metrics.degraded(before, level)
        self._protocol.degrade(DegradeEntry(level > before, level, rung.model, rung.every_second))
        self._work_ready.set()
        log.event(
            "level_changed", session=self.session_id, label=self.label, steps_below=level, model=rung.model,
            every_second=rung.every_second,
        )  # fmt: skip

    async def _work(self, answer: Callable[[Answer], Awaitable[None]]) -> None:
        while not self._protocol.finished:
            entry = self._protocol.next_entry()
            if entry is None:
                self._work_ready.clear()
                await self._work_ready.wait()
                continue
            self._room.set()
            match entry:
                case FrameEntry():
                    await self._say(answer, await self._segment(entry))
                    await self._offer_resume_point_if_due(answer, entry.config)
                case EstimateEntry():
                    await self._say(answer, await self._estimate(entry))
                    # There may be a mask instead, where nothing could be carried along.
                    await self._offer_resume_point_if_due(answer, entry.frame.config)
                case DropEntry():
                    if entry.reason is DropReason.SUPERSEDED:
                        self._saw(Fate.SUPERSEDED)
                    clock = StageClock(entry.arrived_ns)
                    await self._say(answer, self._drop(entry, entry.reason, entry.detail, clock))
                case ConfigEntry():
                    self._choose_rungs(entry.config)
                    await self._say(answer, await self._accept(entry))
                case DegradeEntry():
                    await self._say(answer, entry)
                case NoticeEntry():
                    # Before it, so that a client which leaves at once has it.
                    await self._offer_resume_point(answer)
                    await self._say(answer, entry)
        if self._limits.has_end:
            await self._offer_resume_point(answer)

    async def _say(self, answer: Callable[[Answer], Awaitable[None]], reply: Answer) -> None:
        self._limits.write_began(time.monotonic_ns())
        await answer(reply)
        self._metrics.write_seconds.observe_ns(self._limits.write_ended(time.monotonic_ns()))

    async def _accept(self, entry: ConfigEntry) -> AcceptAnswer:
        outcome = await self._resume(entry) if entry.resume_token else None
        if not self._is_configured:  # a client may send a config before every frame
            self._is_configured = True
            config = entry.config
            log.event(
                "session_configured", session=self.session_id, label=config.label, model=config.model,
                size=config.size, resume="" if outcome is None else outcome.name.lower(),
            )  # fmt: skip
        return AcceptAnswer(entry, outcome)

    async def _resume(self, entry: ConfigEntry) -> ResumeOutcome:
        try:
            self._memory = await asyncio.to_thread(
                self._sealer.open, entry.resume_token, entry.config.model, self.tenant
            )
            outcome = ResumeOutcome.RESUMED
        except TokenRefused as refused:
            outcome = refused.outcome
        self._metrics.resume_asked(outcome.name)
        return outcome

    async def _offer_resume_point_if_due(
        self, answer: Callable[[Answer], Awaitable[None]], config: StreamConfig
    ) -> None:
        interval_s = config.resume_interval_s
        if interval_s > 0 and time.monotonic_ns() - self._resume_point_ns >= interval_s * 1e9:
            await self._offer_resume_point(answer)

    async def _offer_resume_point(self, answer: Callable[[Answer], Awaitable[None]]) -> None:
        """Send a token, unless there is nothing new to remember since the last one."""
        frame_id = self._remembered_frame_id
        if frame_id is None or frame_id == self._resume_point_frame_id:
            return
        token = await asyncio.to_thread(self._sealer.seal, self._memory, self.tenant)
        self._resume_point_ns, self._resume_point_frame_id = time.monotonic_ns(), frame_id
        if token is not None:
            self._metrics.resume_points.inc()
            await self._say(answer, ResumeAnswer(token, frame_id))

    async def _segment(self, entry: FrameEntry) -> MaskAnswer | DropAnswer:
        clock = StageClock(entry.arrived_ns)
        clock.started()
        if self._hungry_since_ns is None:
            self._hungry_since_ns = entry.arrived_ns
        allowed_ns = entry.config.frame_deadline_ns
        rung, level = self._ladder.rung, self._ladder.level
        task = frame_task(entry)
        if rung.every_second:
            task = replace(task, estimates=Estimates.SUPERSEDED)  # the next frame may want this one's mask
        try:
            mask = await self._dispatcher.segment(
                task, rung.model, self._memory, clock,
                deadline_ns=None if allowed_ns is None else entry.arrived_ns + allowed_ns,
                hungry_since_ns=self._hungry_since_ns,
            )  # fmt: skip
        except FrameLate as error:
            self._saw(Fate.LATE)
            return self._drop(entry, DropReason.LATE, f"frame {entry.frame_id}: {error}", clock)
        except (DecodeError, FrameError) as error:
            return self._drop(entry, DropReason.UNDECODABLE, f"frame {entry.frame_id}: {error}", clock)
        except SharedMemoryError as error:
            return self._drop(entry, DropReason.BAD_SHARED_MEMORY, f"frame {entry.frame_id}: {error}", clock)
        except EngineError as error:
            self._log_engine_failure(entry, error)
            detail = f"frame {entry.frame_id}: the engine failed; the server's log has the reason"
            return self._drop(entry, DropReason.ENGINE_FAILED, detail, clock)
        except DispatcherClosed:
            raise CallError(Reason.DRAINING, "the server stops; open a new stream") from None
        clock.answered()
        self._hungry_since_ns = None
        self._saw(Fate.MASK)
        picture_ns = self._dispatcher.run_times.picture_ns[rung.model]
        self._admission.worked(self, picture_ns, time.monotonic_ns())
        if not self.masks:
            self._metrics.first_mask_seconds.observe((time.monotonic_ns() - self._limits.opened_ns) * 1e-9)
        self.masks += 1
        self._remembered_frame_id = entry.frame_id
        self._metrics.frame_answered(clock)
        self._count_live(entry, clock)
        if mask.reset is not None:
            self._metrics.fusion_reset(mask.reset.name)
        return MaskAnswer(entry, mask, clock, level, rung.model)

    async def _estimate(self, entry: EstimateEntry) -> MaskAnswer | EstimateAnswer | DropAnswer:
        frame, level, model = entry.frame, self._ladder.level, self._ladder.rung.model
        clock = StageClock(frame.arrived_ns)
        clock.started()
        try:
            mask = await self._estimator.estimate(frame_task(frame), model, self._memory, clock)
        except (DecodeError, FrameError) as error:
            return self._drop(frame, DropReason.UNDECODABLE, f"frame {frame.frame_id}: {error}", clock)
        except SharedMemoryError as error:
            return self._drop(frame, DropReason.BAD_SHARED_MEMORY, f"frame {frame.frame_id}: {error}", clock)
        if not entry.is_skipped:
            self._saw(Fate.SUPERSEDED)
        elif mask is None:
            return await self._segment(frame)
        if mask is None:
            return self._drop(frame, DropReason.SUPERSEDED, entry.detail, clock)
        clock.answered()
        self.estimates += 1
        self._metrics.frame_estimated(clock)
        self._count_live(frame, clock)
        return EstimateAnswer(frame, mask, clock, level, model)

    def _count_live(self, entry: FrameEntry, clock: StageClock) -> None:
        if entry.config.policy is FramePolicy.NEWEST:
            self._metrics.live_frame_seconds.observe_ns(clock.wall_ns["total"])

    def _drop(self, entry: FrameEntry | DropEntry, reason: DropReason, detail: str, clock: StageClock) -> DropAnswer:
        clock.answered()
        self.drops += 1
        self._metrics.frame_dropped(reason.name)
        return DropAnswer(entry, reason, detail, clock)

    def _log_engine_failure(self, entry: FrameEntry, error: EngineError) -> None:
        if self._engine_failure_logged:  # the counter tells how many; a line a frame would drown the log
            return
        self._engine_failure_logged = True
        log.event(
            "engine_failed", level=logging.ERROR, error=error,
            session=self.session_id, label=self.label, model=entry.config.model, frame_id=entry.frame_id,
        )  # fmt: skip

    async def _watch(self) -> None:
        while True:
            state = self._protocol.state
            due = self._limits.due(
                time.monotonic_ns(),
                awaits_config=state is State.OPEN,
                awaits_message=state is State.RUNNING and self._protocol.wants_input,
            )
            if due.notice_s is not None:
                self._end_soon(Reason.MAX_AGE, NoticeReason.MAX_AGE, due.notice_s)
            if due.is_over and not self._ended:
                self._ended = True
                self._protocol.close_input()
                self._work_ready.set()
                self._room.set()
            self._end_is_news.clear()
            # Hundreds of idle streams must cost nothing: it wakes up for the next limit, not by the clock.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, due.sleep_s)):
                    await self._end_is_news.wait()
