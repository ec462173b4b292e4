"""A server from its first line of log to its exit status: ready, asked, draining, gone; or refused at the start."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from humanseg.v1 import segmentation_pb2 as pb
from support.models import write_red_model
from support.server import ROOT, RunningServer, running_server
from support.stream import open_stream, red_gradient
from support.timing import limit_s

SERVICE = "humanseg.v1.SegmentationService"
W, H = 160, 96
GOOD = red_gradient(W, H).tobytes()


def command(module: str, *flags: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a module of ours to its end."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HUMANSEG_")}
    return subprocess.run(
        [sys.executable, "-m", module, *flags], cwd=ROOT, env={**clean, "GRPC_VERBOSITY": "ERROR", **environment},
        capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip


def health(target: str, service: str = "") -> str:
    with grpc.insecure_channel(target) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=limit_s(10))
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_says_serving(server: RunningServer, service: str) -> None:
    assert health(server.target, service) == "SERVING"
    assert health(server.target, "humanseg.v1.Nonsense") == "NOT_FOUND"


def test_the_models_are_warm_before_the_port_answers(tmp_path: Path) -> None:
    """A model that fails at warm-up ends the start: nothing listens, not even for a moment, and the log says why."""
    write_red_model(tmp_path / "nan.onnx", divisor=0.0)
    with pytest.raises(AssertionError, match="did not come up") as caught, running_server(tmp_path) as running:
        raise RuntimeError(f"serves at {running.target}")
    assert "event=start_failed" in str(caught.value)
    assert "answers values from nan to nan" in str(caught.value)


def test_reflection_lists_the_service_and_describes_it(server: RunningServer) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    with grpc.insecure_channel(server.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, described = stub.ServerReflectionInfo(iter(requests), timeout=limit_s(10))
    names = {service.name for service in listed.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    assert b"StreamSegment" in b"".join(described.file_descriptor_response.file_descriptor_proto)


def test_reflection_can_be_switched_off(models_folder: Path) -> None:
    with running_server(models_folder, "--no-reflection") as server, grpc.insecure_channel(server.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ServerReflectionInfo(iter([request]), timeout=limit_s(10)))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_a_drain_lets_the_open_streams_finish(models_folder: Path, signal_number: signal.Signals) -> None:
    with running_server(models_folder, "--drain-s", "10") as server:
        async with open_stream(server.target) as stream:
            await stream.config(
                width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24, frame_policy=pb.FRAME_POLICY_EVERY
            )
            await stream.send(1, GOOD)
            assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
            server.process.send_signal(signal_number)
            notice = (await stream.read()).notice
            assert notice.reason == pb.NOTICE_REASON_DRAINING
            assert 8 < notice.time_left.ToTimedelta().total_seconds() <= 10
            assert await asyncio.to_thread(health, server.target) == "NOT_SERVING"
            assert await asyncio.to_thread(health, server.target, SERVICE) == "NOT_SERVING"
            async with open_stream(server.target) as late:
                # Nothing is sent: of a write that crosses the refusal grpc.aio's client makes an INTERNAL of its own.
                refused = await late.ending()
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert refused.retry is not None
            # Frames are still served; all that is in flight when the client half-closes is answered.
            for frame_id in range(2, 12):
                await stream.send(frame_id, GOOD)
            results = await stream.finish()
            assert [result.frame_id for result in results] == list(range(2, 12))
            assert {result.outcome for result in results} == {pb.FRAME_OUTCOME_MASK}
            assert await stream.call.code() == grpc.StatusCode.OK
        began = time.monotonic()
        assert await asyncio.to_thread(server.wait, 10) == 0
        assert time.monotonic() - began < limit_s(8), "nobody was left to wait for"
    assert f"event=draining signal={signal_number.name} sessions=1" in server.log()
    assert "event=stopped sessions_cut=0" in server.log()
    assert_clean(server)


async def test_a_stream_that_stays_is_ended_when_the_drain_is_over(models_folder: Path) -> None:
    with running_server(models_folder, "--drain-s", "1") as server:
        async with open_stream(server.target) as stream:
            await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24)
            server.terminate()
            assert (await stream.read()).notice.reason == pb.NOTICE_REASON_DRAINING
            await stream.send(1, GOOD)
            assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
            ending = await stream.ending()
        assert (ending.code, ending.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert ending.retry is not None
        assert await asyncio.to_thread(server.wait, 10) == 0
    assert_clean(server)


async def test_a_client_that_never_reads_does_not_hold_up_the_exit(models_folder: Path) -> None:
    with running_server(models_folder, "--drain-s", "0.5") as server:
        async with open_stream(server.target) as deaf:
            await deaf.send_config(
                width=16, height=16, pixel_format=pb.PIXEL_FORMAT_RGB24, mask_width=1920, mask_height=1080,
                frame_policy=pb.FRAME_POLICY_EVERY,
            )  # fmt: skip

            async def flood() -> None:
                for frame_id in range(1, 1000):
                    await deaf.send(frame_id, bytes(16 * 16 * 3))

            flooding = asyncio.ensure_future(flood())
            await asyncio.to_thread(server.wait_for_metric, 1, "humanseg_sessions_active")
            await asyncio.sleep(0.5)
            server.terminate()
            assert await asyncio.to_thread(server.wait, 15) == 0
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)


def assert_clean(server: RunningServer) -> None:
    """Nothing in the log that nobody meant to write: no traceback, no warning of Python or asyncio."""
    strangers = [line for line in server.log_lines if not line.startswith("time=")]
    assert strangers == []
    assert "level=error" not in server.log()


def test_a_second_server_on_the_same_port_fails_and_says_so(server: RunningServer, models_folder: Path) -> None:
    second = command(
        "service", "--port", str(server.port), "--metrics-port", "0", "--models", str(models_folder)
    )  # fmt: skip
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{server.port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_metrics_port_that_is_taken(server: RunningServer, models_folder: Path) -> None:
    second = command(
        "service", "--port", "0", "--metrics-port", str(server.metrics_port), "--models", str(models_folder)
    )  # fmt: skip
    assert second.returncode == 1
    assert f"cannot serve metrics on 127.0.0.1:{server.metrics_port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_folder_without_models(tmp_path: Path) -> None:
    ended = command("service", "--port", "0", "--metrics-port", "0", "--models", str(tmp_path))
    assert ended.returncode == 1
    assert f"no *.onnx in {tmp_path}" in ended.stderr


def test_a_misspelt_setting_is_refused_before_anything_starts() -> None:
    ended = command("service", "--port", "0", HUMANSEG_MAX_SESION="3", HUMANSEG_DRAIN_S="soon")
    assert ended.returncode == 2
    assert "HUMANSEG_MAX_SESION: no such setting" in ended.stderr
    assert "HUMANSEG_DRAIN_S: 'soon' is not a number" in ended.stderr
    assert "event=" not in ended.stderr


def test_help_names_every_setting() -> None:
    ended = command("service", "--help")
    assert ended.returncode == 0
    assert "--max-sessions N" in ended.stdout
    assert "(default 64)" in ended.stdout


def test_the_health_check_of_the_image(server: RunningServer) -> None:
    good = command("service.healthcheck", HUMANSEG_PORT=str(server.port))
    assert (good.returncode, good.stderr) == (0, "")
    everywhere = command("service.healthcheck", HUMANSEG_PORT=str(server.port), HUMANSEG_HOST="0.0.0.0")
    assert everywhere.returncode == 0
    # Port 1 is nobody's.
    nobody = command("service.healthcheck", HUMANSEG_PORT="1")
    assert nobody.returncode == 1
    assert "the server on 127.0.0.1:1 is UNAVAILABLE" in nobody.stderr
    odd = command("service.healthcheck", HUMANSEG_PRT="1")
    assert odd.returncode == 1
    assert "HUMANSEG_PRT: no such setting" in odd.stderr
