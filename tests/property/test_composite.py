"""Invariants of compositing, whatever the picture."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.vision.arrays import Alpha8, Picture, Size
from humanseg.vision.composite import blurred_room, compose, cover, person_color, solid

sizes = st.tuples(st.integers(1, 70), st.integers(1, 70)).map(lambda pair: Size(*pair))
colors = st.tuples(*[st.integers(0, 255)] * 3)
seeds = st.integers(0, 2**32 - 1)


def noise(size: Size, seed: int) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (*size.shape, 3), np.uint8)


def some_alpha(size: Size, seed: int) -> Alpha8:
    """Hard inside and outside, soft between: values beyond both ends are clipped."""
    rng = np.random.default_rng(seed + 1)
    return np.clip(rng.integers(-200, 456, size.shape), 0, 255).astype(np.uint8)


@given(size=sizes, seed=seeds)
def test_where_alpha_is_hard_it_chooses(size: Size, seed: int) -> None:
    frame, alpha8, background = noise(size, seed), some_alpha(size, seed), noise(size, seed + 2)
    composed = compose(frame, alpha8, background)
    assert (composed[alpha8 == 255] == frame[alpha8 == 255]).all()
    assert (composed[alpha8 == 0] == background[alpha8 == 0]).all()


@given(size=sizes, color=colors, seed=seeds)
def test_one_color_stays_what_it_is(size: Size, color: tuple[int, int, int], seed: int) -> None:
    frame, alpha8 = solid(size, color), some_alpha(size, seed)
    assert (blurred_room(frame, alpha8) == frame).all()
    assert (compose(frame, alpha8, solid(size, color)) == frame).all()


@given(size=sizes, seed=seeds)
def test_colors_stay_within_those_of_the_picture(size: Size, seed: int) -> None:
    frame, alpha8 = noise(size, seed), some_alpha(size, seed)
    room = blurred_room(frame, alpha8)
    assert room.min() >= frame.min()
    assert room.max() <= frame.max()
    person = person_color(frame, alpha8.astype(np.float32) / np.float32(255))
    assert np.isfinite(person).all()


@given(have=sizes, want=sizes, color=colors)
def test_covering_leaves_no_margin(have: Size, want: Size, color: tuple[int, int, int]) -> None:
    assert (cover(solid(have, color), want) == solid(want, color)).all()


@settings(max_examples=40)
@given(have=st.integers(8, 60), want=sizes)
def test_covering_never_squashes(have: int, want: Size) -> None:
    """A ramp along x keeps the same slope along y as along x: made of x + y, it stays symmetric."""
    rows, columns = np.mgrid[0:have, 0:have]
    ramp = (2 * (rows + columns)).astype(np.uint8)
    square = min(want)
    covered = cover(np.repeat(ramp[:, :, None], 3, axis=2), want)[:, :, 0].astype(int)
    top, left = (want.height - square) // 2, (want.width - square) // 2
    middle = covered[top : top + square, left : left + square]
    if (want.width - square) % 2 == 0 and (want.height - square) % 2 == 0:
        assert np.abs(middle - middle.T).max() <= 4
