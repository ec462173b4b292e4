"""Invariants of compositing in planes, whatever the picture, the size and the format."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.frames import PixelFormat, RawFrame, plane_shapes
from humanseg.vision.arrays import Alpha8, Size
from humanseg.vision.composite_planes import (
    LARGEST_BLUR_RATIO,
    LEAST_BLUR_RATIO,
    Blur,
    compose_frame,
    cut_out,
    sharpen_alpha,
)

sizes = st.tuples(st.integers(1, 70), st.integers(1, 70)).map(lambda pair: Size(*pair))
formats = st.sampled_from([PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12])
seeds = st.integers(0, 2**32 - 1)
ratios = st.floats(LEAST_BLUR_RATIO, LARGEST_BLUR_RATIO)


def noise(size: Size, pixel_format: PixelFormat, seed: int) -> RawFrame:
    """Any values, also those that limited range does not know."""
    rng = np.random.default_rng(seed)
    planes = tuple(rng.integers(0, 256, shape, np.uint8) for shape in plane_shapes(pixel_format, size))
    return RawFrame(size, pixel_format, planes)


def flat(size: Size, pixel_format: PixelFormat, levels: tuple[int, int, int]) -> RawFrame:
    planes, rest = [], list(levels)
    for shape in plane_shapes(pixel_format, size):
        count = shape[2] if len(shape) == 3 else 1
        planes.append(np.full(shape, rest[:count] if count > 1 else rest[0], np.uint8))
        del rest[:count]
    return RawFrame(size, pixel_format, tuple(planes))


def some_alpha(size: Size, seed: int) -> Alpha8:
    rng = np.random.default_rng(seed + 1)
    return np.clip(rng.integers(-200, 456, size.shape), 0, 255).astype(np.uint8)


@settings(deadline=None, max_examples=60)
@given(size=sizes, pixel_format=formats, seed=seeds)
def test_where_alpha_is_hard_it_chooses(size: Size, pixel_format: PixelFormat, seed: int) -> None:
    frame, background = noise(size, pixel_format, seed), noise(size, pixel_format, seed + 2)
    alpha8 = some_alpha(size, seed)
    composed = compose_frame(frame, alpha8, background)
    for plane, before, behind in zip(composed.planes, frame.planes, background.planes, strict=True):
        if plane.shape[:2] == alpha8.shape:
            assert (plane[alpha8 == 255] == before[alpha8 == 255]).all()
            assert (plane[alpha8 == 0] == behind[alpha8 == 0]).all()
    for level, source in ((0, background), (255, frame)):
        everywhere = compose_frame(frame, np.full(size.shape, level, np.uint8), background)
        assert all((one == other).all() for one, other in zip(everywhere.planes, source.planes, strict=True))


@settings(deadline=None, max_examples=60)
@given(size=sizes, pixel_format=formats, levels=st.tuples(*[st.integers(0, 255)] * 3), ratio=ratios, seed=seeds)
def test_one_color_stays_what_it_is(
    size: Size, pixel_format: PixelFormat, levels: tuple[int, int, int], ratio: float, seed: int
) -> None:
    frame, alpha8 = flat(size, pixel_format, levels), some_alpha(size, seed)
    for background in (Blur(), Blur(ratio), frame):
        composed = compose_frame(frame, alpha8, background)
        assert all((one == other).all() for one, other in zip(composed.planes, frame.planes, strict=True))


@settings(deadline=None, max_examples=60)
@given(size=sizes, pixel_format=formats, ratio=ratios, seed=seeds)
def test_a_room_that_is_seen_nowhere_leaves_no_trace(
    size: Size, pixel_format: PixelFormat, ratio: float, seed: int
) -> None:
    """Two rooms behind the same mask: the pictures before a new background are equal outside the soft edge."""
    background = noise(size, pixel_format, seed + 2)
    alpha8 = some_alpha(size, seed)
    one, other = (compose_frame(noise(size, pixel_format, seed + k), alpha8, background) for k in (3, 4))
    if one.planes[0].shape[:2] == alpha8.shape:
        nobody = alpha8 == 0
        assert (one.planes[0][nobody] == other.planes[0][nobody]).all()
    assert not cut_out(noise(size, pixel_format, seed), alpha8)[alpha8 == 0].any()
    # Blurred, nothing is outside the frame's own range.
    frame = noise(size, pixel_format, seed)
    nobody_at_all = compose_frame(frame, np.zeros(size.shape, np.uint8), Blur(ratio))
    for plane, before in zip(nobody_at_all.planes, frame.planes, strict=True):
        assert plane.min() >= before.min()
        assert plane.max() <= before.max()


@given(softness=st.integers(1, 100))
def test_sharpening_keeps_order_and_both_ends(softness: int) -> None:
    sharp = sharpen_alpha(np.arange(256, dtype=np.uint8)[None], softness)[0].astype(int)
    assert (np.diff(sharp) >= 0).all()
    assert not sharp[:46].any()
    assert (sharp[250:] == 255).all()
