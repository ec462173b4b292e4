"""A person before another background, made in the frame's own planes: no detour over RGB, no change of range.

The same picture as `humanseg.vision.composite` makes, at a twentieth of its cost: all that is smooth (the blurred room,
the mean colors of person and room that the color estimate needs) is computed on a small copy of the frame, and
full-size work is done on bytes, with arithmetic at the soft edge alone.

With alpha a, frame I, local means F' of the person and R of the room, and the new background B, the color of the
person alone is ``F = F' + a * (I - a * F' - (1 - a) * R)`` (blur-fusion, Forte 2021), and so

    a * F + (1 - a) * B  =  a^2 * I + a * (1 - a^2) * F' - a^2 * (1 - a) * R + (1 - a) * B

in which what is left of the old room's texture fades with the square of alpha.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from humanseg.frames import PixelFormat, RawFrame
from humanseg.options import YuvColor
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha8, Field, Picture, Size
from humanseg.vision.color import to_rgb
from humanseg.vision.composite import BLUR_RATIO
from humanseg.vision.composite_edge import light_weights
from humanseg.vision.letterbox import shrink_or_grow

#: Smallest and largest blur (sigma) as shares of the frame's height. A blurred background is there to hide the room: of
#: black and white stripes as wide as 4 % of the height, the smallest leaves a twelfth of the contrast (0.02: a third).
LEAST_BLUR_RATIO, LARGEST_BLUR_RATIO = 0.03, 0.2
#: Height of the small copy: what is smooth is computed there.
_SMALL_HEIGHT_PX = 90
#: A blur is computed where its sigma has this many pixels; finer makes no visible difference.
_COARSE_SIGMA_PX = 4.0
#: Added to the weight of a mean, for the color of the whole picture: defined where there is (nearly) nothing to mean.
_TINY = 1e-3
#: Share of soft alpha that is kept, in percent: what the network gives is a little wider than hair and shoulders are.
DEFAULT_SOFTNESS_PERCENT = 80
#: The alpha that stays half: above 0.5, since a network's edge lies a little outside of the person, on the old room.
_MIDDLE = 0.58

_LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)
# The four weights of the formula above for each of the 256 levels of alpha.
_OF_FRAME = _LEVELS**2
_OF_PERSON = _LEVELS * (1 - _LEVELS**2)
_OF_ROOM = _LEVELS**2 * (1 - _LEVELS)
_OF_BACKGROUND = 1 - _LEVELS
# Brightness of a pixel, 0 to 1: weights of its channels in the order of the planes, and an offset.
_OF_RGB, _OF_LIMITED_Y = np.array([0.299, 0.587, 0.114, 0]) / 255, np.array([1, 0, 0, -16]) / 219
_LUMA = {
    PixelFormat.RGB24: _OF_RGB.astype(np.float32),
    PixelFormat.BGR24: _OF_RGB[[2, 1, 0, 3]].astype(np.float32),
    PixelFormat.I420: _OF_LIMITED_Y.astype(np.float32),
    PixelFormat.NV12: _OF_LIMITED_Y.astype(np.float32),
}
# To the fourth power: a soft pixel's color is the other's in part, and counts little.
_PERSON_WEIGHT, _ROOM_WEIGHT = _LEVELS**4, (1 - _LEVELS) ** 4


@dataclass(frozen=True, slots=True)
class Blur:
    """The room itself, out of focus: sigma is ``ratio`` times the frame's height."""

    ratio: float = BLUR_RATIO


def sharpen_alpha(alpha8: Alpha8, softness_percent: int) -> Alpha8:
    """Stretch (H, W) uint8 alpha about `_MIDDLE`, so that low values become 0 and high ones 255.

    ``softness_percent`` is 1 (a hard edge) to 100 (0 below 18 %, 255 above 98 %). Nothing of a real room comes through
    where the network is nearly sure that there is nobody.
    """
    half = 0.4 * softness_percent / 100
    table = np.clip((_LEVELS - (_MIDDLE - half)) / (2 * half), 0, 1)
    return cv.look_up_levels(alpha8, np.rint(table * 255).astype(np.uint8))


def compose_frame(frame: RawFrame, alpha8: Alpha8, background: RawFrame | Blur, light_wrap: float = 0.0) -> RawFrame:
    """The person of a raw frame before a background, in the frame's own format and range.

    Args:
        frame: any raw format.
        alpha8: (H, W) uint8, 0 background to 255 person.
        background: a picture of the frame's size, format and color (`from_rgb`), or the frame's own room blurred.
        light_wrap: how much of the new background's light, and of nothing else, falls on the person's edge, 0 to 1.

    Returns new planes: exactly the frame's where alpha is 255, exactly the background's where it is 0 (chroma: where
    all of its pixels are); with ``light_wrap`` the former holds away from the edge only.

    Raises:
        ValueError: sizes, formats or colors differ.
    """
    _check_size(frame, alpha8)
    if isinstance(background, RawFrame) and _form(background) != _form(frame):
        raise ValueError(
            f"background {_shown(background)} for a frame of {_shown(frame)}; bring it into that form first (from_rgb)"
        )
    alphas = _Alphas(alpha8)
    small = _Small.of(frame, alphas)
    room, person = small.room(BLUR_RATIO), small.person(BLUR_RATIO)
    behind, fine_room, fine_person = room, _twice(room), _twice(person)
    if isinstance(background, Blur) and background.ratio != BLUR_RATIO:
        behind = small.room(background.ratio)
    wrap = _LightWrap.of(frame, small, background if isinstance(background, RawFrame) else behind, light_wrap)
    planes: list[NDArray[np.uint8]] = []
    first = 0
    for index, plane in enumerate(frame.planes):
        channels = slice(first, first + (1 if plane.ndim == 2 else plane.shape[2]))
        first = channels.stop
        out = _grown(behind, channels, plane) if isinstance(background, Blur) else background.planes[index].copy()
        _mix_into(out, plane, alphas.for_plane(plane), fine_person, fine_room, channels)
        if wrap is not None:
            wrap.fall_on(out, alphas.for_plane(plane), channels)
        planes.append(out)
    return RawFrame(frame.size, frame.pixel_format, tuple(planes), frame.color)


def cut_out(frame: RawFrame, alpha8: Alpha8) -> NDArray[np.uint8]:
    """The person alone: (H, W, 4) uint8 RGBA, not premultiplied; nothing of the room, all 0 where alpha is 0.

    Raises:
        ValueError: the sizes differ.
    """
    _check_size(frame, alpha8)
    picture_rgb = to_rgb(frame)
    small = _Small.of(RawFrame(frame.size, PixelFormat.RGB24, (picture_rgb,)), _Alphas(alpha8))
    colors = np.zeros_like(picture_rgb)
    cv.copy_where(colors, picture_rgb, alpha8 == 255)
    soft, every = _Soft(alpha8), slice(0, 3)
    share = _LEVELS[soft.levels][:, None]
    person = soft.of_smooth(_twice(small.person(BLUR_RATIO)), every).astype(np.float32)
    room = soft.of_smooth(_twice(small.room(BLUR_RATIO)), every)
    soft.put(colors, person + share * (soft.of(picture_rgb) - share * person - (1 - share) * room))
    return np.dstack((colors, alpha8))


@dataclass(frozen=True, slots=True)
class _Small:
    """A small copy of a frame, all channels of one size, and how much of each pixel is person and room."""

    colors: NDArray[np.uint8]
    """(h, w, 3), the channels in the order of the frame's planes."""
    alpha8: Alpha8
    person_weight: Field
    room_weight: Field

    @classmethod
    def of(cls, frame: RawFrame, alphas: "_Alphas") -> "_Small":
        """Shrunk by a whole number, which OpenCV averages fastest, and from the halved planes where there are some."""
        factor = max(1, math.floor(frame.size.height / _SMALL_HEIGHT_PX))
        size = Size(max(1, frame.size.width // factor), max(1, frame.size.height // factor))
        alpha = shrink_or_grow(alphas.half if factor > 1 else alphas.full, size)
        # A pixel here that touches the person holds its color: without the widening, it would glow into the room.
        around = cv.dilate(alpha, 3)
        return cls(
            _shrink_planes(frame, size),
            alpha,
            cv.look_up_levels_f32(alpha, _PERSON_WEIGHT),
            cv.look_up_levels_f32(around, _ROOM_WEIGHT),
        )

    def room(self, blur_ratio: float) -> Picture:
        """(h', w', 3) uint8: the mean of the room round each place."""
        return self._mean(self.room_weight, blur_ratio)

    def person(self, blur_ratio: float) -> Picture:
        """(h', w', 3) uint8: the mean of the person round each place."""
        return self._mean(self.person_weight, blur_ratio)

    def _mean(self, weight: Field, blur_ratio: float) -> Picture:
        """Of the colors by weight, over a Gaussian neighborhood; on a still smaller copy where the blur is wide."""
        height, width = weight.shape
        sigma_px = blur_ratio * height
        weighted = cv.weighted_with_weight(self.colors, weight)
        share = cv.means(weighted)
        everywhere = share[:3] / share[3] if share[3] * weight.size > 1 else cv.means(self.colors)
        factor = sigma_px / _COARSE_SIGMA_PX
        if factor >= 2:
            weighted = cv.resize_area_f32(weighted, Size(max(1, round(width / factor)), max(1, round(height / factor))))
            sigma_px /= factor
        return cv.divided_by_last(cv.gauss_f32(weighted, sigma_px), _TINY, everywhere)


@dataclass(frozen=True, slots=True)
class _LightWrap:
    """Light of the new background on the person's edge."""

    weights: NDArray[np.uint8]
    """(h, w) on the small grid, 0 to 254."""
    light: Picture
    """(h', w', 3) uint8, the new background without detail."""

    @classmethod
    def of(
        cls, frame: RawFrame, small: _Small, background: "RawFrame | Picture", strength: float
    ) -> "_LightWrap | None":
        """None without any; ``background`` is a picture of the frame's form, or a small blurred one."""
        if strength == 0:
            return None
        if isinstance(background, RawFrame):
            shrunk = _shrink_planes(background, Size.of(small.alpha8))
            background = cv.gauss(shrunk, BLUR_RATIO * shrunk.shape[0])
        return cls(light_weights(small.alpha8, background, _LUMA[frame.pixel_format], strength), _twice(background))

    def fall_on(self, out: NDArray[np.uint8], alpha8: Alpha8, channels: slice) -> None:
        """Mix the light into a finished plane, nowhere but on the person."""
        edge = _Soft(cv.multiply_levels(cv.resize_linear(self.weights, Size.of(alpha8)), alpha8))
        share = _LEVELS[edge.levels] if out.ndim == 2 else _LEVELS[edge.levels][:, None]
        lit = edge.of(out).astype(np.float32)
        edge.put(out, lit + share * (edge.of_smooth(self.light, channels) - lit))


class _Alphas:
    """Alpha at full size, and at the half size of chroma once that is wanted."""

    def __init__(self, alpha8: Alpha8) -> None:
        self.full = alpha8

    @cached_property
    def half(self) -> Alpha8:
        even = cv.pad_to_even(self.full)
        return cv.resize_area(even, Size(even.shape[1] // 2, even.shape[0] // 2))

    def for_plane(self, plane: NDArray[np.uint8]) -> Alpha8:
        return self.full if plane.shape[:2] == self.full.shape else self.half


class _Soft:
    """The places of a plane where alpha is neither 0 nor 255, and how to look up smooth pictures there."""

    def __init__(self, alpha8: Alpha8) -> None:
        # 1..254 become 0..253, 0 wraps round to 255: one comparison.
        self._at = np.flatnonzero((alpha8 - np.uint8(1)).ravel() < 254)
        self._size = Size.of(alpha8)
        self._grid, self._at_grid = Size(0, 0), self._at
        self.levels = np.take(alpha8, self._at)

    def of(self, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N,) or (N, C): the plane's own values there; one with padded rows is packed for it."""
        return np.take(plane.reshape(-1, *plane.shape[2:]), self._at, axis=0)

    def of_smooth(self, grid: NDArray[np.uint8], channels: slice) -> NDArray[np.uint8]:
        """(N,) or (N, C): those of a smooth picture of another size, the nearest."""
        if self._grid != Size.of(grid):
            self._grid = Size.of(grid)
            # 32 bits and no divmod: vectorized in numpy.
            at, width = self._at.astype(np.int32), np.int32(self._size.width)
            rows = at // width
            row_starts = np.arange(self._size.height) * grid.shape[0] // self._size.height * grid.shape[1]
            column_of = np.arange(self._size.width) * grid.shape[1] // self._size.width
            self._at_grid = np.take(row_starts, rows) + np.take(column_of, at - rows * width)
        if channels.stop - channels.start > 1:
            return np.take(
                np.ascontiguousarray(grid[:, :, channels]).reshape(-1, channels.stop - channels.start),
                self._at_grid,
                axis=0,
            )
        return np.take(cv.channel(grid, channels.start), self._at_grid)

    def put(self, target: NDArray[np.uint8], values: Field) -> None:
        """Round, saturate, and write into a contiguous plane."""
        target.reshape(-1, *target.shape[2:])[self._at] = np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _mix_into(
    out: NDArray[np.uint8], plane: NDArray[np.uint8], alpha8: Alpha8, person: Picture, room: Picture, channels: slice
) -> None:
    """Put the person of ``plane`` before what ``out`` holds; see the module's formula."""
    cv.copy_where(out, plane, alpha8 == 255)
    soft = _Soft(alpha8)
    of_frame, of_person, of_room, of_background = (
        np.take(table, soft.levels) if plane.ndim == 2 else np.take(table, soft.levels)[:, None]
        for table in (_OF_FRAME, _OF_PERSON, _OF_ROOM, _OF_BACKGROUND)
    )
    mixed = np.multiply(of_frame, soft.of(plane), dtype=np.float32)
    mixed += of_person * soft.of_smooth(person, channels)
    mixed -= of_room * soft.of_smooth(room, channels)
    mixed += of_background * soft.of(out)
    soft.put(out, mixed)


def _shrink_planes(frame: RawFrame, size: Size) -> NDArray[np.uint8]:
    """(h, w, 3) uint8: all channels at one small size, in the order of the frame's planes."""
    shrunk = [shrink_or_grow(plane, size) for plane in frame.planes]
    return shrunk[0] if len(shrunk) == 1 else cv.merge(*shrunk)


def _grown(small: Picture, channels: slice, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The channels of a small picture that belong to a plane, at its size and shape."""
    whole = channels.stop - channels.start == small.shape[2]
    part = small if whole else np.ascontiguousarray(small[:, :, channels])
    return cv.resize_linear(part, Size.of(plane)).reshape(plane.shape)


def _twice(small: Picture) -> Picture:
    """At twice its size, so that the nearest pixel is near enough."""
    return cv.resize_linear(small, Size(2 * small.shape[1], 2 * small.shape[0]))


def _form(frame: RawFrame) -> tuple[Size, PixelFormat, YuvColor | None]:
    return frame.size, frame.pixel_format, frame.color if frame.pixel_format.is_yuv else None


def _shown(frame: RawFrame) -> str:
    color = f" {frame.color}" if frame.pixel_format.is_yuv else ""
    return f"{frame.pixel_format.name} {frame.size}{color}"


def _check_size(frame: RawFrame, alpha8: Alpha8) -> None:
    if Size.of(alpha8) != frame.size:
        raise ValueError(f"frame {frame.size} and alpha {Size.of(alpha8)} must be of one size")
