"""The service before a real Triton: `make triton-check`."""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg.v1 import segmentation_pb2 as pb
from service.healthcheck import check
from support.models import write_faulty_model, write_red_model
from support.server import RunningServer, running_server
from support.stream import Stream, open_stream
from support.timing import limit_s
from support.triton import TritonProcess, running_triton, running_triton_with, why_no_triton

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(limit_s(300)),
    pytest.mark.skipif(why_no_triton() is not None, reason=str(why_no_triton())),
]

W, H = 160, 96
CONFIG = {
    "width": W,
    "height": H,
    "pixel_format": pb.PIXEL_FORMAT_RGB24,
    "temporal_fusion": pb.TEMPORAL_FUSION_OFF,
    "mask_encoding": pb.MASK_ENCODING_ALPHA8,
    "frame_policy": pb.FRAME_POLICY_EVERY,
}


SHARED = ["--triton-shared-memory"]
BOTH_WAYS = pytest.mark.parametrize("way", [[], SHARED], ids=["messages", "shared-memory"])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_red_model(folder / "medium.onnx")
    write_faulty_model(folder / "faulty.onnx")
    return folder


@pytest.fixture(scope="module")
def triton(models: Path) -> Iterator[TritonProcess]:
    with running_triton(models) as running:
        yield running


def flags(*tritons: TritonProcess, timeout_s: float = 10) -> list[str]:
    addresses = ",".join(one.address for one in tritons)
    return ["--engine", "triton", "--triton", addresses, "--triton-timeout-s", str(min(60, limit_s(timeout_s)))]


def picture(seed: int) -> NDArray[np.uint8]:
    frame = np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)
    frame[0, 0] = 0  # what the faulty model takes
    return frame


async def masks_of(target: str, pictures: list[NDArray[np.uint8]], **config: object) -> list[pb.FrameResult]:
    async with open_stream(target) as stream:
        await stream.config(**{**CONFIG, **config})
        for index, frame in enumerate(pictures):
            await stream.send(index + 1, frame.tobytes())
        return await stream.finish()


def assert_red(result: pb.FrameResult, frame: NDArray[np.uint8]) -> None:
    assert result.outcome == pb.FRAME_OUTCOME_MASK, result
    mask = np.frombuffer(result.mask, np.uint8).reshape(H, W)
    np.testing.assert_allclose(mask, frame[..., 0], atol=1)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + limit_s(30)
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


def is_ready(server: RunningServer) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/ready", timeout=limit_s(10)):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False


@BOTH_WAYS
async def test_the_masks_are_those_of_the_local_engine(models: Path, triton: TritonProcess, way: list[str]) -> None:
    pictures = [picture(seed) for seed in range(8)]
    with running_server(models, *flags(triton), *way) as remote, running_server(models) as local:
        ours, theirs = [await masks_of(server.target, pictures) for server in (local, remote)]
        assert " engine=triton " in remote.log()
        assert f'device="triton 2.51.0 at {triton.address}"' in remote.log()
        assert remote.metric("humanseg_engine_info", engine="triton", model="medium") == 1
        assert bool(triton.regions()) == (way == SHARED)
    wait_until(lambda: not triton.regions())
    assert len(ours) == len(theirs) == len(pictures)
    for frame, mine, other in zip(pictures, ours, theirs, strict=True):
        assert_red(mine, frame)
        assert mine.mask == other.mask


async def test_a_picture_that_the_model_cannot_take_harms_no_other(models: Path, triton: TritonProcess) -> None:
    """Triton joins pictures of both sessions; only the one that is at fault is dropped.

    The service itself joins none: what it sends together fails together.
    """
    bad = picture(0)
    bad[0, 0, 0] = 255
    with running_server(models, *flags(triton), "--max-batch", "1", "--runners", "4") as server:
        before = triton.statistics()[f"faulty-{W}x{H}"][0]
        good, mixed = await asyncio.gather(
            masks_of(server.target, [picture(seed) for seed in range(12)], model="faulty"),
            masks_of(server.target, [bad, picture(1)] * 6, model="faulty"),
        )
        assert triton.statistics()[f"faulty-{W}x{H}"][0] > before
        for seed, result in enumerate(good):
            assert_red(result, picture(seed))
        for result in mixed[::2]:
            assert (result.outcome, result.drop_reason) == (pb.FRAME_OUTCOME_DROPPED, pb.DROP_REASON_ENGINE_FAILED)
        for result in mixed[1::2]:
            assert_red(result, picture(1))
        assert is_ready(server), "a picture's fault is not the engine's"
        assert "event=engine_lost" not in server.log()


async def test_triton_batches_what_two_replicas_and_their_workers_send(tmp_path: Path) -> None:
    """Each process has one call under way at most, so whatever is run together came from two of them.

    Triton waits for a second picture, so that it does not depend on who is how fast.
    """
    write_red_model(tmp_path / "medium.onnx")
    with running_triton(tmp_path, "--preferred", "2", "--queue-delay-us", "300000") as triton:
        single = [*flags(triton), "--runners", "1", "--max-batch", "1"]
        with running_server(tmp_path, *single) as first, running_server(tmp_path, *single) as second:
            requests, runs = await requests_and_runs(triton, [first.target, second.target], 24)
            assert runs < 0.6 * requests
        # Which worker a stream reaches is chance; that twelve reach the same one happens once in 2000 times.
        with running_server(tmp_path, *single, "--workers", "2") as workers:
            requests, runs = await requests_and_runs(triton, [workers.target] * 12, 6)
            assert runs < requests


async def requests_and_runs(triton: TritonProcess, targets: list[str], count: int) -> tuple[int, int]:
    name = f"medium-{W}x{H}"
    before = triton.statistics()[name]
    pictures = [picture(seed) for seed in range(count)]
    answers = await asyncio.gather(*(masks_of(target, pictures) for target in targets))
    for results in answers:
        for frame, result in zip(pictures, results, strict=True):
            assert_red(result, frame)
    requests, frames, runs = (now - then for now, then in zip(triton.statistics()[name], before, strict=True))
    print(f"{len(targets)} streams: {requests} requests, {frames} frames, {runs} runs of the model")
    assert requests == frames == len(targets) * count
    return requests, runs


async def next_frame(stream: Stream, frame_id: int) -> pb.FrameResult:
    await stream.send(frame_id, picture(1).tobytes())
    return await stream.result()


@BOTH_WAYS
async def test_it_survives_tritons_death_and_return(models: Path, way: list[str]) -> None:
    with running_triton(models) as triton, running_server(models, *flags(triton), *way) as server:
        async with open_stream(server.target) as stream:
            await stream.config(**CONFIG)
            assert_red(await next_frame(stream, 1), picture(1))
            assert check(server.target) == "SERVING"
            triton.kill()
            result = await next_frame(stream, 2)
            assert (result.outcome, result.drop_reason) == (pb.FRAME_OUTCOME_DROPPED, pb.DROP_REASON_ENGINE_FAILED)
            wait_until(lambda: not is_ready(server))
            assert check(server.target) == "NOT_SERVING"
            assert server.metric("humanseg_ready") == 0
            wait_until(lambda: "event=engine_lost" in server.log())
            lost = next(line for line in server.log_lines if "event=engine_lost" in line)
            assert "no Triton server runs model" in lost
            assert f"{triton.address}: UNAVAILABLE" in lost
            for frame_id in range(3, 8):
                assert (await next_frame(stream, frame_id)).drop_reason == pb.DROP_REASON_ENGINE_FAILED
            triton.start()
            wait_until(lambda: is_ready(server))
            assert check(server.target) == "SERVING"
            assert "event=engine_back" in server.log()
            assert_red(await next_frame(stream, 8), picture(1))
            await stream.finish()
        assert server.metric("humanseg_frames_total", outcome="dropped", reason="engine_failed") == 6
        assert bool(triton.regions()) == (way == SHARED)
        server.terminate()
        assert server.wait() == 0
        assert triton.regions() == []


async def test_with_another_server_the_loss_of_one_is_no_loss(models: Path, triton: TritonProcess) -> None:
    with running_triton(models) as other, running_server(models, *flags(other, triton)) as server:
        async with open_stream(server.target) as stream:
            await stream.config(**CONFIG)
            for frame_id in range(1, 30):
                if frame_id == 10:
                    other.kill()
                assert_red(await next_frame(stream, frame_id), picture(1))
            await stream.finish()
        wait_until(lambda: f"Triton at {other.address} is left alone for medium until it answers" in server.log())
        assert is_ready(server)
        assert "event=engine_lost" not in server.log()


def refused(models: Path, *arguments: str) -> str:
    with pytest.raises(AssertionError, match="did not come up") as caught, running_server(models, *arguments) as server:
        raise RuntimeError(f"serves at {server.target}")
    return str(caught.value)


def test_triton_absent_at_the_start(models: Path, triton: TritonProcess) -> None:
    text = refused(models, "--engine", "triton", "--triton", "127.0.0.1:1")
    failed = next(line for line in text.splitlines() if "event=start_failed" in line)
    assert "no Triton server runs model faulty: Triton at 127.0.0.1:1 cannot serve faulty (UNAVAILABLE" in failed
    assert "start it, or set --triton" in failed


def test_another_version_of_the_model_there(tmp_path: Path, triton: TritonProcess) -> None:
    write_red_model(tmp_path / "medium.onnx", divisor=254.0)
    text = refused(tmp_path, *flags(triton))
    assert "event=start_failed" in text
    assert f"Triton at {triton.address} has medium-{W}x{H} in version" in text
    assert "write its repository with `python -m engines.repository`" in text


def test_a_triton_with_smaller_batches(models: Path) -> None:
    with running_triton_with(models / "medium.onnx", "--max-batch", "4", "--preferred", "2,4") as small:
        text = refused(models, *flags(small), "--max-batch", "5")
        assert "takes batches up to 4, and up to 5 may be sent" in text or "has no model faulty" in text
