"""PyAV's frames as planes: the same levels as PyAV's own copy of them, and the colors that they say."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange as AvRange

from humanseg.av_frames import raw_frame
from humanseg.frames import FrameError, PixelFormat, pack_planes
from humanseg.options import BT601_LIMITED, ColorMatrix, ColorRange, YuvColor
from humanseg.vision.arrays import Size

SIZE = Size(162, 98)
#: Numbers of FFmpeg's AVColorSpace (libavutil/pixfmt.h).
GBR, BT709, UNSPECIFIED, BT470BG, SMPTE170M, BT2020_NCL = 0, 1, 2, 5, 6, 9


def av_frame(name: str, size: Size = SIZE) -> av.VideoFrame:
    noise = np.random.default_rng(1).integers(0, 256, (*size.shape, 3), np.uint8)
    return av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format=name)


@pytest.mark.parametrize(
    ("name", "pixel_format"),
    [
        ("yuv420p", PixelFormat.I420),
        ("yuvj420p", PixelFormat.I420),
        ("nv12", PixelFormat.NV12),
        ("rgb24", PixelFormat.RGB24),
        ("bgr24", PixelFormat.BGR24),
    ],
)
def test_planes_are_views_with_the_levels_that_av_copies_out(name: str, pixel_format: PixelFormat) -> None:
    frame = av_frame(name)
    raw = raw_frame(frame)
    assert (raw.size, raw.pixel_format) == (SIZE, pixel_format)
    assert [plane.strides[0] for plane in raw.planes] == [plane.line_size for plane in frame.planes]
    assert raw.planes[0].strides[0] > SIZE.width, "else this proves nothing of padding"
    assert pack_planes(raw) == frame.to_ndarray().tobytes()
    assert np.shares_memory(raw.planes[0], np.frombuffer(memoryview(frame.planes[0]), np.uint8))


def test_the_planes_outlive_the_frame() -> None:
    frame = av_frame("yuv420p")
    wanted = frame.to_ndarray().tobytes()
    raw = raw_frame(frame)
    del frame
    others = [av_frame("yuv420p") for _ in range(5)]
    for other in others:
        for plane in other.planes:
            plane.update(bytes(plane.buffer_size))
    assert pack_planes(raw) == wanted


def test_odd_sizes() -> None:
    frame = av_frame("nv12", Size(161, 97))
    assert [plane.shape for plane in raw_frame(frame).planes] == [(97, 161), (49, 81, 2)]


@pytest.mark.parametrize(
    ("colorspace", "color_range", "wanted"),
    [
        (BT709, AvRange.MPEG, YuvColor(ColorMatrix.BT709, ColorRange.LIMITED)),
        (BT470BG, AvRange.JPEG, YuvColor(ColorMatrix.BT601, ColorRange.FULL)),
        (SMPTE170M, AvRange.MPEG, BT601_LIMITED),
        (UNSPECIFIED, AvRange.UNSPECIFIED, BT601_LIMITED),
        (UNSPECIFIED, AvRange.JPEG, YuvColor(ColorMatrix.BT601, ColorRange.FULL)),
        (BT709, AvRange.UNSPECIFIED, YuvColor(ColorMatrix.BT709, ColorRange.LIMITED)),
    ],
)
@pytest.mark.parametrize("name", ["yuv420p", "nv12"])
def test_colors_are_those_the_frame_says(name: str, colorspace: int, color_range: AvRange, wanted: YuvColor) -> None:
    frame = av_frame(name)
    frame.colorspace, frame.color_range = colorspace, int(color_range)
    assert raw_frame(frame).color == wanted


def test_what_is_not_said_is_the_callers_to_say() -> None:
    frame = av_frame("yuv420p")
    frame.colorspace, frame.color_range = UNSPECIFIED, int(AvRange.UNSPECIFIED)
    hd = YuvColor(ColorMatrix.BT709, ColorRange.FULL)
    assert raw_frame(frame, not_said=hd).color == hd
    frame.colorspace, frame.color_range = SMPTE170M, int(AvRange.MPEG)
    assert raw_frame(frame, not_said=hd).color == BT601_LIMITED


def test_the_old_name_of_full_range() -> None:
    assert raw_frame(av_frame("yuvj420p")).color.range is ColorRange.FULL


@pytest.mark.parametrize("name", ["yuv422p", "yuv420p10le", "gray"])
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(FrameError, match=f"format {name}, allowed are yuv420p, yuvj420p, nv12, rgb24, bgr24"):
        raw_frame(av_frame(name))


@pytest.mark.parametrize("colorspace", [GBR, BT2020_NCL])
def test_other_matrices_are_refused(colorspace: int) -> None:
    frame = av_frame("yuv420p")
    frame.colorspace = colorspace
    with pytest.raises(FrameError, match=rf"colorspace {colorspace}, allowed are 1 \(BT709\), 5 \(BT601\)"):
        raw_frame(frame)


def test_rows_from_bottom_to_top_are_refused() -> None:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=SIZE.width, height=SIZE.height, format="yuv420p", time_base=Fraction(1, 30))
    flip, sink = graph.add("vflip"), graph.add("buffersink")
    source.link_to(flip)
    flip.link_to(sink)
    graph.configure()
    graph.push(av_frame("yuv420p"))
    flipped = graph.pull()
    assert isinstance(flipped, av.VideoFrame)
    with pytest.raises(FrameError, match="rows of 162 bytes with line_size -"):
        raw_frame(flipped)
