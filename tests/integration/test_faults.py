"""What goes wrong around the server: clients that are killed, a full disk behind its log, a wall clock that jumps."""

import ast
import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from humanseg.v1 import segmentation_pb2 as pb
from service.healthcheck import check
from support.server import ROOT, RunningServer, running_server
from support.stream import open_stream
from support.timing import limit_s

W, H = 160, 96
LEVEL = 90
PICTURE = np.full((H, W, 3), LEVEL, np.uint8).tobytes()
CONFIG = {"width": W, "height": H, "pixel_format": pb.PIXEL_FORMAT_RGB24}

#: Sends frames of 6 MB without a pause, so that it is in the middle of one whenever it is killed.
FLOOD = """
import asyncio, sys
import numpy as np
from humanseg import SegmentationClient, SessionConfig, Size

async def main():
    picture = np.zeros((1080, 1920, 3), np.uint8)
    async with SegmentationClient(sys.argv[1]) as client, client.stream(SessionConfig(size=Size(1920, 1080))) as stream:
        async def read():
            async for _ in stream:
                print("answered", flush=True)
        reading = asyncio.create_task(read())
        while True:
            await stream.send(picture)

asyncio.run(main())
"""


async def one_mask(target: str) -> int:
    async with open_stream(target) as stream:
        await stream.config(**CONFIG)
        await stream.send(1, PICTURE)
        mask = (await stream.result()).mask
        await stream.finish()
    [level] = set(mask)
    return level


async def test_clients_that_are_killed_in_mid_frame_leave_nothing_behind(server: RunningServer) -> None:
    assert await one_mask(server.target) == LEVEL
    process = psutil.Process(server.process.pid)
    server.wait_for_metric(0, "humanseg_sessions_active")
    open_files = process.num_fds()
    for _ in range(2):
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FLOOD, server.target, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert client.stdout is not None
            assert await client.stdout.readline() == b"answered\n"
            assert server.metric("humanseg_sessions_active") == 1
        finally:
            client.kill()
            await client.wait()
        server.wait_for_metric(0, "humanseg_sessions_active")
        assert await one_mask(server.target) == LEVEL
    server.wait_for_metric(0, "humanseg_sessions_active")
    assert server.metric("humanseg_sessions_total", outcome="cancelled") == 2
    assert "Traceback" not in server.log()
    # A connection of the endpoint's may still be closing.
    assert process.num_fds() <= open_files + 2


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def server_on_a_full_disk(models: Path, *flags: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Every line of log fails with ENOSPC: /dev/full is a disk without room. (target, process)"""
    port = free_port()
    command = [sys.executable, "-m", "service", "--port", str(port), "--metrics-port", "0", "--models", str(models)]
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen([*command, *flags], cwd=ROOT, stdout=full, stderr=full)
    target = f"127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + limit_s(60)
        while (health := check(target)) != "SERVING":
            assert process.poll() is None, "it ended"
            assert time.monotonic() < deadline, health
            time.sleep(0.2)
        yield target, process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["one process", "workers"])
async def test_a_full_disk_behind_the_log_costs_the_log_and_nothing_else(
    models_folder: Path, flags: tuple[str, ...]
) -> None:
    with server_on_a_full_disk(models_folder, *flags) as (target, process):
        assert [await one_mask(target) for _ in range(3)] == [LEVEL] * 3
        async with open_stream(target) as stream:
            # An engine fault is logged with its traceback: the longest line that there is.
            await stream.config(model="faulty", **CONFIG)
            await stream.send(1, np.full((H, W, 3), 255, np.uint8).tobytes())
            assert (await stream.result()).drop_reason == pb.DROP_REASON_ENGINE_FAILED
            await stream.finish()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, limit_s(30)) == 0


#: Makes every reading of the wall clock jump by days, back and forth.
JUMPING_CLOCK = """
import itertools, time
_true_time, _jumps = time.time, itertools.cycle((0, 400_000, -400_000, 5, -3))
time.time = lambda: _true_time() + next(_jumps)
"""


async def test_a_wall_clock_that_jumps_changes_nothing(models_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING_CLOCK)
    limits = ("--idle-timeout-s", "60", "--config-timeout-s", "20", "--frame-deadline-s", "60", "--drain-s", "20")
    environment = {"PYTHONPATH": str(tmp_path)}
    with running_server(models_folder, *limits, "--degrade", environment=environment) as server:
        async with open_stream(server.target) as stream:
            await stream.config(**CONFIG)
            for frame_id in range(1, 40):
                await stream.send(frame_id, PICTURE)
                result = await stream.result()
                assert result.outcome == pb.FRAME_OUTCOME_MASK
                assert 0 < result.times.total_us < 400_000 * 1e6
            server.terminate()
            notice = (await stream.read()).notice
            assert 0 < notice.time_left.ToTimedelta().total_seconds() <= 20
            await stream.finish()
        assert await asyncio.to_thread(server.wait) == 0
        days = {line.split("T")[0] for line in server.log_lines if line.startswith("time=")}
    assert len(days) > 1, "the clock did jump"
    assert "Traceback" not in server.log()


def test_the_service_reads_the_wall_clock_for_its_log_alone() -> None:
    names = {"time", "time_ns", "now", "utcnow", "today"}
    readers = [
        f"{path.name}: {ast.unparse(node)}"
        for path in sorted((ROOT / "service").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in names
    ]
    assert readers == []
