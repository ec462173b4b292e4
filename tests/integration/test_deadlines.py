"""Frames that become too old while others are worked on: dropped before the engine, said so, and counted."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from humanseg.v1 import segmentation_pb2 as pb
from support.models import write_red_model, write_slow_model
from support.server import RunningServer, running_server
from support.stream import open_stream

W, H = 160, 96
PICTURE = np.full((H, W, 3), 90, np.uint8).tobytes()
CONFIG = {"width": W, "height": H, "pixel_format": pb.PIXEL_FORMAT_RGB24}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One engine thread, and a model that holds it for some tens of ms."""
    models: Path = tmp_path_factory.mktemp("models")
    write_red_model(models / "medium.onnx")
    write_slow_model(models / "slow.onnx")
    with running_server(models, "--runners", "1", "--frame-deadline-s", "30") as running:
        yield running


async def test_late_frames_are_dropped_before_the_engine(server: RunningServer) -> None:
    async with open_stream(server.target) as busy, open_stream(server.target) as hasty:
        await busy.config(model="slow", frame_policy=pb.FRAME_POLICY_EVERY, **CONFIG)
        config = pb.SessionConfig(**CONFIG)  # type: ignore[arg-type]
        config.frame_deadline.FromMilliseconds(2)
        await hasty.write(pb.StreamSegmentRequest(config=config))
        assert (await hasty.read()).accepted.config.frame_deadline.ToMilliseconds() == 2
        frames = 8

        async def keep_the_engine_busy() -> list[pb.FrameResult]:
            for frame_id in range(frames):
                await busy.send(frame_id, PICTURE)
            return await busy.finish()

        working = asyncio.ensure_future(keep_the_engine_busy())
        results = []
        while not working.done():
            await hasty.send(len(results), PICTURE)
            results.append(await hasty.result())
        patient = await working
        await hasty.finish()
    assert [result.outcome for result in patient] == [pb.FRAME_OUTCOME_MASK] * frames, "they have no deadline"
    late = [result for result in results if result.outcome == pb.FRAME_OUTCOME_DROPPED]
    assert late
    assert {result.drop_reason for result in late} == {pb.DROP_REASON_LATE}
    assert all("ms of 2 allowed" in result.drop_detail for result in late)
    assert all(result.times.inference_us == 0 for result in late)
    assert server.metric("humanseg_frames_total", outcome="dropped", reason="late") == len(late)
    seen = frames + len(results) - len(late)
    counts = [server.metric("humanseg_batch_frames_sum", model=model) for model in ("slow", "medium")]
    assert sum(counts) == seen, "the engine saw none of them"


async def test_the_echo_says_which_deadline_holds(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        live = await stream.config(**CONFIG)
        assert live.config.frame_deadline.ToMilliseconds() == 30_000
        offline = await stream.config(frame_policy=pb.FRAME_POLICY_EVERY, **CONFIG)
        assert not offline.config.HasField("frame_deadline")


async def test_a_deadline_out_of_range_is_refused_by_name(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        config = pb.SessionConfig(**CONFIG)  # type: ignore[arg-type]
        config.frame_deadline.FromMicroseconds(500)
        await stream.write(pb.StreamSegmentRequest(config=config))
        ending = await stream.ending()
    assert (ending.code, ending.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONFIG_INVALID")
    assert (
        ending.fields["config.frame_deadline"] == "0.0005 s is out of range, allowed are 0.001 to 3600 s, or 0 for none"
    )
