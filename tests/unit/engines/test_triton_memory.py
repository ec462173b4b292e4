"""The Triton runner over shared memory, against a server in this process; over a real Triton's: tests/triton_server."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.remote import RemoteServers
from engines.runner import EngineFailedError, EngineUnavailableError
from engines.triton_memory import RegionPool
from engines.triton_remote import TritonRunner
from humanseg.shared_memory import FOLDER
from support.kserve_server import KserveServer, kserve_server
from support.models import LANDSCAPE, UPRIGHT, write_red_model
from support.timing import limit_s


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_red_model(tmp_path / "medium.onnx")


@pytest.fixture
def server(model: Path) -> Iterator[KserveServer]:
    with kserve_server(model) as running:
        yield running


@contextmanager
def opened(model: Path, server: KserveServer, timeout_s: float = limit_s(20)) -> Iterator[TritonRunner]:
    servers = RemoteServers((server.address,), timeout_s, shared_memory=True)
    runner = TritonRunner(model, max_batch=8, concurrency=2, servers=servers)
    try:
        yield runner
    finally:
        runner.close()


def batch(count: int, seed: int) -> NDArray[np.uint8]:
    canvas = UPRIGHT if seed % 2 else LANDSCAPE
    return np.random.default_rng(seed).integers(0, 256, (count, *canvas.shape, 3), dtype=np.uint8)


def assert_right(runner: TritonRunner, count: int = 1, seed: int = 0) -> None:
    given = batch(count, seed)
    np.testing.assert_allclose(runner.run(given), given[..., 0] / 255, atol=1e-6)


def names_here() -> list[str]:
    """Of regions of this process's that have one."""
    return [path.name for path in FOLDER.glob(f"humanseg-triton-{os.getpid()}-*")]


def test_batches_of_any_size_and_form_go_through_one_region(model: Path, server: KserveServer) -> None:
    with opened(model, server) as runner:
        for seed, count in enumerate((8, 1, 3, 8, 2)):
            assert_right(runner, count, seed)
        assert len(server.regions) == 1
        assert server.raw_bytes == 0, "the messages carry no picture"
        assert names_here() == [], "nothing is left of it whoever is killed"
    assert server.regions == {}, "unregistered at the end"


def test_a_server_that_was_started_again_is_told_anew_and_no_batch_is_lost(model: Path, server: KserveServer) -> None:
    with opened(model, server) as runner:
        assert_right(runner)
        before = set(server.regions)
        server.regions.clear()
        assert_right(runner, 3)
        assert len(server.regions) == 1
        assert not before & set(server.regions)


def test_a_region_is_not_used_again_after_a_call_that_was_given_up(model: Path, server: KserveServer) -> None:
    """The server still writes into it, and another's alphas would lie there."""
    with opened(model, server, timeout_s=limit_s(0.5)) as runner:
        before = set(server.regions)
        server.hold.clear()
        with pytest.raises(EngineFailedError, match="no answer within"):
            runner.run(batch(2, 0))
        server.hold.set()
        assert_right(runner, 2, 4)
        assert not before & set(server.inferred_in[-1:])
        end = time.monotonic() + limit_s(30)
        while len(server.regions) != 1:
            assert time.monotonic() < end, "the server still has the region that was given up"
            time.sleep(0.02)
        assert set(server.regions) == {server.inferred_in[-1]}
    assert server.regions == {}


def test_a_batch_that_the_model_fails_on_harms_no_later_one(model: Path, server: KserveServer) -> None:
    with opened(model, server) as runner:
        server.faults.append(grpc.StatusCode.INTERNAL)
        with pytest.raises(EngineFailedError, match="made up INTERNAL"):
            runner.run(batch(2, 0))
        assert_right(runner, 2)


def test_an_answer_outside_of_the_region_is_refused(model: Path, server: KserveServer) -> None:
    with opened(model, server) as runner:
        server.answers_in_memory = False
        with pytest.raises(EngineFailedError, match="expected alpha FP32"):
            runner.run(batch(1, 0))


def test_a_server_that_cannot_open_the_region_is_named_with_what_to_do(model: Path, server: KserveServer) -> None:
    server.opens_regions = False
    with pytest.raises(EngineUnavailableError) as caught, opened(model, server):
        pass
    assert f"Triton at {server.address} refused SystemSharedMemoryRegisterRequest" in str(caught.value)
    assert "must run on this host with the same /dev/shm" in str(caught.value)
    assert "leave out --triton-shared-memory" in str(caught.value)
    assert names_here() == []


def test_what_one_left_that_was_killed_before_the_server_had_it_is_taken_away(
    model: Path, server: KserveServer
) -> None:
    remains = FOLDER / f"humanseg-triton-{os.getpid()}-remains"
    remains.touch(0o600)
    try:
        os.utime(remains, (0, 0))
        with opened(model, server):
            assert names_here() == []
    finally:
        remains.unlink(missing_ok=True)


def test_no_room_for_a_region_is_the_engines_fault_and_leaves_nothing() -> None:
    pool = RegionPool(1 << 50, 4)
    with pytest.raises(EngineFailedError, match=r"no shared memory .* give the container a larger /dev/shm"):
        pool.make()
    assert names_here() == []


def test_what_is_given_back_after_the_end_is_retired() -> None:
    pool = RegionPool(16, 16)
    region = pool.make()
    pool.close()
    pool.give_back(region)
    assert pool.take() is None
    assert pool.retired() == [region.name]
    pool.forget(region.name)
    assert pool.retired() == []
