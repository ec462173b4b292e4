"""What keeping the main person must hold, whatever the mask and whatever came before."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from humanseg.vision.arrays import Alpha
from humanseg.vision.main_person import MainPersonState, keep_main

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
seeds = st.integers(0, 2**32 - 1)


def blobs(shape: tuple[int, int], seed: int) -> Alpha:
    """Any number of soft blobs, some of them faint, some of them touching; often with 0 and 1 exactly."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    alpha = np.zeros(shape)
    for _ in range(rng.integers(0, 5)):
        center_y, center_x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        radius = rng.uniform(0.5, 1 + max(shape) / 3)
        distance = np.hypot(y - center_y, x - center_x)
        alpha = np.maximum(alpha, rng.uniform(0.1, 1.3) * np.clip(1.5 - distance / radius, 0, 1))
    return np.clip(alpha, 0, 1).astype(np.float32)


def parts_of(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """Connected parts, diagonal neighbors joined, by flooding from pixel to pixel."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = []
    while left:
        edge = {left.pop()}
        part = set(edge)
        while edge:
            edge = {(y + dy, x + dx) for y, x in edge for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= edge
            part |= edge
        found.append(part)
    return found


@settings(deadline=None, max_examples=80)
@given(shape=shapes, seed=seeds, frames=st.integers(1, 4))
def test_pixels_stay_or_become_background(shape: tuple[int, int], seed: int, frames: int) -> None:
    state = MainPersonState()
    for index in range(frames):
        alpha = blobs(shape, seed + index)
        before = alpha.copy()
        kept, state = keep_main(alpha, state)
        assert (alpha == before).all()
        assert kept.dtype == np.float32
        assert ((kept == alpha) | (kept == 0)).all()
        bodies = [part for part in parts_of(alpha >= 0.5) if kept[next(iter(part))] > 0]
        assert len(bodies) <= 1, "two people were kept"
        assert len(parts_of(kept > 0)) <= 1, "something stayed apart from the main person"
        for y, x in bodies[0] if bodies else ():
            assert kept[y, x] == alpha[y, x], "the main person has a hole"


@settings(deadline=None, max_examples=80)
@given(shape=shapes, seed=seeds)
def test_the_first_frame_keeps_whoever_counts_most(shape: tuple[int, int], seed: int) -> None:
    alpha = blobs(shape, seed)
    kept, _ = keep_main(alpha, MainPersonState())
    parts = parts_of(alpha >= 0.5)
    if not parts:
        assert not kept.any()
        return
    counts = []
    for part in parts:
        places = [(np.mean([pixel[axis] for pixel in part]) + 0.5) / shape[axis] * 2 - 1 for axis in (0, 1)]
        counts.append(len(part) * (1 - 0.375 * (places[0] ** 2 + places[1] ** 2)))
    (chosen,) = (index for index, part in enumerate(parts) if kept[next(iter(part))] > 0)
    assert counts[chosen] >= max(counts) - 1e-3


@settings(deadline=None, max_examples=40)
@given(shape=shapes, seed=seeds, frames=st.integers(2, 25))
def test_a_still_picture_stays_as_it_is(shape: tuple[int, int], seed: int, frames: int) -> None:
    alpha = blobs(shape, seed)
    first, state = keep_main(alpha, MainPersonState())
    for _ in range(frames):
        kept, state = keep_main(alpha, state)
        assert (kept == first).all()
