"""Changes of light against the formula, written down once more without tables."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from support.photos import draw_disc
from train import augment


def slow_light(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
    """Gray now and then; gamma, contrast, gain, saturation, light from one side; value by value."""
    values = picture / 255
    if rng.random() < 0.06:
        luma = np.rint(picture @ (0.299, 0.587, 0.114))
        values = np.repeat(luma[:, :, np.newaxis], 3, axis=2) / 255
    if rng.random() < 0.8:
        values = values ** math.exp(rng.uniform(-0.5, 0.5))
        gain = np.exp(rng.uniform(-0.3, 0.3) + rng.uniform(-0.08, 0.08, 3))
        values = ((values - 0.5) * rng.uniform(0.6, 1.3) + 0.5) * gain
    if rng.random() < 0.4:
        gray = values.mean(axis=2, keepdims=True)
        values = gray + (values - gray) * rng.uniform(0.2, 1.6)
    if rng.random() < 0.15:
        height, width = picture.shape[:2]
        angle = rng.uniform(0, 2 * math.pi)
        strength = rng.uniform(0.2, 0.5)
        for y in range(height):
            for x in range(width):
                across, down = 2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1
                values[y, x] *= 1 + strength * (across * math.cos(angle) + down * math.sin(angle))
    return np.clip(values * 255, 0, 255)


@pytest.mark.parametrize("seed", range(24))
def test_light_is_what_its_formula_says(seed: int) -> None:
    picture, _ = draw_disc(40, 30, seed)
    lit = augment._light(picture, np.random.default_rng(seed))
    assert np.abs(lit - slow_light(picture, np.random.default_rng(seed))).max() <= 1.01
