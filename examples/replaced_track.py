"""A WebRTC video track that shows another one's people before another background.

Nothing leaves it that was not composed: before the first mask, and while there is no service, it shows the background
alone; a frame whose mask comes too late is left out, and the viewer goes on seeing the one before.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import VideoFrame
from numpy.typing import NDArray

from examples.newest import Newest
from examples.tasks import first_end
from humanseg.answers import MaskAnswer, ResumePoint
from humanseg.client import SegmentationClient
from humanseg.errors import SegmentationError
from humanseg.frames import PixelFormat, view_frame
from humanseg.outputs import Finish
from humanseg.session_config import SessionConfig
from humanseg.stream import SegmentationStream
from humanseg.threads import run_to_end
from humanseg.vision.arrays import Alpha8, Size
from humanseg.vision.color import rgb_to_i420, to_rgb

log = logging.getLogger(__name__)

#: How long to wait before the next try where the service does not say.
RETRY_S = 1.0
#: Delays kept for the statistics: half a minute at 30 frames a second.
_DELAYS_KEPT = 900


@dataclass(slots=True)
class TrackStats:
    """What happened to the frames; delays are from a frame's arrival to its finished picture, the latest ones."""

    received: int = 0
    sent: int = 0
    masks: int = 0
    composed: int = 0
    background_only: int = 0
    delays_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_DELAYS_KEPT))

    def to_json(self) -> dict[str, float]:
        """For the relay's ``/stats``."""
        counts = {name: getattr(self, name) for name in ("received", "sent", "masks", "composed", "background_only")}
        if not self.delays_ms:
            return counts
        p50, p99 = np.percentile(np.array(self.delays_ms), (50, 99))
        return {**counts, "delay_p50_ms": round(float(p50), 1), "delay_p99_ms": round(float(p99), 1)}


@dataclass(frozen=True, slots=True)
class Arrived:
    """A decoded frame: ``planes`` are I420 as (H * 3 / 2, W) uint8."""

    planes: NDArray[np.uint8]
    frame: VideoFrame
    arrived_s: float

    @property
    def size(self) -> Size:
        """Width and height."""
        return Size(self.planes.shape[1], self.planes.shape[0] // 3 * 2)

    @property
    def capture_time_us(self) -> int:
        """The sender's own time."""
        if self.frame.pts is None or self.frame.time_base is None:
            return round(self.arrived_s * 1_000_000)
        return round(self.frame.pts * self.frame.time_base * 1_000_000)


class ReplacedTrack(MediaStreamTrack):
    """Takes frames of ``source`` as they come and hands out finished ones.

    Args:
        source: the peer's track.
        client: an open client of the service.
        finish: makes the picture of frame and mask.
        model: empty for the service's default.
    """

    kind = "video"

    def __init__(self, source: MediaStreamTrack, client: SegmentationClient, finish: Finish, model: str = "") -> None:
        super().__init__()
        self.stats = TrackStats()
        self._source = source
        self._client = client
        self._finish = finish
        self._model = model
        self._resume: ResumePoint | None = None
        self._arrived: Newest[Arrived] = Newest()
        self._masked: Newest[tuple[Arrived, Alpha8]] = Newest()
        self._finished: Newest[VideoFrame] = Newest()
        self._work = asyncio.create_task(first_end(self._receive(), self._segment(), self._compose()))

    async def recv(self) -> VideoFrame:
        """The next finished frame, with the times of the peer's own.

        Raises:
            MediaStreamError: the peer's track has ended, or this one was stopped.
        """
        taking = asyncio.ensure_future(self._finished.take())
        try:
            await asyncio.wait([taking, self._work], return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                self.stop()
                raise MediaStreamError
            return taking.result()
        finally:
            taking.cancel()

    def stop(self) -> None:
        """End the track; aiortc calls it when the connection closes."""
        super().stop()
        self._work.cancel()

    async def _receive(self) -> None:
        """Take every frame at once: aiortc's own queue has no end."""
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = cast(VideoFrame, await self._source.recv())
                self.stats.received += 1
                self._arrived.put(Arrived(_i420(frame), frame, time.monotonic()))

    async def _segment(self) -> None:
        while True:
            try:
                await self._stream()
                return
            except SegmentationError as error:
                delay_s = error.retry_after_s or RETRY_S
                log.warning("no masks, the background alone is shown: %s; next try in %.1f s", error, delay_s)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay_s):
                        await self._show_background()

    async def _show_background(self) -> None:
        while True:
            arrived = await self._arrived.take()
            self.stats.background_only += 1
            self._masked.put((arrived, np.zeros(arrived.size.shape, np.uint8)))

    async def _stream(self) -> None:
        first = await self._arrived.take()
        config = SessionConfig(size=first.size, pixel_format=PixelFormat.I420, model=self._model, label="relay")
        waiting: dict[int, Arrived] = {}
        async with self._client.stream(config, resume=self._resume) as stream:
            try:
                await first_end(self._send(stream, waiting), self._take_masks(stream, waiting))
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

    async def _take_masks(self, stream: SegmentationStream, waiting: dict[int, Arrived]) -> None:
        async for answer in stream:
            frame_id = getattr(answer, "frame_id", None)
            arrived = None if frame_id is None else waiting.pop(frame_id)
            # A dropped frame is left out: the one shown before is safe.
            if arrived is not None and isinstance(answer, MaskAnswer):
                self.stats.masks += 1
                self._masked.put((arrived, answer.alpha8))

    async def _compose(self) -> None:
        while True:
            arrived, alpha8 = await self._masked.take()
            self._finished.put(await run_to_end(self._composed, arrived, alpha8))
            self.stats.composed += 1
            self.stats.delays_ms.append((time.monotonic() - arrived.arrived_s) * 1000)

    def _composed(self, arrived: Arrived, alpha8: Alpha8) -> VideoFrame:
        raw = view_frame(arrived.planes.tobytes(), PixelFormat.I420, arrived.size)
        planes = rgb_to_i420(self._finish(to_rgb(raw), alpha8))
        stacked = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(arrived.planes.shape)
        frame = VideoFrame.from_ndarray(stacked, format="yuv420p")
        frame.pts, frame.time_base = arrived.frame.pts, arrived.frame.time_base
        return frame


def _i420(frame: VideoFrame) -> NDArray[np.uint8]:
    """The planes without the padding of their rows; odd sides, which no codec of WebRTC makes, are scaled to even."""
    width, height = frame.width - frame.width % 2, frame.height - frame.height % 2
    return cast(NDArray[np.uint8], frame.to_ndarray(format="yuv420p", width=width, height=height))
