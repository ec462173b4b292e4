"""Invariants of the spread mask and of light at the edge, whatever the picture, the size and the format."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.frames import PixelFormat, RawFrame, plane_shapes
from humanseg.vision.arrays import Alpha, Alpha8, Size
from humanseg.vision.color import from_rgb
from humanseg.vision.composite_edge import spread_alpha
from humanseg.vision.composite_planes import Blur, compose_frame

sizes = st.tuples(st.integers(1, 70), st.integers(1, 70)).map(lambda pair: Size(*pair))
formats = st.sampled_from([PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12])
seeds = st.integers(0, 2**32 - 1)
strengths = st.floats(0.01, 1)
colors = st.tuples(*[st.integers(0, 255)] * 3)


def noise(size: Size, pixel_format: PixelFormat, seed: int) -> RawFrame:
    rng = np.random.default_rng(seed)
    planes = tuple(rng.integers(0, 256, shape, np.uint8) for shape in plane_shapes(pixel_format, size))
    return RawFrame(size, pixel_format, planes)


def flat(size: Size, pixel_format: PixelFormat, color: tuple[int, int, int]) -> RawFrame:
    return from_rgb(np.full((*size.shape, 3), color, np.uint8), pixel_format)


def blob(size: Size, seed: int, *, hard: bool = False) -> Alpha8:
    """A person somewhere: a disc with a soft edge, or a hard one."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size.height, : size.width]
    distance = np.hypot(y - rng.uniform(0, size.height), x - rng.uniform(0, size.width))
    soft = np.clip((rng.uniform(1, max(size)) - distance) / rng.uniform(0.5, 6), 0, 1)
    return np.rint(255 * (soft > 0.5 if hard else soft)).astype(np.uint8)


def by_hand(alpha: Alpha, radius_px: int) -> Alpha:
    """The largest value of each disc, pixel by pixel."""
    height, width = alpha.shape
    spread = np.zeros_like(alpha)
    for y in range(height):
        for x in range(width):
            spread[y, x] = max(
                alpha[v, u]
                for v in range(max(0, y - radius_px), min(height, y + radius_px + 1))
                for u in range(max(0, x - radius_px), min(width, x + radius_px + 1))
                if (v - y) ** 2 + (u - x) ** 2 <= radius_px**2
            )
    return spread


@settings(deadline=None, max_examples=30)
@given(shape=st.tuples(st.integers(1, 12), st.integers(1, 12)), seed=seeds, radius_px=st.floats(0, 4))
def test_spreading_takes_the_largest_of_each_disc(shape: tuple[int, int], seed: int, radius_px: float) -> None:
    rng = np.random.default_rng(seed)
    alpha = (rng.random(shape) * (rng.random(shape) < 0.1)).astype(np.float32)
    before = alpha.copy()
    whole = int(radius_px)
    inner, outer = by_hand(alpha, whole), by_hand(alpha, whole + 1)
    spread = spread_alpha(alpha, radius_px)
    assert np.allclose(spread, inner + (radius_px - whole) * (outer - inner), atol=1e-6)
    assert (spread >= before).all()
    assert (spread <= 1).all()
    spread[:] = 5
    assert (alpha == before).all(), "the answer is the caller's own"


@settings(deadline=None, max_examples=60)
@given(size=sizes, pixel_format=formats, seed=seeds, strength=strengths)
def test_light_falls_on_people_only(size: Size, pixel_format: PixelFormat, seed: int, strength: float) -> None:
    frame, background, alpha8 = noise(size, pixel_format, seed), noise(size, pixel_format, seed + 1), blob(size, seed)
    for behind in (background, Blur()):
        dark = compose_frame(frame, alpha8, behind)
        lit = compose_frame(frame, alpha8, behind, strength)
        for one, other in zip(dark.planes, lit.planes, strict=True):
            if one.shape[:2] == alpha8.shape:
                assert (one[alpha8 == 0] == other[alpha8 == 0]).all()


@settings(deadline=None, max_examples=60)
@given(size=sizes, pixel_format=formats, seed=seeds, strength=strengths)
def test_light_holds_nothing_of_the_old_room(size: Size, pixel_format: PixelFormat, seed: int, strength: float) -> None:
    """With a hard mask no room is in the picture: before another room, the same light falls on the same person."""
    alpha8, background = blob(size, seed, hard=True), noise(size, pixel_format, seed + 1)
    frame, room = noise(size, pixel_format, seed), noise(size, pixel_format, seed + 2)
    planes = []
    for plane, other in zip(frame.planes, room.planes, strict=True):
        step = 1 if plane.shape[:2] == alpha8.shape else 2
        # Where chroma is halved, whatever of four pixels is person.
        is_person = np.zeros(plane.shape[:2], bool)
        for y, x in zip(*np.nonzero(alpha8), strict=True):
            is_person[y // step, x // step] = True
        planes.append(np.where(is_person if plane.ndim == 2 else is_person[..., None], plane, other))
    elsewhere = RawFrame(size, pixel_format, tuple(planes))
    here, there = (compose_frame(one, alpha8, background, strength) for one in (frame, elsewhere))
    for one, two, plane in zip(here.planes, there.planes, frame.planes, strict=True):
        # Halved chroma has a soft edge even so, and there the color of the room is reckoned with.
        if plane.shape[:2] == alpha8.shape:
            assert (one == two).all()


@settings(deadline=None, max_examples=60)
@given(size=sizes, pixel_format=formats, seed=seeds, strength=strengths, color=colors)
def test_light_goes_towards_the_color_behind(
    size: Size, pixel_format: PixelFormat, seed: int, strength: float, color: tuple[int, int, int]
) -> None:
    frame, behind, alpha8 = noise(size, pixel_format, seed), flat(size, pixel_format, color), blob(size, seed)
    dark = compose_frame(frame, alpha8, behind)
    lit = compose_frame(frame, alpha8, behind, strength)
    for one, other, goal in zip(dark.planes, lit.planes, behind.planes, strict=True):
        low, high = np.minimum(one, goal).astype(int) - 1, np.maximum(one, goal).astype(int) + 1
        assert ((low <= other) & (other <= high)).all()


@settings(deadline=None, max_examples=30)
@given(size=sizes, pixel_format=formats, seed=seeds)
def test_black_gives_no_light(size: Size, pixel_format: PixelFormat, seed: int) -> None:
    frame, black, alpha8 = noise(size, pixel_format, seed), flat(size, pixel_format, (0, 0, 0)), blob(size, seed)
    dark, lit = compose_frame(frame, alpha8, black), compose_frame(frame, alpha8, black, 1.0)
    assert all((one == other).all() for one, other in zip(dark.planes, lit.planes, strict=True))
