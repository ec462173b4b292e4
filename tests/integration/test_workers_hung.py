"""A worker that hangs is killed and started again; one that is only busy is left alone."""

import asyncio
import re
import signal
from pathlib import Path

import psutil

from humanseg.v1 import segmentation_pb2 as pb
from support.models import write_slow_model
from support.server import RunningServer, running_server
from support.stream import open_stream, red_gradient
from support.timing import limit_s

W, H = 160, 96
PICTURE = red_gradient(W, H).tobytes()
CONFIG = {"width": W, "height": H, "pixel_format": pb.PIXEL_FORMAT_RGB24, "frame_policy": pb.FRAME_POLICY_EVERY}


def workers(server: RunningServer) -> dict[int, int]:
    """Process ids by the worker's number, as the log of the newest ones has them."""
    children = {process.pid for process in psutil.Process(server.process.pid).children()}
    assert len(children) == 2
    ready = re.findall(r" event=worker_ready worker=(\d+) pid=(\d+)", server.log())
    return {int(number): int(pid) for number, pid in ready if int(pid) in children}


async def keep_busy(server: RunningServer) -> None:
    """Frames as fast as they are answered, until the other worker is found; given up if that is who got the stream."""
    async with open_stream(server.target) as stream:
        try:
            async with asyncio.timeout(limit_s(1)):
                await stream.config(**CONFIG)
        except TimeoutError:
            return
        frame_id = 0
        while "event=worker_hung" not in server.log():
            frame_id += 1
            await stream.send(frame_id, PICTURE)
            assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK


async def test_a_stopped_worker_is_replaced_and_a_busy_one_is_not(tmp_path: Path) -> None:
    write_slow_model(tmp_path / "medium.onnx", name="medium", side=500)
    with running_server(tmp_path, "--workers", "2", "--runners", "2", "--worker-silence-s", "2") as server:
        before = workers(server)
        psutil.Process(before[0]).send_signal(signal.SIGSTOP)
        while "event=worker_hung" not in server.log():
            await keep_busy(server)
        await asyncio.to_thread(server.wait_for_metric, 1, "humanseg_worker_restarts_total")
        await asyncio.to_thread(server.wait_for_metric, 2, "humanseg_workers_ready")
        assert server.metric("humanseg_worker_hangs_total") == 1
        assert f"event=worker_hung worker=0 pid={before[0]} silent_s=2.0" in server.log()
        assert "event=worker_ended worker=0 status=-9" in server.log()
        after = workers(server)
        assert after[0] != before[0]
        assert after[1] == before[1], "the busy one lives"
        server.terminate()
        assert await asyncio.to_thread(server.wait) == 0
