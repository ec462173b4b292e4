"""Fixed work that no change of ours touches: what a machine makes of it is the unit of all other figures."""

import zlib

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture


def test_reference(benchmark: BenchmarkFixture) -> None:
    """Half of it bytes through zlib, half of it floats through memory: neither OpenCV nor an engine."""
    noise = np.random.default_rng(3).integers(0, 24, 60_000, np.uint8).tobytes()
    values = np.linspace(0, 1, 400_000, dtype=np.float32)

    def work() -> float:
        return len(zlib.compress(noise, 3)) + float((values * values + values).sum())

    benchmark(work)
