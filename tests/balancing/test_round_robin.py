"""Two real replicas behind gRPC's round_robin: one drains under load, and nobody's masks show it."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from humanseg import (
    Balancing,
    ClientOptions,
    FramePolicy,
    SegmentationClient,
    ServerDrainingError,
    SessionConfig,
    Size,
)
from humanseg.vision.arrays import Alpha8, Picture
from support.clips import trembling_pictures
from support.models import write_red_model
from support.server import RunningServer, running_server
from support.timing import limit_s

SIZE = Size(320, 180)
STREAMS, FRAMES, HALT = 4, 60, 20
ROUND_ROBIN = ClientOptions(balancing=Balancing.ROUND_ROBIN)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_red_model(folder / "medium.onnx")
    return folder


def closed_sessions(server: RunningServer) -> list[dict[str, str]]:
    """The fields of each stream's last line of log."""
    lines = [line for line in server.log_lines if " event=session_closed " in line]
    return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines]


def differences(masks: list[Alpha8], others: list[Alpha8]) -> list[float]:
    return [float(np.abs(one.astype(int) - other).mean()) for one, other in zip(masks, others, strict=True)]


async def test_a_replica_that_drains_under_load_loses_no_frame_and_leaves_no_seam(models: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "resume"
    key_file.write_text("0123456789abcdef0123456789abcdef")
    flags = ("--resume-key-file", str(key_file))
    pictures = trembling_pictures(FRAMES, SIZE)
    arrived, go = asyncio.Semaphore(0), asyncio.Event()

    async def frames() -> AsyncIterator[Picture]:
        for index, picture in enumerate(pictures):
            if index == HALT:
                arrived.release()
                await go.wait()
            yield picture

    async def play(client: SegmentationClient, label: str) -> list[Alpha8]:
        pairs = [(frame, alpha8.copy()) async for frame, alpha8 in client.masks(frames(), label=label)]
        assert all(frame is picture for (frame, _), picture in zip(pairs, pictures, strict=True))
        return [alpha8 for _, alpha8 in pairs]

    with running_server(models, *flags) as one, running_server(models, *flags) as other:
        target = f"ipv4:{one.target},{other.target}"
        async with asyncio.timeout(limit_s(60)), SegmentationClient(target, options=ROUND_ROBIN) as client:
            playing = [asyncio.create_task(play(client, f"clip{number}")) for number in range(STREAMS)]
            for _ in range(STREAMS):
                await arrived.acquire()
            leaving, staying = sorted((one, other), key=lambda server: -server.metric("humanseg_sessions_active"))
            moving = leaving.metric("humanseg_sessions_active")
            go.set()
            leaving.terminate()
            clips = {f"clip{number}": masks for number, masks in enumerate(await asyncio.gather(*playing))}
            assert await asyncio.to_thread(leaving.wait) == 0
            assert staying.metric("humanseg_resumes_total", outcome="resumed") == moving > 0
            stayed = await play(client, "stayed")
    assert "event=stopped sessions_cut=0" in leaving.log()
    left = closed_sessions(leaving)
    ended = left + closed_sessions(staying)
    assert {(session["outcome"], session["drops"]) for session in ended} == {("ok", "0")}
    # Each frame was accepted once: none was lost, and none had to be sent again.
    assert sum(int(session["masks"]) for session in ended) == (STREAMS + 1) * FRAMES
    usual = max(differences(stayed[1:], stayed[:-1]))
    for session in left:
        masks, move = clips[session["label"]], int(session["frames"])
        assert HALT <= move < FRAMES, "in mid-clip"
        (seam,) = differences([masks[move]], [masks[move - 1]])
        assert seam <= usual
    for masks in clips.values():
        assert max(differences(masks, stayed)) < 0.5


async def test_no_new_stream_reaches_a_replica_that_drains(models: Path) -> None:
    config = SessionConfig(SIZE, frame_policy=FramePolicy.EVERY)
    with running_server(models) as leaving, running_server(models) as staying:
        target = f"ipv4:{leaving.target},{staying.target}"
        async with SegmentationClient(leaving.target) as direct, direct.stream(config):
            leaving.terminate()
            await asyncio.to_thread(leaving.wait_for_metric, 0, "humanseg_ready")
            async with SegmentationClient(target) as first:
                with pytest.raises(ServerDrainingError):
                    async with first.stream(config):
                        pass
            async with SegmentationClient(target, options=ROUND_ROBIN) as client:
                for _ in range(6):
                    async with client.stream(config):
                        pass
        assert staying.metric("humanseg_sessions_admitted_total") == 6
