"""Readiness follows the servers that run the models; here one in this process, the real Triton is in tests/triton."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from humanseg.v1 import segmentation_pb2 as pb
from service.healthcheck import check, check_ready
from support.kserve_server import kserve_server
from support.models import write_red_model
from support.server import running_server
from support.stream import open_stream
from support.timing import limit_s

W, H = 160, 96
PICTURE = np.full((H, W, 3), 90, np.uint8).tobytes()
CONFIG = {"width": W, "height": H, "pixel_format": pb.PIXEL_FORMAT_RGB24}


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + limit_s(30)
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_readiness_falls_with_the_last_server_and_comes_back_by_itself(tmp_path: Path, workers: str) -> None:
    model = write_red_model(tmp_path / "medium.onnx")
    with kserve_server(model) as triton:
        flags = ("--engine", "triton", "--triton", triton.address, "--workers", workers)
        with running_server(tmp_path, *flags) as server:
            metrics = f"127.0.0.1:{server.metrics_port}"
            async with open_stream(server.target) as stream:
                await stream.config(**CONFIG)
                await stream.send(1, PICTURE)
                assert set((await stream.result()).mask) == {90}
                assert (check(server.target), check_ready(metrics)) == ("SERVING", "SERVING")
                triton.stop()
                await stream.send(2, PICTURE)
                result = await stream.result()
                assert (result.outcome, result.drop_reason) == (
                    pb.FRAME_OUTCOME_DROPPED, pb.DROP_REASON_ENGINE_FAILED,
                )  # fmt: skip
                wait_until(lambda: check_ready(metrics) == "NOT_SERVING")
                wait_until(lambda: check(server.target) == "NOT_SERVING")
                lost = next(line for line in server.log_lines if " event=engine_lost " in line)
                assert f'reason="no Triton server runs model medium: {triton.address}: UNAVAILABLE' in lost
                triton.start()
                wait_until(lambda: check_ready(metrics) == check(server.target) == "SERVING")
                wait_until(lambda: "event=engine_back" in server.log())
                await stream.send(3, PICTURE)
                assert set((await stream.result()).mask) == {90}
                await stream.finish()
            triton.stop()
            wait_until(lambda: check_ready(metrics) == "NOT_SERVING")
            server.terminate()
            assert server.wait() == 0, "a server without an engine still drains"
