"""The service as its users call it: a server of its own, gRPC, the project's client, one frame under way."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np

from benchmarks.peers.peer import Peer, PeerUnavailableError
from benchmarks.target import LocalServer, TargetError
from humanseg.answers import Dropped, MaskAnswer
from humanseg.client import SegmentationClient
from humanseg.frames import PixelFormat
from humanseg.options import TemporalFusion
from humanseg.session_config import SessionConfig
from humanseg.stream import SegmentationStream
from humanseg.vision.arrays import Alpha, Alpha8, Picture, Size

T = TypeVar("T")


class OwnService(Peer):
    """``python -m service`` and a client in this process; RGB24 goes out, ALPHA8 comes back."""

    def __init__(self, models: Path, model: str, engine: str, fusion: TemporalFusion) -> None:
        """Raises `PeerUnavailableError` where the server does not start."""
        self._model, self._fusion = model, fusion
        self._folder = TemporaryDirectory(prefix="humanseg-peers-")
        arguments = ["--models", str(models), "--engine", engine, "--default-model", model]
        self._server = LocalServer(Path(self._folder.name) / "server.log", arguments)
        try:
            self._server.start()
        except TargetError as error:
            self._folder.cleanup()
            raise PeerUnavailableError(str(error).splitlines()[0]) from None
        self._loop = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._client = self._run(self._stack.enter_async_context(SegmentationClient(self._server.address)))
        self._stream: SegmentationStream | None = None

    def segment(self, picture: Picture) -> Alpha:
        """By the call for stills."""
        return _as_alpha(self._run(self._client.segment(picture, model=self._model)).alpha8)

    def follow(self, picture: Picture, capture_time_us: int) -> Alpha:
        """By a stream that is opened at the first frame."""
        return _as_alpha(self._run(self._next_mask(picture, capture_time_us)))

    async def _next_mask(self, picture: Picture, capture_time_us: int) -> Alpha8:
        if self._stream is None:
            config = SessionConfig(
                size=Size.of(picture),
                model=self._model,
                pixel_format=PixelFormat.RGB24,
                temporal_fusion=self._fusion,
                label="benchmark",
            )
            self._stream = await self._stack.enter_async_context(self._client.stream(config))
        await self._stream.send(picture, capture_time_us=capture_time_us)
        async for answer in self._stream:
            match answer:
                case MaskAnswer():
                    return answer.alpha8
                case Dropped():
                    raise PeerUnavailableError(f"a frame was dropped: {answer.reason.name} {answer.detail}")
        raise PeerUnavailableError("the stream ended before the mask came")

    def cpu_elsewhere_s(self) -> float:
        """Of the server."""
        usage = self._server.usage()
        return usage.cpu_s if usage else 0.0

    def close(self) -> None:
        """End the stream, then stop the server."""
        self._run(self._stack.aclose())
        self._loop.close()
        self._server.stop()
        self._folder.cleanup()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)


def _as_alpha(alpha8: Alpha8) -> Alpha:
    alpha: Alpha = alpha8.astype(np.float32) / np.float32(255)
    return alpha
