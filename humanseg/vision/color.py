"""YUV planes to RGB and back, BT.601 limited range (Y 16..235, U and V 16..240), as webcams and WebRTC send it.

The full-size conversions replicate chroma (each sample colors its 2x2 pixels) when decoding and average it when
encoding. OpenCV's own encoder takes the top left pixel of four instead, which shifts color by half a pixel and keeps
the noise; its decoder is used, exact to one level for Y >= 16 and treating darker, illegal Y as 16.
"""

import numpy as np
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import Picture, Plane, Size

#: Luma weights of BT.601 (ITU-R BT.601-7, section 2.5.1); green is what remains.
_KR, _KB = 0.299, 0.114


def _limited_range_matrices() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(3, 4) matrices RGB -> YUV and YUV -> RGB on 8-bit levels, the constant in the last column."""
    kg = 1.0 - _KR - _KB
    luma = np.array([_KR, kg, _KB])
    full = np.stack(
        [luma, (np.array([0, 0, 1]) - luma) / (2 * (1 - _KB)), (np.array([1, 0, 0]) - luma) / (2 * (1 - _KR))]
    )
    forward = np.diag([219.0, 224.0, 224.0]) @ full / 255.0
    offset = np.array([16.0, 128.0, 128.0])
    backward = np.linalg.inv(forward)
    to_yuv = np.column_stack([forward, offset])
    to_rgb = np.column_stack([backward, -backward @ offset])
    return to_yuv.astype(np.float32), to_rgb.astype(np.float32)


_TO_YUV, _TO_RGB = _limited_range_matrices()


def yuv444_to_rgb(plane_y: Plane, plane_u: Plane, plane_v: Plane) -> Picture:
    """Three (H, W) uint8 planes of equal size to (H, W, 3) uint8 RGB, rounded and saturated.

    For the small picture of the letterbox: 0.02 ms at 320x192.
    """
    return cv.affine_channels(cv.merge(plane_y, plane_u, plane_v), _TO_RGB)


def i420_to_rgb(plane_y: Plane, plane_u: Plane, plane_v: Plane) -> Picture:
    """Y (H, W), U and V (ceil(H/2), ceil(W/2)), uint8, to (H, W, 3) uint8 RGB. Sizes may be odd."""
    return nv12_to_rgb(plane_y, cv.merge(plane_u, plane_v))


def nv12_to_rgb(plane_y: Plane, plane_uv: NDArray[np.uint8]) -> Picture:
    """Y (H, W) and UV (ceil(H/2), ceil(W/2), 2), uint8, to (H, W, 3) uint8 RGB. Sizes may be odd."""
    height, width = plane_y.shape
    even_y = cv.pad_to_even(plane_y)
    picture_rgb = cv.nv12_to_rgb(even_y, plane_uv)
    return picture_rgb if even_y is plane_y else np.ascontiguousarray(picture_rgb[:height, :width])


def rgb_to_i420(picture_rgb: Picture) -> tuple[Plane, Plane, Plane]:
    """(H, W, 3) uint8 RGB to Y (H, W), U and V (ceil(H/2), ceil(W/2)), uint8; chroma is the mean of its pixels.

    At odd edges the last row or column counts twice.
    """
    # All three channels although one or two are wanted: only the 3-to-3 form is vectorized (0.06 against 0.2 ms).
    plane_y = cv.channel(cv.affine_channels(picture_rgb, _TO_YUV), 0)
    half = _half_chroma(picture_rgb)
    return plane_y, cv.channel(half, 1), cv.channel(half, 2)


def rgb_to_nv12(picture_rgb: Picture) -> tuple[Plane, NDArray[np.uint8]]:
    """(H, W, 3) uint8 RGB to Y (H, W) and UV (ceil(H/2), ceil(W/2), 2), uint8; chroma is the mean of its pixels."""
    plane_y, plane_u, plane_v = rgb_to_i420(picture_rgb)
    return plane_y, cv.merge(plane_u, plane_v)


def _half_chroma(picture_rgb: Picture) -> NDArray[np.uint8]:
    even = cv.pad_to_even(picture_rgb)
    half = cv.resize_area(even, Size(even.shape[1] // 2, even.shape[0] // 2))
    return cv.affine_channels(half, _TO_YUV)


def bgr_to_rgb(picture_bgr: Picture) -> Picture:
    """(H, W, 3) uint8 with the first and third channel swapped; its own inverse."""
    return cv.swap_rb(picture_bgr)
