"""Sequences of KServe's protocol: each is a session of the service, fed by requests instead of a stream of its own."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import grpc

from humanseg.frames import PixelFormat
from humanseg.options import FramePolicy
from humanseg.vision.arrays import Size
from humanseg.vision.decode import DecodeError, picture_size
from service.answers import Answer, DropAnswer, Incoming, MaskAnswer
from service.call_errors import CallError, Reason, invalid
from service.kserve_models import KserveModel
from service.kserve_tensors import SequenceTurn
from service.session_door import Caller, SessionDoor
from service.stream_config import RequestedConfig, SizeLimits
from service.stream_protocol import DropReason, NoticeEntry, NoticeReason, ReceivedFrame

#: Requests of one sequence without an answer; whoever sends more is held back.
TURNS_LIMIT = 8

Outcome = MaskAnswer | CallError
Reply = Callable[[Outcome], Awaitable[None]]
_Key = tuple[str, str, int | str]


class Sequence:
    """One sequence, from its first request to its end."""

    def __init__(self, config: RequestedConfig, has_times: bool) -> None:
        self.has_times = has_times
        self._inbox: asyncio.Queue[Incoming | None] = asyncio.Queue()
        self._inbox.put_nowait(config)
        self._replies: dict[int, Reply] = {}
        self._frame_id = 0
        self._room = asyncio.Event()
        self.over = asyncio.Event()
        self._ended_by: CallError | None = None

    async def take(self, frame: ReceivedFrame, reply: Reply) -> None:
        """Take a picture; ``reply`` is called once, whatever becomes of it.

        Raises:
            CallError: the sequence has ended, or ends since the server stops.
        """
        while len(self._replies) >= TURNS_LIMIT and not self._has_ended:
            self._room.clear()
            await self._room.wait()
        if self._has_ended:
            raise self._ended_by or _ended()
        self._frame_id += 1
        self._replies[self._frame_id] = reply
        self._inbox.put_nowait(replace(frame, frame_id=self._frame_id))

    @property
    def _has_ended(self) -> bool:
        return self._ended_by is not None or self.over.is_set()

    def end(self) -> None:
        """No more pictures; those that were taken are answered."""
        self._inbox.put_nowait(None)

    async def run(self, door: SessionDoor, caller: Caller) -> CallError | None:
        """Serve the sequence; returns what ended it, where it was an error. Every picture taken is replied to."""
        try:
            # In this task, where nothing comes between the look for room and taking it.
            await door.serve(door.open(caller.tenant), caller, self._incoming(), self._answer)
        except CallError as error:
            self._ended_by = error
        finally:
            self.over.set()
            self._room.set()
        if self._ended_by is None or self._ended_by.reason is not Reason.CLIENT_NOT_READING:
            for reply in list(self._replies.values()):
                with contextlib.suppress(CallError, grpc.aio.UsageError):  # it reads no more, or is gone
                    await reply(self._ended_by or _ended())
        self._replies.clear()
        return self._ended_by

    async def _incoming(self) -> AsyncIterator[Incoming]:
        while (message := await self._inbox.get()) is not None:
            yield message

    async def _answer(self, answer: Answer) -> None:
        if isinstance(answer, NoticeEntry) and answer.reason is NoticeReason.DRAINING:
            # The protocol cannot ask a client to go: its sequence ends here, and the next request is told.
            self._ended_by = draining()
            self._room.set()
            self.end()
        if not isinstance(answer, MaskAnswer | DropAnswer):
            return  # the other notices and resume points have no place in this protocol
        reply = self._replies.pop(answer.entry.frame_id)
        self._room.set()
        await reply(answer if isinstance(answer, MaskAnswer) else _error_of(answer))


class SequenceTable:
    """The open sequences of a stream, or of all calls of ModelInfer; owns their tasks."""

    def __init__(self, door: SessionDoor, limits: SizeLimits, on_change: Callable[[CallError | None], None]) -> None:
        """``on_change`` is told whenever a sequence has ended, and by what error if any."""
        self._door = door
        self._limits = limits
        self._on_change = on_change
        self._open: dict[_Key, Sequence] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def take(
        self, turn: SequenceTurn, model: KserveModel, picture: bytes | memoryview, size: Size | None, caller: Caller,
        reply: Reply,
    ) -> None:  # fmt: skip
        """Take a request of a sequence, which it may open or end.

        Raises:
            CallError: it is not taken; ``reply`` will not be called.
        """
        size = self._size_of(picture) if size is None else size
        key = (caller.tenant.name, model.name, turn.sequence_id)
        if turn.starts:
            while (old := self._open.pop(key, None)) is not None:
                old.end()
                await old.over.wait()
            sequence = self._open[key] = self._begin(turn, model, size, caller, key)
        elif (found := self._open.get(key)) is None:
            if self._door.is_draining:
                raise draining()
            text = (
                f"sequence {turn.sequence_id!r} of {model.name} is not open here: send its first request with"
                " sequence_start, all on one stream; one that was open has ended"
            )
            raise CallError(Reason.CONFIG_MISSING, text, fields=[("parameters", text)])
        else:
            sequence = found
        if sequence.has_times != (turn.capture_time_us is not None):
            text = "capture_time_us with some requests of the sequence; give it with each, or with none"
            raise invalid(Reason.CONFIG_INVALID, "request is not acceptable", [("parameters", text)])
        time_us = time.monotonic_ns() // 1000 if turn.capture_time_us is None else turn.capture_time_us
        try:
            await sequence.take(ReceivedFrame(0, time_us, picture, size.width, size.height), reply)
        finally:
            if turn.ends:
                sequence.end()
                if self._open.get(key) is sequence:
                    del self._open[key]

    async def finish(self) -> None:
        """End all sequences, and wait until what was taken is answered."""
        for sequence in self._open.values():
            sequence.end()
        self._open.clear()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def abandon(self) -> None:
        """Break all sequences off."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, turn: SequenceTurn, model: KserveModel, size: Size, caller: Caller, key: _Key) -> Sequence:
        config = RequestedConfig(
            model=model.model,
            width=size.width,
            height=size.height,
            pixel_format=PixelFormat.JPEG if model.takes_jpeg else PixelFormat.RGB24,
            fusion=turn.fusion,
            # Every request has an answer in this protocol.
            policy=FramePolicy.EVERY,
        )
        sequence = Sequence(config, turn.capture_time_us is not None)
        task = asyncio.create_task(self._run(sequence, caller, key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return sequence

    async def _run(self, sequence: Sequence, caller: Caller, key: _Key) -> None:
        ended_by = await sequence.run(self._door, caller)
        if self._open.get(key) is sequence:
            del self._open[key]
        # Not before this task counts no more among those that are open.
        asyncio.get_running_loop().call_soon(self._on_change, ended_by)

    def _size_of(self, picture: bytes | memoryview) -> Size:
        try:
            size = picture_size(picture)
        except DecodeError as error:
            raise invalid(Reason.PICTURE_INVALID, "picture cannot be read", [("jpeg", str(error))]) from None
        if complaint := self._limits.complaint(size):
            raise CallError(Reason.LIMIT_EXCEEDED, complaint)
        return size


def draining() -> CallError:
    """What a request is told that comes while the server stops."""
    text = "this server stops; send the next picture with sequence_start by a new call, which reaches another replica"
    return CallError(Reason.DRAINING, text)


def _ended() -> CallError:
    return CallError(Reason.CONFIG_MISSING, "the sequence has ended; begin another one with sequence_start")


def _error_of(answer: DropAnswer) -> CallError:
    if answer.reason is DropReason.ENGINE_FAILED:
        return CallError(Reason.INTERNAL, answer.detail)
    return invalid(Reason.PICTURE_INVALID, "picture cannot be read", [("picture", answer.detail)])
