"""Stages decode and preprocess: frame bytes to the network's input, 640x360 to 320x192."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.footage import drawn, encode
from humanseg.frames import PixelFormat, view_frame
from humanseg.vision.arrays import Size
from humanseg.vision.decode import decode_jpeg_scaled
from humanseg.vision.letterbox import letterbox_frame
from humanseg.vision.orientation import Rotation

SIZE, CANVAS = Size(640, 360), Size(320, 192)
LIMIT_PX, LIMIT_SIDE_PX = 2**21, 4096


def test_decode_jpeg(benchmark: BenchmarkFixture) -> None:
    """A stream's JPEG at the fraction that the network needs."""
    data = encode(next(drawn(SIZE)), PixelFormat.JPEG)
    benchmark(decode_jpeg_scaled, data, CANVAS, LIMIT_PX, LIMIT_SIDE_PX)


@pytest.mark.parametrize("pixel_format", [PixelFormat.I420, PixelFormat.RGB24], ids=["i420", "rgb24"])
def test_preprocess(benchmark: BenchmarkFixture, pixel_format: PixelFormat) -> None:
    """View and letterbox."""
    data = encode(next(drawn(SIZE)), pixel_format)
    benchmark(lambda: letterbox_frame(view_frame(data, pixel_format, SIZE), CANVAS, Rotation.DEG_0, False))
