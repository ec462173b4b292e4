"""A WebRTC video track that shows another one's people before another background.

The service makes the pictures, in the frames' own planes, and makes none without a mask of the very frame. Nothing else
leaves this track but the background alone, while there is no service; a frame without a picture is left out, and the
viewer goes on seeing the one before.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import VideoFrame
from numpy.typing import NDArray

from examples.backdrop import Backdrop
from examples.i420 import pack_i420, unpack_i420
from examples.newest import Closed, Newest
from examples.tasks import first_end
from humanseg.answers import Dropped, PictureAnswer, ResumePoint
from humanseg.client import SegmentationClient
from humanseg.errors import SegmentationError
from humanseg.frames import PixelFormat, pack_planes, view_frame
from humanseg.pictures import unpack_picture
from humanseg.session_config import SessionConfig
from humanseg.stream import SegmentationStream
from humanseg.threads import run_to_end
from humanseg.vision.arrays import Size

log = logging.getLogger(__name__)

#: How long to wait before the next try where the service does not say.
RETRY_S = 1.0
#: Delays kept for the statistics: 40 s at 30 frames a second, so that a dozen of them lie beyond the p99.
DELAYS_KEPT = 1200


@dataclass(slots=True)
class TrackStats:
    """What happened to the frames; delays are from a frame's arrival, decoded, to its finished picture, the latest."""

    received: int = 0
    sent: int = 0
    composed: int = 0
    """Pictures that the service made."""
    dropped: int = 0
    """Frames that the service made none of."""
    background_only: int = 0
    delays_ms: deque[float] = field(default_factory=lambda: deque(maxlen=DELAYS_KEPT))

    def to_json(self) -> dict[str, float]:
        """For the relay's ``/stats``."""
        names = ("received", "sent", "composed", "dropped", "background_only")
        counts = {name: getattr(self, name) for name in names}
        if not self.delays_ms:
            return counts
        p50, p99 = np.percentile(np.array(self.delays_ms), (50, 99))
        return {
            **counts,
            "delays": len(self.delays_ms),
            "delay_p50_ms": round(float(p50), 1),
            "delay_p99_ms": round(float(p99), 1),
            "delay_max_ms": round(max(self.delays_ms), 1),
        }


@dataclass(frozen=True, slots=True)
class Arrived:
    """A decoded frame: ``planes`` are I420 as (H * 3 / 2, W) uint8; the times are the sender's own."""

    planes: NDArray[np.uint8]
    pts: int | None
    time_base: Fraction | None
    arrived_s: float

    @property
    def size(self) -> Size:
        """Width and height."""
        return Size(self.planes.shape[1], self.planes.shape[0] // 3 * 2)

    @property
    def capture_time_us(self) -> int:
        """When the sender took it."""
        if self.pts is None or self.time_base is None:
            return round(self.arrived_s * 1_000_000)
        return self.pts * 1_000_000 * self.time_base.numerator // self.time_base.denominator

    def finished(self, planes: NDArray[np.uint8]) -> VideoFrame:
        """Its finished picture as a frame of the same time."""
        frame = unpack_i420(planes)
        frame.pts, frame.time_base = self.pts, self.time_base
        return frame


class ReplacedTrack(MediaStreamTrack):
    """Takes frames of ``source`` as they come and hands out finished ones.

    Args:
        source: the peer's track.
        client: an open client of the service.
        backdrop: what is shown behind people.
        model: empty for the service's default.
    """

    kind = "video"

    def __init__(self, source: MediaStreamTrack, client: SegmentationClient, backdrop: Backdrop, model: str) -> None:
        super().__init__()
        self.stats = TrackStats()
        self._source = source
        self._client = client
        self._backdrop = backdrop
        self._model = model
        self._resume: ResumePoint | None = None
        self._arrived: Newest[Arrived] = Newest()
        self._finished: Newest[VideoFrame] = Newest()
        self._work = asyncio.create_task(first_end(self._receive(), self._replace()))
        self._work.add_done_callback(lambda _: self._finished.close())

    async def recv(self) -> VideoFrame:
        """The next finished frame, with the times of the peer's own.

        Raises:
            MediaStreamError: the peer's track has ended, or this one was stopped.
        """
        try:
            return await self._finished.take()
        except Closed:
            self.stop()
            raise MediaStreamError from None

    def stop(self) -> None:
        """End the track; aiortc calls it when the connection closes."""
        super().stop()
        self._work.cancel()

    async def _receive(self) -> None:
        """Take every frame at once: aiortc's own queue has no end."""
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = cast(VideoFrame, await self._source.recv())
                arrived_s = time.monotonic()
                self.stats.received += 1
                self._arrived.put(Arrived(pack_i420(frame), frame.pts, frame.time_base, arrived_s))

    async def _replace(self) -> None:
        while True:
            try:
                await self._stream()
                return
            except SegmentationError as error:
                delay_s = error.retry_after_s or RETRY_S
                log.warning("no pictures, the background alone is shown: %s; next try in %.1f s", error, delay_s)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay_s):
                        await self._show_background()

    async def _show_background(self) -> None:
        while True:
            arrived = await self._arrived.take()
            self._finished.put(arrived.finished(await run_to_end(self._alone, arrived)))
            self.stats.background_only += 1

    def _alone(self, arrived: Arrived) -> NDArray[np.uint8]:
        frame = view_frame(arrived.planes.reshape(-1).data, PixelFormat.I420, arrived.size)
        return unpack_picture(pack_planes(self._backdrop.alone(frame)), PixelFormat.I420, arrived.size)

    async def _stream(self) -> None:
        first = await self._arrived.take()
        config = SessionConfig(
            size=first.size,
            pixel_format=PixelFormat.I420,
            model=self._model,
            label="relay",
            composite=self._backdrop.composite,
        )
        waiting: dict[int, Arrived] = {}
        async with self._client.stream(config, resume=self._resume) as stream:
            try:
                await first_end(self._send(stream, waiting), self._take_pictures(stream, waiting))
            finally:
                # Another replica, or the same one later, goes on without a flicker.
                self._resume = stream.resume_point

    async def _send(self, stream: SegmentationStream, waiting: dict[int, Arrived]) -> None:
        frame_id = 0
        while True:
            arrived = await self._arrived.take()
            frame_id += 1
            # Before it is sent: the answer may be there before the send returns.
            waiting[frame_id] = arrived
            await stream.send(arrived.planes, capture_time_us=arrived.capture_time_us, frame_id=frame_id)
            self.stats.sent += 1

    async def _take_pictures(self, stream: SegmentationStream, waiting: dict[int, Arrived]) -> None:
        async for answer in stream:
            match answer:
                case PictureAnswer():
                    arrived = waiting.pop(answer.frame_id)
                    self._finished.put(arrived.finished(answer.array))
                    self.stats.composed += 1
                    self.stats.delays_ms.append((time.monotonic() - arrived.arrived_s) * 1000)
                case Dropped():
                    del waiting[answer.frame_id]
                    self.stats.dropped += 1
                case _:
                    pass
