"""What every engine must do alike; an engine that is not installed here is skipped with the reason."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.registry import DEFAULT_ENGINE, ENGINES, open_runner, warm_up
from engines.runner import BatchError, EngineFailedError, EngineUnavailableError, Runner
from humanseg.video import read_rgb
from humanseg.vision.letterbox import letterbox
from support.models import LANDSCAPE, UPRIGHT, write_red_model

ROOT = Path(__file__).resolve().parent.parent.parent
MEDIUM = ROOT / "engines" / "models" / "medium.onnx"
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"
MAX_BATCH = 4
#: By how much an alpha may be off: a bfloat16 has 8 bits of mantissa.
TOLERANCE = {"openvino-bf16": 4e-3}


@pytest.fixture(scope="module", params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(engine: str, path: Path) -> Runner:
    try:
        return open_runner(engine, path, max_batch=MAX_BATCH, concurrency=2)
    except EngineUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def runner(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = opened(engine, write_red_model(tmp_path_factory.mktemp("models") / "red.onnx"))
    yield runner
    runner.close()


def tolerance(runner: Runner) -> float:
    return TOLERANCE.get(runner.info.engine, 1e-6)


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *LANDSCAPE.shape, 3), dtype=np.uint8)


def test_it_says_what_it_is(engine: str, runner: Runner) -> None:
    info = runner.info
    assert (info.engine, info.model.name, info.max_batch, info.concurrency) == (engine, "medium", MAX_BATCH, 2)
    assert 1 <= info.preferred_batch <= info.max_batch


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, MAX_BATCH), seed=st.integers(0, 1000))
def test_a_batch_is_its_rows_one_by_one_in_any_order(runner: Runner, count: int, seed: int) -> None:
    batch = pictures(count, seed)
    alphas = runner.run(batch)
    assert alphas.shape == batch.shape[:3]
    assert alphas.dtype == np.float32
    np.testing.assert_allclose(alphas, batch[..., 0] / 255, atol=tolerance(runner))
    order = np.random.default_rng(seed).permutation(count)
    np.testing.assert_array_equal(runner.run(np.ascontiguousarray(batch[order])), alphas[order])
    for row, alpha in zip(batch, alphas, strict=True):
        np.testing.assert_array_equal(runner.run(row[None])[0], alpha)


def test_both_canvases(runner: Runner) -> None:
    for canvas in (LANDSCAPE, UPRIGHT):
        assert runner.run(np.zeros((2, *canvas.shape, 3), np.uint8)).shape == (2, *canvas.shape)
    warm_up(runner)


def test_the_answer_is_the_callers_own(runner: Runner) -> None:
    batch = pictures(2)
    first = runner.run(batch)
    kept = first.copy()
    runner.run(255 - batch)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0.5
    np.testing.assert_array_equal(runner.run(batch), kept)


def test_several_threads_at_once(runner: Runner) -> None:
    batches = [pictures(1 + seed % MAX_BATCH, seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        for batch, alphas in zip(batches, pool.map(runner.run, batches), strict=True):
            np.testing.assert_allclose(alphas, batch[..., 0] / 255, atol=tolerance(runner))


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(np.zeros((0, *LANDSCAPE.shape, 3), np.uint8), id="nothing"),
        pytest.param(np.zeros((MAX_BATCH + 1, *LANDSCAPE.shape, 3), np.uint8), id="too many"),
        pytest.param(np.zeros((*LANDSCAPE.shape, 3), np.uint8), id="no batch dimension"),
        pytest.param(np.zeros((1, LANDSCAPE.height + 1, LANDSCAPE.width, 3), np.uint8), id="another size"),
        pytest.param(np.zeros((1, *LANDSCAPE.shape, 4), np.uint8), id="four channels"),
        pytest.param(np.zeros((1, 3, *LANDSCAPE.shape), np.uint8), id="channels first"),
        pytest.param(np.zeros((1, *LANDSCAPE.shape, 3), np.float32), id="float"),
        pytest.param(np.zeros((1, *UPRIGHT.shape, 3), np.uint8).swapaxes(1, 2), id="not contiguous"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(runner: Runner, batch: NDArray[np.uint8]) -> None:
    with pytest.raises(BatchError, match="batch"):
        runner.run(batch)


@pytest.mark.parametrize(("divisor", "text"), [(0.0, "nan"), (1.0, "values from 0 to 255"), (-255.0, "from -1 to")])
def test_what_is_no_alpha_does_not_pass_for_a_mask(engine: str, tmp_path: Path, divisor: float, text: str) -> None:
    runner = opened(engine, write_red_model(tmp_path / "odd.onnx", divisor=divisor))
    batch = np.zeros((1, *LANDSCAPE.shape, 3), np.uint8)
    batch[0, 0, 0] = 255
    with pytest.raises(EngineFailedError, match=text):
        runner.run(batch)


def test_opening_a_model_leaves_the_arithmetic_of_the_process_alone(runner: Runner) -> None:
    """Denormals as zero is a state of the thread, and would reach everything else that runs on it."""
    runner.run(pictures(1))
    assert np.array([1e-40], np.float32)[0] * np.float32(0.5) > 0


def test_closed_is_closed(engine: str, tmp_path: Path) -> None:
    runner = opened(engine, write_red_model(tmp_path / "red.onnx"))
    runner.close()
    runner.close()
    with pytest.raises(EngineFailedError, match="is closed"):
        runner.run(pictures(1))


@pytest.mark.parametrize("upright", [False, True])
def test_the_shipped_model_gives_the_masks_of_the_default_engine(engine: str, upright: bool) -> None:
    """Parity at every batch size, on real pictures: the bars are 0.002 of mean alpha in float32, 0.01 in bfloat16."""
    one, other = (opened(name, MEDIUM) for name in (DEFAULT_ENGINE, engine))
    canvas = one.info.model.upright if upright else one.info.model.landscape
    frames = [letterbox(picture, canvas)[0] for picture in islice(read_rgb(CLIP), 0, 160, 40)]
    for count in range(1, MAX_BATCH + 1):
        batch = np.stack(frames[:count])
        expected = one.run(batch)
        assert expected.max() > 0.9, "no person in the picture"
        assert np.abs(other.run(batch) - expected).mean() < (0.01 if engine == "openvino-bf16" else 0.002)
    one.close()
    other.close()
