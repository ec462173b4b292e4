"""The Triton runner against a server in this process: retries, time limits, breaker, what it refuses at the start."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.breaker import FAILURES_TO_OPEN
from engines.registry import DEFAULT_ENGINE, open_runner
from engines.remote import RemoteServers
from engines.runner import EngineFailedError, EngineUnavailableError
from engines.triton_remote import TritonRunner
from support.kserve_server import KserveServer, kserve_server
from support.models import LANDSCAPE, write_red_model
from support.timing import limit_s

#: Long enough to be no matter where a test is not about it.
AMPLE_S = limit_s(20)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_red_model(tmp_path / "medium.onnx")


@pytest.fixture
def server(model: Path) -> Iterator[KserveServer]:
    with kserve_server(model) as running:
        yield running


@contextmanager
def opened(model: Path, *servers: KserveServer | str, timeout_s: float = AMPLE_S) -> Iterator[TritonRunner]:
    addresses = tuple(one if isinstance(one, str) else one.address for one in servers)
    runner = TritonRunner(model, max_batch=8, concurrency=2, servers=RemoteServers(addresses, timeout_s))
    try:
        yield runner
    finally:
        runner.close()


def batch(count: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *LANDSCAPE.shape, 3), dtype=np.uint8)


def right(runner: TritonRunner, count: int = 1) -> None:
    given = batch(count)
    np.testing.assert_allclose(runner.run(given), given[..., 0] / 255, atol=1e-6)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + limit_s(30)
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def free_address() -> str:
    """One that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_it_gives_the_masks_of_the_local_engine(model: Path, server: KserveServer) -> None:
    local = open_runner(DEFAULT_ENGINE, model, max_batch=8, concurrency=1)
    servers = RemoteServers((server.address,), AMPLE_S)
    runner = open_runner("triton", model, max_batch=8, concurrency=1, servers=servers)
    for count in (1, 3, 8):
        np.testing.assert_allclose(runner.run(batch(count)), local.run(batch(count)), atol=1e-6)
    runner.run(batch())[:] = 0.5  # the caller's own
    assert runner.info.engine == "triton"
    assert runner.info.device == f"triton 0.0.0 at {server.address}"
    runner.close()


def test_a_failed_connection_is_tried_on_the_other_server(model: Path, server: KserveServer) -> None:
    with kserve_server(model) as other, opened(model, server, other) as runner:
        other.inferred.clear()
        server.faults = [UNAVAILABLE]
        right(runner, 3)
        assert other.inferred == [3]
        right(runner, 2)
        assert server.inferred[-1] == 2, "one failure does not shut a server out"


def test_each_server_is_tried_once_and_both_are_named(model: Path, server: KserveServer) -> None:
    with kserve_server(model) as other, opened(model, server, other) as runner:
        server.faults, other.faults = [UNAVAILABLE], [UNAVAILABLE]
        with pytest.raises(EngineFailedError, match="no Triton server ran model medium") as caught:
            runner.run(batch())
        for one in (server, other):
            assert f"{one.address}: UNAVAILABLE: made up UNAVAILABLE" in str(caught.value)
        right(runner)


def test_a_fault_of_the_batch_is_not_tried_elsewhere_nor_held_against_the_server(
    model: Path, server: KserveServer
) -> None:
    """A picture that the model cannot take must not shut everybody out of every server."""
    with kserve_server(model) as other, opened(model, server, other) as runner:
        other.inferred.clear()
        server.faults = [grpc.StatusCode.INTERNAL] * (2 * FAILURES_TO_OPEN)
        for _ in range(2 * FAILURES_TO_OPEN):
            with pytest.raises(EngineFailedError, match="INTERNAL: made up INTERNAL"):
                runner.run(batch())
        assert not other.inferred
        right(runner)
        assert not other.inferred


def test_a_server_that_does_not_answer_costs_its_time_limit_and_no_more(model: Path, server: KserveServer) -> None:
    with opened(model, server, timeout_s=0.2) as runner:
        server.hold.clear()
        with pytest.raises(EngineFailedError, match=rf"{server.address}: no answer within 0\.\d+ s"):
            runner.run(batch())
        server.hold.set()
        wait_until(lambda: runner.lacking() is None)
        right(runner)


def test_failures_in_a_row_open_the_breaker_and_a_probe_closes_it(model: Path, server: KserveServer) -> None:
    with opened(model, server) as runner:
        server.faults = [UNAVAILABLE] * FAILURES_TO_OPEN
        for _ in range(FAILURES_TO_OPEN):
            with pytest.raises(EngineFailedError):
                runner.run(batch())
        asked = len(server.inferred)
        server.hold.clear()  # the probe waits
        with pytest.raises(EngineFailedError, match="made up UNAVAILABLE"):
            runner.run(batch())
        assert "made up UNAVAILABLE" in (runner.lacking() or "")
        wait_until(lambda: len(server.inferred) == asked + 1)
        for _ in range(3):  # half-open: nothing but the probe goes there
            with pytest.raises(EngineFailedError):
                runner.run(batch())
        assert len(server.inferred) == asked + 1
        server.hold.set()
        wait_until(lambda: runner.lacking() is None)
        right(runner)


def test_a_server_that_is_gone_is_found_and_found_back_without_a_call(model: Path, server: KserveServer) -> None:
    with opened(model, server) as runner:
        server.stop()
        wait_until(lambda: runner.lacking() is not None)
        assert f"no Triton server runs model medium: {server.address}: " in (runner.lacking() or "")
        server.start()
        wait_until(lambda: runner.lacking() is None)
        right(runner)


def test_a_server_that_lost_the_model_is_left_alone(model: Path, server: KserveServer) -> None:
    with opened(model, server) as runner:
        server.is_ready = False
        wait_until(lambda: "is not ready" in (runner.lacking() or ""))
        server.is_ready = True
        wait_until(lambda: runner.lacking() is None)


def test_a_server_that_comes_back_with_another_version_stays_out(model: Path, server: KserveServer) -> None:
    with opened(model, server) as runner:
        ours, server.version = server.version, "7"
        wait_until(lambda: "in version 7, and the model file here is version" in (runner.lacking() or ""))
        with pytest.raises(EngineFailedError, match="in version 7"):
            runner.run(batch())
        server.version = ours
        wait_until(lambda: runner.lacking() is None)
        right(runner)


def test_batches_go_where_the_fewest_are_under_way(model: Path, server: KserveServer) -> None:
    with kserve_server(model) as other, opened(model, server, other) as runner, ThreadPoolExecutor(4) as pool:
        for one in (server, other):
            one.inferred.clear()
            one.hold.clear()
        running = [pool.submit(right, runner) for _ in range(4)]
        wait_until(lambda: len(server.inferred) + len(other.inferred) == 4)
        assert (len(server.inferred), len(other.inferred)) == (2, 2)
        server.hold.set()
        other.hold.set()
        for one in running:
            one.result()


def test_one_server_is_enough_to_start_and_the_other_joins(model: Path, server: KserveServer) -> None:
    late = KserveServer(model)
    late.port = int(free_address().rpartition(":")[2])
    with opened(model, late.address, server) as runner:
        assert runner.lacking() is None
        right(runner)
        late.start()
        try:
            wait_until(lambda: bool(late.inferred))  # the probe
            server.stop()
            wait_until(lambda: runner.lacking() is None)
            right(runner)
            assert late.inferred[-1] == 1
        finally:
            late.stop()


def test_no_server_at_the_start_is_refused_by_name(model: Path) -> None:
    addresses = [free_address(), free_address()]
    with (
        ExitStack() as stack,
        pytest.raises(EngineUnavailableError, match="no Triton server runs model medium") as caught,
    ):
        stack.enter_context(opened(model, *addresses))
    for address in addresses:
        assert f"Triton at {address} cannot serve medium (UNAVAILABLE" in str(caught.value)
    assert "start it, or set --triton" in str(caught.value)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("triton-")]


def refused(model: Path, server: KserveServer) -> str:
    with pytest.raises(EngineUnavailableError) as caught, opened(model, server):
        pass
    return str(caught.value)


def test_another_version_there_is_refused_with_both_and_the_mend(tmp_path: Path, server: KserveServer) -> None:
    ours = write_red_model(tmp_path / "ours.onnx", divisor=254.0)
    text = refused(ours, server)
    assert f"has medium-{LANDSCAPE} in version {server.version}, and the model file here is version" in text
    assert "write its repository with `python -m engines.repository`" in text
    assert not server.inferred


def test_a_version_of_the_same_number_from_another_file_is_refused(model: Path, server: KserveServer) -> None:
    for config in server.configs.values():
        config.parameters["humanseg.onnx_sha256"].string_value = "ab" * 32
    assert f"was made from the file with SHA-256 {'ab' * 32}, and the model file here has" in refused(model, server)
    for config in server.configs.values():
        del config.parameters["humanseg.onnx_sha256"]
    assert "with SHA-256 none" in refused(model, server)


def test_a_server_without_the_model_names_what_it_has(tmp_path: Path, server: KserveServer) -> None:
    small = write_red_model(tmp_path / "small.onnx", name="small")
    assert f"has no model small-{LANDSCAPE}; it has medium-" in refused(small, server)


def test_a_model_that_is_served_in_another_way_is_refused(model: Path, server: KserveServer) -> None:
    for config in server.configs.values():
        config.max_batch_size = 4
    assert "takes batches up to 4, and up to 8 may be sent; lower --max-batch" in refused(model, server)
    for config in server.configs.values():
        config.max_batch_size = 8
        config.input[0].dims[:] = [3, *config.output[0].dims]
    assert "expected [('frames'" in refused(model, server)


@pytest.mark.parametrize("answer_bytes", [0, 4, 4 * LANDSCAPE.area_px - 1])
def test_half_an_answer_is_no_mask(model: Path, server: KserveServer, answer_bytes: int) -> None:
    with opened(model, server) as runner:
        server.answer_bytes = answer_bytes
        with pytest.raises(EngineFailedError, match=rf"in \[{answer_bytes}\] bytes to medium-"):
            runner.run(batch())


def test_servers_and_engines_that_do_not_belong_together(model: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"engine triton needs servers .* --triton HOST:PORT"):
        open_runner("triton", model, max_batch=1, concurrency=1)
    with pytest.raises(EngineUnavailableError, match=r"runs models itself, and servers were named; .* take triton"):
        open_runner(DEFAULT_ENGINE, model, max_batch=1, concurrency=1, servers=RemoteServers(("a:1",), 1.0))
