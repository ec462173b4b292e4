"""A bare grpc.aio client, so that tests can send what the real client would refuse to send."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from numpy.typing import NDArray

from humanseg.v1 import segmentation_pb2 as pb
from humanseg.v1 import segmentation_pb2_grpc as pb_grpc
from support.timing import limit_s

OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.use_local_subchannel_pool", 1)]


class Stream:
    """One open StreamSegment call."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[pb.StreamSegmentRequest, pb.StreamSegmentResponse]") -> None:
        self.call = call

    async def config(self, **fields: object) -> pb.AcceptedConfig:
        """Send a config and return the server's answer."""
        await self.send_config(**fields)
        answer = await self.read()
        assert answer.WhichOneof("message") == "accepted", answer
        return answer.accepted

    async def send_config(self, **fields: object) -> None:
        await self.write(pb.StreamSegmentRequest(config=pb.SessionConfig(**fields)))  # type: ignore[arg-type]

    async def send(self, frame_id: int, picture: bytes, capture_time_us: int | None = None, **fields: object) -> None:
        time_us = frame_id * 33_333 if capture_time_us is None else capture_time_us
        frame = pb.Frame(frame_id=frame_id, capture_time_us=time_us, picture=picture, **fields)  # type: ignore[arg-type]
        await self.write(pb.StreamSegmentRequest(frame=frame))

    async def write(self, request: pb.StreamSegmentRequest) -> None:
        """Send, whether or not the server has ended the call meanwhile: `read` and `ending` tell."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.call.write(request)

    async def read(self) -> pb.StreamSegmentResponse:
        """The next message but for resume points, which come beside what these tests are about."""
        while True:
            async with asyncio.timeout(limit_s(20)):
                answer = await self.call.read()
            assert isinstance(answer, pb.StreamSegmentResponse), await self.describe_end()
            if answer.WhichOneof("message") != "resume_point":
                return answer

    async def result(self) -> pb.FrameResult:
        """The next answer to a frame."""
        answer = await self.read()
        assert answer.WhichOneof("message") == "result", answer
        return answer.result

    async def finish(self) -> list[pb.FrameResult]:
        """Half-close, and return the remaining answers."""
        await self.call.done_writing()
        results = []
        async with asyncio.timeout(limit_s(20)):
            while (answer := await self.call.read()) is not grpc.aio.EOF:
                assert isinstance(answer, pb.StreamSegmentResponse)
                if answer.WhichOneof("message") == "result":
                    results.append(answer.result)
        return results

    async def ending(self) -> "Ending":
        """Read to the end and return the status."""
        try:
            async with asyncio.timeout(limit_s(20)):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
        except grpc.aio.AioRpcError:
            pass
        return await Ending.of(self.call)

    async def describe_end(self) -> str:
        return f"the stream ended: {await self.call.code()} {await self.call.details()}"


class Ending:
    """How a call ended, with its google.rpc details."""

    def __init__(self, code: grpc.StatusCode, message: str, details: list[object]) -> None:
        self.code = code
        self.message = message
        self.info = next((d for d in details if isinstance(d, error_details_pb2.ErrorInfo)), None)
        self.bad_request = next((d for d in details if isinstance(d, error_details_pb2.BadRequest)), None)
        self.retry = next((d for d in details if isinstance(d, error_details_pb2.RetryInfo)), None)

    @property
    def reason(self) -> str:
        return str(self.info.reason) if self.info else ""

    @property
    def fields(self) -> dict[str, str]:
        violations = self.bad_request.field_violations if self.bad_request else []
        return {violation.field: violation.description for violation in violations}

    @classmethod
    async def of(cls, call: "grpc.aio.Call") -> "Ending":
        status = await rpc_status.aio.from_call(call)  # type: ignore[arg-type]
        return cls(await call.code(), await call.details() or "", _unpack(status))

    @classmethod
    def of_error(cls, error: grpc.aio.AioRpcError) -> "Ending":
        return cls(error.code(), error.details() or "", _unpack(rpc_status.from_call(error)))  # type: ignore[arg-type]


def _unpack(status: object) -> list[object]:
    found: list[object] = []
    for packed in getattr(status, "details", ()):
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            message = kind()
            if packed.Unpack(message):
                found.append(message)
    return found


@asynccontextmanager
async def open_stub(target: str) -> AsyncIterator["pb_grpc.SegmentationServiceAsyncStub"]:
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
        yield pb_grpc.SegmentationServiceStub(channel)


@asynccontextmanager
async def open_stream(target: str) -> AsyncIterator[Stream]:
    """A stream on a channel of its own."""
    async with open_stub(target) as stub:
        call = stub.StreamSegment()
        try:
            yield Stream(call)
        finally:
            call.cancel()


def red_gradient(width: int, height: int, shift: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) RGB whose red grows from left to right; what the red model must answer is the red channel."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = ((np.arange(width) * 255 // max(1, width - 1) + shift) % 256)[None, :]
    picture[..., 1] = 40
    return picture
