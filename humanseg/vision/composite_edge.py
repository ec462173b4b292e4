"""What a finished picture may do at the person's edge beside cutting there: go outwards, and take on the new light.

Both work on small pictures: on the mask at the network's size, and on the grid on which the means of a composite are
computed.
"""

import math

import numpy as np
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, Alpha8, Picture, Plane, Size

#: The furthest that a mask may be spread, as a share of the frame's height: all of it shows the real room.
LARGEST_SPREAD_RATIO = 0.02
#: How far light reaches into the person (sigma), as a share of the frame's height.
_REACH_RATIO = 0.015
#: Taken off the weights, of 255: what is left of light far inside of the person nobody sees, and it costs as much.
_UNSEEN_LEVELS = 6


def spread_alpha(alpha: Alpha, radius_px: float) -> Alpha:
    """The mask made wider by ``radius_px`` on all sides: each pixel the largest of a disc round it.

    Args:
        alpha: (H, W) float32 in [0, 1], without padding.
        radius_px: at least 0. Between two whole numbers the answers for both are mixed.

    Returns the (H, W) float32, nowhere below ``alpha``, an array of the caller's own.

    Raises:
        ValueError: the radius is negative or not a number.
    """
    if not 0 <= radius_px < math.inf:
        raise ValueError(f"radius_px {radius_px} must be 0 or more")
    whole = math.floor(radius_px)
    share = np.float32(radius_px - whole)
    inner = cv.dilate_disc_f32(alpha, whole) if whole else alpha
    if share == 0:
        return inner.copy()
    outer = cv.dilate_disc_f32(alpha, whole + 1)
    mixed: Alpha = inner + share * (outer - inner)
    # Rounding may leave the range by a last digit.
    return np.clip(mixed, inner, outer, out=mixed)


def light_weights(alpha8: Alpha8, light: Picture, luma: NDArray[np.float32], strength: float) -> Plane:
    """How much of the light behind the person reaches each place, before it is known how much of it is person.

    Args:
        alpha8: (h, w) uint8, the mask on the small grid.
        light: (h', w', 3) uint8, the new background without detail; of any size, channels as in the frame's planes.
        luma: (4,) float32: three weights and an offset that make its brightness of it, 0 black to 1 white.
        strength: 0 to 1.

    Returns (h, w) uint8, 0 to 254: at the edge of a large shape about half of ``strength`` before white; 0 before
    black, and well inside of the person.
    """
    height = alpha8.shape[0]
    outside = cv.gauss_f32(np.float32(1) - alpha8.astype(np.float32) / np.float32(255), _REACH_RATIO * height)
    brightness = np.clip(cv.mix_channels_f32(light.astype(np.float32), luma[None]), 0, 1)
    if brightness.shape != outside.shape:
        brightness = cv.resize_linear_f32(brightness, Size.of(outside))
    levels = outside * brightness * np.float32(255 * strength) - np.float32(_UNSEEN_LEVELS)
    weights: Plane = np.rint(np.clip(levels, 0, 254)).astype(np.uint8)
    return weights
