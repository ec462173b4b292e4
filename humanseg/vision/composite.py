"""A person before another background: blurred, of one color, or a picture.

Alpha says how much of a pixel is person; the rest of it is the old room, and must go too, or a rim of it shines around
hair and shoulders. So the color of the person alone is estimated where alpha is soft, and what is blurred is the room
without the person.
"""

import math

import numpy as np
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, Alpha8, Field, Picture, Size
from humanseg.vision.letterbox import shrink_or_grow

#: Width of the background's blur (sigma) as a share of the frame's height: 13 px at 360p, 39 at 1080p.
BLUR_RATIO = 0.036
#: Blur is computed on a picture small enough that sigma has this many pixels there; finer makes no visible difference.
_COARSE_SIGMA_PX = 4.0
#: Neighborhoods of the two passes of the color estimate as shares of the height: 90 and 6 px at 360p, as published.
_WIDE_RATIO, _NARROW_RATIO = 0.25, 1 / 60
#: Height at which the wide pass runs: its means are smooth, and at full size they take four fifths of the time.
_COARSE_HEIGHT_PX = 144
#: Weight of the pixel's own color in a mean over (nearly) no weight: keeps it defined, and moves nothing else.
_TINY = 1e-4


def compose(frame_rgb: Picture, alpha8: Alpha8, background_rgb: Picture) -> Picture:
    """The person of a frame before a background, all of one size.

    Args:
        frame_rgb: (H, W, 3) uint8.
        alpha8: (H, W) uint8, 0 background to 255 person.
        background_rgb: (H, W, 3) uint8.

    Returns (H, W, 3) uint8, rounded: exactly the frame where alpha is 255, exactly the background where it is 0, and
    between them ``alpha * person + (1 - alpha) * background`` with the person's color out of `person_color`.

    Raises:
        ValueError: the sizes differ.
    """
    _check_sizes(frame_rgb, alpha8, background_rgb)
    composed = np.where((alpha8 == 255)[:, :, None], frame_rgb, background_rgb)
    soft = (alpha8 > 0) & (alpha8 < 255)
    if not soft.any():
        return composed
    alpha = _to_alpha(alpha8)
    person = person_color(frame_rgb, alpha)[soft]
    share = alpha[soft][:, None]
    composed[soft] = np.rint(share * person + (1 - share) * background_rgb[soft]).astype(np.uint8)
    return composed


def person_color(frame_rgb: Picture, alpha: Alpha) -> Field:
    """Estimate the color of the person alone, (H, W, 3) float32 in 0..255; meaningful where alpha is above 0.

    Blur-fusion, two passes (Forte 2021, "Approximate Fast Foreground Colour Estimation"): local means F' and B' of
    person and room, weighted by alpha, then ``F = F' + alpha * (I - alpha * F' - (1 - alpha) * B')``.
    """
    estimate = frame_rgb.astype(np.float32)
    soft = (alpha > 0) & (alpha < 1)
    if soft.any():
        # The narrow pass sees its neighborhood only, so it runs where there is something soft.
        narrow_px = _side_px(_NARROW_RATIO, Size.of(frame_rgb))
        rows, columns = np.nonzero(soft)
        region = (_bounds(rows, narrow_px), _bounds(columns, narrow_px))
        estimate[region] = _person_color_within(frame_rgb, alpha, region, narrow_px)
    return estimate


def _person_color_within(frame_rgb: Picture, alpha: Alpha, region: tuple[slice, slice], narrow_px: int) -> Field:
    full = Size.of(frame_rgb)
    coarse = Size(max(1, round(full.width * _COARSE_HEIGHT_PX / full.height)), _COARSE_HEIGHT_PX)
    if coarse.area_px >= full.area_px:
        coarse = full
    near_frame = shrink_or_grow(frame_rgb, coarse).astype(np.float32)
    near_alpha = _shrunk(alpha, coarse)
    wide_px = _side_px(_WIDE_RATIO, coarse)
    person_mean = _grown(_weighted_mean(near_frame, near_alpha, wide_px), full)[region]
    room_mean = _grown(_weighted_mean(near_frame, 1 - near_alpha, wide_px), full)[region]
    frame, share = frame_rgb[region].astype(np.float32), alpha[region]
    person = _fused(frame, share, person_mean, room_mean)
    narrow_person = _weighted_mean(person, share, narrow_px)
    narrow_room = _weighted_mean(room_mean, 1 - share, narrow_px)
    return _fused(frame, share, narrow_person, narrow_room)


def blurred_room(frame_rgb: Picture, alpha8: Alpha8, blur_ratio: float = BLUR_RATIO) -> Picture:
    """The frame out of focus, without the person: every pixel is the mean of the *room* around it.

    Weighted by the room's share of each pixel and divided by the blurred weight, so that the person does not glow into
    the room.

    Args:
        frame_rgb: (H, W, 3) uint8.
        alpha8: (H, W) uint8, 0 background to 255 person.
        blur_ratio: sigma of the blur as a share of the height, above 0.

    Raises:
        ValueError: the sizes differ.
    """
    _check_sizes(frame_rgb, alpha8, frame_rgb)
    full = Size.of(frame_rgb)
    sigma_px = blur_ratio * full.height
    factor = max(1.0, sigma_px / _COARSE_SIGMA_PX)
    coarse = Size(max(1, round(full.width / factor)), max(1, round(full.height / factor)))
    frame = frame_rgb.astype(np.float32)
    # To the fourth power: a soft pixel's color is half the person's already (drawn scene: 4 levels of it, not 15).
    weight = (1 - _to_alpha(alpha8)) ** 4
    # Weighted before it is shrunk: a coarse pixel at the edge must hold none of the person's color.
    colors = cv.gauss_f32(_shrunk(weight[:, :, None] * frame, coarse), sigma_px / factor)
    weights = cv.gauss_f32(_shrunk(weight, coarse), sigma_px / factor)
    plain = cv.gauss_f32(_shrunk(frame, coarse), sigma_px / factor)
    room = (colors + _TINY * plain) / (weights + _TINY)[:, :, None]
    return _to_picture(_grown(room, full))


def solid(size: Size, color_rgb: tuple[int, int, int]) -> Picture:
    """A background of one color, (H, W, 3) uint8."""
    return np.full((*size.shape, 3), color_rgb, np.uint8)


def cover(picture_rgb: Picture, size: Size) -> Picture:
    """A picture scaled until it covers ``size``, and cut to it in the middle; never squashed."""
    have = Size.of(picture_rgb)
    scale = max(size.width / have.width, size.height / have.height)
    scaled = Size(max(size.width, round(have.width * scale)), max(size.height, round(have.height * scale)))
    grown = shrink_or_grow(picture_rgb, scaled)
    left, top = (scaled.width - size.width) // 2, (scaled.height - size.height) // 2
    return np.ascontiguousarray(grown[top : top + size.height, left : left + size.width])


def _fused(frame: Field, alpha: Alpha, person: Field, room: Field) -> Field:
    share = alpha[:, :, None]
    fused: Field = np.clip(person + share * (frame - share * person - (1 - share) * room), 0, 255)
    return fused


def _weighted_mean(colors: Field, weight: Field, side_px: int) -> Field:
    summed = cv.box_f32(weight[:, :, None] * colors, side_px) + _TINY * colors
    mean: Field = summed / (cv.box_f32(weight, side_px) + np.float32(_TINY))[:, :, None]
    return mean


def _side_px(ratio: float, size: Size) -> int:
    """An odd neighborhood, so that it lies centered."""
    return 2 * math.ceil(ratio * size.height / 2) + 1


def _bounds(places: NDArray[np.intp], margin_px: int) -> slice:
    """From the first to the last place, and a margin."""
    return slice(max(0, int(places.min()) - margin_px), int(places.max()) + 1 + margin_px)


def _shrunk(array: Field, size: Size) -> Field:
    return array if Size.of(array) == size else cv.resize_area_f32(array, size)


def _grown(array: Field, size: Size) -> Field:
    return array if Size.of(array) == size else cv.resize_linear_f32(array, size)


def _to_alpha(alpha8: Alpha8) -> Alpha:
    return alpha8.astype(np.float32) / np.float32(255)


def _to_picture(colors: Field) -> Picture:
    return np.clip(np.rint(colors), 0, 255).astype(np.uint8)


def _check_sizes(frame_rgb: Picture, alpha8: Alpha8, background_rgb: Picture) -> None:
    sizes = {Size.of(frame_rgb), Size.of(alpha8), Size.of(background_rgb)}
    if len(sizes) > 1:
        frame, alpha, background = Size.of(frame_rgb), Size.of(alpha8), Size.of(background_rgb)
        raise ValueError(f"frame {frame}, alpha {alpha} and background {background} must be of one size")
