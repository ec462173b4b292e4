"""The relay's background: what the service is asked for, and what is shown without it."""

import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs OpenCV: pip install -e '.[vision]'")

from examples.backdrop import Backdrop
from humanseg.composite_config import BlurBackground, ColorBackground, ImageBackground
from humanseg.frames import PixelFormat
from humanseg.vision import cv
from humanseg.vision.arrays import Size
from humanseg.vision.color import from_rgb, to_rgb
from humanseg.vision.composite_planes import Blur

STRIPES = np.zeros((90, 160, 3), np.uint8)
STRIPES[:, ::4] = STRIPES[:, 1::4] = 255
FRAME = from_rgb(STRIPES, PixelFormat.I420)


def test_a_color_shows_nothing_of_the_frame() -> None:
    backdrop = Backdrop((0, 0, 255))
    assert backdrop.composite.background == ColorBackground(0, 0, 255)
    for _ in range(2):
        alone = to_rgb(backdrop.alone(FRAME))
        assert np.abs(alone.astype(int) - (0, 0, 255)).max() <= 2


def test_a_picture_covers_frames_of_any_size() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:50] = (255, 0, 0)
    backdrop = Backdrop(picture)
    for width, height in ((160, 90), (90, 160)):
        frame = from_rgb(np.zeros((height, width, 3), np.uint8), PixelFormat.I420)
        alone = to_rgb(backdrop.alone(frame))
        assert alone.shape == (height, width, 3)
        assert alone[4, width // 2, 0] > 240
        assert alone[-4, width // 2].max() < 10


def test_a_picture_is_sent_at_a_size_that_the_service_takes() -> None:
    picture = np.full((3000, 4000, 3), (10, 200, 30), np.uint8)
    asked = Backdrop(picture).composite.background
    assert isinstance(asked, ImageBackground)
    sent = cv.decode_rgb(np.frombuffer(asked.file, np.uint8))
    assert sent is not None
    assert Size.of(sent).area_px <= 1920 * 1080
    assert abs(sent.shape[1] / sent.shape[0] - 4 / 3) < 0.01
    assert np.abs(sent.astype(int) - (10, 200, 30)).max() == 0


def test_a_blur_leaves_no_stripe_of_the_frame() -> None:
    backdrop = Backdrop(Blur())
    assert backdrop.composite.background == BlurBackground(Blur().ratio)
    alone = backdrop.alone(FRAME)
    steps = [np.abs(np.diff(frame.planes[0].astype(int), axis=1)).max() for frame in (FRAME, alone)]
    assert steps[0] > 200
    assert steps[1] <= 4
