"""Figures of single masks against values computed by hand, and against a second, slow implementation."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.vision.arrays import BoolMask
from humanseg.vision.metrics import IouCounts, boundary_f, boundary_iou, mean_absolute_difference, outline

SHAPE = (24, 30)
ALL = np.ones(SHAPE, bool)


def block(top: int, bottom: int, left: int, right: int) -> BoolMask:
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


def blobs(seed: int) -> BoolMask:
    """A few random discs."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    mask = np.zeros(SHAPE, bool)
    for _ in range(int(rng.integers(0, 4))):
        y, x, radius = rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1]), rng.uniform(1, 8)
        mask |= (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    return mask


def slow_outline(mask: BoolMask) -> list[tuple[int, int]]:
    height, width = mask.shape
    found = []
    for y, x in np.argwhere(mask).tolist():
        around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        if any(0 <= v < height and 0 <= u < width and not mask[v, u] for v, u in around):
            found.append((y, x))
    return found


def slow_boundary_f(predicted: BoolMask, truth: BoolMask, known: BoolMask, tolerance_px: float) -> float | None:
    """The definition, pixel by pixel."""
    void = np.argwhere(~known).tolist()

    def near(pixel: tuple[int, int], goal: list[tuple[int, int]]) -> bool:
        return any(math.dist(pixel, other) <= tolerance_px for other in goal)

    outlines = [slow_outline(mask) for mask in (predicted, truth)]
    counted = [[pixel for pixel in one if not near(pixel, void)] for one in outlines]
    if not any(counted):
        return None
    shares = [
        np.mean([near(pixel, goal) for pixel in pixels]) if pixels and goal else 0.0
        for pixels, goal in ((counted[0], outlines[1]), (counted[1], outlines[0]))
    ]
    return float(2 * shares[0] * shares[1] / sum(shares)) if all(shares) else 0.0


@given(st.integers(0, 2**31), st.sampled_from([1.0, 2.0, 2.8]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_boundary_f_is_what_its_definition_says(seed: int, tolerance_px: float, with_void: bool) -> None:
    known = ~blobs(seed + 2) if with_void else ALL
    masks = blobs(seed), blobs(seed + 1)
    assert boundary_f(*masks, known, tolerance_px) == pytest.approx(slow_boundary_f(*masks, known, tolerance_px))


def test_an_outline_shifted_within_the_tolerance_is_perfect_and_beyond_it_is_nothing() -> None:
    truth = block(0, 24, 0, 10)
    assert boundary_f(block(0, 24, 0, 12), truth, ALL, 2) == 1.0
    assert boundary_f(block(0, 24, 0, 13), truth, ALL, 2) == 0.0
    half = block(0, 12, 0, 10) | block(12, 24, 0, 15)
    # Its outline has 12 + 12 pixels and the step's 4, of which 12 + 2 are near; back it is 12 + 2 of 24 rows.
    assert boundary_f(half, truth, ALL, 2) == pytest.approx(2 * (14 / 28) * (14 / 24) / (14 / 28 + 14 / 24))


def test_the_border_of_the_picture_is_no_outline() -> None:
    assert np.flatnonzero(outline(block(0, 24, 0, 10)).any(axis=0)).tolist() == [9]
    assert not outline(ALL).any()
    assert boundary_f(ALL, ALL, ALL, 2) is None
    assert boundary_f(block(4, 9, 4, 9), ALL, ALL, 2) == 0.0


@pytest.mark.parametrize("band_px", [1, 3])
@pytest.mark.parametrize("seed", range(8))
def test_boundary_iou_agrees_with_the_code_of_its_authors(seed: int, band_px: int) -> None:
    def band(mask: BoolMask) -> BoolMask:
        """As in boundary_iou_api: one pixel of padding, erosion by 3x3 again and again."""
        padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=band_px)
        return (mask.astype(np.uint8) - eroded[1:-1, 1:-1]).astype(bool)

    masks = blobs(seed), blobs(seed + 100)
    bands = [band(mask) for mask in masks]
    union = (bands[0] | bands[1]).sum()
    expected = (bands[0] & bands[1]).sum() / union if union else 1.0
    assert boundary_iou(*masks, ALL, band_px) == pytest.approx(expected)


def test_boundary_iou_counts_known_pixels_only() -> None:
    truth, predicted = block(4, 14, 4, 14), block(4, 14, 4, 18)
    known = ALL.copy()
    known[:, 13:] = False
    # Left of column 13 the bands of one pixel differ nowhere; the truth's right side lies in void.
    assert boundary_iou(predicted, truth, known, 1) == 1.0
    assert boundary_iou(predicted, truth, ALL, 1) < 0.8


def test_iou_leaves_void_out() -> None:
    truth, predicted = block(0, 10, 0, 10), block(0, 10, 5, 15)
    counts = IouCounts.of(predicted, truth, ALL)
    assert (counts.both, counts.missed, counts.false) == (50, 50, 50)
    assert counts.foreground_iou == pytest.approx(1 / 3)
    assert counts.false_share == pytest.approx(50 / (24 * 30 - 100))
    assert IouCounts.of(predicted, truth, ~block(0, 10, 10, 15)).foreground_iou == pytest.approx(1 / 2)


def test_mean_absolute_difference_of_a_half_gray_quarter_is_an_eighth() -> None:
    truth = np.zeros((8, 8), np.float32)
    alpha = truth.copy()
    alpha[:4, :4] = 0.5
    assert mean_absolute_difference(alpha, truth) == pytest.approx(0.125)
    assert mean_absolute_difference(alpha, truth, alpha > 0) == pytest.approx(0.5)
    assert mean_absolute_difference(alpha, truth, alpha > 1) == 0.0
