"""The blocking client against a real server: the same reach as the asyncio one, and nothing left behind."""

import asyncio
import dataclasses
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from humanseg import (
    Accepted,
    BlockingClient,
    BlockingStream,
    CallCancelledError,
    ColorBackground,
    Composite,
    Dropped,
    FramePolicy,
    InvalidRequestError,
    MaskAnswer,
    Notice,
    PictureAnswer,
    ResumeOutcome,
    SegmentationClient,
    SegmentationStream,
    ServerUnavailableError,
    SessionConfig,
    SharedMemory,
    SharedMemoryRefusedError,
    Size,
    TemporalFusion,
    UnknownModelError,
)
from humanseg.shared_memory import FOLDER
from humanseg.vision.arrays import Picture
from support.models import LANDSCAPE
from support.server import ROOT, RunningServer, running_server
from support.timing import limit_s

SIZE = Size(*LANDSCAPE)
CONFIG = SessionConfig(SIZE, temporal_fusion=TemporalFusion.OFF, frame_policy=FramePolicy.EVERY)
THREAD = "humanseg-client"


@pytest.fixture(scope="module")
def server(models_folder: Path) -> Iterator[RunningServer]:
    with running_server(models_folder, "--shared-memory") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[BlockingClient]:
    with BlockingClient(server.target) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == THREAD] == []
    assert list(FOLDER.glob(f"humanseg-{os.getpid()}-*")) == []


def frame_of(level: int, size: Size = SIZE) -> Picture:
    """A frame whose red, which is the model's answer, is one level all over."""
    picture = np.full((*size.shape, 3), 90, np.uint8)
    picture[..., 0] = level
    return picture


def level_of(answer: object) -> int:
    assert isinstance(answer, MaskAnswer), answer
    (level,) = set(answer.alpha8.reshape(-1).tolist())
    return int(level)


@pytest.mark.parametrize(
    ("blocking", "other", "names"),
    [
        (BlockingClient, SegmentationClient, ["__init__", "list_models", "segment", "compose", "stream", "masks"]),
        (BlockingStream, SegmentationStream, ["send", "reconfigure", "finish"]),
    ],
)
def test_each_method_takes_what_its_asyncio_twin_takes(blocking: type, other: type, names: list[str]) -> None:
    for name in names:
        here, there = (inspect.signature(getattr(kind, name)).parameters.values() for kind in (blocking, other))
        assert [(p.name, p.kind, p.default) for p in here] == [(p.name, p.kind, p.default) for p in there], name


def test_stills_and_models(client: BlockingClient) -> None:
    assert [model.name for model in client.list_models().models] == ["medium", "faulty"]
    assert set(client.segment(frame_of(200)).alpha8.reshape(-1).tolist()) == {200}
    with pytest.raises(UnknownModelError, match="huge"):
        client.segment(frame_of(200), model="huge")


def test_a_still_before_another_background(client: BlockingClient) -> None:
    composed = client.compose(frame_of(0), Composite(ColorBackground(10, 20, 30)))
    assert (composed.array == (10, 20, 30)).all(), "nobody is in it"
    with pytest.raises(InvalidRequestError, match=r"composite\.color"):
        client.compose(frame_of(0), Composite(ColorBackground(10, 20, 300)))


def test_masks_pairs_each_frame_with_its_mask(client: BlockingClient) -> None:
    frames = [frame_of(level) for level in range(0, 120, 10)]
    for shared in (None, SharedMemory(slots=2)):
        seen = list(client.masks(iter(frames), temporal_fusion=TemporalFusion.OFF, shared_memory=shared))
        assert all(frame is wanted for (frame, _), wanted in zip(seen, frames, strict=True))
        for frame, alpha8 in seen:
            np.testing.assert_array_equal(alpha8, frame[..., 0])


def test_a_stream_answers_one_by_one_and_ends(client: BlockingClient) -> None:
    with client.stream(CONFIG) as stream:
        assert stream.accepted.model.name == "medium"
        assert stream.limits.max_frame_px == 1920 * 1088
        for level in (5, 6):
            assert stream.send(frame_of(level)) == level - 4
            assert level_of(stream.receive(limit_s(20))) == level
        with pytest.raises(TimeoutError):
            stream.receive(0)
        stream.send(frame_of(7), capture_time_us=9_000_000)
        assert level_of(stream.receive(limit_s(20))) == 7, "a wait that was given up lost nothing"
        stream.reconfigure(dataclasses.replace(CONFIG, model="faulty"))
        assert isinstance(stream.receive(limit_s(20)), Accepted)
        stream.send(frame_of(200))
        assert isinstance(stream.receive(limit_s(20)), Dropped)
        stream.finish()
        assert list(stream) == []
        assert stream.receive() is None
        assert stream.unanswered == 0


def test_one_thread_sends_while_another_takes(client: BlockingClient) -> None:
    with client.stream(CONFIG, shared_memory=SharedMemory(slots=2)) as stream, ThreadPoolExecutor(1) as pool:

        def send() -> None:
            for level in range(50):
                stream.send(frame_of(level))
                assert stream.unanswered <= 2
            stream.finish()

        sending = pool.submit(send)
        assert [level_of(answer) for answer in stream] == list(range(50))
        sending.result()


def test_many_threads_share_a_client(client: BlockingClient) -> None:
    def one(level: int) -> None:
        assert set(client.segment(frame_of(level)).alpha8.reshape(-1).tolist()) == {level}
        with client.stream(CONFIG) as stream:
            stream.send(frame_of(level))
            assert level_of(stream.receive(limit_s(20))) == level

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40, 56)))


def test_clients_share_one_thread(server: RunningServer) -> None:
    with BlockingClient(server.target) as one, BlockingClient(server.target) as two:
        assert [thread.name for thread in threading.enumerate()].count(THREAD) == 1
        one.close()
        one.close()
        assert two.list_models().models
        with pytest.raises(RuntimeError, match="not open"):
            one.list_models()


def test_finished_pictures(client: BlockingClient) -> None:
    with client.stream(dataclasses.replace(CONFIG, composite=Composite(ColorBackground(1, 2, 3)))) as stream:
        stream.send(frame_of(0))
        answer = stream.receive(limit_s(20))
    assert isinstance(answer, PictureAnswer)
    assert set(map(tuple, answer.array.reshape(-1, 3).tolist())) == {(1, 2, 3)}


def test_errors_on_entering_are_typed(client: BlockingClient, models_folder: Path) -> None:
    with pytest.raises(UnknownModelError), client.stream(dataclasses.replace(CONFIG, model="huge")):
        pass
    with BlockingClient("127.0.0.1:1") as nowhere, pytest.raises(ServerUnavailableError):
        nowhere.list_models()
    with (
        running_server(models_folder) as strict,
        BlockingClient(strict.target) as refused,
        pytest.raises(SharedMemoryRefusedError),
        refused.stream(CONFIG, shared_memory=SharedMemory()),
    ):
        pass


def test_a_stream_goes_on_from_its_resume_point(models_folder: Path) -> None:
    config = dataclasses.replace(CONFIG, temporal_fusion=TemporalFusion.HIGH)
    with (
        running_server(models_folder, "--max-stream-age-s", "1", "--age-notice-s", "0.5") as aging,
        BlockingClient(aging.target) as client,
    ):
        with client.stream(config) as stream:
            stream.send(frame_of(5), capture_time_us=1)
            level_of(stream.receive(limit_s(20)))
            assert isinstance(stream.receive(limit_s(20)), Notice)
            stream.finish()
            assert list(stream) == []
        with client.stream(config, resume=stream.resume_point) as following:
            assert following.accepted.resume is ResumeOutcome.RESUMED


class CameraFailed(Exception):
    pass


def test_what_the_consumer_raises_ends_the_session(client: BlockingClient, server: RunningServer) -> None:
    with pytest.raises(CameraFailed), client.stream(CONFIG) as stream:
        stream.send(frame_of(1))
        raise CameraFailed
    with pytest.raises(CameraFailed):
        for _ in client.masks(frame_of(level) for level in range(100)):
            raise CameraFailed
    for _ in client.masks(frame_of(level) for level in range(100)):
        break
    server.wait_for_metric(0, "humanseg_sessions_active")


def test_what_reading_the_frames_raises_comes_after_their_masks(client: BlockingClient) -> None:
    def frames() -> Iterator[Picture]:
        yield from (frame_of(1), frame_of(2))
        raise CameraFailed

    seen = []
    with pytest.raises(CameraFailed):
        for pair in client.masks(frames()):
            seen.append(pair)  # noqa: PERF402  # what came before the exception counts
    assert len(seen) == 2


def test_closing_frees_the_threads_that_wait(server: RunningServer) -> None:
    with BlockingClient(server.target) as client, ThreadPoolExecutor(2) as pool:
        stream = client.stream(CONFIG).__enter__()
        waiting = pool.submit(stream.receive)
        gate = threading.Event()

        def frames() -> Iterator[Picture]:
            yield frame_of(1)
            gate.wait(limit_s(20))

        pairs = client.masks(frames())
        next(pairs)
        pulling = pool.submit(next, pairs)
        time.sleep(0.1)
        threading.Timer(0.3, gate.set).start()
        client.close()
        for future in (waiting, pulling):
            with pytest.raises(CallCancelledError):
                future.result(limit_s(20))
        stream.close()
        with pytest.raises(RuntimeError, match="not open"):
            stream.receive()


async def test_an_event_loop_is_not_blocked(server: RunningServer) -> None:
    client = BlockingClient(server.target)
    with pytest.raises(RuntimeError, match=r"would block the event loop .* use SegmentationClient"):
        client.__enter__()
    await asyncio.to_thread(client.__enter__)
    with pytest.raises(RuntimeError, match="would block the event loop"):
        client.list_models()
    with pytest.raises(RuntimeError, match="would block the event loop"):
        client.close()
    assert (await asyncio.to_thread(client.list_models)).models, "it is still open"
    await asyncio.to_thread(client.close)


async def test_beside_the_asyncio_client_in_one_program(server: RunningServer) -> None:
    def block() -> list[int]:
        with BlockingClient(server.target) as client, client.stream(CONFIG) as stream:
            levels = []
            for level in range(40):
                stream.send(frame_of(level))
                levels.append(level_of(stream.receive(limit_s(20))))
            return levels

    # What grpc.aio says of wake-ups for nothing reaches this loop's handler, which is the program's own.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    blocking = asyncio.create_task(asyncio.to_thread(block))
    async with SegmentationClient(server.target) as client:
        frames = [frame_of(level) for level in range(40)]
        async for frame, alpha8 in client.masks(iter(frames), temporal_fusion=TemporalFusion.OFF):
            np.testing.assert_array_equal(alpha8, frame[..., 0])
    assert await blocking == list(range(40))


def test_nothing_piles_up(server: RunningServer) -> None:
    def once() -> None:
        with BlockingClient(server.target) as client:
            client.segment(frame_of(1))
            with client.stream(CONFIG, shared_memory=SharedMemory()) as stream:
                stream.send(frame_of(1))
                stream.receive(limit_s(20))
            for _ in client.masks([frame_of(1)] * 10):
                break

    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    once()
    until(lambda: held()[0] > 0)
    first = held()
    for _ in range(5):
        once()
    until(lambda: held() <= first)


def until(true: Callable[[], bool]) -> None:
    """gRPC lets go of a connection a moment after it was closed."""
    ends_s = time.monotonic() + limit_s(10)
    while not true():
        assert time.monotonic() < ends_s
        time.sleep(0.05)


PROGRAM = """
import sys, itertools
import numpy as np
from humanseg import BlockingClient, FramePolicy, SessionConfig, SharedMemory, Size

frame = np.zeros((96, 160, 3), np.uint8)
client = BlockingClient(sys.argv[1]).__enter__()
stream = client.stream(SessionConfig(Size(160, 96), frame_policy=FramePolicy.EVERY), shared_memory=SharedMemory())
stream.__enter__()
pairs = client.masks(itertools.repeat(frame))
next(pairs)
print("running", flush=True)
"""
WAITS = "stream.receive()\n"
INTERRUPTED = """
try:
    stream.receive()
except KeyboardInterrupt:
    stream.send(frame)
    print(type(stream.receive(20)).__name__, flush=True)
    client.close()
"""
FORKED = """
import os, signal
for _ in range(5):
    child = os.fork()
    if child == 0:
        try:
            client.list_models()
        except RuntimeError as error:
            assert "before a fork" in str(error)
            os._exit(7)  # what grpc does at the end of a forked process is not ours
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != -signal.SIGSEGV:  # nor is what it does, now and then, at the begin of one
        break
print(status, flush=True)
client.close()
"""


def start(server: RunningServer, program: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, server.target],
        # gRPC's own handlers of a fork crashed the child now and then; without them it is as safe as it ever is.
        cwd=ROOT, env={**os.environ, "GRPC_VERBOSITY": "ERROR", "GRPC_ENABLE_FORK_SUPPORT": "0"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rest", "interrupted", "status", "printed"),
    [
        pytest.param("", False, 0, "", id="the program ends"),
        pytest.param("raise SystemExit(3)", False, 3, "", id="it exits"),
        pytest.param(WAITS, True, -signal.SIGINT, "", id="it is interrupted"),
        pytest.param(INTERRUPTED, True, 0, "MaskAnswer\n", id="it goes on after an interrupt"),
        pytest.param(FORKED, False, 0, "7\n", id="it forks"),
    ],
)
def test_a_program_that_does_not_close_ends_well(
    server: RunningServer, rest: str, interrupted: bool, status: int, printed: str
) -> None:
    with start(server, PROGRAM + rest) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "running\n", process.stderr.read()
        if interrupted:
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        out, complaints = process.communicate(timeout=limit_s(30))
    assert process.returncode == status, complaints
    assert out == printed
    if not interrupted or status == 0:
        assert complaints == ""
    assert list(FOLDER.glob(f"humanseg-{process.pid}-*")) == []
    server.wait_for_metric(0, "humanseg_sessions_active")
