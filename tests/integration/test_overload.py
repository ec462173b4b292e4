"""More than fits: refused at once, with a time to come again; and what is in stays in."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from humanseg.v1 import segmentation_pb2 as pb
from support.models import write_red_model, write_slow_model
from support.server import RunningServer, running_server
from support.stream import Ending, open_stream, open_stub

W, H = 160, 96
PICTURE = np.full((H, W, 3), 90, np.uint8).tobytes()
LIVE = {"width": W, "height": H, "pixel_format": pb.PIXEL_FORMAT_RGB24, "model": "slow"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One engine thread, and a model that holds it for some tens of ms: one live stream is more than fits."""
    models: Path = tmp_path_factory.mktemp("models")
    write_red_model(models / "medium.onnx")
    write_slow_model(models / "slow.onnx")
    flags = ("--runners", "1", "--max-stills", "2", "--admission-load", "0.9", "--admission-fps", "100")
    with running_server(models, *flags) as running:
        yield running


async def test_a_live_stream_that_does_not_fit_is_refused_and_may_come_again(server: RunningServer) -> None:
    async with open_stream(server.target) as first:
        await first.config(**LIVE)
        async with open_stream(server.target) as second:
            await second.send_config(**LIVE)
            refused = await second.ending()
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert refused.retry is not None
        assert refused.retry.retry_delay.ToTimedelta().total_seconds() == 2
        assert refused.info is not None
        assert int(refused.info.metadata["load_percent"]) > int(refused.info.metadata["max_load_percent"]) == 90
        async with open_stream(server.target) as offline:
            # It takes what is left over; turned into a live one it would not.
            await offline.config(frame_policy=pb.FRAME_POLICY_EVERY, **LIVE)
            await offline.send(1, PICTURE)
            assert (await offline.result()).outcome == pb.FRAME_OUTCOME_MASK
            await offline.send_config(**LIVE)
            assert (await offline.ending()).reason == "OVERLOADED"
        await first.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24)
        await first.send(1, PICTURE)
        assert (await first.result()).outcome == pb.FRAME_OUTCOME_MASK, "who is in may change its config"
        await first.finish()
    server.wait_for_metric(0, "humanseg_sessions_active")
    async with open_stream(server.target) as again:
        await again.config(**LIVE)
    server.wait_for_metric(2, "humanseg_sessions_total", outcome="overloaded")


async def test_stills_beyond_the_limit_are_refused_and_the_others_answered(server: RunningServer) -> None:
    request = pb.SegmentRequest(model="slow", picture=PICTURE, pixel_format=pb.PIXEL_FORMAT_RGB24, width=W, height=H)
    async with open_stub(server.target) as stub:
        answers = await asyncio.gather(*(stub.Segment(request) for _ in range(12)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        masks = [answer for answer in answers if isinstance(answer, pb.SegmentResponse)]
        assert len(masks) + len(refused) == 12
        assert len(masks) >= 2
        assert refused, "twelve at once are more than two"
        for error in refused:
            ending = Ending.of_error(error)
            assert (ending.code, ending.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
            assert ending.retry is not None
        assert (await stub.Segment(request)).mask, "afterwards there is room again"
