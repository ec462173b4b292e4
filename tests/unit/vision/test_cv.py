"""OpenCV does what we believe it does: each of these was wrong once, in silence."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import Size
from support.clips import SIZE, draw_clip, texture


def test_one_thread() -> None:
    assert cv2.getNumThreads() == 1


@pytest.mark.parametrize("channels", [1, 3, 4])  # two are sampled at 32nds of a pixel only
def test_remap_samples_bilinearly_and_repeats_the_border(channels: int) -> None:
    random = np.random.default_rng(channels)
    height, width = SIZE.shape
    array = random.random((height, width, channels), np.float32)
    x = random.uniform(-3, width + 2, SIZE.shape).astype(np.float32)
    y = random.uniform(-3, height + 2, SIZE.shape).astype(np.float32)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = (x - left)[..., None], (y - top)[..., None]

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return array[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]

    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    seen = cv.remap_f32(array, x, y).reshape(array.shape)
    np.testing.assert_allclose(seen, upper * (1 - down) + lower * down, atol=1e-5)


def test_the_flow_finds_a_shift_and_is_the_same_every_time() -> None:
    before, after = (frame.gray for frame in draw_clip(shifts_px=[0.0, 3.0], wall_moves=True, sensor_noise=0))
    first = cv.dis_flow(after, before, 2)
    assert np.median(first[..., 0]) == pytest.approx(-3.0, abs=0.3)
    assert np.median(first[..., 1]) == pytest.approx(0.0, abs=0.3)
    for _ in range(5):
        junk = [np.full((*SIZE.shape, 2), value, np.float32) for value in (np.nan, 1e30)]
        del junk  # its memory is what an uninitialized array would hold
        np.testing.assert_array_equal(cv.dis_flow(after, before, 2), first)


@pytest.mark.parametrize("value", [-0.25, 0.0, 0.5, 1.0])
def test_scale_to_u8_rounds_and_saturates(value: float) -> None:
    seen = cv.scale_to_u8(np.full((2, 2), value, np.float32), 127.0, 128.0)
    assert seen.dtype == np.uint8
    assert (np.abs(seen - (128 + 127 * value)) <= 0.5).all()
    assert cv.scale_to_u8(np.full((1, 1), 2.0, np.float32), 255.0)[0, 0] == 255


def test_gray_is_the_luma_of_bt601() -> None:
    picture = np.stack([texture(SIZE, seed) for seed in (1, 2, 3)], -1).astype(np.uint8)
    luma = picture @ np.array([0.299, 0.587, 0.114])
    assert np.abs(cv.rgb_to_gray(picture) - luma).max() <= 1


def noise_rgb(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)


def test_look_up_has_a_table_for_each_channel() -> None:
    picture = noise_rgb()
    table = np.stack([np.arange(256), 255 - np.arange(256), np.full(256, 7)], axis=1).astype(np.uint8)
    expected = np.stack([picture[..., 0], 255 - picture[..., 1], np.full((7, 9), 7)], axis=2)
    assert np.array_equal(cv.look_up(picture, table), expected)
    assert np.array_equal(cv.look_up_f32(picture, table.astype(np.float32) / 2), expected.astype(np.float32) / 2)


def test_mean_and_spread_are_numpys() -> None:
    picture = noise_rgb()
    mask = np.zeros((7, 9), np.uint8)
    mask[2:5, 1:4] = 255
    for chosen, pixels in ((None, picture.reshape(-1, 3)), (mask, picture[mask > 0])):
        mean, spread = cv.mean_and_spread(picture, chosen)
        assert np.allclose(mean, pixels.mean(axis=0))
        assert np.isclose(spread, pixels.std())


def test_blend_is_the_weighted_mean_rounded() -> None:
    front, behind = noise_rgb(1), noise_rgb(2)
    alpha = noise_rgb(3)[:, :, 0]
    weight = alpha[:, :, np.newaxis] / 255
    exact = front * weight + behind * (1 - weight)
    # OpenCV adds 1e-5 to the sum of the weights it divides by.
    assert np.abs(cv.blend(front, behind, alpha) - exact).max() <= 0.51


def test_histogram_counts_values() -> None:
    gray = noise_rgb()[:, :, 0]
    assert np.array_equal(cv.histogram(gray), np.bincount(gray.ravel(), minlength=256))


def test_distance_is_to_the_nearest_true_pixel() -> None:
    mask = np.zeros((5, 8), bool)
    mask[1, 2] = mask[4, 7] = True
    rows, columns = np.mgrid[0:5, 0:8]
    expected = np.minimum(np.hypot(rows - 1, columns - 2), np.hypot(rows - 4, columns - 7))
    assert np.allclose(cv.distance_to(mask), expected, atol=1e-5)


def test_parts_are_joined_over_corners() -> None:
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[4, 4:6] = True
    assert sorted(cv.parts(mask)) == [2, 2]


@pytest.mark.parametrize("large", [Size(1920, 1080), Size(1280, 720), Size(960, 540), Size(640, 360), Size(642, 362)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_picture_that_is_halved_first_is_the_mean_all_the_same(large: Size, channels: tuple[int, ...]) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (*large.shape, *channels), np.uint8)
    small = cv.resize_area(picture, Size(320, 180))
    exact = cv2.resize(picture.astype(np.float64), (320, 180), interpolation=cv2.INTER_AREA)
    # Half a level by each rounding, three at most.
    assert np.abs(small - exact).max() <= 1.5
    assert abs((small - exact).mean()) < 0.3


def test_a_photo_far_larger_is_shrunk_to_nearly_its_mean() -> None:
    blurred = cv2.GaussianBlur(np.random.default_rng(6).integers(0, 256, (3024, 4032), np.uint8), (0, 0), 2)
    exact = cv2.resize(blurred, (256, 192), interpolation=cv2.INTER_AREA)
    assert np.abs(cv.resize_area(blurred, Size(256, 192)).astype(int) - exact).max() <= 3
