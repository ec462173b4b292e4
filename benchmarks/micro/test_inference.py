"""Stage inference: the medium network on one thread, one frame of 320x192."""

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.machine import ROOT
from engines.registry import DEFAULT_ENGINE, open_runner


def test_inference(benchmark: BenchmarkFixture) -> None:
    """The default engine."""
    runner = open_runner(DEFAULT_ENGINE, ROOT / "engines" / "models" / "medium.onnx", max_batch=1, concurrency=1)
    canvas = runner.info.model.landscape
    frame = np.random.default_rng(5).integers(0, 256, (1, canvas.height, canvas.width, 3), np.uint8)
    benchmark(runner.run, frame)
    runner.close()
