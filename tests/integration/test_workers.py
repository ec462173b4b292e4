"""Several server processes behind one port: dealt out, counted together, killed, restarted, drained, none left."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from prometheus_client import generate_latest

from humanseg.answers import MaskAnswer
from humanseg.client import SegmentationClient
from humanseg.errors import SegmentationError
from humanseg.session_config import SessionConfig
from humanseg.stream import SegmentationStream
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size
from service.metrics import MetricsEndpoint, ServiceMetrics, SupervisorMetrics
from support.models import write_red_model
from support.server import RunningServer, running_server
from support.stream import Stream, open_stream
from support.timing import limit_s

W, H = 160, 96
LEVEL = 90
PICTURE = np.full((H, W, 3), LEVEL, np.uint8)
CONFIG = {"width": W, "height": H, "pixel_format": pb.PIXEL_FORMAT_RGB24}


@pytest.fixture
def server(models_folder: Path) -> Iterator[RunningServer]:
    with running_server(models_folder, "--workers", "2", "--runners", "2", "--drain-s", "5") as running:
        yield running


def workers(server: RunningServer) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def shared_memory() -> set[Path]:
    return set(Path("/dev/shm").iterdir())


async def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them end by themselves within the time limit."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, limit_s(20))
    return not alive


async def open_on_both(server: RunningServer, stack: AsyncExitStack) -> list[Stream]:
    """Streams, each answered once, until both workers have one: the kernel deals them out as it likes."""
    streams: list[Stream] = []
    while min(server.metric("humanseg_sessions_active", worker=str(index)) for index in range(2)) == 0:
        assert len(streams) < 40, "one worker gets everything"
        streams.append(await stack.enter_async_context(open_stream(server.target)))
        await streams[-1].config(**CONFIG)
        await streams[-1].send(1, PICTURE.tobytes())
        assert set((await streams[-1].result()).mask) == {LEVEL}
    return streams


async def test_both_serve_one_is_killed_and_its_sessions_find_the_other(server: RunningServer) -> None:
    async with AsyncExitStack() as stack:
        streams = await open_on_both(server, stack)
        assert server.metric("humanseg_sessions_active") == len(streams)
        assert server.metric("humanseg_frames_total", outcome="mask") == len(streams)
        assert (server.metric("humanseg_workers_ready"), server.metric("humanseg_ready")) == (2, 2)
        processes = workers(server)
        assert len(processes) == 2

        async with SegmentationClient(server.target) as client:
            config = SessionConfig(size=Size(W, H))
            reconnects = 0
            stream = await stack.enter_async_context(client.stream(config))
            for number in range(3):
                if number == 1:
                    # Whichever has our stream: both die, one after the other.
                    for process in processes:
                        process.kill()
                        await asyncio.to_thread(process.wait)
                try:
                    await stream.send(PICTURE)
                    answer = await anext(stream)
                except SegmentationError as error:
                    assert error.retryable, error
                    stream = await reopened(client, config, stack)
                    reconnects += 1
                    await stream.send(PICTURE)
                    answer = await anext(stream)
                assert isinstance(answer, MaskAnswer)
                assert set(answer.alpha8.ravel()) == {LEVEL}
            assert reconnects == 1
            # The dead ones' streams are not counted any more, although nobody could take them out.
            server.wait_for_metric(2, "humanseg_workers_ready")
            assert server.metric("humanseg_sessions_active") == 1
        assert {await stream.call.code() for stream in streams} == {grpc.StatusCode.UNAVAILABLE}
    assert server.metric("humanseg_worker_restarts_total") == 2
    assert len(workers(server)) == 2
    assert not {process.pid for process in processes} & {process.pid for process in workers(server)}
    assert "event=worker_ended worker=0 status=-9" in server.log()
    assert "event=worker_ended worker=1 status=-9" in server.log()


async def reopened(client: SegmentationClient, config: SessionConfig, stack: AsyncExitStack) -> SegmentationStream:
    """A new stream, tried again as long as the error says that this may help."""
    async with asyncio.timeout(limit_s(30)):
        while True:
            try:
                return await stack.enter_async_context(client.stream(config))
            except SegmentationError as error:
                assert error.retryable, error
                await asyncio.sleep(error.retry_after_s or 0.2)


async def test_sigterm_drains_all_of_them_and_leaves_nothing_behind(server: RunningServer) -> None:
    before = shared_memory()
    processes = workers(server)
    async with AsyncExitStack() as stack:
        streams = await open_on_both(server, stack)
        server.terminate()
        for stream in streams:
            assert (await stream.read()).notice.reason == pb.NOTICE_REASON_DRAINING
            await stream.send(2, PICTURE.tobytes())
            assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
            assert await stream.finish() == []
            assert await stream.call.code() == grpc.StatusCode.OK
    assert await asyncio.to_thread(server.wait) == 0
    assert await gone(processes)
    assert "event=workers_stopped clean=True" in server.log()
    assert "Traceback" not in server.log()
    assert shared_memory() <= before
    with socket.create_server(("127.0.0.1", server.port)):
        pass  # the port is free again


async def test_workers_whose_supervisor_is_killed_drain_and_end(server: RunningServer) -> None:
    processes = workers(server)
    async with open_stream(server.target) as stream:
        await stream.config(**CONFIG)
        server.process.send_signal(signal.SIGKILL)
        assert (await stream.read()).notice.reason == pb.NOTICE_REASON_DRAINING
        await stream.send(1, PICTURE.tobytes())
        assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
        await stream.finish()
    assert await gone(processes), "orphans"


def test_a_worker_that_cannot_be_asked_does_not_spoil_the_page() -> None:
    """One answers, one is gone, one takes the connection and says nothing, one was never ready."""
    metrics, alive = SupervisorMetrics(4), ServiceMetrics()
    alive.sessions_active.set(3)
    alive.frame_dropped("LATE")
    with MetricsEndpoint(alive, "127.0.0.1", 0) as endpoint, socket.create_server(("127.0.0.1", 0)) as deaf:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            gone_port = gone.getsockname()[1]
        for index, port in enumerate((endpoint.port, gone_port, deaf.getsockname()[1])):
            metrics.worker_is_ready(index, port)
        page = generate_latest(metrics.registry).decode()
    lines = set(page.splitlines())
    assert {
        f'humanseg_worker_up{{worker="{index}"}} {up}' for index, up in enumerate(("1.0", "0.0", "0.0", "0.0"))
    } <= lines
    assert 'humanseg_sessions_active{worker="0"} 3.0' in lines
    assert 'humanseg_frames_total{outcome="dropped",reason="late",worker="0"} 1.0' in lines
    assert "# TYPE humanseg_frames_total counter" in lines
    assert not [line for line in lines if 'worker="1"' in line and not line.startswith("humanseg_worker_up")]
    assert "humanseg_workers_ready 3.0" in lines


def test_a_second_server_on_the_port_is_refused(server: RunningServer, models_folder: Path) -> None:
    flags = ("--workers", "2", "--port", str(server.port))
    with pytest.raises(AssertionError, match="is another server there"), running_server(models_folder, *flags):
        raise RuntimeError("serves beside the first")


def test_a_worker_that_cannot_start_ends_the_start_of_all(tmp_path: Path) -> None:
    write_red_model(tmp_path / "nan.onnx", divisor=0.0)
    with (
        pytest.raises(AssertionError, match="see its log lines") as caught,
        running_server(tmp_path, "--workers", "2"),
    ):
        raise RuntimeError("serves")
    assert "answers values from nan to nan" in str(caught.value)
