"""One call of ModelStreamInfer: requests of several sequences and single pictures, answered as they are ready."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from tritonclient.grpc import service_pb2

from service.call_errors import CallError, Reason
from service.kserve_sequences import SequenceTable
from service.rate import MessageRate
from service.status import CODES
from service.time_limits import SessionTimeouts

#: Pictures by themselves that one stream may have under way; then nothing more is read.
STILLS_LIMIT = 4

#: Takes a request of a sequence; False where it is a picture by itself after all. Raises CallError where it is refused.
TakeTurn = Callable[[Any], Awaitable[bool]]


class InferStream:
    """A stream of requests. ``news`` wakes the watch over its time limits."""

    def __init__(
        self, write: Callable[[Any], Awaitable[None]], timeouts: SessionTimeouts, max_messages_per_s: float
    ) -> None:
        self._write = write
        self._timeouts = timeouts
        self._rate = MessageRate(max_messages_per_s, time.monotonic_ns())
        self._writing = asyncio.Lock()
        self._stills: set[asyncio.Task[None]] = set()
        self._last_ns = time.monotonic_ns()
        self._news = asyncio.Event()
        self._is_draining = False
        self._failed: BaseException | None = None

    def drain(self) -> None:
        """The server stops: end as soon as no sequence is open."""
        self._is_draining = True
        self._news.set()

    def sequence_ended(self, error: CallError | None) -> None:
        """To be told by the table of sequences."""
        self._last_ns = time.monotonic_ns()
        if error is not None and error.reason is Reason.CLIENT_NOT_READING:
            self._failed = error  # the others wait for the same client
        self._news.set()

    async def run(
        self,
        requests: AsyncIterator[Any],
        sequences: SequenceTable,
        take_turn: TakeTurn,
        still: Callable[[Any], Awaitable[Any]],
    ) -> None:
        """Serve it to its end; returns when the client half-closed and everything is answered.

        Raises:
            CallError: the stream ends with an error status.
        """
        reader = asyncio.create_task(self._read(requests, take_turn, still))
        watch = asyncio.create_task(self._watch(sequences))
        try:
            await asyncio.wait({reader, watch}, return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()  # where its time is up; what was taken is answered
            if self._failed is None:
                await sequences.finish()
                if self._stills:
                    await asyncio.wait(self._stills)
            if self._failed is not None:
                raise self._failed
            for task in (watch, reader):
                if task.done():
                    task.result()
        finally:
            tasks = {reader, watch, *self._stills}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await sequences.abandon()

    async def send(self, response: Any) -> None:
        """Send an answer."""
        await self._say(service_pb2.ModelStreamInferResponse(infer_response=response))

    async def refuse(self, message: Any, error: CallError) -> None:
        """Send an error, which ends neither the stream nor a sequence."""
        response = service_pb2.ModelStreamInferResponse(error_message=_text(message, error))
        response.infer_response.id = message.id
        response.infer_response.parameters["triton_final_response"].bool_param = True
        await self._say(response)

    async def _say(self, response: Any) -> None:
        async with self._writing:
            if self._failed is not None:
                raise self._failed
            try:
                async with asyncio.timeout(self._timeouts.write_s):
                    await self._write(response)
            except TimeoutError:
                text = f"the client did not read an answer within {self._timeouts.write_s:g} s"
                self._failed = CallError(Reason.CLIENT_NOT_READING, text)
                self._news.set()
                raise self._failed from None

    async def _read(
        self,
        requests: AsyncIterator[Any],
        take_turn: TakeTurn,
        still: Callable[[Any], Awaitable[Any]],
    ) -> None:
        async for message in requests:
            self._last_ns = time.monotonic_ns()
            if hold_off_s := self._rate.take(self._last_ns):
                await asyncio.sleep(hold_off_s)
            if "sequence_id" in message.parameters:
                try:
                    if await take_turn(message):
                        continue
                except CallError as error:
                    await self.refuse(message, error)
                    continue
            if len(self._stills) >= STILLS_LIMIT:
                await asyncio.wait(self._stills, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._still(message, still))
            self._stills.add(task)
            task.add_done_callback(self._still_done)
        self._last_ns = time.monotonic_ns()

    async def _still(self, message: Any, still: Callable[[Any], Awaitable[Any]]) -> None:
        try:
            response = await still(message)
        except CallError as error:
            await self.refuse(message, error)
        else:
            response.parameters["triton_final_response"].bool_param = True
            await self.send(response)

    def _still_done(self, task: "asyncio.Task[None]") -> None:
        self._stills.discard(task)
        if not task.cancelled() and self._failed is None:
            self._failed = task.exception()
        self._last_ns = time.monotonic_ns()
        self._news.set()

    async def _watch(self, sequences: SequenceTable) -> None:
        age_s = self._timeouts.draw_age_s()
        ends_ns = None if age_s is None else time.monotonic_ns() + int(age_s[1] * 1e9)
        while True:
            now_ns = time.monotonic_ns()
            left_s = self._timeouts.idle_s
            if self._failed is not None:
                raise self._failed
            if ends_ns is not None:
                if now_ns >= ends_ns:
                    raise CallError(Reason.MAX_AGE, "the stream has reached its greatest age; open a new one")
                left_s = min(left_s, (ends_ns - now_ns) * 1e-9)
            if not len(sequences) and not self._stills:
                if self._is_draining:
                    raise CallError(
                        Reason.DRAINING, "the server stops; open a new stream, which reaches another replica"
                    )
                idle_s = (now_ns - self._last_ns) * 1e-9
                if idle_s >= self._timeouts.idle_s:
                    raise CallError(Reason.IDLE_TIMEOUT, f"no request came within {self._timeouts.idle_s:g} s")
                left_s = min(left_s, self._timeouts.idle_s - idle_s)
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, left_s)):
                    await self._news.wait()


def _text(message: Any, error: CallError) -> str:
    """The protocol has nothing but a text on a stream: the code first, and whose error it is."""
    who = f"request {message.id!r}" if message.id else "request"
    if "sequence_id" in message.parameters:
        value = message.parameters["sequence_id"]
        who += f" of sequence {getattr(value, value.WhichOneof('parameter_choice') or 'string_param')!r}"
    return f"{CODES[error.reason][0].name}: {who}: {error}"
