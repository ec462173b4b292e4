"""PyAV's frames as `RawFrame`s: planes as they lie, and what their YUV means. Needs PyAV, of the extra ``vision``."""

import math

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange as AvRange
from numpy.typing import NDArray

from humanseg.frames import FrameError, PixelFormat, RawFrame, plane_shapes
from humanseg.options import BT601_LIMITED, ColorMatrix, ColorRange, YuvColor
from humanseg.vision.arrays import Size

_FORMATS = {
    "yuv420p": PixelFormat.I420,
    "yuvj420p": PixelFormat.I420,
    "nv12": PixelFormat.NV12,
    "rgb24": PixelFormat.RGB24,
    "bgr24": PixelFormat.BGR24,
}
#: ffmpeg's name of yuv420p in full range, whatever `color_range` says.
_FULL_RANGE_FORMAT = "yuvj420p"
#: FFmpeg's AVColorSpace, which `av.VideoFrame.colorspace` gives as a number: 5 is bt470bg, 6 smpte170m, one matrix.
_MATRICES = {1: ColorMatrix.BT709, 5: ColorMatrix.BT601, 6: ColorMatrix.BT601}
_MATRIX_NOT_SAID = 2
_RANGES = {int(AvRange.MPEG): ColorRange.LIMITED, int(AvRange.JPEG): ColorRange.FULL}


def raw_frame(frame: av.VideoFrame, *, not_said: YuvColor = BT601_LIMITED) -> RawFrame:
    """The planes of a frame as views, rows with the padding that they have, and its color; nothing is copied.

    The views keep the frame's memory alive. A rotation in its side data is not applied.

    Args:
        frame: of format yuv420p, yuvj420p, nv12, rgb24 or bgr24.
        not_said: what a YUV frame is that does not say its matrix or its range, as many files do not.

    Raises:
        FrameError: another format, another matrix (BT.2020) or range, or rows that lie from bottom to top.
    """
    pixel_format = _FORMATS.get(frame.format.name)
    if pixel_format is None:
        allowed = ", ".join(_FORMATS)
        raise FrameError(f"frame of format {frame.format.name}, allowed are {allowed}; use frame.reformat(format=...)")
    size = Size(frame.width, frame.height)
    shapes = plane_shapes(pixel_format, size)
    planes = tuple(_view(plane, shape) for plane, shape in zip(frame.planes, shapes, strict=True))
    return RawFrame(size, pixel_format, planes, _color(frame, not_said) if pixel_format.is_yuv else BT601_LIMITED)


def _color(frame: av.VideoFrame, not_said: YuvColor) -> YuvColor:
    matrix = not_said.matrix if frame.colorspace == _MATRIX_NOT_SAID else _MATRICES.get(frame.colorspace)
    if matrix is None:
        allowed = ", ".join(f"{number} ({choice.name})" for number, choice in _MATRICES.items())
        raise FrameError(
            f"frame of colorspace {frame.colorspace}, allowed are {allowed};"
            " use frame.reformat(dst_colorspace=Colorspace.ITU709)"
        )
    if frame.format.name == _FULL_RANGE_FORMAT:
        return YuvColor(matrix, ColorRange.FULL)
    levels = not_said.range if frame.color_range == AvRange.UNSPECIFIED else _RANGES.get(frame.color_range)
    if levels is None:
        allowed = ", ".join(f"{number} ({choice.name})" for number, choice in _RANGES.items())
        raise FrameError(f"frame of color_range {frame.color_range}, allowed are {allowed}; use frame.reformat")
    return YuvColor(matrix, levels)


def _view(plane: VideoPlane, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    row_bytes = math.prod(shape[1:])
    if plane.line_size < row_bytes:
        raise FrameError(
            f"rows of {row_bytes} bytes with line_size {plane.line_size}: they lie from bottom to top or overlap;"
            " copy them in order"
        )
    return np.ndarray(shape, np.uint8, memoryview(plane), 0, (plane.line_size, math.prod(shape[2:]), 1)[: len(shape)])
