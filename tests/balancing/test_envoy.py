"""Two real replicas behind a real Envoy, which runs the example in deploy/envoy: `make envoy-check`."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from humanseg import (
    FramePolicy,
    SegmentationClient,
    ServerUnavailableError,
    SessionConfig,
    Size,
    TemporalFusion,
)
from humanseg.answers import MaskAnswer
from support.envoy import EXAMPLE, RunningEnvoy, envoy_program, running_envoy, why_no_envoy
from support.rolling_update import FRAMES, SIZE, by_streams, drain_under_load, play_clip, play_clips
from support.server import RunningServer, running_server
from support.stream import open_stream
from support.timing import limit_s

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(limit_s(120)),
    pytest.mark.skipif(why_no_envoy() is not None, reason=str(why_no_envoy())),
]

CONFIG = SessionConfig(SIZE, frame_policy=FramePolicy.EVERY)


@dataclass(frozen=True)
class Pair:
    """Two replicas and the proxy before them."""

    one: RunningServer
    other: RunningServer
    envoy: RunningEnvoy


@pytest.fixture
def pair(models: Path, resume_flags: tuple[str, str]) -> Iterator[Pair]:
    with (
        running_server(models, *resume_flags) as one,
        running_server(models, *resume_flags) as other,
        running_envoy(one.port, other.port) as envoy,
    ):
        yield Pair(one, other, envoy)


def test_the_example_is_valid_as_it_stands() -> None:
    done = subprocess.run(
        [envoy_program(), "--mode", "validate", "-c", str(EXAMPLE), "--log-level", "warning"],
        capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no warning either"


async def test_a_replica_that_drains_under_load_loses_no_frame_and_leaves_no_seam(pair: Pair) -> None:
    async with asyncio.timeout(limit_s(60)), SegmentationClient(pair.envoy.target) as client:
        update = await drain_under_load(client, pair.one, pair.other)
    update.check()


async def test_no_new_stream_is_served_or_refused_by_a_replica_that_drains(pair: Pair) -> None:
    async with (
        asyncio.timeout(limit_s(60)),
        SegmentationClient(pair.envoy.target) as client,
        SegmentationClient(pair.one.target) as direct,
        direct.stream(CONFIG),
    ):
        pair.one.terminate()
        await asyncio.to_thread(pair.one.wait_for_metric, 0, "humanseg_ready")
        # At once, before Envoy asks for the health again: it takes refused streams to the other replica.
        for _ in range(6):
            async with client.stream(CONFIG):
                pass
        await asyncio.to_thread(pair.envoy.wait_for_healthy, pair.other.port)
        retries = pair.envoy.stat("upstream_rq_retry")
        for _ in range(6):
            async with client.stream(CONFIG):
                pass
        assert pair.envoy.stat("upstream_rq_retry") == retries
    assert pair.other.metric("humanseg_sessions_admitted_total") == 12


async def test_clips_go_on_when_a_replica_is_killed(pair: Pair) -> None:
    killed = []

    def kill_the_busier() -> None:
        busier, _ = by_streams(pair.one, pair.other)
        busier.process.kill()
        killed.append(busier)

    async with asyncio.timeout(limit_s(60)), SegmentationClient(pair.envoy.target) as client:
        clips = await play_clips(client, kill_the_busier)
        assert len(await play_clip(client, "afterwards")) == FRAMES
    assert {len(masks) for masks in clips.values()} == {FRAMES}
    assert len(killed) == 1


async def test_a_stream_whose_replica_is_killed_ends_with_a_clear_status(pair: Pair) -> None:
    picture = np.zeros((*SIZE.shape, 3), np.uint8)
    async with asyncio.timeout(limit_s(60)), SegmentationClient(pair.envoy.target) as client:
        async with client.stream(CONFIG) as stream:
            await stream.send(picture)
            assert isinstance(await anext(stream), MaskAnswer)
            busier, _ = by_streams(pair.one, pair.other)
            busier.process.kill()
            with pytest.raises(ServerUnavailableError) as caught:
                await anext(stream)
        assert caught.value.code == grpc.StatusCode.UNAVAILABLE
        assert caught.value.retryable
        async with client.stream(CONFIG) as stream:
            await stream.send(picture)
            assert isinstance(await anext(stream), MaskAnswer)


async def test_streams_go_on_while_envoy_itself_drains_and_break_when_it_stops(pair: Pair) -> None:
    picture = np.zeros((*SIZE.shape, 3), np.uint8)
    async with (
        asyncio.timeout(limit_s(60)),
        SegmentationClient(pair.envoy.target) as client,
        client.stream(CONFIG) as stream,
    ):
        pair.envoy.drain()
        for _ in range(10):
            await stream.send(picture)
            assert isinstance(await anext(stream), MaskAnswer)
        pair.envoy.process.terminate()
        with pytest.raises(ServerUnavailableError):
            await anext(stream)


async def test_the_largest_frames_pass(pair: Pair) -> None:
    size = Size(1920, 1088)
    pictures = [np.full((*size.shape, 3), level, np.uint8) for level in (0, 100, 200)]
    masks = {}
    for target in (pair.envoy.target, pair.one.target):
        async with asyncio.timeout(limit_s(60)), SegmentationClient(target) as client:
            masks[target] = [
                alpha8.copy() async for _, alpha8 in client.masks(pictures, temporal_fusion=TemporalFusion.OFF)
            ]
    for through, direct, picture in zip(*masks.values(), pictures, strict=True):
        assert through.shape == size.shape
        np.testing.assert_array_equal(through, direct)
        assert abs(int(through[0, 0]) - int(picture[0, 0, 0])) <= 1


async def test_silent_clients_cost_no_replica_its_place(models: Path) -> None:
    flags = ("--config-timeout-s", "0.1")

    async def say_nothing() -> None:
        async with open_stream(envoy.target) as stream:
            assert (await stream.ending()).reason == "CONFIG_TIMEOUT"

    with (
        running_server(models, *flags) as one,
        running_server(models, *flags) as other,
        running_envoy(one.port, other.port) as envoy,
    ):
        await asyncio.gather(*(say_nothing() for _ in range(24)))
        assert envoy.stat("outlier_detection.ejections_detected_consecutive_gateway_failure") > 0
        assert envoy.stat("outlier_detection.ejections_enforced_total") == 0
