"""Composites and random placement: exact labels, nothing squashed, nobody floating."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.vision.arrays import Size
from support.photos import draw_disc
from train.augment import degrade, place_randomly
from train.sample import Sample
from train.synthesis import Borders, can_be_cut_out, composite

CANVASES = [Size(160, 96), Size(96, 160)]


def disc_sample(width: int = 200, height: int = 150) -> Sample:
    picture, mask = draw_disc(width, height)
    return Sample(picture, mask, np.full(mask.shape, 255, np.uint8))


@given(st.integers(0, 2**31), st.sampled_from(CANVASES))
@settings(max_examples=40, deadline=None)
def test_a_composite_is_the_person_where_the_label_says_so(seed: int, canvas: Size) -> None:
    background = np.full((80, 120, 3), (20, 200, 20), np.uint8)
    made = composite(disc_sample(), background, canvas, np.random.default_rng(seed))
    assert made.picture.shape == (*canvas.shape, 3)
    assert made.alpha.shape == made.known.shape == canvas.shape
    assert (made.known == 255).all()
    outside = made.alpha == 0
    assert (np.abs(made.picture[outside].astype(int) - (20, 200, 20)) <= 1).all()


def test_who_is_cut_off_below_is_cut_off_by_the_canvas_below() -> None:
    picture, mask = draw_disc(120, 160)
    mask[80:] = np.where(np.abs(np.arange(120) - 60) < 30, np.uint8(255), np.uint8(0))
    person = Sample(picture, mask, np.full(mask.shape, 255, np.uint8))
    assert Borders.of(person) == Borders(left=False, top=False, right=False, bottom=True)
    for seed in range(20):
        made = composite(person, picture, CANVASES[0], np.random.default_rng(seed))
        assert made.alpha[-1].max() > 200, seed


def test_void_or_tiny_people_are_not_cut_out() -> None:
    whole = disc_sample()
    assert can_be_cut_out(whole)
    known = whole.known.copy()
    known[0, 0] = 0
    assert not can_be_cut_out(Sample(whole.picture, whole.alpha, known))
    assert not can_be_cut_out(Sample(whole.picture, np.zeros_like(whole.alpha), whole.known))


@given(st.integers(0, 2**31), st.sampled_from(CANVASES))
@settings(max_examples=40, deadline=None)
def test_label_and_picture_stay_together(seed: int, canvas: Size) -> None:
    """The disc is the only red thing: red pixels are person and person pixels are red, wherever it is placed."""
    placed = place_randomly(disc_sample(), canvas, np.random.default_rng(seed))
    red = (placed.picture[:, :, 0] > 170) & (placed.picture[:, :, 1] < 90)
    sure = placed.known == 255
    assert red[sure & (placed.alpha > 250)].mean() > 0.97 if (sure & (placed.alpha > 250)).sum() > 50 else True
    assert not (red & sure & (placed.alpha < 5)).sum() > 2


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_a_circle_stays_nearly_one(seed: int) -> None:
    placed = place_randomly(disc_sample(), Size(320, 320), np.random.default_rng(seed))
    rows, columns = np.nonzero(placed.alpha > 127)
    if len(rows) and rows.min() > 0 and columns.min() > 0 and rows.max() < 319 and columns.max() < 319:
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert wide / tall == pytest.approx(1.0, abs=0.2)


def test_the_same_dice_give_the_same_sample() -> None:
    def make() -> bytes:
        rng = np.random.default_rng((1, 2, 3))
        placed = composite(disc_sample(), draw_disc(90, 90)[0], CANVASES[0], rng)
        return degrade(placed.picture, rng).tobytes() + placed.alpha.tobytes()

    assert make() == make()


def test_the_letterbox_pads_with_void() -> None:
    boxed = disc_sample(200, 50).letterboxed(Size(160, 96))
    assert not boxed.known[:28].any()
    assert (boxed.known[28:68] == 255).all()
    assert not boxed.known[68:].any()
