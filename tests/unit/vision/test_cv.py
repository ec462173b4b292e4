"""OpenCV does what we believe it does: each of these was wrong once, in silence."""

import cv2
import numpy as np
import pytest

from humanseg.vision import cv
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
