"""Two real replicas behind gRPC's round_robin: one drains under load, and nobody's masks show it."""

import asyncio
from pathlib import Path

import pytest

from humanseg import (
    Balancing,
    ClientOptions,
    FramePolicy,
    SegmentationClient,
    ServerDrainingError,
    SessionConfig,
)
from support.rolling_update import SIZE, drain_under_load
from support.server import running_server
from support.timing import limit_s

ROUND_ROBIN = ClientOptions(balancing=Balancing.ROUND_ROBIN)


async def test_a_replica_that_drains_under_load_loses_no_frame_and_leaves_no_seam(
    models: Path, resume_flags: tuple[str, str]
) -> None:
    with running_server(models, *resume_flags) as one, running_server(models, *resume_flags) as other:
        target = f"ipv4:{one.target},{other.target}"
        async with asyncio.timeout(limit_s(60)), SegmentationClient(target, options=ROUND_ROBIN) as client:
            update = await drain_under_load(client, one, other)
    update.check()


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
