"""The asyncio client: still pictures, streams, and the short way from frames to masks.

No OpenCV, no video files: numpy in, numpy out. A client is used inside ``async with``; leaving it ends every call of
its own that is still under way.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
from grpc import aio

from humanseg.access import call_metadata
from humanseg.answers import Limits, ModelList, ResumePoint, Segmented, read_model_list, read_segmented
from humanseg.balancing import Balancing, channel_arguments, channel_target
from humanseg.composite_config import Composite
from humanseg.errors import (
    CallCancelledError,
    CallStatus,
    ServerFaultError,
    error_from_status,
)
from humanseg.frames import PixelFormat, TimedFrame, message_limit_bytes
from humanseg.masks import MaskEncoding
from humanseg.options import ColorMatrix, ColorRange, FramePolicy, People, TemporalFusion
from humanseg.pictures import PictureLike, check_byte_limit
from humanseg.proto_enums import MASK_ENCODING, PEOPLE
from humanseg.reconnect import AnyFrame, FrameSource, Patience, masks_of
from humanseg.session_config import SessionConfig
from humanseg.shared_memory import SharedMemory
from humanseg.stills import Composed, ask_for_composite, read_composed, still_request
from humanseg.stream import SegmentationStream, StreamLimits
from humanseg.threads import run_to_end, this_task_is_cancelled
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.v1.segmentation_pb2_grpc import SegmentationServiceStub
from humanseg.vision.arrays import Alpha8, Size
from humanseg.vision.orientation import Rotation

if TYPE_CHECKING:
    from humanseg.v1.segmentation_pb2_grpc import SegmentationServiceAsyncStub

Response = TypeVar("Response")

_NOT_OPEN = "the client is not open; use `async with SegmentationClient(target) as client`"


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What a client allows itself.

    Attributes:
        timeout_s: how long `list_models` and `segment` may take.
        answer_timeout_s: how long a stream's server may be silent while an answer is due.
        reconnect_s: for how long `masks` looks for another server after its stream ended in mid-video; 0: not at all.
        max_unanswered: frames on their way in one stream under policy EVERY. Two or three keep the engine busy; more
            cost memory on both sides and gain nothing.
        largest_picture: the largest frame or mask ever expected; sets gRPC's limit on messages received.
        balancing: which of the addresses that the target leads to; see `Balancing`.
    """

    timeout_s: float = 30.0
    answer_timeout_s: float = 60.0
    reconnect_s: float = 30.0
    max_unanswered: int = 4
    largest_picture: Size = Size(3840, 2160)
    balancing: Balancing = Balancing.FIRST

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.answer_timeout_s <= 0 or self.reconnect_s < 0 or self.max_unanswered < 1:
            raise ValueError(f"{self}: times must be positive (reconnect_s may be 0) and max_unanswered at least 1")


class SegmentationClient:
    """A connection to a segmentation service.

    Example::

        async with SegmentationClient("127.0.0.1:50051") as client:
            async for frame, alpha8 in client.masks(frames, model="medium"):
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
        """Prepare a client; nothing is sent yet.

        Args:
            target: ``"host:port"``, ``"unix:path"`` of a server on this machine (``%``, ``?`` and ``#`` in the path as
                %25, %3F and %23), or another of gRPC's names.
            credentials: for TLS, for example `TlsFiles.credentials`; an unencrypted connection without.
            token: bearer token, sent with every call; over an unencrypted connection everybody on the way can read it.
            options: see `ClientOptions`.
        """
        self._target = target
        self._credentials = credentials
        self._metadata = call_metadata(token)
        self._options = options or ClientOptions()
        self._channel: aio.Channel | None = None
        self._limits: Limits | None = None
        self._streams: set[SegmentationStream] = set()

    async def __aenter__(self) -> Self:
        self._channel = self._open_channel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all calls. Leaving the context manager does it."""
        channel, self._channel = self._channel, None
        # A copy: each takes itself out.
        for stream in list(self._streams):
            await stream.aclose()
        if channel is not None:
            await channel.close()

    async def list_models(self) -> ModelList:
        """The models that the server serves, the default first, and its limits.

        Raises:
            SegmentationError: the call failed.
        """
        timeout_s = self._options.timeout_s
        call = self._stub().ListModels(pb.ListModelsRequest(), timeout=timeout_s, metadata=self._metadata)
        models = read_model_list(await _finish(call))
        self._limits = models.limits
        return models

    async def segment(
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
        """Segment one still picture.

        Args:
            picture: the bytes of a JPEG or PNG file, an (H, W, 3) uint8 RGB array, or a `RawFrame`; see `PictureLike`.
            model: empty for the server's default.
            pixel_format: of raw bytes, or of an array that is not RGB24.
            size: of raw bytes.
            rotation: by how much the picture must be turned clockwise to stand upright; a JPEG's EXIF orientation is
                applied by the server, and the mask lies as viewers show the photo.
            mask_encoding: how the mask travels; PNG saves bytes on a slow network, PACKED and RLE more, as a hard mask.
            mask_size: the picture's own if left out.
            people: MAIN leaves everybody but the main person to the background.
            color_matrix: what I420 and NV12 mean; a `RawFrame` says it itself, else BT601 if left out.
            color_range: what I420 and NV12 mean; a `RawFrame` says it itself, else LIMITED if left out.

        Raises:
            SegmentationError: the call failed, or the picture fits neither its format nor the server's limits.
        """
        limits = self._limits or (await self.list_models()).limits
        request = still_request(
            picture, pixel_format, size, rotation, model, color_matrix, color_range, room_bytes=limits.max_frame_bytes
        )
        request.mask_encoding = MASK_ENCODING.number(mask_encoding)
        request.people = PEOPLE.number(people)
        if mask_size is not None:
            request.mask_width, request.mask_height = mask_size
        return await self._ask(request, read_segmented)

    async def compose(
        self,
        picture: PictureLike,
        composite: Composite,
        *,
        model: str = "",
        pixel_format: PixelFormat | None = None,
        size: Size | None = None,
        rotation: Rotation = Rotation.DEG_0,
    ) -> Composed:
        """Put the people of one still picture before another background.

        Args:
            picture: as for `segment`; a JPEG comes back as viewers show it.
            composite: what stands behind the people, an image with its file; and the format wanted, which is the
                picture's own (PNG where the background is transparent) if left out, else JPEG or PNG.
            model: as for `segment`, and so are the others.
            pixel_format: of raw bytes, or of an array that is not RGB24.
            size: of raw bytes.
            rotation: by how much the picture must be turned clockwise to stand upright.

        Raises:
            SegmentationError: as `segment`; or the composite is not acceptable, or its image cannot be read.
        """
        limits = self._limits or (await self.list_models()).limits
        request = still_request(picture, pixel_format, size, rotation, model, room_bytes=limits.max_frame_bytes)
        ask_for_composite(request, composite)
        return await self._ask(request, read_composed)

    def stream(
        self,
        config: SessionConfig,
        *,
        resume: ResumePoint | None = None,
        shared_memory: SharedMemory | None = None,
    ) -> SegmentationStream:
        """A stream, to be used with ``async with``.

        ``resume`` is an earlier stream's `SegmentationStream.resume_point`, to go on where that one ended;
        `Accepted.resume` tells what became of it.

        ``shared_memory`` lets pictures and masks go through memory shared with a server on this host that allows it;
        entering raises `SharedMemoryRefusedError` where it does not. What is sent and answered stays the same.

        Each has a connection of its own: on a shared one, a large frame delays the small ones behind it, and all
        streams of a client would end up on the same replica.
        """
        if self._channel is None:
            raise RuntimeError(_NOT_OPEN)
        limits = StreamLimits(self._options.max_unanswered, self._options.answer_timeout_s)
        stream = SegmentationStream(
            self._open_channel(), config, limits, self._streams.discard, resume, self._metadata, shared_memory
        )
        self._streams.add(stream)
        return stream

    async def masks(
        self,
        frames: Iterable[AnyFrame] | AsyncIterable[AnyFrame],
        *,
        model: str = "",
        fps: float = 30.0,
        temporal_fusion: TemporalFusion = TemporalFusion.HIGH,
        label: str = "",
        shared_memory: SharedMemory | None = None,
    ) -> AsyncGenerator[tuple[AnyFrame, Alpha8], None]:
        """Each frame with its mask, in order, none left out; at most `ClientOptions.max_unanswered` are on their way.

        A server that stops, or breaks away, is followed by another one that ``target`` leads to, for as long as
        `ClientOptions.reconnect_s` says; one that announced it, without a seam in the masks.

        Args:
            frames: (H, W, 3) uint8 RGB arrays, or `TimedFrame`s. A plain iterable is read in a thread, so that a
                decoder does not hold up the event loop. Sizes may change on the way.
            model: empty for the server's default.
            fps: frames a second, where the frames do not say their times.
            temporal_fusion: how strongly masks are smoothed over time.
            label: see `SessionConfig`.
            shared_memory: as for `stream`; ``largest`` where later frames are larger than the first.

        Raises:
            SegmentationError: the stream failed and none took its place, or a frame was dropped (`FrameDroppedError`).
            Whatever reading ``frames`` raises, after the masks of all frames before it.
        """
        async with AsyncExitStack() as stack:
            if isinstance(frames, AsyncIterable):
                source = aiter(frames)
            else:
                source = await stack.enter_async_context(aclosing(_read_in_thread(iter(frames))))
            feed = FrameSource(source, 1e6 / fps)
            stack.push_async_callback(feed.aclose)
            first = await feed.peek()
            if first is None:
                return
            config = SessionConfig(
                size=Size.of(first.picture if isinstance(first, TimedFrame) else first),
                model=model,
                temporal_fusion=temporal_fusion,
                frame_policy=FramePolicy.EVERY,
                label=label,
            )
            patience = Patience(self._options.reconnect_s)
            pairs = masks_of(
                lambda resume: self.stream(config, resume=resume, shared_memory=shared_memory), feed, patience
            )
            async for pair in await stack.enter_async_context(aclosing(pairs)):
                yield pair

    async def _ask(self, request: pb.SegmentRequest, read: Callable[[pb.SegmentResponse], Response]) -> Response:
        """The answer to a still picture, as ``read`` reads it."""
        if self._limits is None:
            await self.list_models()
        if self._limits is not None:
            check_byte_limit(len(request.picture), self._limits.max_frame_bytes, len(request.background_image))
        timeout_s = self._options.timeout_s
        response = await _finish(self._stub().Segment(request, timeout=timeout_s, metadata=self._metadata))
        try:
            return read(response)
        except ValueError as error:
            text = f"the server's answer cannot be read: {error}"
            raise ServerFaultError(text, code=grpc.StatusCode.INTERNAL) from error

    def _stub(self) -> "SegmentationServiceAsyncStub":
        if self._channel is None:
            raise RuntimeError(_NOT_OPEN)
        return SegmentationServiceStub(self._channel)

    def _open_channel(self) -> aio.Channel:
        limit_bytes = message_limit_bytes(self._options.largest_picture.area_px)
        arguments: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", limit_bytes),
            # The server's limit decides about what is sent, and says so by name.
            ("grpc.max_send_message_length", -1),
            # A connection to each channel, see `stream`; gRPC would share one between equal channels.
            ("grpc.use_local_subchannel_pool", 1),
            *channel_arguments(self._options.balancing),
        ]
        target = channel_target(self._target, self._options.balancing)
        if self._credentials is None:
            return aio.insecure_channel(target, arguments)
        return aio.secure_channel(target, self._credentials, arguments)


async def _finish(call: Awaitable[Response]) -> Response:
    """The response of a call with one answer, its failure as ours."""
    try:
        return await call
    except aio.AioRpcError as error:
        raise error_from_status(CallStatus.of(error)) from error
    except asyncio.CancelledError:
        # grpc.aio raises it also where the call, not this task, was cancelled: by `aclose`.
        if this_task_is_cancelled():
            raise
        raise CallCancelledError("the client was closed here", code=grpc.StatusCode.CANCELLED) from None


async def _read_in_thread(frames: Iterator[AnyFrame]) -> AsyncGenerator[AnyFrame, None]:
    while (frame := await run_to_end(_next_or_none, frames)) is not None:
        yield frame


def _next_or_none(frames: Iterator[AnyFrame]) -> AnyFrame | None:
    # StopIteration cannot pass through a future.
    return next(frames, None)
