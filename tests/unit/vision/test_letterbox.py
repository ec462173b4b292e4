"""Where a picture lies on the canvas, by numbers worked out on paper, and what its pixels are."""

import numpy as np
import pytest

from humanseg.frames import FrameError, PixelFormat, RawFrame
from humanseg.vision.arrays import Size
from humanseg.vision.letterbox import (
    PAD_RGB,
    Placement,
    choose_canvas,
    fill_canvas,
    letterbox,
    restore,
    restore8,
    shrink_or_grow,
    to_alpha8,
)
from humanseg.vision.orientation import Rotation
from support.clips import texture

LANDSCAPE, UPRIGHT = Size(320, 192), Size(192, 320)


@pytest.mark.parametrize(
    ("picture", "canvas", "inside"),
    [
        (Size(640, 360), LANDSCAPE, (0, 6, 320, 180)),
        (Size(1920, 1080), LANDSCAPE, (0, 6, 320, 180)),
        (Size(640, 480), LANDSCAPE, (32, 0, 256, 192)),
        (Size(360, 640), UPRIGHT, (6, 0, 180, 320)),
        (Size(360, 640), LANDSCAPE, (106, 0, 108, 192)),
        (Size(160, 96), LANDSCAPE, (0, 0, 320, 192)),
        (Size(4000, 3), LANDSCAPE, (0, 95, 320, 1)),
        (Size(3, 4000), LANDSCAPE, (159, 0, 1, 192)),
        (Size(1, 1), LANDSCAPE, (64, 0, 192, 192)),
    ],
)
def test_fit(picture: Size, canvas: Size, inside: tuple[int, int, int, int]) -> None:
    placement = Placement.fit(picture, canvas)
    assert (placement.x, placement.y, placement.width, placement.height) == inside


@pytest.mark.parametrize("sizes", [(Size(0, 5), LANDSCAPE), (Size(5, 5), Size(5, 0)), (Size(-1, -1), LANDSCAPE)])
def test_nothing_cannot_be_placed(sizes: tuple[Size, Size]) -> None:
    with pytest.raises(ValueError, match="every side must be >= 1"):
        Placement.fit(*sizes)


@pytest.mark.parametrize(
    ("picture", "canvas"),
    [(Size(640, 360), LANDSCAPE), (Size(360, 640), UPRIGHT), (Size(500, 500), LANDSCAPE), (Size(1, 1000), UPRIGHT)],
)
def test_the_canvas_on_which_the_picture_is_larger(picture: Size, canvas: Size) -> None:
    assert choose_canvas(picture, LANDSCAPE, UPRIGHT) == canvas


def test_padding_is_gray_and_the_picture_is_not_stretched() -> None:
    white = np.full((100, 100, 3), 255, np.uint8)
    out, placement = letterbox(white, LANDSCAPE)
    assert out.shape == (192, 320, 3)
    assert (placement.x, placement.width, placement.height) == (64, 192, 192)
    assert (out[:, 64:256] == 255).all()
    void = np.concatenate([out[:, :64], out[:, 256:]], 1)
    assert (void == np.array(PAD_RGB)).all()


def test_shrinking_averages() -> None:
    """Stripes of one pixel become their mean, not one of the two: no aliasing."""
    stripes = np.zeros((8, 8), np.uint8)
    stripes[:, ::2] = 200
    assert (shrink_or_grow(stripes, Size(4, 4)) == 100).all()
    assert shrink_or_grow(stripes, Size(8, 8)) is stripes
    assert shrink_or_grow(stripes, Size(16, 16)).shape == (16, 16)


def test_a_canvas_can_be_filled_from_a_picture_at_a_fraction_of_its_size() -> None:
    """As a JPEG comes from the decoder: the placement is that of the whole picture."""
    full = np.stack([texture(Size(641, 361), 3)] * 3, -1).astype(np.uint8)
    placement = Placement.fit(Size(641, 361), LANDSCAPE)
    eighths = shrink_or_grow(full, Size(401, 226))
    whole = fill_canvas(full, placement, Rotation.DEG_0, False).astype(int)
    assert np.abs(whole - fill_canvas(eighths, placement, Rotation.DEG_0, False)).mean() < 3


def test_an_array_of_another_size_is_not_cropped() -> None:
    with pytest.raises(ValueError, match="array of 319x192 does not belong to a canvas of 320x192"):
        Placement.fit(Size(640, 360), LANDSCAPE).crop(np.zeros((192, 319)))


@pytest.mark.parametrize("want", [None, Size(320, 180), Size(160, 90), Size(33, 77)])
def test_a_constant_alpha_comes_back_constant_and_the_padding_stays_out(want: Size | None) -> None:
    placement = Placement.fit(Size(640, 360), LANDSCAPE)
    alpha = np.ones(LANDSCAPE.shape, np.float32)
    placement.crop(alpha)[:] = 0.25
    seen = restore(alpha, placement, want)
    assert Size.of(seen) == (want or Size(640, 360))
    np.testing.assert_allclose(seen, 0.25, atol=1e-6)
    assert set(np.unique(restore8(alpha, placement, want))) == {64}


def test_growing_a_hard_edge_does_not_leave_the_range() -> None:
    placement = Placement.fit(Size(640, 384), LANDSCAPE)
    alpha = np.zeros(LANDSCAPE.shape, np.float32)
    alpha[:, 160:] = 1
    seen = restore(alpha, placement)
    assert seen.min() == 0
    assert seen.max() == 1
    assert np.abs(restore8(alpha, placement) - 255 * seen).max() <= 2


def test_to_alpha8_rounds_to_nearest() -> None:
    values = np.array([[0.0, 1.0, 0.5 / 255 + 1e-4, 0.5 / 255 - 1e-4, 254.6 / 255]], np.float32)
    assert to_alpha8(values).tolist() == [[0, 255, 1, 0, 255]]


@pytest.mark.parametrize("pixel_format", [PixelFormat.JPEG, PixelFormat.PNG])
def test_a_file_is_no_raw_frame(pixel_format: PixelFormat) -> None:
    with pytest.raises(FrameError, match="decode it first"):
        RawFrame(Size(2, 2), pixel_format, ())
