"""What every engine must do alike; an engine that is not installed here is skipped with the reason.

Every name in the registry is tested. No NaN can come in, since batches are uint8 and floats are refused, NaN or not;
that none goes out is tested. Photos are frames of the committed clip.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines import build
from engines.plan import PlanMissingError
from engines.registry import DEFAULT_ENGINE, ENGINES, open_runner, warm_up
from engines.runner import BatchError, EngineFailedError, EngineUnavailableError, Runner
from humanseg.video import read_rgb
from humanseg.vision.letterbox import letterbox
from support.models import LANDSCAPE, UPRIGHT, write_red_model
from support.triton import running_triton_with, why_no_triton

ROOT = Path(__file__).resolve().parent.parent.parent
MEDIUM = ROOT / "engines" / "models" / "medium.onnx"
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"
#: Above 8: other people's engines were wrong at 8 and more alone (TensorRT issues 3689, 1912).
MAX_BATCH = 10
CONCURRENCY = 2


@dataclass(frozen=True)
class Bars:
    """How far the alphas of an engine may be off."""

    largest: float
    """From the model's formula, where there is one."""
    parity: float
    """Mean of a frame, from the default engine."""
    rows: float
    """Mean of a frame, from the same frame in another batch: kernels may differ, what the others show may not count."""


FLOAT32 = Bars(largest=1e-6, parity=0.002, rows=1e-4)
#: A bfloat16 has 8 bits of mantissa.
HALF = Bars(largest=4e-3, parity=0.01, rows=1e-3)
#: Engines that compute in less than float32.
BARS = {"openvino-bf16": HALF, "tensorrt": HALF, "tensorrt-rtx": HALF}


def why_not_here(engine: str) -> str | None:
    """What an engine lacks on this machine; None: it runs."""
    if ENGINES[engine].is_remote:
        return why_no_triton()
    with TemporaryDirectory() as folder:
        try:
            model = write_red_model(Path(folder) / "red.onnx")
            open_runner(engine, model, max_batch=1, concurrency=1, plans=Path(folder)).close()
        except EngineUnavailableError as error:
            return str(error)
        except PlanMissingError:
            return None
    return None


#: Asked once: each question to a driver is a process of its own.
LACKING = {engine: why_not_here(engine) for engine in sorted(ENGINES)}


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_the_engine_is_tested_here(engine: str) -> None:
    """One line in the report for each engine that is not."""
    if LACKING[engine] is not None:
        pytest.skip(str(LACKING[engine]))


#: By name: the engine, and whether it shares memory with the servers that run the models for it.
CASES = {engine: (engine, False) for engine, lacking in LACKING.items() if lacking is None}
CASES |= {f"{engine}-shared-memory": (engine, True) for engine in CASES if ENGINES[engine].is_remote}


class Servers(ExitStack):
    """What was started for engines that leave the models to others."""

    def __init__(self, *, shared_memory: bool) -> None:
        super().__init__()
        self.shared_memory = shared_memory


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(case: str) -> str:
    return CASES[case][0]


@pytest.fixture(scope="module")
def servers(case: str) -> Iterator[Servers]:
    """They end with the tests of the engine."""
    with Servers(shared_memory=CASES[case][1]) as started:
        yield started


def opened(engine: str, path: Path, factory: pytest.TempPathFactory, servers: Servers) -> Runner:
    """Open a model; before it, build it or start a server that has it, for an engine that runs what others made."""
    if ENGINES[engine].is_remote:
        triton = servers.enter_context(running_triton_with(path, "--max-batch", str(MAX_BATCH)))
        reached = replace(triton.servers, shared_memory=servers.shared_memory)
        return open_runner(engine, path, max_batch=MAX_BATCH, concurrency=CONCURRENCY, servers=reached)
    plans = factory.mktemp("plans")
    try:
        return open_runner(engine, path, max_batch=MAX_BATCH, concurrency=CONCURRENCY, plans=plans)
    except PlanMissingError:
        precision = "fp32" if engine.endswith("-fp32") else "fp16"
        flavor = "tensorrt-rtx" if engine.startswith("tensorrt-rtx") else "tensorrt"
        flags = ["--model", path.stem, "--models", str(path.parent), "--max-batch", str(MAX_BATCH)]
        assert build.main([*flags, "--flavor", flavor, "--precision", precision, "--cache", str(plans)]) == 0
        return open_runner(engine, path, max_batch=MAX_BATCH, concurrency=CONCURRENCY, plans=plans)


@pytest.fixture(scope="module")
def bars(engine: str) -> Bars:
    return BARS.get(engine, FLOAT32)


@pytest.fixture(scope="module")
def runner(engine: str, tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[Runner]:
    runner = opened(engine, write_red_model(tmp_path_factory.mktemp("models") / "red.onnx"), tmp_path_factory, servers)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def medium(engine: str, tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[Runner]:
    runner = opened(engine, MEDIUM, tmp_path_factory, servers)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def photos() -> dict[bool, NDArray[np.uint8]]:
    """By whether upright: (MAX_BATCH, H, W, 3) uint8, every other one mirrored so that no two have the same mask."""
    pictures = [*islice(read_rgb(CLIP), 0, 18 * MAX_BATCH, 18)]
    model = open_default()
    canvases = {False: model.info.model.landscape, True: model.info.model.upright}
    return {
        upright: np.stack([
            letterbox(picture[:, :: -1 if index % 2 else 1], canvas)[0] for index, picture in enumerate(pictures)
        ])
        for upright, canvas in canvases.items()
    }  # fmt: skip


@pytest.fixture(scope="module")
def expected(photos: dict[bool, NDArray[np.uint8]]) -> dict[bool, NDArray[np.float32]]:
    """What the default engine answers to each photo alone."""
    model = open_default()
    return {upright: np.concatenate([model.run(photo[None]) for photo in batch]) for upright, batch in photos.items()}


def open_default() -> Runner:
    return open_runner(DEFAULT_ENGINE, MEDIUM, max_batch=1, concurrency=1)


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *LANDSCAPE.shape, 3), dtype=np.uint8)


def apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean absolute difference of the frame that differs most: a wrong one is not lost among those that are right."""
    assert one.shape == other.shape
    return float(np.abs(one - other).mean(axis=(1, 2)).max())


def test_it_says_what_it_is(engine: str, runner: Runner) -> None:
    info = runner.info
    assert (info.engine, info.model.name, info.max_batch, info.concurrency) == (
        engine, "medium", MAX_BATCH, CONCURRENCY
    )  # fmt: skip
    assert 1 <= info.preferred_batch <= info.max_batch


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, MAX_BATCH), seed=st.integers(0, 1000))
def test_a_batch_is_its_rows_one_by_one_in_any_order(runner: Runner, bars: Bars, count: int, seed: int) -> None:
    batch = pictures(count, seed)
    alphas = runner.run(batch)
    assert alphas.shape == batch.shape[:3]
    assert alphas.dtype == np.float32
    np.testing.assert_allclose(alphas, batch[..., 0] / 255, atol=bars.largest)
    order = np.random.default_rng(seed).permutation(count)
    np.testing.assert_array_equal(runner.run(np.ascontiguousarray(batch[order])), alphas[order])
    for row, alpha in zip(batch, alphas, strict=True):
        np.testing.assert_array_equal(runner.run(row[None])[0], alpha)


def test_both_canvases_at_the_smallest_and_the_largest_batch(runner: Runner) -> None:
    for canvas in (LANDSCAPE, UPRIGHT):
        for count in (1, MAX_BATCH):
            assert runner.run(np.zeros((count, *canvas.shape, 3), np.uint8)).shape == (count, *canvas.shape)
    warm_up(runner)


def test_the_answer_is_the_callers_own(runner: Runner) -> None:
    batch = pictures(2)
    first = runner.run(batch)
    kept = first.copy()
    runner.run(255 - batch)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0.5
    np.testing.assert_array_equal(runner.run(batch), kept)


def test_the_batch_stays_as_it_is(runner: Runner) -> None:
    batch = pictures(3)
    kept = batch.copy()
    runner.run(batch)
    np.testing.assert_array_equal(batch, kept)
    batch.flags.writeable = False
    np.testing.assert_array_equal(runner.run(batch), runner.run(kept))


def test_more_threads_at_once_than_it_was_opened_for(runner: Runner, bars: Bars) -> None:
    batches = [pictures(1 + seed % MAX_BATCH, seed) for seed in range(24)]
    with ThreadPoolExecutor(4 * CONCURRENCY) as pool:
        for batch, alphas in zip(batches, pool.map(runner.run, batches), strict=True):
            np.testing.assert_allclose(alphas, batch[..., 0] / 255, atol=bars.largest)


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(np.zeros((0, *LANDSCAPE.shape, 3), np.uint8), id="nothing"),
        pytest.param(np.zeros((MAX_BATCH + 1, *LANDSCAPE.shape, 3), np.uint8), id="too many"),
        pytest.param(np.zeros((*LANDSCAPE.shape, 3), np.uint8), id="no batch dimension"),
        pytest.param(np.zeros((1, LANDSCAPE.height + 1, LANDSCAPE.width, 3), np.uint8), id="another size"),
        pytest.param(np.zeros((1, *LANDSCAPE.shape, 4), np.uint8), id="four channels"),
        pytest.param(np.zeros((1, 3, *LANDSCAPE.shape), np.uint8), id="channels first"),
        pytest.param(np.zeros((1, *UPRIGHT.shape, 3), np.uint8).swapaxes(1, 2), id="not contiguous"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(runner: Runner, batch: NDArray[np.uint8]) -> None:
    with pytest.raises(BatchError, match="batch"):
        runner.run(batch)


@pytest.mark.parametrize("dtype", ["int8", "bool", "uint16", "int64", "float16", "float32", "float64"])
def test_another_dtype_is_refused_and_not_converted(runner: Runner, dtype: str) -> None:
    with pytest.raises(BatchError, match=rf"batch of {dtype} .* expected .* uint8"):
        runner.run(np.zeros((1, *LANDSCAPE.shape, 3), dtype))  # type: ignore[arg-type]


@pytest.mark.parametrize(("divisor", "text"), [(0.0, "nan"), (1.0, "values from 0 to 255"), (-255.0, "from -1 to")])
def test_what_is_no_alpha_does_not_pass_for_a_mask(
    engine: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    servers: Servers,
    divisor: float,
    text: str,
) -> None:
    if ENGINES[engine].takes_plans:
        pytest.skip("the builder may refuse such a model")
    runner = opened(engine, write_red_model(tmp_path / "odd.onnx", divisor=divisor), tmp_path_factory, servers)
    batch = np.zeros((1, *LANDSCAPE.shape, 3), np.uint8)
    batch[0, 0, 0] = 255
    with pytest.raises(EngineFailedError, match=text):
        runner.run(batch)


def test_opening_a_model_leaves_the_arithmetic_of_the_process_alone(runner: Runner) -> None:
    """Denormals as zero is a state of the thread, and would reach everything else that runs on it."""
    runner.run(pictures(1))
    assert np.array([1e-40], np.float32)[0] * np.float32(0.5) > 0


def test_closed_is_closed(
    engine: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, servers: Servers
) -> None:
    runner = opened(engine, write_red_model(tmp_path / "red.onnx"), tmp_path_factory, servers)
    runner.close()
    runner.close()
    with pytest.raises(EngineFailedError, match="is closed"):
        runner.run(pictures(1))


def test_closing_while_others_run(
    engine: str, bars: Bars, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, servers: Servers
) -> None:
    """What is under way ends with its mask, what comes later with the one error; nothing hangs, nothing dies."""
    runner = opened(engine, write_red_model(tmp_path / "red.onnx"), tmp_path_factory, servers)
    batch = pictures(MAX_BATCH)

    def run_until_closed() -> int:
        for answered in range(10_000):
            try:
                alphas = runner.run(batch)
            except EngineFailedError as error:
                assert "is closed" in str(error)
                return answered
            np.testing.assert_allclose(alphas, batch[..., 0] / 255, atol=bars.largest)
        raise AssertionError("still answers after close")

    with ThreadPoolExecutor(2 * CONCURRENCY) as pool:
        running = [pool.submit(run_until_closed) for _ in range(2 * CONCURRENCY)]
        runner.run(batch)
        runner.close()
        runner.close()
        for one in running:
            one.result()


def test_the_photos_can_tell_rows_apart(expected: dict[bool, NDArray[np.float32]]) -> None:
    """The tests below would prove little with masks that resemble each other, or are empty."""
    for alphas in expected.values():
        for index, alpha in enumerate(alphas):
            assert alpha.max() > 0.9, "no person in the picture"
            if index:
                assert np.abs(alpha - alphas[index - 1]).mean() > 2 * HALF.parity


@pytest.mark.parametrize("upright", [False, True], ids=["landscape", "upright"])
def test_the_shipped_model_gives_the_masks_of_the_default_engine_at_every_batch_size(
    medium: Runner,
    bars: Bars,
    upright: bool,
    photos: dict[bool, NDArray[np.uint8]],
    expected: dict[bool, NDArray[np.float32]],
) -> None:
    """The bars are 0.002 of mean alpha in float32, 0.01 in bfloat16 and float16."""
    for count in range(1, MAX_BATCH + 1):
        assert apart(medium.run(photos[upright][:count]), expected[upright][:count]) < bars.parity, f"batch of {count}"


def test_a_frame_has_its_mask_whoever_came_with_it(
    medium: Runner, bars: Bars, photos: dict[bool, NDArray[np.uint8]]
) -> None:
    """The shipped model: a batch of N is N of one, shuffled it is the same shuffled, and equal rows are equal."""
    batch = photos[False]
    together = medium.run(batch)
    alone = np.concatenate([medium.run(photo[None]) for photo in batch])
    assert apart(together, alone) < bars.rows
    order = np.random.default_rng(0).permutation(MAX_BATCH)
    assert apart(medium.run(np.ascontiguousarray(batch[order])), together[order]) < bars.rows
    equal = medium.run(np.repeat(batch[:1], MAX_BATCH, axis=0))
    assert apart(equal, np.repeat(alone[:1], MAX_BATCH, axis=0)) < bars.rows


def test_the_shipped_model_on_many_threads(
    medium: Runner, bars: Bars, photos: dict[bool, NDArray[np.uint8]], expected: dict[bool, NDArray[np.float32]]
) -> None:
    """Both canvases and several batch sizes at once."""
    jobs = [(index % 2 == 1, index % 3, index % 3 + 1 + index % 4) for index in range(16)]
    with ThreadPoolExecutor(4 * CONCURRENCY) as pool:
        answers = pool.map(lambda job: medium.run(photos[job[0]][job[1] : job[2]]), jobs)
        for (upright, first, end), alphas in zip(jobs, answers, strict=True):
            assert apart(alphas, expected[upright][first:end]) < bars.parity
