"""The one way from a picture to a network's input and back: keep the aspect ratio, pad, remember where.

Training, evaluation and the service import these functions, so that a model never sees another geometry in
production than it was trained on. The published PP-HumanSeg configs stretch instead, and the inverse of the published
``LimitLong`` recomputes a ratio from numbers it has already overwritten; here the inverse comes from a stored
`Placement` and nothing is recomputed.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from humanseg.frames import KEPT_LAYOUTS, FrameError, PixelFormat, RawFrame
from humanseg.vision import color, cv
from humanseg.vision.arrays import Alpha, Alpha8, Picture, Plane, Size
from humanseg.vision.orientation import Rotation, to_upright, upright_size

#: Color of the padding: near the mean of photographs, and zero after (x - 127) / 128.
PAD_RGB = (127, 127, 127)

AnyScalar = TypeVar("AnyScalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies on a canvas.

    ``picture`` is the size of the upright picture, ``canvas`` that of the network's input; the picture covers the
    pixels ``[y, y + height) x [x, x + width)`` of the canvas, and everything else there is void.
    """

    picture: Size
    canvas: Size
    x: int
    y: int
    width: int
    height: int

    @classmethod
    @lru_cache(KEPT_LAYOUTS)
    def fit(cls, picture: Size, canvas: Size) -> "Placement":
        """Place a picture centered at the largest scale that fits, growing it where it is smaller than the canvas.

        Raises:
            ValueError: a side is not positive.
        """
        if min(*picture, *canvas) < 1:
            raise ValueError(f"cannot place a picture of {picture} on a canvas of {canvas}: every side must be >= 1")
        scale = min(canvas.width / picture.width, canvas.height / picture.height)
        # At least one pixel: a 4000x3 strip still leaves a trace, so that its mask can be made.
        width = max(1, min(canvas.width, round(picture.width * scale)))
        height = max(1, min(canvas.height, round(picture.height * scale)))
        return cls(picture, canvas, (canvas.width - width) // 2, (canvas.height - height) // 2, width, height)

    @property
    def inner(self) -> Size:
        """The size of the picture on the canvas."""
        return Size(self.width, self.height)

    @property
    def coverage_ratio(self) -> float:
        """Share of the canvas that shows picture, in (0, 1]."""
        return self.inner.area_px / self.canvas.area_px

    def crop(self, array: NDArray[AnyScalar]) -> NDArray[AnyScalar]:
        """The part of an (H, W, ...) array of canvas size that shows picture, as a view."""
        if Size.of(array) != self.canvas:
            raise ValueError(f"array of {Size.of(array)} does not belong to a canvas of {self.canvas}")
        return array[self.y : self.y + self.height, self.x : self.x + self.width]


@lru_cache(KEPT_LAYOUTS)
def choose_canvas(picture: Size, landscape: Size, upright: Size) -> Size:
    """Of a model's two input sizes the one on which the picture is larger; landscape where they are equal.

    An upright photo on a landscape canvas costs .04 to .10 of mean IoU, since most of the canvas is padding.
    """
    covered = [Placement.fit(picture, canvas).coverage_ratio for canvas in (landscape, upright)]
    return landscape if covered[0] >= covered[1] else upright


def shrink_or_grow(array: Plane | Picture, size: Size) -> NDArray[np.uint8]:
    """Resize for a network: average when shrinking (no aliasing), bilinear when growing; the array itself if equal."""
    have = Size.of(array)
    if have == size:
        return array
    if size.width <= have.width and size.height <= have.height:
        return cv.resize_area(array, size)
    return cv.resize_linear(array, size)


def letterbox(picture_rgb: Picture, canvas: Size) -> tuple[Picture, Placement]:
    """Put an upright (H, W, 3) uint8 RGB picture on a canvas without changing its aspect ratio.

    Returns the (canvas.height, canvas.width, 3) uint8 network input, padded with `PAD_RGB`, and its placement.
    """
    placement = Placement.fit(Size.of(picture_rgb), canvas)
    return fill_canvas(picture_rgb, placement, Rotation.DEG_0, False), placement


def fill_canvas(picture_rgb: Picture, placement: Placement, rotation: Rotation, mirrored: bool) -> Picture:
    """Put an (H, W, 3) uint8 RGB picture, as it was sent, where ``placement`` says: shrink, turn upright, pad.

    The picture need not have the size that the placement was made for: a JPEG may have been decoded at a fraction.
    """
    # The inner size as it lies in the picture that was sent; upright_size is its own inverse.
    small_rgb = shrink_or_grow(picture_rgb, upright_size(placement.inner, rotation))
    return _pad(to_upright(small_rgb, rotation, mirrored), placement)


def letterbox_frame(frame: RawFrame, canvas: Size, rotation: Rotation, mirrored: bool) -> tuple[Picture, Placement]:
    """Put a raw frame, as it was sent, on a canvas: shrink, convert to RGB, turn upright, pad.

    The planes are shrunk before anything else, because every later step then works on the few pixels that remain:
    640x360 I420 to 320x192 in 0.06 ms, against 0.14 ms for ``letterbox(to_upright(i420_to_rgb(...)))``, and within half
    a gray level of it on average.

    Returns the (canvas.height, canvas.width, 3) uint8 RGB network input, padded with `PAD_RGB`, and the placement of
    the upright picture.

    Raises:
        FrameError: a compressed pixel format; decode it first.
    """
    placement = Placement.fit(upright_size(frame.size, rotation), canvas)
    small_rgb = _shrink_to_rgb(frame, upright_size(placement.inner, rotation))
    return _pad(to_upright(small_rgb, rotation, mirrored), placement), placement


def _pad(small_rgb: Picture, placement: Placement) -> Picture:
    out = blank(placement.canvas)
    placement.crop(out)[:] = small_rgb
    return out


def _shrink_to_rgb(frame: RawFrame, size: Size) -> Picture:
    planes = [shrink_or_grow(plane, size) for plane in frame.planes]
    match frame.pixel_format:
        case PixelFormat.RGB24:
            return planes[0]
        case PixelFormat.BGR24:
            return color.bgr_to_rgb(planes[0])
        case PixelFormat.I420:
            return color.yuv444_to_rgb(planes[0], planes[1], planes[2], frame.color)
        case PixelFormat.NV12:
            plane_y, plane_uv = planes
            return color.yuv444_to_rgb(plane_y, cv.channel(plane_uv, 0), cv.channel(plane_uv, 1), frame.color)
        case PixelFormat.JPEG | PixelFormat.PNG:
            raise FrameError(f"{frame.pixel_format.name} has no planes; decode it first (humanseg.vision.decode)")


def blank(canvas: Size) -> Picture:
    """An empty network input, (H, W, 3) uint8, all padding."""
    return np.full((*canvas.shape, 3), PAD_RGB[0], np.uint8)


def restore(alpha: Alpha, placement: Placement, size: Size | None = None) -> Alpha:
    """Bring a canvas-sized alpha, float32 in [0, 1], back to the picture: cut the padding off, resize, clip.

    ``size`` is the wanted size, the picture's own if left out. Bicubic when growing (measured nearer to the truth than
    bilinear, and sharper than any guided filter on a good mask), averaged when shrinking.
    """
    inside = np.ascontiguousarray(placement.crop(alpha))
    want = size or placement.picture
    if want == placement.inner:
        return inside
    if want.width <= placement.width and want.height <= placement.height:
        return cv.resize_area_f32(inside, want)
    return np.clip(cv.resize_cubic_f32(inside, want), 0.0, 1.0)


def restore8(alpha: Alpha, placement: Placement, size: Size | None = None) -> Alpha8:
    """Like `restore`, but to 8 bits, rounded; the resize runs on bytes, at a quarter of the cost.

    Rounding comes before the resize, so a value may differ from ``round(255 * restore(...))`` by a level or two.
    """
    inside = to_alpha8(np.ascontiguousarray(placement.crop(alpha)))
    want = size or placement.picture
    if want == placement.inner:
        return inside
    if want.width <= placement.width and want.height <= placement.height:
        return cv.resize_area(inside, want)
    return cv.resize_cubic(inside, want)


def to_alpha8(alpha: Alpha) -> Alpha8:
    """float32 in [0, 1] to 0..255, rounded to nearest."""
    return cv.scale_to_u8(alpha, 255.0)
