"""A live stream that sends more than fits is brought down step by step, is told so, and comes back by itself."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from humanseg.v1 import segmentation_pb2 as pb
from support.models import write_slow_model
from support.server import RunningServer, running_server
from support.stream import Stream, open_stream

W, H = 160, 96
PICTURE = np.full((H, W, 3), 90, np.uint8).tobytes()
CONFIG = {"width": W, "height": H, "pixel_format": pb.PIXEL_FORMAT_RGB24, "model": "large"}
#: Without fusion a mask is kept for the estimates alone.
FREE = {"degradation": pb.DEGRADATION_MODEL_AND_RATE, "temporal_fusion": pb.TEMPORAL_FUSION_OFF}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    models: Path = tmp_path_factory.mktemp("models")
    # None of them keeps up with a flood: were one quick, a quiet machine would never see the rung below it.
    for name in ("large", "medium", "small"):
        write_slow_model(models / f"{name}.onnx", name=name, side=700)
    flags = ("--runners", "1", "--degrade", "--degrade-after-s", "0.2", "--restore-after-s", "0.2")
    with running_server(models, *flags) as running:
        yield running


async def flood_until(stream: Stream, level: int) -> tuple[list[pb.Notice], list[pb.FrameResult]]:
    """Send without a pause until a notice names that level; returns once all that was sent is answered."""
    reached = asyncio.Event()
    sent = 0

    async def send() -> None:
        # Not cancelled: grpc.aio would take a write that is given up for the end of the call.
        nonlocal sent
        while not reached.is_set():
            sent += 1
            await stream.send(sent, PICTURE)
            await asyncio.sleep(0.004)

    notices, results = [], []
    sending = asyncio.create_task(send())
    while not (reached.is_set() and len(results) == sent):
        answer = await stream.read()
        if answer.WhichOneof("message") == "notice":
            notices.append(answer.notice)
            if answer.notice.degrade_level == level:
                reached.set()
        else:
            results.append(answer.result)
    await sending
    return notices, results


async def test_down_to_every_second_frame_and_up_again(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        accepted = await stream.config(**FREE, **CONFIG)
        assert accepted.config.degradation == pb.DEGRADATION_MODEL_AND_RATE
        notices, results = await flood_until(stream, 3)
        assert {notice.reason for notice in notices} == {pb.NOTICE_REASON_DEGRADED}
        steps = [(notice.degrade_level, notice.model, notice.every_second) for notice in notices]
        assert steps == [(1, "medium", False), (2, "small", False), (3, "small", True)]
        masks = [result for result in results if result.outcome == pb.FRAME_OUTCOME_MASK]
        assert [result.degrade_level for result in masks] == sorted(result.degrade_level for result in masks)
        assert {0, 1, 2} <= {result.degrade_level for result in masks}
        assert server.metric("humanseg_sessions_degraded", level="3") == 1
        assert server.metric("humanseg_degrade_steps_total", direction="down") == 3

        # One frame at a time, each after the answer to the one before: whatever the machine, none is superseded.
        answered, restored, outcomes = {result.frame_id for result in results}, [], []
        frame_id = len(results)
        while not restored or restored[-1].degrade_level:
            frame_id += 1
            await stream.send(frame_id, PICTURE)
            while frame_id not in answered:
                answer = await stream.read()
                if answer.WhichOneof("message") == "notice":
                    restored.append(answer.notice)
                else:
                    answered.add(answer.result.frame_id)
                    outcomes.append((answer.result.degrade_level, answer.result.outcome))
        assert (3, pb.FRAME_OUTCOME_ESTIMATE) in outcomes
        assert [notice.degrade_level for notice in restored] == [2, 1, 0]
        assert {notice.reason for notice in restored} == {pb.NOTICE_REASON_RESTORED}
        assert restored[-1].model == "large"
        await stream.send(frame_id + 1, PICTURE)
        result = await stream.result()
        assert (result.outcome, result.degrade_level) == (pb.FRAME_OUTCOME_MASK, 0)
        assert set(result.mask) == {90}
        assert answered == set(range(1, frame_id + 1)), "every frame has its answer, whatever the level"
        await stream.finish()
    server.wait_for_metric(0, "humanseg_sessions_degraded", level="3")
    assert server.metric("humanseg_degrade_steps_total", direction="up") == 3


async def test_the_gauge_forgets_a_stream_that_ends_degraded(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        await stream.config(**CONFIG)
        await flood_until(stream, 1)
        # What was sent until then may have brought it down one more.
        assert sum(server.metric("humanseg_sessions_degraded", level=level) for level in ("1", "2")) == 1
    for level in ("1", "2"):
        server.wait_for_metric(0, "humanseg_sessions_degraded", level=level)


async def test_one_that_refuses_is_not_degraded(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        accepted = await stream.config(degradation=pb.DEGRADATION_OFF, **CONFIG)
        assert accepted.config.degradation == pb.DEGRADATION_OFF
        for frame_id in range(1, 60):
            await stream.send(frame_id, PICTURE)
        results = await stream.finish()
    assert {result.degrade_level for result in results} == {0}
    assert len(results) == 59
