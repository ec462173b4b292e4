"""Letterbox there and back, and that the short way through the planes is the long way through the whole picture."""

import cv2
import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from humanseg.frames import PixelFormat, RawFrame
from humanseg.vision import color
from humanseg.vision.arrays import Size
from humanseg.vision.color import to_rgb
from humanseg.vision.letterbox import Placement, letterbox, letterbox_frame, restore
from humanseg.vision.orientation import Rotation, to_upright
from support.clips import texture

SIDES = st.integers(1, 300)
SIZES = st.builds(Size, SIDES, SIDES)
CANVASES = st.sampled_from([Size(320, 192), Size(192, 320), Size(256, 256), Size(96, 64)])


@settings(deadline=None, max_examples=300)
@given(picture=st.builds(Size, st.integers(1, 5000), st.integers(1, 5000)), canvas=CANVASES)
def test_the_aspect_ratio_is_kept_to_within_rounding(picture: Size, canvas: Size) -> None:
    placement = Placement.fit(picture, canvas)
    assert placement.inner.width == canvas.width or placement.inner.height == canvas.height, "as large as it fits"
    assert placement.x >= 0
    assert placement.y >= 0
    left, right = placement.x, canvas.width - placement.x - placement.width
    top, bottom = placement.y, canvas.height - placement.y - placement.height
    assert 0 <= right - left <= 1, "centered"
    assert 0 <= bottom - top <= 1
    scale = min(canvas.width / picture.width, canvas.height / picture.height)
    assert abs(placement.width - picture.width * scale) <= 0.5 or placement.width == 1
    assert abs(placement.height - picture.height * scale) <= 0.5 or placement.height == 1
    assert placement.coverage_ratio == placement.width * placement.height / canvas.area_px


@settings(deadline=None, max_examples=100)
@given(picture=SIZES, canvas=CANVASES, seed=st.integers(0, 99))
def test_there_and_back(picture: Size, canvas: Size, seed: int) -> None:
    """A smooth ramp survives the way to the network and back, wherever it was placed."""
    x = np.linspace(0, 1, picture.width, dtype=np.float32)[None, :]
    y = np.linspace(0, 1, picture.height, dtype=np.float32)[:, None]
    ramp = (0.2 + 0.3 * x + 0.4 * y + 0 * (x + y)).astype(np.float32)
    picture_rgb = np.repeat(np.rint(255 * ramp).astype(np.uint8)[..., None], 3, axis=2)
    network_input, placement = letterbox(picture_rgb, canvas)
    alpha = np.random.default_rng(seed).random(canvas.shape, np.float32)  # what lies in the void must not matter
    placement.crop(alpha)[:] = placement.crop(network_input)[..., 0] / np.float32(255)
    back = restore(alpha, placement)
    assert back.shape == picture.shape
    # The grid of the smaller of both, plus rounding to bytes on the way.
    step = 0.3 / min(picture.width, placement.width) + 0.4 / min(picture.height, placement.height)
    assert np.abs(back - ramp).max() <= step + 2.5 / 255


def planes_of(picture_rgb: NDArray[np.uint8], pixel_format: PixelFormat) -> tuple[NDArray[np.uint8], ...]:
    match pixel_format:
        case PixelFormat.RGB24:
            return (picture_rgb,)
        case PixelFormat.BGR24:
            return (np.ascontiguousarray(picture_rgb[..., ::-1]),)
        case PixelFormat.I420:
            return color.rgb_to_i420(picture_rgb)
        case _:
            return color.rgb_to_nv12(picture_rgb)


@settings(deadline=None, max_examples=150)
@given(
    size=st.builds(Size, st.integers(16, 300), st.integers(16, 300)),
    canvas=CANVASES,
    pixel_format=st.sampled_from([PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]),
    rotation=st.sampled_from(Rotation),
    mirrored=st.booleans(),
)
@example(Size(641, 361), Size(320, 192), PixelFormat.I420, Rotation.DEG_90, True)
@example(Size(17, 16), Size(320, 192), PixelFormat.NV12, Rotation.DEG_270, False)
def test_planes_first_is_the_same_as_the_whole_picture_first(
    size: Size, canvas: Size, pixel_format: PixelFormat, rotation: Rotation, mirrored: bool
) -> None:
    assume(size.width < 8 * size.height)
    assume(size.height < 8 * size.width)
    # As smooth as a picture whose chroma may be halved: a few colored spots, whatever the size.
    spots = [cv2.resize(texture(Size(24, 24), seed), size) for seed in (1, 2, 3)]
    picture_rgb = np.stack(spots, -1).astype(np.uint8)
    frame = RawFrame(size, pixel_format, planes_of(picture_rgb, pixel_format))
    seen, placement = letterbox_frame(frame, canvas, rotation, mirrored)
    wanted, wanted_placement = letterbox(to_upright(to_rgb(frame), rotation, mirrored), canvas)
    assert placement == wanted_placement
    difference = np.abs(seen.astype(int) - wanted)
    inside = placement.crop(difference)
    if pixel_format in (PixelFormat.RGB24, PixelFormat.BGR24):
        assert inside.max() <= 2, "the same pixels in another order"
    else:
        # Chroma of odd sizes reaches over the edge by a pixel, and is spread smoothly where it grows.
        assert inside.mean() <= 2 + 60 / min(size)
    outside = difference.copy()
    placement.crop(outside)[:] = 0
    assert outside.max() == 0
