"""One stream from the client's side: frames go in, answers come out, and it ends with a clear status.

One task a stream reads the answers, so that waiting for an answer may be given up (`asyncio.wait_for`) without harm:
cancelling a read of grpc.aio cancels the whole call. All that is held is bounded: under EVERY at most
`StreamLimits.max_unanswered` frames are on their way, and at most `UNREAD_LIMIT` answers wait to be taken; then the
reader stops reading, and HTTP/2 holds the server back.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
from grpc import aio

from humanseg.answers import (
    Accepted,
    Answer,
    Dropped,
    Estimated,
    Limits,
    MaskAnswer,
    PictureAnswer,
    ResumePoint,
    read_answer,
)
from humanseg.composite_config import ImagesSent
from humanseg.errors import (
    CallCancelledError,
    CallStatus,
    DeadlineError,
    ProtocolError,
    SegmentationError,
    ServerFaultError,
    error_from_status,
)
from humanseg.final_status import VERDICT_S, FinalStatus, StreamCall
from humanseg.frames import RawFrame
from humanseg.options import FramePolicy
from humanseg.pictures import PictureLike, check_byte_limit, check_color, flatten_picture, pack_picture
from humanseg.proto_enums import ROTATION, plane_messages
from humanseg.session_config import SessionConfig
from humanseg.shared_memory import ClientRegion, SharedMemory
from humanseg.threads import this_task_is_cancelled
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.v1.segmentation_pb2_grpc import SegmentationServiceStub
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation

#: Answers that may wait to be taken.
UNREAD_LIMIT = 4


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What a stream allows itself; see `ClientOptions`."""

    max_unanswered: int
    answer_timeout_s: float


class SegmentationStream:
    """A StreamSegment call: made by `SegmentationClient.stream`, used as an async context manager.

    Entering waits for the server's acceptance, so an unacceptable config raises there. Iterating yields the answers in
    the order of the frames sent, and ends when the last one has come after `finish`. Leaving ends what is still under
    way. One task may send while another one iterates.
    """

    def __init__(
        self,
        channel: aio.Channel,
        config: SessionConfig,
        limits: StreamLimits,
        on_close: Callable[["SegmentationStream"], None],
        resume: ResumePoint | None = None,
        metadata: tuple[tuple[str, str], ...] | None = None,
        shared_memory: SharedMemory | None = None,
    ) -> None:
        self._channel = channel
        self._on_close = on_close
        self._config = config
        self._own_limits = limits
        self._resume = resume
        self._metadata = metadata
        self._shared_memory = shared_memory
        self._region: ClientRegion | None = None
        self._resume_point: ResumePoint | None = None
        self._images_sent = ImagesSent()
        self._connection: _Connection | None = None
        self._accepted: Accepted | None = None
        self._answers: deque[Answer] = deque()
        self._unanswered = 0
        self._last_frame_id = 0
        self._last_capture_time_us: int | None = None
        self._sending = asyncio.Lock()
        self._finished = False
        self._over = False
        self._failure: SegmentationError | None = None
        # Set at every change that somebody may be waiting for; who wakes up looks at the state again.
        self._changed = asyncio.Event()
        # A write failed: what is left of the answers is read without regard to the bound, to get at the status.
        self._breaking = False
        # For the watchdog: whether the reader is listening, and since when nothing was heard or sent.
        self._listening = True
        self._quiet_since = 0.0

    async def __aenter__(self) -> Self:
        """Send the config and wait until it is accepted.

        Raises:
            SegmentationError: there is no server, or it does not accept the config.
            OSError: no room for the shared memory.
        """
        if self._shared_memory is not None:
            self._region = ClientRegion(self._shared_memory, self._config)
        call = SegmentationServiceStub(self._channel).StreamSegment(metadata=self._metadata)
        self._quiet_since = time.monotonic()
        self._connection = _Connection(call, asyncio.create_task(self._read(call, FinalStatus(call))))
        try:
            self._schedule_watch()
            await self._send_first_config(self._connection.reader)
            while self._accepted is None:
                self._raise_if_over()
                await self._change()
        except BaseException:
            await self.aclose()
            raise
        if self._region is not None:
            self._region.unlink()  # the server has it open
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def accepted(self) -> Accepted:
        """The server's latest answer to a config: the config as it holds, the model, the limits."""
        if self._accepted is None:
            raise RuntimeError("the stream is not open; use `async with client.stream(config) as stream`")
        return self._accepted

    @property
    def limits(self) -> Limits:
        """What the server will not exceed."""
        return self.accepted.limits

    @property
    def resume_point(self) -> ResumePoint | None:
        """Where another stream can go on, as the server told last; None before it did.

        Told when the stream is about to end, once more after its last answer, and every
        `SessionConfig.resume_interval_s`. Not among the answers.
        """
        return self._resume_point

    @property
    def unanswered(self) -> int:
        """Frames sent that have no answer yet."""
        return self._unanswered

    async def send(
        self,
        picture: PictureLike,
        *,
        capture_time_us: int | None = None,
        frame_id: int | None = None,
        size: Size | None = None,
        rotation: Rotation | None = None,
        mirrored: bool | None = None,
    ) -> int:
        """Send one frame in the config's pixel format; under policy EVERY, wait until there is room for it.

        There is room when answers are taken: let another task iterate, or take an answer after each frame. Given up
        by cancellation while it waits for room, nothing has happened; later, the stream is over, since nobody knows
        what arrived. With shared memory it waits for a free slot as well, under any policy.

        Args:
            picture: see `PictureLike`; an array or a `RawFrame` says its own size, bytes are of ``size`` or of the
                config's size. The planes of a `RawFrame` go with the padding they have, up to 511 bytes a row.
            capture_time_us: when the camera took it, in microseconds on any one clock; now if left out.
            frame_id: must grow from frame to frame; the next number if left out.
            size: of bytes that are not of the config's size.
            rotation: of this frame; the config's if left out.
            mirrored: of this frame; the config's if left out.

        Returns the frame's id.

        Raises:
            InvalidRequestError: the picture does not fit format or color; nothing was sent, the stream lives.
            LimitExceededError: larger than the server takes; nothing was sent, the stream lives.
            SegmentationError: the stream has ended.
        """
        async with self._sending:
            pack = pack_picture if self._region is None else flatten_picture
            if isinstance(picture, RawFrame):
                check_color(picture, self._config.color_matrix, self._config.color_range)
            room_bytes = self.limits.max_frame_bytes
            if self._region is not None:
                room_bytes = min(room_bytes, self._region.layout.pictures.slot_bytes)
            packed = pack(picture, self._config.pixel_format, size or self._config.size, room_bytes)
            check_byte_limit(len(packed.data), self.limits.max_frame_bytes)
            if self._region is not None:
                self._region.require_fit(packed.data)
            while self._is_full() and not self._over:
                await self._change()
            self._raise_if_over()
            frame = pb.Frame(
                frame_id=self._last_frame_id + 1 if frame_id is None else frame_id,
                capture_time_us=self._now_us() if capture_time_us is None else capture_time_us,
            )
            if self._region is None:
                frame.picture = bytes(packed.data)
            else:
                self._region.put(frame, packed.data)
            frame.planes.extend(plane_messages(packed.layout))
            if packed.size != self._config.size:
                frame.width, frame.height = packed.size
            if rotation is not None:
                frame.rotation = ROTATION.number(rotation)
            if mirrored is not None:
                frame.mirrored = mirrored
            self._last_frame_id, self._last_capture_time_us = frame.frame_id, frame.capture_time_us
            if not self._unanswered:
                self._quiet_since = time.monotonic()
            # Before the write: the answer may be there before the write returns.
            self._unanswered += 1
            await self._write(pb.StreamSegmentRequest(frame=frame))
            return frame.frame_id

    async def reconfigure(self, config: SessionConfig) -> None:
        """Replace the config as a whole for the frames sent from now on; an `Accepted` comes among the answers.

        Raises:
            LimitExceededError: finished pictures would not fit the shared memory; nothing was sent, the stream lives.
            SegmentationError: the stream has ended. An unacceptable config ends it, seen by the next send or answer.
        """
        async with self._sending:
            self._raise_if_over()
            if self._region is not None:
                self._region.require_room_for(config)
            await self._write_config(self._message_of(config), config)
            self._config = config

    async def finish(self) -> None:
        """Say that no more frames come; what was sent is still answered. A second call does nothing."""
        async with self._sending:
            if not self._unanswered:
                self._quiet_since = time.monotonic()
            self._finished = True
            if self._connection is not None:
                # A call that has just ended cannot be half-closed; iterating says why it ended.
                with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
                    await self._connection.call.done_writing()

    def __aiter__(self) -> AsyncIterator[Answer]:
        return self

    async def __anext__(self) -> Answer:
        """The next answer; may be given up and tried again.

        Raises:
            SegmentationError: the stream failed; after all the answers that came before.
        """
        while not self._answers:
            if self._over:
                if self._failure is not None:
                    raise self._failure
                raise StopAsyncIteration
            await self._change()
        answer = self._answers.popleft()
        self._announce()
        return answer

    async def aclose(self) -> None:
        """End the call now, whatever is under way. Leaving the context manager does it."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                if connection.watchdog is not None:
                    connection.watchdog.cancel()
                if not connection.reader.done():
                    self._fail(CallCancelledError("the stream was closed here", code=grpc.StatusCode.CANCELLED))
                    connection.call.cancel()
                    connection.reader.cancel()
                    await asyncio.wait([connection.reader])
        finally:
            self._over = True
            self._announce()
            self._on_close(self)
            if self._region is not None:
                self._region.close()
            await self._channel.close()

    async def _send_first_config(self, reader: asyncio.Task[None]) -> None:
        """Write the config, unless the call ends before.

        The first write waits for the connection, and in grpc.aio 1.85 goes on waiting when the call is cancelled
        meanwhile: a server that takes connections and never answers would hold us for ever.
        """
        config = self._message_of(self._config)
        if self._resume is not None:
            config.resume_token = self._resume.token
        writing = asyncio.create_task(self._write_config(config, self._config))
        try:
            await asyncio.wait([writing, reader], return_when=asyncio.FIRST_COMPLETED)
        finally:
            writing.cancel()
            await asyncio.wait([writing])
        if not writing.cancelled():
            writing.result()

    async def _write_config(self, message: pb.SessionConfig, config: SessionConfig) -> None:
        """Write a config, after the image that it needs."""
        if (image := self._images_sent.before(config.composite)) is not None:
            await self._write(image)
        await self._write(pb.StreamSegmentRequest(config=message))

    def _message_of(self, config: SessionConfig) -> pb.SessionConfig:
        message = config.to_message()
        if self._region is not None:
            message.shared_memory.CopyFrom(self._region.to_message())
        return message

    async def _read(self, call: StreamCall, final_status: FinalStatus) -> None:
        """Take the answers until the call ends, and say how it ended. Whatever happens, nobody is left waiting."""
        try:
            await self._take_answers(call, final_status)
            status = await final_status.wait()
            if status.code is not grpc.StatusCode.OK:
                self._fail(error_from_status(status))
            elif self._unanswered or not self._finished:
                text = f"the server ended the stream early, with {self._unanswered} frames unanswered"
                self._fail(ServerFaultError(text, code=grpc.StatusCode.OK))
        except BaseException as error:
            self._fail(CallCancelledError(f"reading stopped: {error!r}", code=grpc.StatusCode.CANCELLED))
            raise
        finally:
            self._over = True
            self._announce()

    async def _take_answers(self, call: StreamCall, final_status: FinalStatus) -> None:
        try:
            # Iterated, because read() refuses to go on after an overtaken write; the status comes after the messages.
            async for message in call:
                self._take(read_answer(message, self._region))
                self._listening = False
                while len(self._answers) > UNREAD_LIMIT and not self._breaking:
                    await self._change()
                self._listening, self._quiet_since = True, time.monotonic()
        except aio.AioRpcError as error:
            final_status.note(CallStatus.of(error))
        except ValueError as error:
            call.cancel()
            self._fail(ServerFaultError(f"the server's answer cannot be read: {error}", code=grpc.StatusCode.INTERNAL))
        except asyncio.CancelledError:
            # grpc.aio raises it also where the call, not this task, was cancelled: by the watchdog, or by a sender
            # that gave up.
            if this_task_is_cancelled():
                raise

    def _take(self, answer: Answer | ResumePoint | None) -> None:
        match answer:
            case None:
                return
            case ResumePoint():
                self._resume_point = answer
                return
            case Accepted():
                is_first, self._accepted = self._accepted is None, answer
                if not is_first:
                    self._answers.append(answer)
            case MaskAnswer() | PictureAnswer() | Estimated() | Dropped():
                self._unanswered -= 1
                if self._region is not None:
                    self._region.release(answer.frame_id)
                self._answers.append(answer)
            case _:
                self._answers.append(answer)
        self._announce()

    async def _write(self, message: pb.StreamSegmentRequest) -> None:
        connection = self._connection
        if connection is None:
            self._raise_if_over()
            raise RuntimeError("the stream is not open; use `async with client.stream(config) as stream`")
        try:
            await connection.call.write(message)
            return
        except (aio.AioRpcError, asyncio.InvalidStateError):
            # What a write raises is not the call's status; the reader is going to find that.
            pass
        except asyncio.CancelledError:
            if this_task_is_cancelled():
                raise
        self._breaking = True
        self._announce()
        await asyncio.wait([connection.reader], timeout=VERDICT_S)
        self._fail(ServerFaultError("the call broke, and nobody said why", code=grpc.StatusCode.UNKNOWN))
        self._over = True
        self._raise_if_over()

    def _raise_if_over(self) -> None:
        if self._failure is not None and self._over:
            raise self._failure
        if self._over or self._finished:
            raise ProtocolError("nothing can be sent after finish()", code=grpc.StatusCode.FAILED_PRECONDITION)

    def _fail(self, failure: SegmentationError) -> None:
        """Keep the first failure: those after it are its consequences."""
        self._failure = self._failure or failure

    def _is_full(self) -> bool:
        if self._region is not None and not self._region.has_free_slot:
            return True
        every = self._config.frame_policy is FramePolicy.EVERY
        return every and self._unanswered >= self._own_limits.max_unanswered

    def _now_us(self) -> int:
        now_us = time.monotonic_ns() // 1000
        last_us = self._last_capture_time_us
        return now_us if last_us is None else max(now_us, last_us + 1)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _announce(self) -> None:
        self._changed.set()

    def _schedule_watch(self) -> None:
        if self._connection is not None:
            delay_s = min(self._own_limits.answer_timeout_s / 4, 5.0)
            self._connection.watchdog = asyncio.get_running_loop().call_later(delay_s, self._watch)

    def _watch(self) -> None:
        """End a call in which an answer is due and nothing is heard: server or network went away in silence."""
        is_due = self._accepted is None or self._unanswered > 0 or self._finished
        quiet_s = time.monotonic() - self._quiet_since
        timeout_s = self._own_limits.answer_timeout_s
        if is_due and self._listening and quiet_s > timeout_s and not self._over and self._connection is not None:
            text = f"the server has been silent for {quiet_s:.1f} s, allowed are {timeout_s:g} s (answer_timeout_s)"
            self._fail(DeadlineError(text, code=grpc.StatusCode.DEADLINE_EXCEEDED))
            self._connection.call.cancel()
        elif not self._over:
            self._schedule_watch()


@dataclass(slots=True)
class _Connection:
    """What an open stream has to clean up."""

    call: StreamCall
    reader: asyncio.Task[None]
    watchdog: asyncio.TimerHandle | None = None
