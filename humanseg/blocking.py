"""The client for callers without asyncio: `SegmentationClient` on an event loop in a thread of its own.

No protocol of its own: each method hands its arguments to the method of the same name there and waits. Any number of
threads may use a client and a stream at a time.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import grpc

from humanseg.answers import Accepted, Answer, Limits, ModelList, ResumePoint, Segmented
from humanseg.client import ClientOptions, SegmentationClient
from humanseg.composite_config import Composite
from humanseg.frames import PixelFormat
from humanseg.loop_thread import SHARED, LoopThread, require_no_loop_here
from humanseg.masks import MaskEncoding
from humanseg.options import ColorMatrix, ColorRange, People, TemporalFusion
from humanseg.pictures import PictureLike
from humanseg.reconnect import AnyFrame
from humanseg.session_config import SessionConfig
from humanseg.shared_memory import SharedMemory
from humanseg.stills import Composed
from humanseg.stream import SegmentationStream
from humanseg.vision.arrays import Alpha8, Size
from humanseg.vision.orientation import Rotation

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")


class BlockingClient:
    """A connection to a segmentation service; takes what `SegmentationClient` takes, and raises what it raises.

    Leaving the ``with`` block ends all that is under way: calls that other threads wait for raise `CallCancelledError`.
    A client that is still open when Python ends is closed then. In a thread that runs an event loop every method raises
    RuntimeError; `SegmentationClient` is for there.

    Example::

        with BlockingClient("127.0.0.1:50051") as client:
            for frame, alpha8 in client.masks(frames, model="medium"):
                ...
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        options: ClientOptions | None = None,
    ) -> None:
        """Prepare a client; nothing is sent yet, no thread begun. Arguments: see `SegmentationClient`."""
        self._client = SegmentationClient(target, credentials=credentials, token=token, options=options)
        self._loop: LoopThread | None = None
        self._pairs: set[AsyncGenerator[Any, None]] = set()

    def __enter__(self) -> Self:
        """Open it.

        Raises:
            OSError, RuntimeError: the system has no thread or no descriptor left.
        """
        require_no_loop_here("a BlockingClient")
        if self._loop is not None:
            raise RuntimeError("the client is open already; use one `with` block for it")
        self._loop = SHARED.enter(self)
        try:
            self.call(self._client.__aenter__)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all calls. Leaving the context manager does it; a second call does nothing."""
        require_no_loop_here("a BlockingClient")
        loop, self._loop = self._loop, None
        if loop is None or not loop.belongs_to_this_process:
            return
        try:
            loop.call(self._close_here)
        finally:
            SHARED.leave(self)

    def list_models(self) -> ModelList:
        """See `SegmentationClient.list_models`."""
        return self.call(self._client.list_models)

    def segment(
        self,
        picture: PictureLike,
        *,
        model: str = "",
        pixel_format: PixelFormat | None = None,
        size: Size | None = None,
        rotation: Rotation = Rotation.DEG_0,
        mask_encoding: MaskEncoding = MaskEncoding.ALPHA8,
        mask_size: Size | None = None,
        people: People = People.ALL,
        color_matrix: ColorMatrix | None = None,
        color_range: ColorRange | None = None,
    ) -> Segmented:
        """See `SegmentationClient.segment`."""
        return self.call(
            self._client.segment,
            picture,
            model=model,
            pixel_format=pixel_format,
            size=size,
            rotation=rotation,
            mask_encoding=mask_encoding,
            mask_size=mask_size,
            people=people,
            color_matrix=color_matrix,
            color_range=color_range,
        )

    def compose(
        self,
        picture: PictureLike,
        composite: Composite,
        *,
        model: str = "",
        pixel_format: PixelFormat | None = None,
        size: Size | None = None,
        rotation: Rotation = Rotation.DEG_0,
    ) -> Composed:
        """See `SegmentationClient.compose`."""
        return self.call(
            self._client.compose,
            picture,
            composite,
            model=model,
            pixel_format=pixel_format,
            size=size,
            rotation=rotation,
        )

    def stream(
        self,
        config: SessionConfig,
        *,
        resume: ResumePoint | None = None,
        shared_memory: SharedMemory | None = None,
    ) -> "BlockingStream":
        """A stream, to be used with ``with``; see `SegmentationClient.stream`."""
        return BlockingStream(self, lambda: self._client.stream(config, resume=resume, shared_memory=shared_memory))

    def masks(
        self,
        frames: Iterable[AnyFrame],
        *,
        model: str = "",
        fps: float = 30.0,
        temporal_fusion: TemporalFusion = TemporalFusion.HIGH,
        label: str = "",
        shared_memory: SharedMemory | None = None,
    ) -> Iterator[tuple[AnyFrame, Alpha8]]:
        """Each frame with its mask; see `SegmentationClient.masks`.

        ``frames`` is read in a thread of its own, ahead of the masks. Leaving the loop early ends the stream.
        """
        pairs = self._client.masks(
            frames, model=model, fps=fps, temporal_fusion=temporal_fusion, label=label, shared_memory=shared_memory
        )
        self._pairs.add(pairs)
        try:
            while (pair := self.call(_next_or_none, pairs)) is not None:
                yield pair
        finally:
            self._pairs.discard(pairs)
            self.end(pairs.aclose)

    def call(
        self, function: Callable[Parameters, Awaitable[Value]], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Value:
        """Run a coroutine function on the client's event loop, and wait for it: `BlockingStream` does.

        Raises:
            RuntimeError: the client is not open, or an event loop runs in this thread.
            Whatever the function raises.
        """
        require_no_loop_here("a BlockingClient")
        loop = self._loop
        if loop is None:
            raise RuntimeError("the client is not open; use `with BlockingClient(target) as client`")
        return loop.call(function, *args, **kwargs)

    def end(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Close something of this client's, unless the client was closed, which did that already.

        In a thread that runs an event loop, where a generator may be collected, it is done without waiting.
        """
        loop = self._loop
        if loop is not None:
            loop.finish(close)

    async def _close_here(self) -> None:
        await self._client.aclose()
        for pairs in tuple(self._pairs):
            await _close_once_it_rests(pairs)


class BlockingStream:
    """A stream: made by `BlockingClient.stream`, used as a context manager; see `SegmentationStream`.

    Iterating yields the answers in the order of the frames sent, and ends when the last one has come after `finish`.
    One thread may send while another one takes answers. With one thread alone, take them often enough: under policy
    EVERY, and with shared memory, `send` waits for room, and there is none while answers lie here untaken.
    """

    def __init__(self, client: BlockingClient, make: Callable[[], SegmentationStream]) -> None:
        self._client = client
        self._make = make
        self._made: SegmentationStream | None = None

    def __enter__(self) -> Self:
        """Send the config and wait until it is accepted; raises as `SegmentationStream` does."""
        if self._made is not None:
            raise RuntimeError("the stream was open already; ask the client for another one")
        self._client.call(self._open)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def accepted(self) -> Accepted:
        """The server's latest answer to a config: the config as it holds, the model, the limits."""
        return self._stream.accepted

    @property
    def limits(self) -> Limits:
        """What the server will not exceed."""
        return self._stream.limits

    @property
    def resume_point(self) -> ResumePoint | None:
        """Where another stream can go on; see `SegmentationStream.resume_point`."""
        return self._stream.resume_point

    @property
    def unanswered(self) -> int:
        """Frames sent that have no answer yet."""
        return self._stream.unanswered

    def send(
        self,
        picture: PictureLike,
        *,
        capture_time_us: int | None = None,
        frame_id: int | None = None,
        size: Size | None = None,
        rotation: Rotation | None = None,
        mirrored: bool | None = None,
    ) -> int:
        """Send one frame; see `SegmentationStream.send`. Broken off while it waits for room, nothing has happened."""
        return self._client.call(
            self._stream.send,
            picture,
            capture_time_us=capture_time_us,
            frame_id=frame_id,
            size=size,
            rotation=rotation,
            mirrored=mirrored,
        )

    def receive(self, timeout_s: float | None = None) -> Answer | None:
        """The next answer; None when the last one was taken.

        Args:
            timeout_s: how long to wait for it; 0 takes only what is there, None waits as long as the stream lives.

        Raises:
            TimeoutError: none came in that time; the stream lives, and the answer may come later.
            SegmentationError: the stream failed; after all the answers that came before.
        """
        return self._client.call(self._receive, timeout_s)

    def reconfigure(self, config: SessionConfig) -> None:
        """Replace the config for the frames sent from now on; see `SegmentationStream.reconfigure`."""
        self._client.call(self._stream.reconfigure, config)

    def finish(self) -> None:
        """Say that no more frames come; what was sent is still answered. A second call does nothing."""
        self._client.call(self._stream.finish)

    def __iter__(self) -> Iterator[Answer]:
        return self

    def __next__(self) -> Answer:
        """The next answer; raises as `receive` does."""
        answer = self.receive()
        if answer is None:
            raise StopIteration
        return answer

    def close(self) -> None:
        """End the call now, whatever is under way. Leaving the context manager does it."""
        if self._made is not None:
            self._client.end(self._made.aclose)

    @property
    def _stream(self) -> SegmentationStream:
        if self._made is None:
            raise RuntimeError("the stream is not open; use `with client.stream(config) as stream`")
        return self._made

    async def _open(self) -> None:
        # Made here, since a channel belongs to the loop on which it was made.
        self._made = self._make()
        await self._made.__aenter__()

    async def _receive(self, timeout_s: float | None) -> Answer | None:
        async with asyncio.timeout(timeout_s):
            return await anext(self._stream, None)


async def _next_or_none(pairs: AsyncGenerator[Value, None]) -> Value | None:
    return await anext(pairs, None)


async def _close_once_it_rests(pairs: AsyncGenerator[Any, None]) -> None:
    """Close it; one that another thread waits for ends by itself first, now that its stream has ended.

    Not broken off instead: cancelled while it cleans up, it would leave the reading of its frames behind.
    """
    while True:
        try:
            return await pairs.aclose()
        except RuntimeError as error:
            if "already running" not in str(error):
                raise
        await asyncio.sleep(0.01)
