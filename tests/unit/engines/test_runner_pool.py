"""Several devices behind one runner; here each device is an engine on the CPU."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engines.gpu_runner import RunnerPool
from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import EngineFailedError, Runner
from support.models import LANDSCAPE, write_red_model


@pytest.fixture
def runners(tmp_path: Path) -> list[Runner]:
    path = write_red_model(tmp_path / "m.onnx")
    return [open_runner(DEFAULT_ENGINE, path, max_batch=2, concurrency=2) for _ in range(2)]


def test_each_caller_gets_its_own_answer(runners: list[Runner]) -> None:
    pool = RunnerPool(runners[0].info, runners)
    batches = [np.full((1, *LANDSCAPE.shape, 3), level, np.uint8) for level in range(0, 250, 10)]
    with ThreadPoolExecutor(4) as callers:
        for batch, alpha in zip(batches, callers.map(pool.run, batches), strict=True):
            np.testing.assert_allclose(alpha, batch[..., 0] / 255, atol=1e-6)
    pool.close()


def test_closing_closes_all(runners: list[Runner]) -> None:
    pool = RunnerPool(runners[0].info, runners)
    pool.close()
    pool.close()
    for runner in (pool, *runners):
        with pytest.raises(EngineFailedError, match="is closed"):
            runner.run(np.zeros((1, *LANDSCAPE.shape, 3), np.uint8))
