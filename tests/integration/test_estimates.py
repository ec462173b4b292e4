"""Estimates over the wire: a real server with a slow engine, and the real client that sends faster than it works.

Frames go out in bursts, and each burst is read to its end: the first frame finds the engine idle, those behind it are
superseded while it works, the last is segmented.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg import (
    Dropped,
    DropReason,
    Estimated,
    Estimates,
    FramePolicy,
    MaskAnswer,
    Rotation,
    SegmentationClient,
    SegmentationStream,
    SessionConfig,
    Size,
    TemporalFusion,
)
from humanseg.vision.arrays import Picture
from support.clips import draw_clip
from support.models import write_red_model, write_slow_model
from support.server import RunningServer, running_server
from support.timing import limit_s

SIZE = Size(320, 180)
STEP_US = 33_333
BURST = 4
CONFIG = SessionConfig(SIZE, model="slow", estimates=Estimates.SUPERSEDED)
OFF_FUSION = dataclasses.replace(CONFIG, temporal_fusion=TemporalFusion.OFF)
FrameAnswer = MaskAnswer | Estimated | Dropped


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    models: Path = tmp_path_factory.mktemp("models")
    write_red_model(models / "medium.onnx")
    write_slow_model(models / "slow.onnx")
    with running_server(models) as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[SegmentationClient]:
    async with SegmentationClient(server.target) as opened:
        yield opened


def clip(count: int, *, seed: int = 1, speed_px: float = 3.0) -> tuple[list[Picture], list[NDArray[np.bool_]]]:
    """RGB pictures whose red, the model's answer, is the true mask of a moving disc; and that mask."""
    drawn = draw_clip(shifts_px=[speed_px * index for index in range(count)], size=SIZE, seed=seed, wall_moves=True)
    pictures = [np.stack([np.rint(255 * frame.truth).astype(np.uint8), frame.gray, frame.gray], -1) for frame in drawn]
    return pictures, [frame.truth >= 0.5 for frame in drawn]


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


async def burst(
    stream: SegmentationStream, pictures: Sequence[Picture], first_us: int, **fields: object
) -> list[FrameAnswer]:
    """Send these at once, 1/30 s apart by their capture times, and take their answers."""
    sent = [
        await stream.send(picture, capture_time_us=first_us + index * STEP_US, **fields)  # type: ignore[arg-type]
        for index, picture in enumerate(pictures)
    ]
    answers: list[FrameAnswer] = []
    async with asyncio.timeout(limit_s(30)):
        while len(answers) < len(sent):
            answer = await anext(stream)
            assert isinstance(answer, FrameAnswer), answer
            answers.append(answer)
    assert [answer.frame_id for answer in answers] == sent, "exactly one answer each, in the order sent"
    return answers


async def run(client: SegmentationClient, config: SessionConfig, pictures: list[Picture]) -> list[FrameAnswer]:
    answers: list[FrameAnswer] = []
    async with client.stream(config) as stream:
        assert stream.accepted.config.estimates is config.estimates
        for start in range(0, len(pictures), BURST):
            answers += await burst(stream, pictures[start : start + BURST], 1 + start * STEP_US)
        await stream.finish()
    return answers


@pytest.mark.parametrize("config", [CONFIG, OFF_FUSION], ids=["fusion high", "fusion off"])
async def test_estimates_follow_the_picture(
    server: RunningServer, client: SegmentationClient, config: SessionConfig
) -> None:
    pictures, truths = clip(6 * BURST)
    counted = server.metric("humanseg_frames_total", outcome="estimate")
    answers = await run(client, config, pictures)
    assert isinstance(answers[0], MaskAnswer)
    estimates = [index for index, answer in enumerate(answers) if isinstance(answer, Estimated)]
    assert len(estimates) >= BURST, "the session was not overloaded"
    assert {answer.reason for answer in answers if isinstance(answer, Dropped)} <= {DropReason.SUPERSEDED}
    held = 0
    carried_iou, held_iou = [], []
    for index, answer in enumerate(answers):
        if isinstance(answer, MaskAnswer):
            held = index
        elif isinstance(answer, Estimated):
            assert answer.capture_time_us == 1 + index * STEP_US
            assert answer.alpha8.shape == SIZE.shape
            assert (answer.times.inference_us, answer.times.queue_us) == (0, 0)
            assert answer.times.fusion_us > 0
            carried_iou.append(iou(answer.alpha8 >= 128, truths[index]))
            held_iou.append(iou(truths[held], truths[index]))
    assert min(carried_iou) > 0.93
    assert np.mean(carried_iou) > np.mean(held_iou) + 0.03, "no better than repeating the last mask"
    server.wait_for_metric(counted + len(estimates), "humanseg_frames_total", outcome="estimate")
    closed = [line for line in server.log_lines if "event=session_closed" in line][-1]
    assert f" estimates={len(estimates)} " in closed


async def test_without_being_asked_for_there_are_none(client: SegmentationClient) -> None:
    pictures, _ = clip(3 * BURST)
    answers = await run(client, dataclasses.replace(CONFIG, estimates=Estimates.OFF), pictures)
    assert not any(isinstance(answer, Estimated) for answer in answers)
    assert any(isinstance(answer, Dropped) for answer in answers)


async def test_masks_between_estimates_are_those_that_come_without_them(client: SegmentationClient) -> None:
    """What the network saw is fused as if nothing had been estimated in between: the same bytes."""
    pictures, _ = clip(4 * BURST)
    with_estimates = await run(client, CONFIG, pictures)
    seen = [index for index, answer in enumerate(with_estimates) if isinstance(answer, MaskAnswer)]
    every = dataclasses.replace(CONFIG, frame_policy=FramePolicy.EVERY)
    async with client.stream(every) as stream:
        for index in seen:
            (alone,) = await burst(stream, [pictures[index]], 1 + index * STEP_US)
            among = with_estimates[index]
            assert isinstance(alone, MaskAnswer)
            assert isinstance(among, MaskAnswer)
            np.testing.assert_array_equal(alone.alpha8, among.alpha8)


async def test_where_the_memory_does_not_fit_the_frame_is_dropped(client: SegmentationClient) -> None:
    (first, *_), _ = clip(1)
    (scene, *_), _ = clip(1, seed=50)
    misfits: list[tuple[Picture, dict[str, object]]] = [
        (scene, {}),
        (first, {"rotation": Rotation.DEG_180}),
        (first, {"mirrored": True}),
        (np.ascontiguousarray(first[:100]), {}),
    ]
    async with client.stream(CONFIG) as stream:
        for number, (picture, fields) in enumerate(misfits):
            start_us = 1 + number * 10 * STEP_US
            await stream.send(first, capture_time_us=start_us)
            await stream.send(first, capture_time_us=start_us + STEP_US)
            await stream.send(picture, capture_time_us=start_us + 2 * STEP_US, **fields)  # type: ignore[arg-type]
            await stream.send(first, capture_time_us=start_us + 2_000_000)
            await stream.send(first, capture_time_us=start_us + 3 * STEP_US)
            answers = []
            async with asyncio.timeout(limit_s(30)):
                while len(answers) < 5:
                    answers.append(await anext(stream))
            seen, fits, misfit, late, last = answers
            assert isinstance(seen, MaskAnswer)
            assert isinstance(fits, Estimated)
            assert isinstance(misfit, Dropped), fields
            assert misfit.reason is DropReason.SUPERSEDED
            assert "arrived before the engine was free" in misfit.detail
            assert isinstance(late, Dropped), "two seconds after the last mask"
            assert isinstance(last, MaskAnswer)


async def test_a_session_full_of_estimates_changes_nothing_for_another(
    server: RunningServer, client: SegmentationClient
) -> None:
    pictures, _ = clip(12, seed=9)
    others, _ = clip(10 * BURST, seed=3)
    plain = SessionConfig(SIZE, model="medium", frame_policy=FramePolicy.EVERY)

    async def masks() -> list[bytes]:
        found = []
        async with client.stream(plain) as stream:
            for index, picture in enumerate(pictures):
                (answer,) = await burst(stream, [picture], 1 + index * STEP_US)
                assert isinstance(answer, MaskAnswer)
                found.append(answer.alpha8.tobytes())
        return found

    alone = await masks()
    loaded = asyncio.ensure_future(run(client, CONFIG, others))
    among = [await masks() for _ in range(2)]
    assert among == [alone, alone]
    assert any(isinstance(answer, Estimated) for answer in await loaded)
