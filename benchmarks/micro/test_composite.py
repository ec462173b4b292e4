"""Stages postprocess and encode with a composite: the network's alpha and a 720p I420 frame to the finished frame."""

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from humanseg.frames import PixelFormat, RawFrame, pack_planes
from humanseg.vision.arrays import Alpha, Size
from humanseg.vision.color import from_rgb
from humanseg.vision.composite_planes import Blur, compose_frame, sharpen_alpha
from humanseg.vision.letterbox import Placement, restore8

SIZE, CANVAS = Size(1280, 720), Size(320, 192)


def figure() -> Alpha:
    """(H, W) float32 on the canvas: a person's outline with soft edges."""
    alpha = np.zeros(CANVAS.shape, np.float32)
    cv2.circle(alpha, (160, 64), 32, 1.0, -1)
    cv2.ellipse(alpha, (160, 186), (80, 96), 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), 2), np.float32)


def room() -> RawFrame:
    """A smooth I420 frame of random colors."""
    colors = np.random.default_rng(1).integers(0, 256, (45, 80, 3), np.uint8)
    return from_rgb(np.asarray(cv2.resize(colors, SIZE), np.uint8), PixelFormat.I420)


@pytest.mark.parametrize("kind", ["blur", "picture"])
def test_composite(benchmark: BenchmarkFixture, kind: str) -> None:
    """From alpha to the bytes that go out."""
    frame, placement = room(), Placement.fit(SIZE, CANVAS)
    background = Blur() if kind == "blur" else RawFrame(SIZE, PixelFormat.I420, tuple(p[::-1] for p in frame.planes))
    alpha = figure()

    def compose() -> bytes:
        return pack_planes(compose_frame(frame, sharpen_alpha(restore8(alpha, placement), 80), background))

    benchmark(compose)
