"""The main person alone, over the wire: masks, estimates, finished pictures and stills. Others never show."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from humanseg import (
    ColorBackground,
    Composite,
    Dropped,
    Estimated,
    Estimates,
    FramePolicy,
    MaskAnswer,
    People,
    PictureAnswer,
    Rotation,
    SegmentationClient,
    SegmentationStream,
    SessionConfig,
    Size,
    TemporalFusion,
)
from humanseg.answers import Answer
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Picture
from support.models import write_red_model, write_slow_model
from support.server import RunningServer, running_server
from support.stream import open_stream
from support.timing import limit_s

SIZE = Size(320, 192)
STEP_US = 33_333
GRAY = 90
CONFIG = SessionConfig(SIZE, frame_policy=FramePolicy.EVERY, people=People.MAIN)
#: Rows and columns of the main person's head and shoulders, and those in which somebody walks about on the left.
MAIN = (slice(50, 150), slice(170, 270))
ELSEWHERE = (slice(0, SIZE.height), slice(0, 150))


def scene(index: int) -> Picture:
    """A red person on the right, a smaller one who walks on the left, before blue: red is what the model answers."""
    picture = np.zeros((*SIZE.shape, 3), np.uint8)
    picture[..., 2] = 255
    picture[MAIN] = 255, 40, 40
    left = 10 + 4 * index
    picture[80:140, left : left + 60] = 255, 200, 0
    return picture


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    models: Path = tmp_path_factory.mktemp("models")
    write_red_model(models / "medium.onnx")
    write_slow_model(models / "slow.onnx")
    with running_server(models, "--runners", "1") as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[SegmentationClient]:
    async with SegmentationClient(server.target) as opened:
        yield opened


async def answers_to(stream: SegmentationStream, pictures: Sequence[Picture]) -> list[Answer]:
    for index, picture in enumerate(pictures, 1):
        await stream.send(picture, capture_time_us=index * STEP_US)
    await stream.finish()
    async with asyncio.timeout(limit_s(30)):
        return [answer async for answer in stream]


@pytest.mark.parametrize("fusion", TemporalFusion)
async def test_masks_hold_the_main_person_only(client: SegmentationClient, fusion: TemporalFusion) -> None:
    scenes = [scene(index) for index in range(8)]
    async with client.stream(dataclasses.replace(CONFIG, temporal_fusion=fusion)) as stream:
        assert stream.accepted.config.people is People.MAIN
        for answer in await answers_to(stream, scenes):
            assert isinstance(answer, MaskAnswer)
            assert not answer.alpha8[ELSEWHERE].any()
            assert (answer.alpha8[MAIN][4:-4, 4:-4] == 255).all()
    async with client.stream(dataclasses.replace(CONFIG, temporal_fusion=fusion, people=People.ALL)) as stream:
        for answer in await answers_to(stream, scenes):
            assert isinstance(answer, MaskAnswer)
            assert answer.alpha8[ELSEWHERE].any(), "somebody is there"


async def test_a_turned_and_mirrored_video_too(client: SegmentationClient) -> None:
    turned = [np.ascontiguousarray(np.rot90(scene(index)[:, ::-1])) for index in range(3)]
    config = dataclasses.replace(CONFIG, size=SIZE.transposed, rotation=Rotation.DEG_90, mirrored=True)
    async with client.stream(config) as stream:
        for answer in await answers_to(stream, turned):
            assert isinstance(answer, MaskAnswer)
            upright = np.rot90(answer.alpha8, -1)[:, ::-1]
            assert not upright[ELSEWHERE].any()
            assert (upright[MAIN][4:-4, 4:-4] == 255).all()


async def test_pictures_show_others_as_background(client: SegmentationClient) -> None:
    config = dataclasses.replace(CONFIG, composite=Composite(ColorBackground(GRAY, GRAY, GRAY)))
    async with client.stream(config) as stream:
        for index, answer in enumerate(await answers_to(stream, [scene(index) for index in range(8)])):
            assert isinstance(answer, PictureAnswer)
            assert (answer.array[ELSEWHERE] == GRAY).all()
            assert (answer.array[MAIN][8:-8, 8:-8] == scene(index)[MAIN][8:-8, 8:-8]).all()


@pytest.mark.parametrize("fusion", [TemporalFusion.OFF, TemporalFusion.HIGH])
async def test_estimates_do_not_bring_others_back(client: SegmentationClient, fusion: TemporalFusion) -> None:
    config = dataclasses.replace(
        CONFIG, model="slow", frame_policy=FramePolicy.NEWEST, estimates=Estimates.SUPERSEDED, temporal_fusion=fusion
    )
    estimated = 0
    async with client.stream(config) as stream:
        for burst in range(4):
            for index in range(4):
                await stream.send(scene(4 * burst + index), capture_time_us=(4 * burst + index + 1) * STEP_US)
            async with asyncio.timeout(limit_s(30)):
                answers = [await anext(stream) for _ in range(4)]
            for answer in answers:
                if not isinstance(answer, Dropped):
                    assert isinstance(answer, MaskAnswer | Estimated)
                    assert not answer.alpha8[ELSEWHERE].any()
                    assert (answer.alpha8[MAIN][12:-12, 12:-12] > 127).all()
                    estimated += isinstance(answer, Estimated)
    assert estimated, "no frame was estimated"


async def test_a_later_config_brings_everybody_back(client: SegmentationClient) -> None:
    async with client.stream(CONFIG) as stream:
        await stream.send(scene(0), capture_time_us=STEP_US)
        await stream.reconfigure(dataclasses.replace(CONFIG, people=People.ALL))
        async with asyncio.timeout(limit_s(30)):
            answers = [await anext(stream)]
            await stream.send(scene(0), capture_time_us=2 * STEP_US)
            answers += [await anext(stream) for _ in range(2)]
        masks = [answer for answer in answers if isinstance(answer, MaskAnswer)]
        assert [bool(mask.alpha8[ELSEWHERE].any()) for mask in masks] == [False, True]


async def test_a_still(client: SegmentationClient) -> None:
    everybody = await client.segment(scene(0))
    assert everybody.alpha8[ELSEWHERE].any()
    alone = await client.segment(scene(0), people=People.MAIN)
    assert not alone.alpha8[ELSEWHERE].any()
    assert (alone.alpha8[MAIN] == everybody.alpha8[MAIN]).all()


async def test_left_out_it_is_everybody_and_an_unknown_value_is_refused(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        await stream.send_config(width=SIZE.width, height=SIZE.height, people=9)
        fields = (await stream.ending()).fields
    assert fields["config.people"].startswith("value 9 is not known, allowed are PEOPLE_ALL = 1, PEOPLE_MAIN = 2")
    async with open_stream(server.target) as stream:
        accepted = await stream.config(width=SIZE.width, height=SIZE.height)
        assert accepted.config.people == pb.PEOPLE_ALL
