"""Turning and mirroring pictures and masks: from the way they were sent to upright, and back."""

import enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from humanseg.vision.arrays import Size

AnyScalar = TypeVar("AnyScalar", bound=np.generic)


class Rotation(enum.IntEnum):
    """Degrees by which a picture must be turned clockwise to stand upright."""

    DEG_0 = 0
    DEG_90 = 90
    DEG_180 = 180
    DEG_270 = 270


def upright_size(size: Size, rotation: Rotation) -> Size:
    """The size of a picture of ``size`` once it stands upright."""
    return size.transposed if rotation in (Rotation.DEG_90, Rotation.DEG_270) else size


def to_upright(array: NDArray[AnyScalar], rotation: Rotation, mirrored: bool) -> NDArray[AnyScalar]:
    """Turn an (H, W) or (H, W, C) array clockwise by ``rotation``, then flip it left to right if ``mirrored``.

    Returns a contiguous copy, or the array itself where there is nothing to do.
    """
    if rotation is Rotation.DEG_0 and not mirrored:
        return array
    turned = _turned_clockwise(array, rotation)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def to_sent(array: NDArray[AnyScalar], rotation: Rotation, mirrored: bool) -> NDArray[AnyScalar]:
    """The exact inverse of `to_upright`: an upright mask as it belongs onto the picture that was sent."""
    if rotation is Rotation.DEG_0 and not mirrored:
        return array
    flipped = array[:, ::-1] if mirrored else array
    return np.ascontiguousarray(_turned_clockwise(flipped, Rotation((360 - rotation) % 360)))


def _turned_clockwise(array: NDArray[AnyScalar], rotation: Rotation) -> NDArray[AnyScalar]:
    """A view, so that turn and flip together cost one copy."""
    match rotation:
        case Rotation.DEG_0:
            return array
        case Rotation.DEG_90:
            return array.swapaxes(0, 1)[:, ::-1]
        case Rotation.DEG_180:
            return array[::-1, ::-1]
        case Rotation.DEG_270:
            return array.swapaxes(0, 1)[::-1]
