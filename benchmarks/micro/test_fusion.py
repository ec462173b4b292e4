"""Stage fusion: a mask and the one before it, at 320x192."""

from itertools import count, cycle

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.footage import drawn
from humanseg.options import TemporalFusion
from humanseg.vision import cv
from humanseg.vision.arrays import Size
from humanseg.vision.temporal import PARAMETERS, FusionState, fuse

CANVAS = Size(320, 192)
FRAME_US = 33_333


def test_fusion_high(benchmark: BenchmarkFixture) -> None:
    """Frame after frame of the drawn figure, so that there is motion to follow."""
    grays = [cv.rgb_to_gray(picture) for picture in drawn(CANVAS)]
    frames = cycle([(gray, (gray > 128).astype(np.float32)) for gray in grays])
    state, numbers = FusionState(), count()

    def work() -> None:
        gray, alpha = next(frames)
        fuse(state, gray, alpha, next(numbers) * FRAME_US, PARAMETERS[TemporalFusion.HIGH])

    # The first frame has nothing to be fused with and costs less: the least time would be its.
    work()
    benchmark(work)
