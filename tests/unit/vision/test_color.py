"""Color against BT.601 written down a second time, number by number, in float64."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg.vision import color
from humanseg.vision.arrays import Size
from support.clips import texture

SIZES = [Size(64, 48), Size(7, 5), Size(1, 1), Size(8, 3), Size(3, 8)]
#: RGB -> Y, U, V in limited range, as printed everywhere from ITU-R BT.601 (65.481, 128.553, 24.966 over 255, ...).
BOOK = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255


def picture(size: Size) -> NDArray[np.uint8]:
    """Smooth in all three channels, so that halved chroma can stand for it."""
    return np.stack([cv2.GaussianBlur(texture(size, seed), (0, 0), 4) for seed in (1, 2, 3)], -1).astype(np.uint8)


def yuv_by_the_book(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    return rgb @ BOOK.T + np.array([16, 128, 128])


def rgb_by_the_book(yuv: NDArray[np.float64]) -> NDArray[np.float64]:
    y, u, v = (1.164383 * (yuv[..., 0] - 16), yuv[..., 1] - 128, yuv[..., 2] - 128)
    return np.clip(np.stack([y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u], -1), 0, 255)


@pytest.mark.parametrize(
    ("rgb", "yuv"),
    [
        ((0, 0, 0), (16, 128, 128)),
        ((255, 255, 255), (235, 128, 128)),
        ((255, 0, 0), (81, 90, 240)),
        ((0, 255, 0), (145, 54, 34)),
        ((0, 0, 255), (41, 240, 110)),
    ],
)
def test_the_corners_of_the_cube(rgb: tuple[int, ...], yuv: tuple[int, ...]) -> None:
    """The values of color bars that every book prints."""
    flat = np.full((2, 2, 3), rgb, np.uint8)
    seen = [int(plane[0, 0]) for plane in color.rgb_to_i420(flat)]
    assert np.abs(np.subtract(seen, yuv)).max() <= 1
    planes = [np.full((2, 2), level, np.uint8) for level in yuv]
    assert np.abs(color.yuv444_to_rgb(*planes)[0, 0].astype(int) - rgb).max() <= 2


@pytest.mark.parametrize("size", SIZES)
def test_rgb_to_i420(size: Size) -> None:
    rgb = picture(size)
    planes = color.rgb_to_i420(rgb)
    half = ((size.height + 1) // 2, (size.width + 1) // 2)
    assert [plane.shape for plane in planes] == [size.shape, half, half]
    wanted = yuv_by_the_book(rgb)
    assert np.abs(planes[0] - wanted[..., 0]).max() <= 1
    odd_h, odd_w = size.height % 2, size.width % 2
    even = np.pad(wanted, ((0, odd_h), (0, odd_w), (0, 0)), mode="edge")
    means = even.reshape(half[0], 2, half[1], 2, 3).mean(axis=(1, 3))
    for index in (1, 2):
        assert np.abs(planes[index] - means[..., index]).max() <= 1.01


@pytest.mark.parametrize("size", SIZES)
def test_i420_and_nv12_to_rgb(size: Size) -> None:
    random = np.random.default_rng(size.width)
    half = ((size.height + 1) // 2, (size.width + 1) // 2)
    y = random.integers(16, 236, size.shape, dtype=np.uint8)
    u, v = (random.integers(16, 241, half, dtype=np.uint8) for _ in range(2))
    full = [plane.repeat(2, 0).repeat(2, 1)[: size.height, : size.width] for plane in (u, v)]
    wanted = rgb_by_the_book(np.stack([y, *full], -1).astype(np.float64))
    for seen in (color.i420_to_rgb(y, u, v), color.nv12_to_rgb(y, np.stack([u, v], -1))):
        assert seen.shape == (*size.shape, 3)
        assert seen.flags.c_contiguous
        assert np.abs(seen - wanted).max() <= 1.5


@pytest.mark.parametrize("darkest", [16, 0])
@pytest.mark.parametrize("padding", [0, 6])
def test_every_color_is_decoded_exactly_whether_or_not_a_pixel_is_darker_than_black(darkest: int, padding: int) -> None:
    """All U and V with a few Y: with Y below 16 the decoder is another, which must not be seen."""
    u, v = np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 2)
    wide = np.zeros((256, 256 + padding, 2), np.uint8)
    plane_uv = wide[:, :256]
    plane_uv[..., 0], plane_uv[..., 1] = u, v
    for level in (16, 17, 100, 235, 255):
        plane_y = np.full((512, 512 + padding), level, np.uint8)[:, :512]
        plane_y[0, 0] = darkest
        full_uv = plane_uv.repeat(2, 0).repeat(2, 1)
        wanted = rgb_by_the_book(np.concatenate([plane_y[..., None], full_uv], -1).astype(np.float64))
        assert np.abs(color.nv12_to_rgb(plane_y, plane_uv) - wanted).max() <= 1


def test_nv12_is_i420_with_its_chroma_interleaved() -> None:
    rgb = picture(Size(31, 17))
    y, u, v = color.rgb_to_i420(rgb)
    plane_y, plane_uv = color.rgb_to_nv12(rgb)
    np.testing.assert_array_equal(plane_y, y)
    np.testing.assert_array_equal(plane_uv, np.stack([u, v], -1))


def test_there_and_back_on_a_smooth_picture() -> None:
    rgb = picture(Size(64, 48))
    back = color.i420_to_rgb(*color.rgb_to_i420(rgb))
    assert np.abs(back.astype(int) - rgb).mean() < 2


def test_every_level_saturates_instead_of_wrapping() -> None:
    levels = np.array([[0, 16, 235, 255]], np.uint8)
    for u in (0, 255):
        for v in (0, 255):
            chroma = [np.full((1, 4), level, np.uint8) for level in (u, v)]
            wanted = rgb_by_the_book(np.stack([levels, *chroma], -1).astype(np.float64))
            assert np.abs(color.yuv444_to_rgb(levels, *chroma) - wanted).max() <= 1


def test_bgr_is_rgb_backwards() -> None:
    rgb = picture(Size(5, 4))
    np.testing.assert_array_equal(color.bgr_to_rgb(rgb), rgb[..., ::-1])
