"""How wide a mask becomes, and how light falls off, on drawn edges."""

import math

import numpy as np
import pytest

from humanseg.frames import PixelFormat
from humanseg.vision.arrays import Size
from humanseg.vision.color import from_rgb, to_rgb
from humanseg.vision.composite_edge import LARGEST_SPREAD_RATIO, spread_alpha
from humanseg.vision.composite_planes import compose_frame
from humanseg.vision.letterbox import Placement, restore8
from service.compositing import CompositePlan

SIZE = Size(640, 360)
CANVAS = Size(320, 192)


def widths(ratio: float, size: Size = SIZE, canvas: Size = CANVAS) -> tuple[int, int]:
    """How many columns and rows of a frame a square person takes up at half of alpha, after all of the way."""
    placement = Placement.fit(size, canvas)
    alpha = np.zeros(canvas.shape, np.float32)
    middle_y, middle_x = canvas.height // 2, canvas.width // 2
    alpha[middle_y - 30 : middle_y + 30, middle_x - 30 : middle_x + 30] = 1.0
    plan = CompositePlan((0, 0, 0), PixelFormat.RGB24, 0, 80, spread_ratio=ratio)
    mask = restore8(plan.spread(alpha, placement, size), placement, size) > 127
    return int(mask[size.height // 2].sum()), int(mask[:, size.width // 2].sum())


@pytest.mark.parametrize("ratio", [0.002, 0.01, LARGEST_SPREAD_RATIO])
@pytest.mark.parametrize(
    ("size", "canvas"), [(SIZE, CANVAS), (Size(1920, 1080), CANVAS), (Size(360, 640), Size(192, 320))]
)
def test_a_mask_is_spread_by_its_share_of_the_height(ratio: float, size: Size, canvas: Size) -> None:
    before, after = widths(0.0, size, canvas), widths(ratio, size, canvas)
    # To one pixel of the network's input on each side.
    step_px = size.width / canvas.width
    for one, other in zip(before, after, strict=True):
        assert abs((other - one) / 2 - ratio * size.height) <= step_px


def test_without_spread_the_mask_is_untouched() -> None:
    alpha = np.random.default_rng(1).random(CANVAS.shape, np.float32)
    plan = CompositePlan((0, 0, 0), PixelFormat.RGB24, 0, 80)
    assert plan.spread(alpha, Placement.fit(SIZE, CANVAS), SIZE) is alpha


@pytest.mark.parametrize("radius_px", [-1.0, math.nan, math.inf])
def test_a_radius_that_is_none_is_refused(radius_px: float) -> None:
    with pytest.raises(ValueError, match="must be 0 or more"):
        spread_alpha(np.zeros((4, 4), np.float32), radius_px)


@pytest.mark.parametrize("pixel_format", [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12])
@pytest.mark.parametrize("level", [255, 128])
def test_light_falls_off_from_the_edge(pixel_format: PixelFormat, level: int) -> None:
    """Across a straight edge it is the tail of a Gaussian of 1.5 % of the height, times the brightness behind."""
    alpha8 = np.zeros(SIZE.shape, np.uint8)
    alpha8[:, 320:] = 255
    frame = from_rgb(np.zeros((*SIZE.shape, 3), np.uint8), pixel_format)
    behind = from_rgb(np.full((*SIZE.shape, 3), level, np.uint8), pixel_format)
    lit = to_rgb(compose_frame(frame, alpha8, behind, 1.0))[180, :, 1].astype(float)
    assert (np.abs(lit[:320] - level) <= 2).all()
    for inside_px in range(1, 15):
        tail = 0.5 * math.erfc((inside_px + 0.5) / (0.015 * SIZE.height) / math.sqrt(2))
        assert abs(lit[320 + inside_px] / level - tail * level / 255) <= 0.05, inside_px
    assert (lit[320 + round(0.04 * SIZE.height) :] == 0).all()


def test_half_of_the_strength_gives_half_of_the_light() -> None:
    alpha8 = np.zeros(SIZE.shape, np.uint8)
    alpha8[:, 320:] = 255
    frame, behind = (from_rgb(np.full((*SIZE.shape, 3), level, np.uint8), PixelFormat.RGB24) for level in (0, 255))
    whole, half = (compose_frame(frame, alpha8, behind, strength).planes[0][180, 322, 0] for strength in (1.0, 0.5))
    assert abs(int(whole) - 2 * int(half)) <= 8
