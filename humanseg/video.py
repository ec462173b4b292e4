"""Video files: upright RGB pictures in, H.264 out. Needs PyAV, which lives in the extra ``vision``.

Sound is neither read nor written.
"""

import contextlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
from av.container import OutputContainer
from av.sidedata.sidedata import SideData
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from humanseg.frames import TimedFrame
from humanseg.vision import cv
from humanseg.vision.arrays import Picture, Size
from humanseg.vision.orientation import Rotation, to_upright

#: Ticks of a written file's clock: the MPEG clock, in which every usual frame rate is a whole number.
TICKS_PER_S = 90_000
#: x264's constant rate factor: 18 is called visually lossless.
QUALITY_CRF = 18


class VideoError(Exception):
    """A video cannot be read or written; one line for people, with the file's name."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a file says about its first video stream; ``frame_count`` is 0 where it does not say."""

    fps: Fraction
    frame_count: int


class VideoReader:
    """An open video file; iterate over it once.

    Yields `TimedFrame`: the picture (H, W, 3) uint8 RGB, turned and flipped as players show it, and its time in
    microseconds, which grows from frame to frame.

    Raises:
        VideoError: while iterating: no picture in it, or it breaks off.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        try:
            self._container = av.open(path)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{path}: {_reason(error)}") from None
        if not self._container.streams.video:
            self._container.close()
            raise VideoError(f"{path}: holds no video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        fps = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self._is_cut = False
        self.info = VideoInfo(Fraction(fps), self._stream.frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._container.close()

    def __iter__(self) -> Iterator[TimedFrame]:
        number = 0
        last_us = -1
        try:
            for frame in self._frames():
                if frame.pts is None or frame.time_base is None:
                    time_us = round(number / self.info.fps * 1_000_000)
                else:
                    time_us = round(frame.pts * frame.time_base * 1_000_000)
                # Broken files repeat a time or go back; a stream's times must grow.
                last_us = max(time_us, last_us + 1)
                number += 1
                yield TimedFrame(_upright_rgb(frame), last_us)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self._path}: breaks off after {number} frames: {_reason(error)}") from None
        if self._is_cut:
            raise VideoError(f"{self._path}: breaks off after {number} frames: the file is cut short")
        if not number:
            raise VideoError(f"{self._path}: holds no picture")

    def _frames(self) -> Iterator[av.VideoFrame]:
        for packet in self._container.demux(self._stream):
            # FFmpeg takes the end of a file that was cut for the end of the video; only this flag tells.
            if packet.is_corrupt:
                self._is_cut = True
                yield from self._stream.decode(None)
                return
            yield from packet.decode()


def read_rgb(path: Path | str) -> Iterator[Picture]:
    """The pictures of a video file, (H, W, 3) uint8 RGB, upright.

    Raises:
        VideoError: the file cannot be read, or not to its end.
    """
    with VideoReader(path) as reader:
        for frame in reader:
            yield frame.picture


class VideoWriter:
    """Writes an H.264 mp4 that browsers play (yuv420p, BT.709, index first); used inside ``with``.

    The file appears under its name when the block ends without an exception, and not at all otherwise. H.264 with
    halved chroma needs even sides: the last row or column of an odd picture is repeated.
    """

    def __init__(self, path: Path, fps: Fraction) -> None:
        """``fps`` spaces frames that come without a time, and tells players and the rate control what to expect."""
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._fps = fps
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._size = Size(0, 0)
        self._first_us: int | None = None
        self._last_tick = -1
        self._written = 0

    def __enter__(self) -> Self:
        try:
            self._container = av.open(self._part, "w", format="mp4", options={"movflags": "+faststart"})
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self._path}: {_reason(error)}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            if self._container is not None:
                # What could not be written has been said already, or an exception is under way.
                with contextlib.suppress(av.FFmpegError, OSError):
                    self._container.close()
                self._container = None
            self._part.unlink(missing_ok=True)

    def write(self, picture_rgb: Picture, capture_time_us: int | None = None) -> None:
        """Add an (H, W, 3) uint8 RGB picture, all of one size.

        Args:
            picture_rgb: the picture.
            capture_time_us: when it is to be shown, counted from the first frame's; must grow. Left out for every
                frame: at the file's frame rate.

        Raises:
            VideoError: another size than the first, or it cannot be written.
        """
        try:
            stream = self._stream or self._start(Size.of(picture_rgb))
            if Size.of(picture_rgb) != self._size:
                text = f"a frame of {Size.of(picture_rgb)} in a video that began with {self._size}"
                raise VideoError(f"{self._path}: {text}")
            frame = av.VideoFrame.from_ndarray(cv.pad_to_even(picture_rgb), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            frame.pts = self._tick(capture_time_us)
            self._mux(stream, frame)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self._path}: {_reason(error)}") from None

    def _start(self, size: Size) -> VideoStream:
        options = {"crf": str(QUALITY_CRF), "preset": "veryfast"}
        stream = self._open_container().add_stream("libx264", rate=self._fps, options=options)
        stream.width, stream.height = size.width + size.width % 2, size.height + size.height % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, TICKS_PER_S)
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._stream, self._size = stream, size
        return stream

    def _tick(self, capture_time_us: int | None) -> int:
        if capture_time_us is None:
            tick = round(self._written * TICKS_PER_S / self._fps)
        else:
            self._first_us = capture_time_us if self._first_us is None else self._first_us
            tick = round((capture_time_us - self._first_us) * TICKS_PER_S / 1_000_000)
        # Two frames in one tick are an error to the container; a camera never means it.
        self._last_tick = max(tick, self._last_tick + 1)
        self._written += 1
        return self._last_tick

    def _finish(self) -> None:
        if self._stream is None:
            raise VideoError(f"{self._path}: no frame was written")
        try:
            self._mux(self._stream, None)
            self._open_container().close()
            self._part.replace(self._path)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self._path}: {_reason(error)}") from None

    def _mux(self, stream: VideoStream, frame: av.VideoFrame | None) -> None:
        container = self._open_container()
        for packet in stream.encode(frame):
            container.mux(packet)

    def _open_container(self) -> OutputContainer:
        if self._container is None:
            raise RuntimeError("the writer is not open; use `with VideoWriter(path, fps) as writer`")
        return self._container


def _upright_rgb(frame: av.VideoFrame) -> Picture:
    picture = cast(Picture, frame.to_ndarray(format="rgb24"))
    return to_upright(picture, *_orientation(frame))


def _orientation(frame: av.VideoFrame) -> tuple[Rotation, bool]:
    """The clockwise turn and the flip after it, from the display matrix: x' = a x + c y, y' = b x + d y, y downward."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return Rotation.DEG_0, False
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    mirrored = a * d - b * c < 0
    degrees = math.degrees(math.atan2(b, -a if mirrored else a))
    return Rotation(round(degrees / 90) * 90 % 360), mirrored


def _reason(error: Exception) -> str:
    """What went wrong, without number and file name."""
    text = (error.strerror if isinstance(error, av.FFmpegError | OSError) else None) or str(error)
    return text[:1].lower() + text[1:]
