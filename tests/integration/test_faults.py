"""What goes wrong around the server: a full disk behind its log, a wall clock that jumps.

Clients that are killed in mid-frame are in test_bad_input.py, workers in test_workers.py.
"""

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
import pytest

from humanseg.v1 import segmentation_pb2 as pb
from service.healthcheck import check
from support.server import ROOT, running_server
from support.stream import open_stream
from support.timing import limit_s

W, H = 160, 96
LEVEL = 90
PICTURE = np.full((H, W, 3), LEVEL, np.uint8).tobytes()
CONFIG = {"width": W, "height": H, "pixel_format": pb.PIXEL_FORMAT_RGB24}


async def one_mask(target: str) -> int:
    async with open_stream(target) as stream:
        await stream.config(**CONFIG)
        await stream.send(1, PICTURE)
        mask = (await stream.result()).mask
        await stream.finish()
    [level] = set(mask)
    return level


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


def test_the_service_reads_the_wall_clock_for_its_log_tokens_and_spans_alone() -> None:
    """Another replica issued the token, perhaps, and spans come from many: no monotonic clock is common to them.

    KServe's statistics tell when the last inference was, as time since 1970; nothing is reckoned with it.
    """
    names = {"time", "time_ns", "now", "utcnow", "today"}
    readers = [
        f"{path.name}: {ast.unparse(node)}"
        for path in sorted((ROOT / "service").glob("*.py"))
        if path.name not in ("resume.py", "tracing.py", "kserve_models.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in names
    ]
    assert readers == []
