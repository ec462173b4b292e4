"""GPUs that fail for good under a real server; in the place of CUDA is a recorder (tests/support/gpu_server.py)."""

import urllib.error
import urllib.request
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from humanseg.v1 import segmentation_pb2 as pb
from service.server import SERVICE_NAME
from support.models import write_red_model
from support.server import RunningServer, running_server
from support.stream import Stream, open_stream, red_gradient
from support.timing import limit_s

W, H = 160, 96
PICTURE = red_gradient(W, H).tobytes()
PROGRAM = str(Path(__file__).resolve().parent.parent / "support" / "gpu_server.py")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def answer_to(stream: Stream, frame_id: int) -> pb.FrameResult:
    await stream.send(frame_id, PICTURE)
    return await stream.result()


def health(server: RunningServer) -> list[int]:
    """Of the process as a whole, and of the service."""
    with grpc.insecure_channel(server.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        requests = [health_pb2.HealthCheckRequest(service=name) for name in ("", SERVICE_NAME)]
        return [stub.Check(request, timeout=limit_s(10)).status for request in requests]


def ready(server: RunningServer) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/ready", timeout=limit_s(10)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


async def test_readiness_falls_once_all_gpus_are_lost_and_not_before(tmp_path: Path) -> None:
    write_red_model(tmp_path / "medium.onnx")
    lost = tmp_path / "lost"
    lost.write_text("")
    with running_server(tmp_path, "--engine", "tensorrt", program=(PROGRAM, str(lost))) as server:
        device = "GPU 0 drawn; GPU 1 drawn"
        assert server.metric("humanseg_engine_info", engine="tensorrt", device=device) == 1
        assert f'engine=tensorrt device="{device}" ' in server.log()
        async with open_stream(server.target) as stream:
            await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24)
            assert (await answer_to(stream, 1)).outcome == pb.FRAME_OUTCOME_MASK
            lost.write_text("0")
            assert (await answer_to(stream, 2)).drop_reason == pb.DROP_REASON_ENGINE_FAILED
            assert (await answer_to(stream, 3)).outcome == pb.FRAME_OUTCOME_MASK, "the other one works"
            assert (server.metric("humanseg_ready"), ready(server), health(server)) == (1, 200, [SERVING, SERVING])
            lost.write_text("0 1")
            assert (await answer_to(stream, 4)).drop_reason == pb.DROP_REASON_ENGINE_FAILED
            server.wait_for_metric(0, "humanseg_ready")
            assert (ready(server), health(server)) == (503, [NOT_SERVING, NOT_SERVING])
            assert (await answer_to(stream, 5)).drop_reason == pb.DROP_REASON_ENGINE_FAILED, "what is open is answered"
        (line,) = [line for line in server.log_lines if "event=engine_lost" in line]
        assert " level=error " in line
        assert ' model=medium why="GPU 1 is lost: ' in line
        server.terminate()
        assert server.wait() == 0
