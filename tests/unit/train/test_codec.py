"""Marks of a real codec: more of them at a worse quality, the same every time."""

import numpy as np

from support.photos import draw_disc
from train.codec import LEAST_CRF, MOST_CRF, video_round_trip


def test_worse_quality_leaves_more_marks_and_the_same_ones_every_time() -> None:
    picture, _ = draw_disc(160, 96)
    noisy = (picture + np.random.default_rng(0).integers(0, 12, picture.shape)).clip(0, 255).astype(np.uint8)
    before = np.roll(noisy, 4, axis=1)
    errors = []
    for crf in (LEAST_CRF, MOST_CRF):
        seen = video_round_trip(before, noisy, crf)
        assert seen.shape == noisy.shape
        assert np.array_equal(seen, video_round_trip(before, noisy, crf))
        errors.append(float(np.abs(seen.astype(int) - noisy).mean()))
    assert 1 < errors[0] < 0.7 * errors[1] < 20


def test_colors_and_places_stay() -> None:
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48], picture[32:, 48:] = (200, 40, 40), (40, 40, 200)
    seen = video_round_trip(picture, picture, LEAST_CRF)
    for rows, columns in ((slice(4, 28), slice(4, 44)), (slice(36, 60), slice(52, 92))):
        assert np.abs(seen[rows, columns].astype(int) - picture[rows, columns]).max() < 16
