"""Streams on which nothing happens cost nothing, and their time limits hold all the same."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import psutil

from humanseg.v1 import segmentation_pb2 as pb
from support.server import running_server
from support.stream import open_stream

CONFIG = {"width": 160, "height": 96, "pixel_format": pb.PIXEL_FORMAT_RGB24}
STREAMS, WATCHED_S = 60, 2.0


async def wake_ups(event_loop: psutil.Process) -> int:
    """How often the event loop's thread (the main one) was woken up within the time."""
    before = event_loop.num_ctx_switches().voluntary
    await asyncio.sleep(WATCHED_S)
    return int(event_loop.num_ctx_switches().voluntary - before)


async def test_idle_streams_do_not_wake_the_server_up(models_folder: Path) -> None:
    limits = ("--max-sessions", "100", "--idle-timeout-s", "30", "--config-timeout-s", "30", "--write-timeout-s", "30")
    with running_server(models_folder, *limits) as server:
        event_loop = psutil.Process(server.process.pid)
        alone = await wake_ups(event_loop)
        async with AsyncExitStack() as stack:
            for number in range(STREAMS):
                stream = await stack.enter_async_context(open_stream(server.target))
                if number % 2:  # the others have not even sent a config
                    await stream.config(**CONFIG)
            await asyncio.to_thread(server.wait_for_metric, STREAMS, "humanseg_sessions_active")
            assert await wake_ups(event_loop) < alone + STREAMS


async def test_an_end_that_comes_soon_wakes_a_stream_that_sleeps_for_long(models_folder: Path) -> None:
    """The watch of an idle stream has nothing to do for an hour; then SIGTERM leaves it half a second."""
    hours = ("--idle-timeout-s", "3600", "--config-timeout-s", "3600", "--write-timeout-s", "3600")
    with running_server(models_folder, *hours, "--drain-s", "0.5") as server:
        async with open_stream(server.target) as stream:
            await stream.config(**CONFIG)
            server.terminate()
            assert (await stream.read()).notice.reason == pb.NOTICE_REASON_DRAINING
            ending = await stream.ending()
            assert (ending.code, ending.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert await asyncio.to_thread(server.wait) == 0
        assert "event=drain_incomplete" not in server.log()
