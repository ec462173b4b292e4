"""All conversions between RGB and the raw formats: YUV by BT.601 or BT.709, in limited or full range, and BGR.

Limited range is Y 16..235, U and V 16..240; full range 0..255, as JPEG has it. Levels outside of a range are converted
by the same line as those within, and only the result is cut to 0..255, as ffmpeg does it too.

The full-size conversions replicate chroma (each sample colors its 2x2 pixels) when decoding and average it when
encoding. OpenCV's own encoder takes the top left pixel of four instead, which shifts color by half a pixel and keeps
the noise; its decoder knows one matrix and one range, and reads Y below 16 as 16: it is used where neither matters.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from humanseg.frames import PixelFormat, RawFrame
from humanseg.options import BT601_LIMITED, ColorMatrix, ColorRange, YuvColor
from humanseg.vision import cv
from humanseg.vision.arrays import Picture, Plane, Size

#: Luma weights of red and blue; green is what remains (ITU-R BT.601-7, section 2.5.1; BT.709-6, section 3.2).
_LUMA_WEIGHTS = {ColorMatrix.BT601: (0.299, 0.114), ColorMatrix.BT709: (0.2126, 0.0722)}
#: Steps of Y, steps of U and V, and the level of black; no chroma is 128 in either (BT.601-7 2.5.3, JFIF 1.02).
_STEPS = {ColorRange.LIMITED: (219.0, 224.0, 16.0), ColorRange.FULL: (255.0, 255.0, 0.0)}
#: Level of black in limited range. OpenCV's decoder reads Y below it as it.
_BLACK = 16


class _Matrices(NamedTuple):
    """(3, 4) matrices on 8-bit levels, the constant in the last column."""

    to_yuv: NDArray[np.float32]
    to_rgb: NDArray[np.float32]


def _matrices_of(color: YuvColor) -> _Matrices:
    red, blue = _LUMA_WEIGHTS[color.matrix]
    steps_y, steps_uv, black = _STEPS[color.range]
    luma = np.array([red, 1.0 - red - blue, blue])
    analog = np.stack(
        [luma, (np.array([0, 0, 1]) - luma) / (2 * (1 - blue)), (np.array([1, 0, 0]) - luma) / (2 * (1 - red))]
    )
    forward = np.diag([steps_y, steps_uv, steps_uv]) @ analog / 255.0
    offset = np.array([black, 128.0, 128.0])
    backward = np.linalg.inv(forward)
    to_yuv = np.column_stack([forward, offset])
    to_rgb = np.column_stack([backward, -backward @ offset])
    return _Matrices(to_yuv.astype(np.float32), to_rgb.astype(np.float32))


_MATRICES = {color: _matrices_of(color) for color in map(YuvColor._make, product(ColorMatrix, ColorRange))}


def to_rgb(frame: RawFrame) -> Picture:
    """A raw frame as (H, W, 3) uint8 RGB; of RGB24 the plane itself."""
    match frame.pixel_format:
        case PixelFormat.RGB24:
            return frame.planes[0]
        case PixelFormat.BGR24:
            return bgr_to_rgb(frame.planes[0])
        case PixelFormat.I420:
            plane_y, plane_u, plane_v = frame.planes
            return i420_to_rgb(plane_y, plane_u, plane_v, frame.color)
        case _:
            plane_y, plane_uv = frame.planes
            return nv12_to_rgb(plane_y, plane_uv, frame.color)


def from_rgb(picture_rgb: Picture, pixel_format: PixelFormat, color: YuvColor = BT601_LIMITED) -> RawFrame:
    """(H, W, 3) uint8 RGB as a raw frame of that format; RGB24 is the picture itself.

    Raises:
        ValueError: the format is compressed.
    """
    size = Size.of(picture_rgb)
    match pixel_format:
        case PixelFormat.RGB24:
            return RawFrame(size, pixel_format, (picture_rgb,))
        case PixelFormat.BGR24:
            return RawFrame(size, pixel_format, (bgr_to_rgb(picture_rgb),))
        case PixelFormat.I420:
            return RawFrame(size, pixel_format, rgb_to_i420(picture_rgb, color), color)
        case PixelFormat.NV12:
            return RawFrame(size, pixel_format, rgb_to_nv12(picture_rgb, color), color)
        case _:
            raise ValueError(f"{pixel_format.name} is a file and has no planes")


def yuv444_to_rgb(plane_y: Plane, plane_u: Plane, plane_v: Plane, color: YuvColor = BT601_LIMITED) -> Picture:
    """Three (H, W) uint8 planes of equal size to (H, W, 3) uint8 RGB, rounded and saturated.

    For the small picture of the letterbox: 0.02 ms at 320x192.
    """
    return cv.affine_channels(cv.merge(plane_y, plane_u, plane_v), _MATRICES[color].to_rgb)


def i420_to_rgb(plane_y: Plane, plane_u: Plane, plane_v: Plane, color: YuvColor = BT601_LIMITED) -> Picture:
    """Y (H, W), U and V (ceil(H/2), ceil(W/2)), uint8, to (H, W, 3) uint8 RGB. Sizes may be odd."""
    return nv12_to_rgb(plane_y, cv.merge(plane_u, plane_v), color)


def nv12_to_rgb(plane_y: Plane, plane_uv: NDArray[np.uint8], color: YuvColor = BT601_LIMITED) -> Picture:
    """Y (H, W) and UV (ceil(H/2), ceil(W/2), 2), uint8, to (H, W, 3) uint8 RGB. Sizes may be odd."""
    height, width = plane_y.shape
    if color == BT601_LIMITED and cv.least(plane_y) >= _BLACK:
        # Within one level of the long way for every color with such Y, in 0.34 to 0.6 of its CPU time (1280x720, two
        # runs on a busy machine); to look for the least Y takes 0.012 ms.
        even_y = cv.pad_to_even(plane_y)
        picture_rgb = cv.nv12_to_rgb(even_y, plane_uv)
        return picture_rgb if even_y is plane_y else np.ascontiguousarray(picture_rgb[:height, :width])
    full_uv = cv.twice_as_large(plane_uv)[:height, :width]
    return cv.affine_channels(cv.merge(plane_y, full_uv), _MATRICES[color].to_rgb)


def rgb_to_i420(picture_rgb: Picture, color: YuvColor = BT601_LIMITED) -> tuple[Plane, Plane, Plane]:
    """(H, W, 3) uint8 RGB to Y (H, W), U and V (ceil(H/2), ceil(W/2)), uint8; chroma is the mean of its pixels.

    At odd edges the last row or column counts twice.
    """
    # All three channels although one or two are wanted: only the 3-to-3 form is vectorized (0.06 against 0.2 ms).
    plane_y = cv.channel(cv.affine_channels(picture_rgb, _MATRICES[color].to_yuv), 0)
    half = _half_chroma(picture_rgb, color)
    return plane_y, cv.channel(half, 1), cv.channel(half, 2)


def rgb_to_nv12(picture_rgb: Picture, color: YuvColor = BT601_LIMITED) -> tuple[Plane, NDArray[np.uint8]]:
    """(H, W, 3) uint8 RGB to Y (H, W) and UV (ceil(H/2), ceil(W/2), 2), uint8; chroma is the mean of its pixels."""
    plane_y, plane_u, plane_v = rgb_to_i420(picture_rgb, color)
    return plane_y, cv.merge(plane_u, plane_v)


def _half_chroma(picture_rgb: Picture, color: YuvColor) -> NDArray[np.uint8]:
    even = cv.pad_to_even(picture_rgb)
    half = cv.resize_area(even, Size(even.shape[1] // 2, even.shape[0] // 2))
    return cv.affine_channels(half, _MATRICES[color].to_yuv)


def bgr_to_rgb(picture_bgr: Picture) -> Picture:
    """(H, W, 3) uint8 with the first and third channel swapped; its own inverse."""
    return cv.swap_rb(picture_bgr)
