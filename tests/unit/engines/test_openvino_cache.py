"""OpenVINO with a cache: the same masks from compiled models, and nothing stale after a change of any kind."""

from pathlib import Path

import numpy as np
import pytest

from engines.blob_cache import CacheError
from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import EngineUnavailableError, Runner
from support.models import LANDSCAPE, UPRIGHT, write_red_model

BATCH = np.random.default_rng(0).integers(0, 256, (2, *LANDSCAPE.shape, 3), dtype=np.uint8)


def opened(path: Path, cache: Path, *, engine: str = "openvino-f32", concurrency: int = 1) -> Runner:
    return open_runner(engine, path, max_batch=2, concurrency=concurrency, cache=cache)


def files(cache: Path) -> dict[Path, int]:
    """Name and time of writing: a second start must not write."""
    return {path: path.stat().st_mtime_ns for path in cache.iterdir()}


def test_the_second_start_reads_what_the_first_compiled(tmp_path: Path) -> None:
    model, cache = write_red_model(tmp_path / "m.onnx"), tmp_path / "cache"
    first = opened(model, cache).run(BATCH)
    written = files(cache)
    assert len(written) == len({LANDSCAPE, UPRIGHT})
    again = opened(model, cache)
    np.testing.assert_array_equal(again.run(BATCH), first)
    assert again.run(np.zeros((1, *UPRIGHT.shape, 3), np.uint8)).shape == (1, *UPRIGHT.shape)
    assert files(cache) == written


def test_what_is_cached_is_what_runs(tmp_path: Path) -> None:
    """The test above would pass with a cache that is written and never read."""
    model, cache = write_red_model(tmp_path / "m.onnx"), tmp_path / "cache"
    opened(model, cache)
    (tmp_path / "other").mkdir()
    other = write_red_model(tmp_path / "other" / "m.onnx", divisor=510.0)
    other_cache = tmp_path / "other cache"
    opened(other, other_cache)
    # The compiled models of the other one under the names of this one: alphas are halved if they are taken.
    for mine, theirs in zip(in_order_of_writing(cache), in_order_of_writing(other_cache), strict=True):
        mine.write_bytes(theirs.read_bytes())
    np.testing.assert_allclose(opened(model, cache).run(BATCH), BATCH[..., 0] / 510, atol=1e-6)


def in_order_of_writing(cache: Path) -> list[Path]:
    return sorted(cache.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def test_a_changed_model_under_the_same_name_is_compiled_anew(tmp_path: Path) -> None:
    model, cache = write_red_model(tmp_path / "m.onnx"), tmp_path / "cache"
    opened(model, cache)
    write_red_model(model, divisor=510.0)
    np.testing.assert_allclose(opened(model, cache).run(BATCH), BATCH[..., 0] / 510, atol=1e-6)


def test_another_number_of_threads_is_compiled_anew(tmp_path: Path) -> None:
    model, cache = write_red_model(tmp_path / "m.onnx"), tmp_path / "cache"
    opened(model, cache)
    assert opened(model, cache, concurrency=2).info.concurrency == 2
    assert len(files(cache)) == 2 * len({LANDSCAPE, UPRIGHT})


def test_another_precision_is_compiled_anew(tmp_path: Path) -> None:
    model, cache = write_red_model(tmp_path / "m.onnx"), tmp_path / "cache"
    opened(model, cache)
    try:
        opened(model, cache, engine="openvino-bf16")
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    assert len(files(cache)) == 2 * len({LANDSCAPE, UPRIGHT})


def test_a_damaged_file_is_compiled_anew(tmp_path: Path) -> None:
    model, cache = write_red_model(tmp_path / "m.onnx"), tmp_path / "cache"
    opened(model, cache)
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    np.testing.assert_allclose(opened(model, cache).run(BATCH), BATCH[..., 0] / 255, atol=1e-6)
    written = files(cache)
    opened(model, cache)
    assert files(cache) == written


def test_a_cache_that_cannot_be_written_keeps_the_engine_from_opening(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot be written: Not a directory"):
        opened(write_red_model(tmp_path / "m.onnx"), tmp_path / "file" / "cache")


def test_a_cache_for_an_engine_that_keeps_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        EngineUnavailableError, match=r"keeps nothing.*leave it out, or take openvino-bf16, openvino-f32"
    ):
        opened(write_red_model(tmp_path / "m.onnx"), tmp_path / "cache", engine=DEFAULT_ENGINE)
    assert not (tmp_path / "cache").exists()
