"""The demo's first pass: every frame of a clip through one stream, one at a time, and what that cost."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from benchmarks.clients import record_stages
from benchmarks.conductor import Reading
from benchmarks.footage import encode
from benchmarks.recording import Histogram
from benchmarks.target import Target
from humanseg.answers import Accepted, Dropped, Limits, MaskAnswer
from humanseg.client import SegmentationClient
from humanseg.errors import ServerFaultError
from humanseg.frames import PixelFormat
from humanseg.masks import MaskEncoding, decode_mask, encode_mask
from humanseg.options import FramePolicy, TemporalFusion
from humanseg.session_config import SessionConfig
from humanseg.stream import SegmentationStream
from humanseg.threads import run_to_end
from humanseg.video import VideoReader
from humanseg.vision.arrays import Alpha8, Picture, Size
from humanseg.vision.letterbox import shrink_or_grow


class MaskSpool:
    """Masks on their way from the first pass to the second, in a temporary file; used inside ``with``.

    In memory a minute of 1080p would be 3.7 GB.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._entries: list[tuple[int, Size]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def count(self) -> int:
        """Masks kept."""
        return len(self._entries)

    def append(self, alpha8: Alpha8) -> None:
        """Keep an (H, W) uint8 mask."""
        content = encode_mask(alpha8, MaskEncoding.PNG)
        self._file.write(content)
        self._entries.append((len(content), Size.of(alpha8)))

    def __iter__(self) -> Iterator[Alpha8]:
        self._file.seek(0)
        for length, size in self._entries:
            yield decode_mask(self._file.read(length), MaskEncoding.PNG, size)


@dataclass(slots=True)
class Streamed:
    """What the first pass saw."""

    accepted: Accepted
    before: Reading
    """The server before the first frame."""
    after: Reading
    """The server after the last answer."""
    seconds: float
    sent: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    resets: Counter[str] = field(default_factory=Counter)
    stages: dict[str, Histogram] = field(default_factory=dict)
    round_trip: Histogram = field(default_factory=Histogram)


async def stream_clip(target: Target, clip: Path, model: str, masks: MaskSpool, show: Callable[[], None]) -> Streamed:
    """Send every frame as I420 under policy EVERY and fusion HIGH, and keep its mask; an empty one if it was dropped.

    One frame at a time: the stage times are those of a frame that nothing else holds up.

    Args:
        target: the service.
        clip: the video file.
        model: name of the model; empty for the default.
        masks: takes the masks.
        show: told after every answer.

    Raises:
        VideoError: the clip cannot be read.
        SegmentationError: the stream failed.
        ScrapeError: the service's metrics cannot be read.
    """
    async with SegmentationClient(target.address) as client:
        limits = (await client.list_models()).limits
        with VideoReader(clip) as reader:
            frames = _encoded(reader, limits)
            first = await run_to_end(next, frames)
            config = SessionConfig(
                size=first.size,
                model=model,
                pixel_format=PixelFormat.I420,
                temporal_fusion=TemporalFusion.HIGH,
                frame_policy=FramePolicy.EVERY,
                label="demo",
            )
            async with client.stream(config) as stream:
                # The metrics outside, CPU time inside of the two readings: fetching a page costs the server CPU too.
                metrics = target.metrics()
                before, began_s = Reading(target.usage(), metrics), time.monotonic()
                streamed = Streamed(stream.accepted, before, before, 0.0)
                frame: _Encoded | None = first
                while frame is not None:
                    masks.append(await _pass(stream, frame, streamed))
                    show()
                    frame = await run_to_end(next, frames, None)
                streamed.seconds = time.monotonic() - began_s
                streamed.after = Reading(target.usage(), target.metrics())
                await stream.finish()
    return streamed


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A frame as it is sent."""

    picture: bytes
    size: Size
    capture_time_us: int


def _encoded(reader: VideoReader, limits: Limits) -> Iterator[_Encoded]:
    for frame in reader:
        picture = _within(frame.picture, limits)
        yield _Encoded(encode(picture, PixelFormat.I420), Size.of(picture), frame.capture_time_us)


def _within(picture: Picture, limits: Limits) -> Picture:
    return shrink_or_grow(picture, Size.of(picture).within(limits.max_frame_px, limits.max_side_px))


async def _pass(stream: SegmentationStream, frame: _Encoded, streamed: Streamed) -> Alpha8:
    began_ns = time.monotonic_ns()
    await stream.send(frame.picture, size=frame.size, capture_time_us=frame.capture_time_us)
    streamed.sent += 1
    async for answer in stream:
        round_trip_us = (time.monotonic_ns() - began_ns) / 1000
        match answer:
            case MaskAnswer():
                streamed.round_trip.record_us(round_trip_us)
                record_stages(streamed.stages, answer.times, round_trip_us)
                if answer.reset is not None:
                    streamed.resets[answer.reset.name] += 1
                return answer.alpha8
            case Dropped():
                streamed.dropped[f"{answer.reason.name}: {answer.detail}"] += 1
                return np.zeros(frame.size.shape, np.uint8)
    raise ServerFaultError("the service ended the stream in the middle of the clip")
