"""Traces as a collector gets them: a real server sends them by OTLP to a real gRPC server of this process."""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("opentelemetry.sdk.trace", reason="OpenTelemetry is not installed (humanseg[otel])")
pytest.importorskip("opentelemetry.proto", reason="OpenTelemetry's OTLP exporter is not installed (humanseg[otel])")

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import humanseg
from humanseg.v1 import segmentation_pb2 as pb
from support.collector import Collector, running_collector, values
from support.server import RunningServer, running_server
from support.stream import Stream, open_stub, red_gradient

W, H = 160, 96
GOOD = red_gradient(W, H).tobytes()
FAILING = np.full((H, W, 3), 255, np.uint8).tobytes()
STAGES = {"wait", "preprocess", "queue", "inference", "fusion", "postprocess", "encode", "write"}
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ALL = ("--trace-ratio", "1", "--trace-frame-ratio", "1")


@asynccontextmanager
async def open_traced(server: RunningServer, traceparent: str | None = None, **config: object) -> AsyncIterator[Stream]:
    """A stream that has its config, with the client's trace in its metadata."""
    metadata = None if traceparent is None else [("traceparent", traceparent), ("tracestate", "vendor=1")]
    async with open_stub(server.target) as stub:
        call = stub.StreamSegment(metadata=metadata)
        stream = Stream(call)
        await stream.config(
            width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24, frame_policy=pb.FRAME_POLICY_EVERY, **config
        )
        try:
            yield stream
        finally:
            call.cancel()


async def send(stream: Stream, pictures: list[bytes]) -> list[pb.FrameResult]:
    for frame_id, picture in enumerate(pictures):
        await stream.send(frame_id, picture)
    return await stream.finish()


def closed_line(server: RunningServer) -> str:
    (line,) = [line for line in server.log_lines if "event=session_closed" in line]
    return line


async def test_a_stream_and_its_frames_continue_the_trace_of_the_client(models_folder: Path) -> None:
    with running_collector() as collector:
        environment = {
            "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=pod-7", "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=ours"
        }  # fmt: skip
        flags = ("--trace-endpoint", collector.endpoint, *ALL)
        with running_server(models_folder, *flags, environment=environment) as server:
            async with open_traced(server, f"00-{TRACE_ID}-{PARENT_ID}-01", session_label="desk") as stream:
                await send(stream, [GOOD, b"short", GOOD])
            span = collector.wait_for_stream()
            line = closed_line(server)
            server.wait_for_metric(len(collector.spans), "humanseg_trace_spans_total", outcome="sent")
        assert span.trace_id.hex() == TRACE_ID
        assert span.parent_span_id.hex() == PARENT_ID
        assert span.trace_state == "vendor=1"
        assert span.kind == Span.SPAN_KIND_SERVER
        assert span.status.code == Status.STATUS_CODE_UNSET
        told = values(span)
        session = told.pop("humanseg.session")
        assert told == {
            "rpc.system": "grpc", "rpc.service": "humanseg.v1.SegmentationService", "rpc.method": "StreamSegment",
            "humanseg.label": "desk", "humanseg.model": "medium", "humanseg.model_version": "test",
            "humanseg.engine": "onnxruntime-cpu", "humanseg.outcome": "ok",
            "humanseg.frames": 3, "humanseg.masks": 2, "humanseg.estimates": 0, "humanseg.drops": 1,
        }  # fmt: skip
        assert f" session={session} " in line
        assert f" trace_id={TRACE_ID} span_id={span.span_id.hex()}" in line
        assert collector.resources[0]["service.name"] == "humanseg"
        assert collector.resources[0]["service.version"] == humanseg.__version__
        assert "humanseg.worker" not in collector.resources[0]
        assert collector.resources[0]["k8s.pod.name"] == "pod-7"
        assert collector.headers[0]["x-tenant"] == "ours"
        _check_frames(collector, span)


def _check_frames(collector: Collector, stream: Span) -> None:
    frames = sorted(collector.frames(), key=lambda frame: values(frame)["humanseg.frame_id"])
    mask = {
        "humanseg.outcome": "mask", "humanseg.degrade_level": 0, "humanseg.model": "medium",
        "humanseg.model_version": "test", "humanseg.engine": "onnxruntime-cpu",
    }  # fmt: skip
    assert [values(frame) for frame in frames] == [
        {"humanseg.frame_id": 0, **mask},
        {"humanseg.frame_id": 1, "humanseg.outcome": "dropped", "humanseg.reason": "wrong_byte_count"},
        {"humanseg.frame_id": 2, **mask},
    ]
    for frame in frames:
        assert (frame.trace_id, frame.parent_span_id) == (stream.trace_id, stream.span_id)
        assert stream.start_time_unix_nano < frame.start_time_unix_nano < frame.end_time_unix_nano
        assert frame.end_time_unix_nano < stream.end_time_unix_nano
        stages = collector.children(frame)
        is_dropped = values(frame)["humanseg.outcome"] == "dropped"
        assert {stage.name for stage in stages} == ({"write"} if is_dropped else STAGES)
        at_ns = frame.start_time_unix_nano
        for stage in sorted(stages, key=lambda stage: (stage.start_time_unix_nano, stage.end_time_unix_nano)):
            assert at_ns <= stage.start_time_unix_nano <= stage.end_time_unix_nano, "one after another"
            at_ns = stage.end_time_unix_nano
        assert at_ns == frame.end_time_unix_nano, "to hand the answer out is the last of it"
        assert sum(len(span.events) for span in stages) == 0


async def test_a_faulty_engine_marks_the_frame_and_not_the_stream(models_folder: Path) -> None:
    with running_collector() as collector:
        flags = ("--trace-endpoint", collector.endpoint, "--workers", "2", *ALL)
        with running_server(models_folder, *flags) as server:
            async with open_traced(server, model="faulty") as stream:
                await send(stream, [FAILING])
            span = collector.wait_for_stream()
            worker = collector.resources[0]["humanseg.worker"]
            assert f" worker={worker} " in closed_line(server)
        (frame,) = collector.frames()
        assert values(frame)["humanseg.reason"] == "engine_failed"
        assert (frame.status.code, frame.status.message) == (Status.STATUS_CODE_ERROR, "ENGINE_FAILED")
        assert span.status.code == Status.STATUS_CODE_UNSET
        assert not span.parent_span_id, "without a traceparent the trace begins here"


async def test_the_clients_flag_decides_and_else_the_ratio(models_folder: Path) -> None:
    """At a ratio of 0 a stream whose client samples is traced, one whose client does not is not."""
    with running_collector() as collector:
        flags = ("--trace-endpoint", collector.endpoint, "--trace-ratio", "0", "--trace-frame-ratio", "0")
        with running_server(models_folder, *flags) as server:
            for traceparent in (None, f"00-{TRACE_ID}-{PARENT_ID}-00", "rubbish", f"00-{'1' * 32}-{PARENT_ID}-01"):
                async with open_traced(server, traceparent) as stream:
                    assert len(await send(stream, [GOOD])) == 1
            span = collector.wait_for_stream()
            server.terminate()
            assert server.wait() == 0
            lines = [line for line in server.log_lines if "event=session_closed" in line]
        assert span.trace_id.hex() == "1" * 32
        assert collector.spans == [span], "no frame at a ratio of 0, and no stream but this one"
        assert ["trace_id=" in line for line in lines] == [False, False, False, True]


async def test_a_share_of_the_frames_gets_spans(models_folder: Path) -> None:
    frames, ratio = 240, 0.25
    with running_collector() as collector:
        flags = ("--trace-endpoint", collector.endpoint, "--trace-ratio", "1", "--trace-frame-ratio", str(ratio))
        with running_server(models_folder, *flags) as server:
            async with open_traced(server) as stream:
                await send(stream, [b"short"] * frames)
            collector.wait_for_stream()
        # Five standard deviations of a binomial distribution to both sides.
        assert abs(len(collector.frames()) - frames * ratio) < 5 * (frames * ratio * (1 - ratio)) ** 0.5


async def test_what_is_left_is_sent_at_the_end(models_folder: Path) -> None:
    """A stream that the drain ends: its span is there when the process is gone."""
    with running_collector() as collector:
        with running_server(models_folder, "--trace-endpoint", collector.endpoint, "--drain-s", "0.1", *ALL) as server:
            async with open_traced(server) as stream:
                server.terminate()
                assert (await stream.ending()).reason == "DRAINING"
            assert server.wait() == 0
        (span,) = collector.streams()
        assert values(span)["humanseg.outcome"] == "draining"


async def test_a_collector_that_is_gone_costs_spans_and_one_line(models_folder: Path) -> None:
    """Nobody listens; frames are answered, spans are counted as lost; once somebody does, they are sent again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running_server(models_folder, "--trace-endpoint", f"http://127.0.0.1:{port}", *ALL) as server:

        async def one_stream() -> None:
            async with open_traced(server) as stream:
                assert len(await send(stream, [GOOD, GOOD])) == 2

        spans = 2 * (1 + len(STAGES)) + 1
        for done in (1, 2):
            await one_stream()
            server.wait_for_metric(done * spans, "humanseg_trace_spans_total", outcome="dropped")
        said = [line for line in server.log_lines if str(port) in line and "event=starting" not in line]
        assert len(said) == 1, server.log()
        assert "level=warning event=trace_export_failed " in said[0]
        assert "UNAVAILABLE" in said[0]
        with running_collector(port) as collector:
            await one_stream()
            collector.wait_for_stream()
            server.wait_for_metric(spans, "humanseg_trace_spans_total", outcome="sent")


@contextlib.contextmanager
def mute_listener() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_collector_that_hangs_does_not_keep_the_process(models_folder: Path) -> None:
    with (
        mute_listener() as port,
        running_server(models_folder, "--trace-endpoint", f"http://127.0.0.1:{port}", *ALL) as server,
    ):
        async with open_traced(server) as stream:
            assert len(await send(stream, [GOOD] * 5)) == 5
        server.terminate()
        assert server.wait() == 0
        assert sum("event=trace_export_failed" in line for line in server.log_lines) == 1
