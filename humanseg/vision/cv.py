"""The OpenCV calls of the project with narrow types: cv2's own stubs return "integer or floating" everywhere.

Only wrappers live here, no decisions. Importing this module keeps OpenCV on one thread: the service runs many
sessions at once, and a pool of OpenCV's own under each of them makes every frame later (measured: p99, not mean).
"""

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.vision.arrays import Size

cv2.setNumThreads(1)


def resize_area(array: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Shrink by averaging (INTER_AREA); (H, W) or (H, W, C) uint8."""
    return cast(NDArray[np.uint8], cv2.resize(array, size, interpolation=cv2.INTER_AREA))


def resize_linear(array: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Bilinear, half-pixel centers; (H, W) or (H, W, C) uint8."""
    return cast(NDArray[np.uint8], cv2.resize(array, size, interpolation=cv2.INTER_LINEAR))


def resize_cubic(array: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Bicubic, half-pixel centers, saturating at 0 and 255; (H, W) or (H, W, C) uint8."""
    return cast(NDArray[np.uint8], cv2.resize(array, size, interpolation=cv2.INTER_CUBIC))


def resize_area_f32(array: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Shrink by averaging; (H, W) float32."""
    return cast(NDArray[np.float32], cv2.resize(array, size, interpolation=cv2.INTER_AREA))


def resize_linear_f32(array: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Bilinear, half-pixel centers; (H, W) float32."""
    return cast(NDArray[np.float32], cv2.resize(array, size, interpolation=cv2.INTER_LINEAR))


def resize_cubic_f32(array: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Bicubic, half-pixel centers; may overshoot the input's range, so clip; (H, W) float32."""
    return cast(NDArray[np.float32], cv2.resize(array, size, interpolation=cv2.INTER_CUBIC))


def rgb_to_gray(picture_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BT.601 luma of an (H, W, 3) RGB picture, full range."""
    return cast(NDArray[np.uint8], cv2.cvtColor(picture_rgb, cv2.COLOR_RGB2GRAY))


def swap_rb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB to BGR and back, as a contiguous copy."""
    return cast(NDArray[np.uint8], cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def scale_to_u8(array: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """``round(array * scale)`` saturated to 0..255, in one pass; float32 of any shape, not negative."""
    return cast(NDArray[np.uint8], cv2.convertScaleAbs(array, alpha=scale))


def merge(*planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Interleave (H, W) uint8 planes to (H, W, C)."""
    return cast(NDArray[np.uint8], cv2.merge(planes))


def channel(array: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    """One channel of (H, W, C) uint8 as a contiguous (H, W)."""
    return cast(NDArray[np.uint8], cv2.extractChannel(array, index))


def affine_channels(array: NDArray[np.uint8], matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``matrix[:, :C] @ pixel + matrix[:, C]`` per pixel, rounded and saturated; (H, W, C) uint8 to (H, W, rows)."""
    return cast(NDArray[np.uint8], cv2.transform(array, matrix))


def nv12_to_rgb(plane_y: NDArray[np.uint8], plane_uv: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Y (H, W) and UV (H/2, W/2, 2), BT.601 limited, even sizes only, to (H, W, 3) RGB."""
    return cast(NDArray[np.uint8], cv2.cvtColorTwoPlane(plane_y, plane_uv, cv2.COLOR_YUV2RGB_NV12))


def pad_to_even(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row and column of (H, W) or (H, W, C) where there is an odd number; itself if there is none."""
    down, right = array.shape[0] % 2, array.shape[1] % 2
    if not (down or right):
        return array
    return cast(NDArray[np.uint8], cv2.copyMakeBorder(array, 0, down, 0, right, cv2.BORDER_REPLICATE))


def decode_rgb(file: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The picture in the bytes of a file as (H, W, 3) uint8 RGB, not turned, without transparency; None if broken."""
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return cast(NDArray[np.uint8] | None, cv2.imdecode(file, flags))
