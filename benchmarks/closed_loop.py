"""Streams that keep a server busy: so many frames under way in each, the next one sent when an answer comes.

For cost and throughput, not for latency (`benchmarks.run` measures that, in an open loop). The client of the service is
left out: requests are serialized messages, answers stay bytes, so that on a shared machine little is taken from the
server, and the same bytes go to a server that is no service of ours.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import grpc

from humanseg.frames import PixelFormat
from humanseg.masks import MaskEncoding
from humanseg.options import FramePolicy, TemporalFusion
from humanseg.proto_enums import FRAME_POLICY, MASK_ENCODING, PIXEL_FORMAT, TEMPORAL_FUSION
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size

SERVICE = pb.DESCRIPTOR.services_by_name["SegmentationService"].full_name
#: Time between two frames by their own account: fusion goes by it.
FRAME_US = 33_333
#: The largest message, either way: more than any frame that is measured.
MESSAGE_LIMIT_BYTES = 64 << 20


class LoopError(Exception):
    """The server does not answer as it should; one line for people."""


@dataclass(frozen=True, slots=True)
class Drive:
    """What is sent."""

    size: Size
    pictures: tuple[bytes, ...]
    """In ``pixel_format``, taken in turns."""
    fusion: TemporalFusion
    sessions: int
    under_way: int
    """Frames of each session that are sent and not answered."""
    model: str = ""
    """The server's default where it is empty."""
    pixel_format: PixelFormat = PixelFormat.I420


@dataclass(frozen=True, slots=True)
class Count:
    """What came back."""

    masks: int
    wall_s: float
    """From the first frame sent to the last mask."""
    latencies_ms: tuple[float, ...]
    """Of each mask, from before its frame was sent, by session."""

    @property
    def fps(self) -> float:
        """Masks a second."""
        return self.masks / self.wall_s


class ClosedLoop:
    """Open streams to one server; see `opened`."""

    def __init__(self, drive: Drive, calls: list[Any]) -> None:
        self._drive = drive
        self._calls = calls
        self._sent = [0] * len(calls)

    async def run(self, seconds: float) -> Count:
        """Send for so long, and wait for all answers.

        Raises:
            LoopError: an answer without a mask, or the stream ended.
        """
        began_s = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                loops = [group.create_task(self._loop(number, began_s + seconds)) for number in range(len(self._calls))]
        except* grpc.aio.AioRpcError as errors:
            raise LoopError(f"a stream ended: {_first(errors).details()}") from None
        except* LoopError as errors:
            raise _first(errors) from None
        latencies_ms = tuple(chain.from_iterable(loop.result() for loop in loops))
        return Count(len(latencies_ms), time.monotonic() - began_s, latencies_ms)

    async def _loop(self, number: int, until_s: float) -> list[float]:
        call = self._calls[number]
        sent_ns: deque[int] = deque()
        latencies_ms: list[float] = []

        async def send() -> None:
            frame = self._next_frame(number)
            sent_ns.append(time.monotonic_ns())
            await call.write(frame)

        for _ in range(self._drive.under_way):
            await send()
        while sent_ns:
            answer = await call.read()
            if answer is grpc.aio.EOF:
                raise LoopError("the server ended a stream")
            if len(answer) <= self._drive.size.area_px:
                raise LoopError(f"a frame came back without a mask: {_told(answer)}")
            latencies_ms.append((time.monotonic_ns() - sent_ns.popleft()) * 1e-6)
            if time.monotonic() < until_s:
                await send()
        return latencies_ms

    def _next_frame(self, number: int) -> bytes:
        self._sent[number] += 1
        count, pictures = self._sent[number], self._drive.pictures
        frame = pb.Frame(
            frame_id=count, capture_time_us=count * FRAME_US, picture=pictures[(count + number) % len(pictures)]
        )
        return pb.StreamSegmentRequest(frame=frame).SerializeToString()


@asynccontextmanager
async def opened(address: str, drive: Drive) -> AsyncIterator[ClosedLoop]:
    """Streams with their configs accepted, each on a connection of its own.

    Raises:
        LoopError: the server does not take them.
    """
    options = [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
        ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
        # Else all of them share one connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    calls: list[Any] = []
    async with AsyncExitStack() as stack:
        for _ in range(drive.sessions):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            call: Any = channel.stream_stream(f"/{SERVICE}/StreamSegment")()  # no (de)serializer: bytes both ways
            try:
                await call.write(_config(drive).SerializeToString())
                if await call.read() is grpc.aio.EOF:
                    raise LoopError("the server ended a stream that it was to take")
            except grpc.aio.AioRpcError as error:
                raise LoopError(f"the server does not take the stream: {error.details()}") from None
            calls.append(call)
        yield ClosedLoop(drive, calls)
        for call in calls:
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass


def _config(drive: Drive) -> pb.StreamSegmentRequest:
    return pb.StreamSegmentRequest(
        config=pb.SessionConfig(
            model=drive.model,
            width=drive.size.width,
            height=drive.size.height,
            pixel_format=PIXEL_FORMAT.number(drive.pixel_format),
            mask_encoding=MASK_ENCODING.number(MaskEncoding.ALPHA8),
            temporal_fusion=TEMPORAL_FUSION.number(drive.fusion),
            frame_policy=FRAME_POLICY.number(FramePolicy.EVERY),
            session_label="closed-loop",
        )
    )


def _told(answer: bytes) -> str:
    message = pb.StreamSegmentResponse.FromString(answer)
    return message.result.drop_detail or str(message.WhichOneof("message"))


def _first(errors: BaseExceptionGroup[Any]) -> Any:
    error: Any = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
