"""Composites and random placement: exact labels, nothing squashed, nobody floating."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.vision.arrays import Size
from support.photos import PERSON_RGB, draw_disc, draw_room
from train.augment import backlight, degrade, happens, place_randomly
from train.occluders import occlude
from train.sample import Sample
from train.scenes import PLAIN, RICH, Scenes
from train.synthesis import Borders, Place, Placer, can_be_cut_out, composite, place_anywhere, place_close_up

CANVASES = [Size(160, 96), Size(96, 160)]
EVERYTHING = Scenes(dark_share=1.0, video_share=1.0)


def disc_sample(width: int = 200, height: int = 150) -> Sample:
    picture, mask = draw_disc(width, height)
    return Sample(picture, mask, np.full(mask.shape, 255, np.uint8))


@given(st.integers(0, 2**31), st.sampled_from(CANVASES))
@settings(max_examples=40, deadline=None)
def test_a_composite_is_the_person_where_the_label_says_so(seed: int, canvas: Size) -> None:
    background = np.full((80, 120, 3), (20, 200, 20), np.uint8)
    made = composite([(disc_sample(), place_anywhere)], background, canvas, np.random.default_rng(seed))
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
        made = composite([(person, place_anywhere)], picture, CANVASES[0], np.random.default_rng(seed))
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
        two = [(disc_sample(), place_anywhere), (disc_sample(90, 120), place_close_up)]
        placed = composite(two, draw_disc(90, 90)[0], CANVASES[0], rng)
        placed = backlight(occlude(placed, draw_room(*CANVASES[0]), rng), rng)
        return degrade(placed.picture, EVERYTHING, rng).tobytes() + placed.alpha.tobytes()

    assert make() == make()


def test_the_letterbox_pads_with_void() -> None:
    boxed = disc_sample(200, 50).letterboxed(Size(160, 96))
    assert not boxed.known[:28].any()
    assert (boxed.known[28:68] == 255).all()
    assert not boxed.known[68:].any()


def at(scale: float, x: int, y: int) -> Placer:
    def place(person: Sample, canvas: Size, rng: np.random.Generator) -> Place:
        return Place(scale, x, y)

    return place


def square(color: tuple[int, int, int]) -> Sample:
    """60 x 60, the inner 40 x 40 a person of one color."""
    mask = np.zeros((60, 60), np.uint8)
    mask[10:50, 10:50] = 255
    picture = np.full((60, 60, 3), color, np.uint8)
    return Sample(picture, mask, np.full_like(mask, 255))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_several_people_the_larger_stands_before_the_smaller(order: tuple[int, int]) -> None:
    people = [(square((250, 0, 0)), at(1.0, 0, 0)), (square((0, 0, 250)), at(1.5, 20, 0))]
    background = np.full((96, 160, 3), (0, 128, 0), np.uint8)
    made = composite([people[i] for i in order], background, CANVASES[0], np.random.default_rng(7))
    # Rows 10 to 50, columns 10 to 50, and rows 15 to 75, columns 35 to 95.
    assert (made.alpha[13:47, 13:47] > 250).all()
    assert (made.alpha[18:72, 38:92] > 250).all()
    assert not made.alpha[:, 100:].any()
    assert not made.alpha[53:, :30].any()
    both = made.picture[20:45, 40:45].astype(int)
    assert (both[..., 2] > both[..., 0] + 60).all()
    alone = made.picture[20:45, 15:28].astype(int)
    assert (alone[..., 0] > alone[..., 2] + 60).all()


def shoulders() -> Sample:
    """A portrait: a head, and shoulders that the photo cuts off at both sides and below."""
    rows, columns = np.mgrid[0:160, 0:120]
    head = (rows - 60) ** 2 + (columns - 60) ** 2 < 35**2
    body = (rows > 95) & (abs(columns - 60) < (rows - 95) * 1.6 + 20)
    mask = np.where(head | body, np.uint8(255), np.uint8(0))
    return Sample(np.full((160, 120, 3), PERSON_RGB, np.uint8), mask, np.full_like(mask, 255))


def test_before_a_webcam_the_head_is_whole_and_the_body_cut_off_below() -> None:
    person = shoulders()
    assert Borders.of(person) == Borders(left=True, top=False, right=True, bottom=True)
    lefts = []
    for seed in range(30):
        made = composite([(person, place_close_up)], draw_room(90, 60), CANVASES[0], np.random.default_rng(seed))
        rows, columns = np.nonzero(made.alpha > 127)
        assert rows.max() == CANVASES[0].height - 1, seed
        assert rows.min() <= 0.27 * CANVASES[0].height, seed
        # Never a vertical cut inside the picture: shoulders reach the canvas's lower edge before the photo's sides.
        inner = made.alpha[:, 1:-1].astype(int)
        steps = np.abs(np.diff(inner, axis=1)) > 100
        assert (steps.sum(axis=0) < 25).all(), seed
        lefts.append(int(columns.min()))
    assert len(set(lefts)) > 10


@given(st.integers(0, 2**31), st.sampled_from(CANVASES))
@settings(max_examples=60, deadline=None)
def test_what_stands_before_people_is_background(seed: int, canvas: Size) -> None:
    mask = np.zeros(canvas.shape, np.uint8)
    mask[20:, 30:70] = 255
    picture = np.full((*canvas.shape, 3), (10, 90, 10), np.uint8)
    picture[mask == 255] = PERSON_RGB
    scene = Sample(picture, mask, np.full_like(mask, 255))
    texture = np.full((*canvas.shape, 3), (0, 0, 255), np.uint8)
    made = occlude(scene, texture, np.random.default_rng(seed))
    thing = made.picture[:, :, 2] > 250
    untouched = (made.picture == picture).all(axis=2)
    assert (made.alpha[thing] <= 5).all()
    assert np.array_equal(made.alpha[untouched], mask[untouched])
    assert (made.known == 255).all()
    # The label is the share of the person's color that is left.
    edge = ~thing & ~untouched & (mask == 255)
    share = (made.picture[edge][:, 0].astype(float)) / PERSON_RGB[0]
    assert np.abs(share - made.alpha[edge] / 255).max(initial=0.0) < 0.02


def test_nothing_is_put_before_nobody() -> None:
    empty = Sample(draw_room(160, 96), np.zeros((96, 160), np.uint8), np.full((96, 160), 255, np.uint8))
    assert occlude(empty, draw_room(160, 96), np.random.default_rng(0)) is empty


def test_against_the_light_people_are_dark_and_the_rest_is_bright() -> None:
    scene = disc_sample(160, 96)
    inside, outside = scene.alpha == 255, scene.alpha == 0
    for seed in range(10):
        lit = backlight(scene, np.random.default_rng(seed))
        assert lit.picture[inside].mean() < 0.9 * scene.picture[inside].mean()
        assert lit.picture[outside].mean() > scene.picture[outside].mean() + 10
        assert np.array_equal(lit.alpha, scene.alpha)


def test_low_light_is_low() -> None:
    bright = np.full((96, 160, 3), 200, np.uint8)
    dark = [degrade(bright, Scenes(dark_share=1.0), np.random.default_rng(seed)) for seed in range(20)]
    light = [degrade(bright, PLAIN, np.random.default_rng(seed)) for seed in range(20)]
    assert max(picture.mean() for picture in dark) < 80 < min(picture.mean() for picture in light)


def test_what_never_happens_throws_no_dice() -> None:
    rng, untouched = np.random.default_rng(3), np.random.default_rng(3)
    assert not happens(0.0, rng)
    assert rng.random() == untouched.random()
    assert sum(happens(0.25, rng) for _ in range(4000)) == pytest.approx(1000, abs=110)


def test_plain_scenes_are_those_of_the_first_models() -> None:
    assert Scenes() == PLAIN
    assert all(value == 0 for name, value in asdict(PLAIN).items() if name.endswith("_share"))
    assert all(0 < value < 1 for name, value in asdict(RICH).items() if name.endswith("_share"))
