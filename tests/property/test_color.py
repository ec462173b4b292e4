"""Conversions against ffmpeg's own (swscale), whatever the levels: both matrices, both ranges, odd sizes, strides.

ffmpeg gets chroma of full size, so that the colors are compared and not how chroma is spread: replicated before its
decoder, and averaged after its encoder, as our module says of itself. ACCURATE_RND and the full-chroma flags keep it
from its faster, coarser tables. Two levels are allowed: both sides round their coefficients (ours to 1/1024 in
cv2.transform) and each is within one level of the exact value.
"""

import numpy as np
import pytest
from av import VideoFrame
from av.video.reformatter import ColorRange as FfmpegRange
from av.video.reformatter import Colorspace, Interpolation
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from humanseg.frames import PixelFormat, RawFrame, plane_shapes
from humanseg.options import ColorMatrix, ColorRange, YuvColor
from humanseg.vision.arrays import Picture, Size
from humanseg.vision.color import from_rgb, to_rgb

ACCURATE = (
    Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
SPACE = {ColorMatrix.BT601: Colorspace.ITU601, ColorMatrix.BT709: Colorspace.ITU709}
RANGE = {ColorRange.LIMITED: FfmpegRange.MPEG, ColorRange.FULL: FfmpegRange.JPEG}
TOLERANCE = 2
#: How much blue a step of U adds in limited range: 2 (1 - Kb) 255 / 224.
BLUE_OF_U = {ColorMatrix.BT601: 2 * 0.886 * 255 / 224, ColorMatrix.BT709: 2 * 0.9278 * 255 / 224}

sizes = st.builds(Size, st.integers(1, 67), st.integers(1, 67))
colors = st.builds(YuvColor, st.sampled_from(ColorMatrix), st.sampled_from(ColorRange))
yuv_formats = st.sampled_from([PixelFormat.I420, PixelFormat.NV12])
seeds = st.integers(0, 2**32 - 1)


def levels(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    """Random, half of them at the ends of either range and beyond."""
    rng = np.random.default_rng(seed)
    ends = rng.choice(np.array([0, 1, 15, 16, 17, 127, 128, 129, 235, 236, 240, 241, 254, 255], np.uint8), shape)
    return np.where(rng.random(shape) < 0.5, ends, rng.integers(0, 256, shape, np.uint8))


def ffmpeg_frame(array: NDArray[np.uint8], pixel_format: str) -> VideoFrame:
    """(H, W, 3) into a frame of one packed or three planes, whose rows ffmpeg pads as it likes."""
    frame = VideoFrame(array.shape[1], array.shape[0], pixel_format)
    parts = [array] if pixel_format == "rgb24" else [array[..., index] for index in range(3)]
    for plane, part in zip(frame.planes, parts, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(array.shape[0], plane.line_size)
        rows[:, : part[0].size] = part.reshape(array.shape[0], -1)
    return frame


def ffmpeg_array(frame: VideoFrame) -> NDArray[np.uint8]:
    """(H, W, 3) of a frame of one packed or three planes."""
    wide = [np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size) for plane in frame.planes]
    if len(wide) == 1:
        return wide[0][:, : 3 * frame.width].reshape(frame.height, frame.width, 3)
    return np.stack([rows[:, : frame.width] for rows in wide], -1)


def ffmpeg_to_rgb(yuv444: NDArray[np.uint8], color: YuvColor) -> Picture:
    converted = ffmpeg_frame(yuv444, "yuv444p").reformat(
        format="rgb24", interpolation=ACCURATE, src_colorspace=SPACE[color.matrix], dst_colorspace=SPACE[color.matrix],
        src_color_range=RANGE[color.range], dst_color_range=FfmpegRange.JPEG,
    )  # fmt: skip
    return ffmpeg_array(converted)


def ffmpeg_to_yuv(picture_rgb: Picture, color: YuvColor) -> NDArray[np.uint8]:
    converted = ffmpeg_frame(picture_rgb, "rgb24").reformat(
        format="yuv444p", interpolation=ACCURATE, src_colorspace=SPACE[color.matrix],
        dst_colorspace=SPACE[color.matrix], src_color_range=FfmpegRange.JPEG, dst_color_range=RANGE[color.range],
    )  # fmt: skip
    return ffmpeg_array(converted)


def strided(plane: NDArray[np.uint8], padding: int) -> NDArray[np.uint8]:
    """The same values in rows that have a padding."""
    rows = plane.reshape(plane.shape[0], -1)
    wide = np.full((rows.shape[0], rows.shape[1] + padding), 77, np.uint8)
    wide[:, : rows.shape[1]] = rows
    inner = plane.strides[1:]
    return np.ndarray(plane.shape, np.uint8, wide.data, 0, (wide.shape[1], *inner))


def yuv_of(frame: RawFrame) -> list[NDArray[np.uint8]]:
    """Y, U and V of I420 or NV12, chroma at half size."""
    if frame.pixel_format is PixelFormat.I420:
        return list(frame.planes)
    return [frame.planes[0], frame.planes[1][..., 0], frame.planes[1][..., 1]]


@settings(deadline=None, max_examples=100)
@given(size=sizes, pixel_format=yuv_formats, color=colors, padding=st.integers(0, 40), seed=seeds)
def test_yuv_to_rgb_as_ffmpeg(size: Size, pixel_format: PixelFormat, color: YuvColor, padding: int, seed: int) -> None:
    shapes = plane_shapes(pixel_format, size)
    planes = tuple(strided(levels(shape, seed + index), padding) for index, shape in enumerate(shapes))
    frame = RawFrame(size, pixel_format, planes, color)
    plane_y, *chroma = yuv_of(frame)
    full = [plane.repeat(2, 0).repeat(2, 1)[: size.height, : size.width] for plane in chroma]
    wanted = ffmpeg_to_rgb(np.stack([plane_y, *full], -1), color).copy()
    if color.range is ColorRange.LIMITED:
        # swscale wraps round to 0 where blue comes to 512 or more, which only illegal levels reach: there it is 255.
        blue = 255 / 219 * (plane_y - 16.0) + BLUE_OF_U[color.matrix] * (full[0] - 128.0)
        wanted[blue > 500, 2] = 255
    assert np.abs(to_rgb(frame).astype(int) - wanted).max() <= TOLERANCE


@settings(deadline=None, max_examples=100)
@given(size=sizes, pixel_format=yuv_formats, color=colors, padding=st.integers(0, 40), seed=seeds)
def test_rgb_to_yuv_as_ffmpeg(size: Size, pixel_format: PixelFormat, color: YuvColor, padding: int, seed: int) -> None:
    picture_rgb = strided(levels((*size.shape, 3), seed), padding)
    plane_y, *chroma = yuv_of(from_rgb(picture_rgb, pixel_format, color))
    even = np.pad(picture_rgb, ((0, size.height % 2), (0, size.width % 2), (0, 0)), mode="edge")
    wanted = ffmpeg_to_yuv(even, color).astype(float)
    assert np.abs(plane_y - wanted[: size.height, : size.width, 0]).max() <= TOLERANCE
    means = wanted.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, 3).mean((1, 3))
    for index, plane in enumerate(chroma, start=1):
        assert np.abs(plane - means[..., index]).max() <= TOLERANCE


@pytest.mark.parametrize("pixel_format", [PixelFormat.I420, PixelFormat.NV12])
def test_the_wrong_matrix_or_range_would_be_seen(pixel_format: PixelFormat) -> None:
    """Else the tests above would prove nothing."""
    picture_rgb = levels((32, 32, 3), 1)
    every = [YuvColor(matrix, part) for matrix in ColorMatrix for part in ColorRange]
    for color in every:
        frame = from_rgb(picture_rgb, pixel_format, color)
        for other in every:
            seen = to_rgb(RawFrame(frame.size, pixel_format, frame.planes, other)).astype(int)
            assert (np.abs(seen - to_rgb(frame)).max() > 4 * TOLERANCE) == (other != color)
