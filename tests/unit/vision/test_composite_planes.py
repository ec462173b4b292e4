"""Compositing in the frame's own planes, held against the truth of a drawn scene and against `composite`."""

import cv2
import numpy as np
import pytest

from humanseg.frames import PixelFormat, RawFrame
from humanseg.vision.arrays import Alpha8, Picture, Size
from humanseg.vision.color import from_rgb, to_rgb
from humanseg.vision.composite import blurred_room
from humanseg.vision.composite_planes import Blur, compose_frame, cut_out, sharpen_alpha

SIZE = Size(320, 180)
SKIN, WALL, NEW = (190, 140, 120), (40, 200, 60), (30, 40, 220)
RAW = [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]
#: YUV and back costs this many levels, and a pixel of chroma at the edge.
TOLERANCE = {PixelFormat.RGB24: 0.0, PixelFormat.BGR24: 0.0, PixelFormat.I420: 3.0, PixelFormat.NV12: 3.0}


def solid(color: tuple[int, int, int]) -> Picture:
    return np.full((*SIZE.shape, 3), color, np.uint8)


def scene() -> tuple[Picture, Alpha8]:
    """A disc of skin before a wall, mixed by a soft edge of eight pixels."""
    rows, columns = np.mgrid[0 : SIZE.height, 0 : SIZE.width].astype(np.float32)
    alpha = np.clip((55 - np.hypot(columns - 160, rows - 95)) / 8 + 0.5, 0, 1)
    frame = alpha[:, :, None] * np.float32(SKIN) + (1 - alpha)[:, :, None] * np.float32(WALL)
    return np.rint(frame).astype(np.uint8), np.rint(alpha * 255).astype(np.uint8)


@pytest.mark.parametrize("pixel_format", RAW)
def test_no_rim_of_the_old_room_before_a_color(pixel_format: PixelFormat) -> None:
    frame, alpha8 = scene()
    raw = from_rgb(frame, pixel_format)
    composed = to_rgb(compose_frame(raw, alpha8, from_rgb(solid(NEW), pixel_format))).astype(float)
    share = (alpha8 / 255.0)[:, :, None]
    wanted = share * np.array(SKIN) + (1 - share) * np.array(NEW)
    naive = share * frame + (1 - share) * np.array(NEW)
    soft = (alpha8 > 0) & (alpha8 < 255)
    error = np.abs(composed - wanted)[soft].mean()
    assert error < 0.35 * np.abs(naive - wanted)[soft].mean()
    assert error < 6
    # Where the chroma of four pixels holds some of the edge, it may differ.
    inside = cv2.erode(alpha8, np.ones((5, 5), np.uint8)) == 255
    assert np.abs(composed - wanted)[inside].max() <= TOLERANCE[pixel_format]
    away = cv2.dilate(alpha8, np.ones((5, 5), np.uint8)) == 0
    assert np.abs(composed - wanted)[away].max() <= TOLERANCE[pixel_format]


@pytest.mark.parametrize("pixel_format", RAW)
@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.2])
def test_the_person_does_not_glow_into_the_blurred_room(pixel_format: PixelFormat, ratio: float) -> None:
    frame, alpha8 = scene()
    composed = to_rgb(compose_frame(from_rgb(frame, pixel_format), alpha8, Blur(ratio))).astype(float)
    away = cv2.dilate(alpha8, np.ones((3, 3), np.uint8)) == 0
    assert np.abs(composed - np.array(WALL))[away].max() <= max(2.0, TOLERANCE[pixel_format])
    plain = cv2.GaussianBlur(frame, (0, 0), ratio * SIZE.height).astype(float)
    assert np.abs(plain - np.array(WALL))[away].max() > 15, "an ordinary blur glows here"


def test_the_blur_is_as_wide_as_asked_for() -> None:
    rng = np.random.default_rng(3)
    frame = np.asarray(cv2.resize(rng.integers(0, 256, (18, 32, 3), np.uint8), SIZE, interpolation=cv2.INTER_LINEAR))
    nobody = np.zeros(SIZE.shape, np.uint8)
    inner = (slice(30, -30), slice(30, -30))
    for ratio in (0.036, 0.06, 0.12):
        wanted = cv2.GaussianBlur(frame, (0, 0), ratio * SIZE.height).astype(float)
        seen = compose_frame(from_rgb(frame, PixelFormat.RGB24), nobody, Blur(ratio)).planes[0].astype(float)
        assert np.abs(seen - wanted)[inner].mean() < 2.0
        assert np.abs(frame - wanted)[inner].mean() > 8


@pytest.mark.parametrize("pixel_format", RAW)
def test_the_frames_border_is_not_darker(pixel_format: PixelFormat) -> None:
    _, alpha8 = scene()
    alpha8[0], alpha8[:, 0] = 128, 77
    raw = from_rgb(solid((200, 200, 200)), pixel_format)
    for background in (Blur(), Blur(0.15)):
        composed = compose_frame(raw, alpha8, background)
        assert all((one == other).all() for one, other in zip(composed.planes, raw.planes, strict=True))


@pytest.mark.parametrize("pixel_format", RAW)
def test_no_color_shift_where_the_background_is_the_input_itself(pixel_format: PixelFormat) -> None:
    rng = np.random.default_rng(5)
    frame = np.asarray(cv2.resize(rng.integers(0, 256, (36, 64, 3), np.uint8), SIZE, interpolation=cv2.INTER_CUBIC))
    raw, alpha8 = from_rgb(frame, pixel_format), scene()[1]
    composed = compose_frame(raw, alpha8, raw)
    for plane, before in zip(composed.planes, raw.planes, strict=True):
        alpha = alpha8 if plane.shape[:2] == alpha8.shape else alpha8[::2, ::2]
        away = cv2.dilate(alpha, np.ones((5, 5), np.uint8)) == 0
        assert (plane[away] == before[away]).all()
        assert abs(float(plane.mean()) - float(before.mean())) < 1


def test_it_agrees_with_the_slow_one_on_the_room() -> None:
    frame, alpha8 = scene()
    rng = np.random.default_rng(7)
    frame = np.clip(frame + rng.normal(0, 6, frame.shape), 0, 255).astype(np.uint8)
    slow = blurred_room(frame, alpha8).astype(float)
    fast = compose_frame(from_rgb(frame, PixelFormat.RGB24), alpha8, Blur()).planes[0].astype(float)
    assert np.abs(fast - slow)[alpha8 == 0].mean() < 1.5


def test_a_cut_out_holds_nothing_of_the_room() -> None:
    frame, alpha8 = scene()
    for pixel_format in RAW:
        rgba = cut_out(from_rgb(frame, pixel_format), alpha8)
        assert rgba.shape == (*SIZE.shape, 4)
        assert (rgba[..., 3] == alpha8).all()
        assert not rgba[alpha8 == 0].any()
        well_inside = alpha8 >= 64
        assert np.abs(rgba[..., :3].astype(int) - np.array(SKIN))[well_inside].mean() < 3


def test_a_frame_full_of_person_and_one_of_nobody() -> None:
    frame, _ = scene()
    raw = from_rgb(frame, PixelFormat.I420)
    everybody = compose_frame(raw, np.full(SIZE.shape, 255, np.uint8), Blur())
    assert all((one == other).all() for one, other in zip(everybody.planes, raw.planes, strict=True))
    new = from_rgb(solid(NEW), PixelFormat.I420)
    nobody = compose_frame(raw, np.zeros(SIZE.shape, np.uint8), new)
    assert all((one == other).all() for one, other in zip(nobody.planes, new.planes, strict=True))


def test_alpha_is_sharpened_about_its_middle() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    for softness in (1, 50, 80, 100):
        sharp = sharpen_alpha(ramp, softness)[0].astype(int)
        assert (np.diff(sharp) >= 0).all()
        assert (sharp[0], sharp[255]) == (0, 255)
        assert 0 < sharp[148] < 255
        assert sharp[147] <= 128 <= sharp[149], "58 % stays half"
    assert np.flatnonzero(sharpen_alpha(ramp, 80)[0])[0] > 0.25 * 255
    assert len(np.unique(sharpen_alpha(ramp, 1))) <= 5


def test_sizes_and_formats_must_agree() -> None:
    frame, alpha8 = scene()
    raw = from_rgb(frame, PixelFormat.I420)
    with pytest.raises(ValueError, match="frame 320x180 and alpha 10x180 must be of one size"):
        compose_frame(raw, alpha8[:, :10], Blur())
    with pytest.raises(ValueError, match="background RGB24 320x180 for a frame of I420 320x180"):
        compose_frame(raw, alpha8, from_rgb(frame, PixelFormat.RGB24))
    with pytest.raises(ValueError, match="JPEG is a file"):
        from_rgb(frame, PixelFormat.JPEG)


def test_the_frame_itself_is_left_alone() -> None:
    frame, alpha8 = scene()
    raw, new = from_rgb(frame, PixelFormat.RGB24), from_rgb(solid(NEW), PixelFormat.RGB24)
    for array in (frame, alpha8, new.planes[0]):
        array.flags.writeable = False
    assert compose_frame(raw, alpha8, new).planes[0].flags.writeable
    assert isinstance(compose_frame(raw, alpha8, Blur()), RawFrame)
