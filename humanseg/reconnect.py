"""The masks of a sequence of frames, over as many streams as that takes: when to open another, what to send again.

A server that is about to stop, or a stream of the greatest age, says so first: nothing more is sent, what is due is
taken, and the next stream goes on from the resume point, so that the masks show no seam. A stream that breaks without a
word is followed by another one as well, to which the frames without an answer are sent again.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc

from humanseg.answers import Dropped, MaskAnswer, Notice, NoticeReason, ResumePoint
from humanseg.errors import FrameDroppedError, SegmentationError
from humanseg.frames import TimedFrame
from humanseg.stream import SegmentationStream
from humanseg.vision.arrays import Alpha8, Picture

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 2.0

#: What goes in, and comes out again with its mask.
AnyFrame = TypeVar("AnyFrame", Picture, TimedFrame)


class Patience:
    """For how long after its last success a client goes on trying, and how long it waits in between."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._next_delay_s = _FIRST_DELAY_S
        self._last_success_s: float | None = None

    def succeeded(self) -> None:
        """Something went well; there is hope again."""
        self._next_delay_s, self._last_success_s = _FIRST_DELAY_S, time.monotonic()

    def delay_s(self, error: SegmentationError) -> float | None:
        """How long to wait before the next try; None where there is to be none."""
        if not error.retryable or self._last_success_s is None:
            return None
        if time.monotonic() - self._last_success_s > self._patience_s:
            return None
        delay_s, self._next_delay_s = self._next_delay_s, min(2 * self._next_delay_s, _LONGEST_DELAY_S)
        # Spread, because all clients of a server that stops come back together.
        return max(error.retry_after_s or 0.0, delay_s) * random.uniform(0.75, 1.25)


@dataclass(frozen=True, slots=True)
class SentFrame(Generic[AnyFrame]):
    """A frame that waits for its answer, to be sent again as it was."""

    frame: AnyFrame
    capture_time_us: int

    @property
    def picture(self) -> Picture:
        """What goes over the wire."""
        return self.frame.picture if isinstance(self.frame, TimedFrame) else self.frame


class FrameSource(Generic[AnyFrame]):
    """Frames with their capture times, one of them looked at ahead; a look that is given up loses nothing."""

    def __init__(self, frames: AsyncIterator[AnyFrame], interval_us: float) -> None:
        """``interval_us`` is the time between frames that do not say theirs."""
        self._frames: AsyncIterator[AnyFrame] = frames
        self._interval_us = interval_us
        self._taken = 0
        self._reading: asyncio.Future[AnyFrame | None] | None = None

    async def peek(self) -> AnyFrame | None:
        """The next frame, which stays the next one; None at the end. Raises what reading raises."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(_next_or_none(self._frames))
        return await asyncio.shield(self._reading)

    def take(self, frame: AnyFrame) -> SentFrame[AnyFrame]:
        """The frame that was looked at, for good."""
        time_us = frame.capture_time_us if isinstance(frame, TimedFrame) else round(self._taken * self._interval_us)
        self._reading = None
        self._taken += 1
        return SentFrame(frame, time_us)

    async def aclose(self) -> None:
        """Give up a look that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
            # Looked at, so that nobody warns of it.
            if not self._reading.cancelled():
                self._reading.exception()


async def masks_of(
    open_stream: Callable[[ResumePoint | None], SegmentationStream], source: FrameSource[AnyFrame], patience: Patience
) -> AsyncGenerator[tuple[AnyFrame, Alpha8], None]:
    """Each frame with its mask, in order, none left out.

    Raises:
        SegmentationError: a stream failed for good, or a frame was dropped (`FrameDroppedError`).
        Whatever reading the frames raises, after the masks of all frames before it.
    """
    sent: deque[SentFrame[AnyFrame]] = deque()
    resume_point: ResumePoint | None = None
    while True:
        stream = open_stream(resume_point)
        part = _Part(stream, source, sent)
        try:
            async with stream:
                patience.succeeded()
                async for pair in part.pairs():
                    yield pair
                    patience.succeeded()
            if part.is_last:
                return
        except SegmentationError as error:
            delay_s = patience.delay_s(error)
            if delay_s is None:
                raise
            await asyncio.sleep(delay_s)
        resume_point = stream.resume_point or resume_point


class _Part(Generic[AnyFrame]):
    """What goes over one stream."""

    def __init__(
        self, stream: SegmentationStream, source: FrameSource[AnyFrame], sent: deque[SentFrame[AnyFrame]]
    ) -> None:
        self.is_last = False
        self._stream = stream
        self._source: FrameSource[AnyFrame] = source
        self._sent: deque[SentFrame[AnyFrame]] = sent
        self._told_to_move = asyncio.Event()

    async def pairs(self) -> AsyncGenerator[tuple[AnyFrame, Alpha8], None]:
        """Frames and masks until the stream ends, first those that an earlier stream left without an answer."""
        feeder = asyncio.create_task(self._feed())
        try:
            async for answer in self._stream:
                match answer:
                    case MaskAnswer():
                        yield self._sent.popleft().frame, answer.alpha8
                    case Dropped():
                        raise FrameDroppedError(
                            f"frame {answer.frame_id} has no mask: {answer.detail or answer.reason.name}",
                            code=grpc.StatusCode.ABORTED,
                            reason=answer.reason.name,
                        )
                    case Notice(reason=NoticeReason.DRAINING | NoticeReason.MAX_AGE):
                        self._told_to_move.set()
            await feeder
        finally:
            feeder.cancel()
            await asyncio.wait([feeder])
            # Looked at, so that nobody warns of it; what is under way here came first.
            if not feeder.cancelled():
                feeder.exception()

    async def _feed(self) -> None:
        """Send frames, and half-close also where reading them fails, so that those before it are answered."""
        try:
            for item in tuple(self._sent):
                await self._send(item)
            while not self._told_to_move.is_set():
                if (frame := await self._next()) is None:
                    return
                item = self._source.take(frame)
                self._sent.append(item)
                await self._send(item)
        finally:
            await self._stream.finish()

    async def _send(self, item: SentFrame[AnyFrame]) -> None:
        await self._stream.send(item.picture, capture_time_us=item.capture_time_us)

    async def _next(self) -> AnyFrame | None:
        """The next frame; None at the end, and where the server says to move before there is one."""
        looking = asyncio.ensure_future(self._source.peek())
        waiting = asyncio.ensure_future(self._told_to_move.wait())
        try:
            await asyncio.wait([looking, waiting], return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                return None
            self.is_last = looking.result() is None
            return looking.result()
        finally:
            looking.cancel()
            waiting.cancel()
            await asyncio.wait([looking, waiting])


async def _next_or_none(frames: AsyncIterator[AnyFrame]) -> AnyFrame | None:
    return await anext(frames, None)
