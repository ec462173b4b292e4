"""Stages postprocess and encode: the network's alpha to the bytes that go out, 320x192 to 640x360."""

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from humanseg.masks import MaskEncoding, encode_mask
from humanseg.vision.arrays import Alpha, Size
from humanseg.vision.letterbox import Placement, restore8

SIZE, CANVAS = Size(640, 360), Size(320, 192)


def figure(size: Size) -> Alpha:
    """(H, W) float32: a person's outline with soft edges."""
    alpha = np.zeros(size.shape, np.float32)
    cv2.circle(alpha, (size.width // 2, size.height // 3), size.height // 6, 1.0, -1)
    cv2.ellipse(alpha, (size.width // 2, size.height), (size.width // 4, size.height // 2), 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), 2), np.float32)


def test_postprocess(benchmark: BenchmarkFixture) -> None:
    """Back onto the frame."""
    benchmark(restore8, figure(CANVAS), Placement.fit(SIZE, CANVAS), SIZE)


@pytest.mark.parametrize("encoding", list(MaskEncoding), ids=lambda encoding: encoding.name.lower())
def test_encode(benchmark: BenchmarkFixture, encoding: MaskEncoding) -> None:
    """To bytes."""
    mask = (figure(SIZE) * 255).astype(np.uint8)
    benchmark(encode_mask, mask, encoding)
