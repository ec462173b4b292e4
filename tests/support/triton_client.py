"""What tests send through tritonclient, and a stream of its that they can feed and read step by step."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from support.stream import Ending
from support.timing import limit_s


def image(picture: NDArray[np.uint8]) -> Any:
    """The input tensor of a picture (H, W, 3)."""
    tensor = triton.InferInput("image", list(picture.shape), "UINT8")
    tensor.set_data_from_numpy(picture)
    return tensor


def jpeg(file: bytes) -> Any:
    """The input tensor of a JPEG file."""
    tensor = triton.InferInput("jpeg", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([file], np.object_))
    return tensor


def code_of(error: InferenceServerException) -> grpc.StatusCode:
    return next(code for code in grpc.StatusCode if str(code) == error.status())


class InferTalk:
    """One ModelStreamInfer call of tritonclient."""

    def __init__(self, client: Any, token: str | None) -> None:
        self._requests: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.call = client.stream_infer(self._sent(), headers=bearer(token))

    async def _sent(self) -> AsyncIterator[dict[str, Any]]:
        while (request := await self._requests.get()) is not None:
            yield request

    def send(self, tensor: Any, sequence: int | str, *, model: str = "medium", **more: Any) -> None:
        """A request of a sequence; of none where it is 0."""
        self._requests.put_nowait({"model_name": model, "inputs": [tensor], "sequence_id": sequence, **more})

    async def read(self) -> tuple[Any, InferenceServerException | None]:
        """The next answer: a result or an error."""
        async with asyncio.timeout(limit_s(20)):
            answer: tuple[Any, InferenceServerException | None] = await anext(self.call)
            return answer

    async def mask(self) -> NDArray[np.uint8]:
        result, error = await self.read()
        assert error is None, error
        mask: NDArray[np.uint8] = result.as_numpy("mask")
        return mask

    async def refusal(self) -> str:
        """The text of the next answer, which is an error of one request."""
        _, error = await self.read()
        assert error is not None
        return str(error.message())

    def half_close(self) -> None:
        self._requests.put_nowait(None)

    async def ending(self) -> Ending:
        """Read on to the end and return the status."""
        try:
            async with asyncio.timeout(limit_s(30)):
                async for _ in self.call:
                    pass
        except grpc.aio.AioRpcError as error:
            return Ending.of_error(error)
        return Ending(grpc.StatusCode.OK, "", [])


def bearer(token: str | None) -> dict[str, str] | None:
    return None if token is None else {"authorization": f"Bearer {token}"}


@asynccontextmanager
async def open_talk(target: str, token: str | None = None) -> AsyncIterator[InferTalk]:
    """A stream on a connection of its own, cancelled at the end."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20)]
    async with triton_aio.InferenceServerClient(target, channel_args=options) as client:
        talk = InferTalk(client, token)
        try:
            yield talk
        finally:
            talk.call.cancel()
