"""/metrics after a known number of frames: every promise of service/metrics.py, counted."""

import asyncio
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import humanseg
from humanseg.v1 import segmentation_pb2 as pb
from support.server import RunningServer, running_server
from support.stream import open_stream, open_stub, red_gradient
from support.timing import limit_s

W, H = 160, 96
GOOD = red_gradient(W, H).tobytes()
STREAM_STAGES = ("wait", "preprocess", "queue", "inference", "fusion", "postprocess", "encode", "total")
THREAD_STAGES = ("preprocess", "inference", "fusion", "postprocess", "encode")


@pytest.fixture
def fresh(models_folder: Path) -> Iterator[RunningServer]:
    """A server on which nothing was counted yet."""
    with running_server(models_folder) as running:
        yield running


async def test_the_counts_are_what_was_sent(fresh: RunningServer) -> None:
    masks, broken, failing = 7, 3, 2
    async with open_stream(fresh.target) as stream:
        await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24, frame_policy=pb.FRAME_POLICY_EVERY)
        assert fresh.metric("humanseg_sessions_active") == 1
        for frame_id in range(masks):
            await stream.send(frame_id, GOOD)
        # One frame that stands still in time: the fusion starts anew.
        await stream.send(masks, GOOD, capture_time_us=1)
        for frame_id in range(100, 100 + broken):
            await stream.send(frame_id, b"short")
        results = await stream.finish()
    assert len(results) == masks + 1 + broken
    async with open_stream(fresh.target) as stream:
        await stream.config(model="faulty", width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24)
        for frame_id in range(failing):
            await stream.send(frame_id, np.full((H, W, 3), 255, np.uint8).tobytes())
            assert (await stream.result()).drop_reason == pb.DROP_REASON_ENGINE_FAILED
        await stream.finish()
    async with open_stream(fresh.target) as stream:
        await stream.send(1, GOOD)
        await stream.ending()
    async with open_stub(fresh.target) as stub:
        await stub.Segment(pb.SegmentRequest(picture=GOOD, pixel_format=pb.PIXEL_FORMAT_RGB24, width=W, height=H))
    fresh.wait_for_metric(0, "humanseg_sessions_active")
    expected = {
        ("humanseg_frames_total", (("outcome", "mask"), ("reason", ""))): masks + 1,
        ("humanseg_frames_total", (("outcome", "dropped"), ("reason", "wrong_byte_count"))): broken,
        ("humanseg_frames_total", (("outcome", "dropped"), ("reason", "engine_failed"))): failing,
        ("humanseg_fusion_resets_total", (("reason", "first_frame"),)): 1,
        ("humanseg_fusion_resets_total", (("reason", "time"),)): 1,
        ("humanseg_stills_total", (("outcome", "mask"),)): 1,
        ("humanseg_sessions_total", (("outcome", "ok"),)): 2,
        ("humanseg_sessions_total", (("outcome", "config_missing"),)): 1,
        ("humanseg_sessions_limit", ()): 64,
        ("humanseg_sessions_admitted_total", ()): 3,
        ("humanseg_sessions_refused_total", (("reason", "too_many_sessions"),)): 0,
        ("humanseg_build_info", (("version", humanseg.__version__),)): 1,
        ("humanseg_write_seconds_count", ()): masks + 1 + broken + failing + 2,
        ("humanseg_ready", ()): 1,
        ("humanseg_live_frame_seconds_count", ()): 0,
        ("humanseg_first_mask_seconds_count", ()): 1,
        ("humanseg_batch_frames_count", (("model", "medium"),)): masks + 2,
        ("humanseg_engine_info", (("model", "medium"), ("version", "test"), ("engine", "onnxruntime-cpu"))): 1,
        ("humanseg_engine_info", (("model", "faulty"), ("version", "test"), ("device", "CPU"))): 1,
    }
    seen = {key: fresh.metric(key[0], **dict(key[1])) for key in expected}
    assert seen == expected
    for stage in STREAM_STAGES:
        count = masks + 1 if stage == "fusion" else masks + 2  # the still has no past
        assert fresh.metric("humanseg_stage_seconds_count", stage=stage) == count, stage
    for stage in THREAD_STAGES:
        assert fresh.metric("humanseg_stage_cpu_seconds_total", stage=stage) > 0


@pytest.mark.parametrize("rate", [120, 60, 30])
def test_the_time_of_a_frame_at_that_rate_is_an_edge(server: RunningServer, rate: int) -> None:
    """Of every histogram of seconds, for every stage, before the first frame: 8, 16.7 and 33.3 ms."""
    histograms = [
        "humanseg_first_mask_seconds", "humanseg_write_seconds", "humanseg_loop_lag_seconds", "humanseg_stage_seconds",
        "humanseg_live_frame_seconds",
    ]  # fmt: skip
    edge = {120: "0.008", 60: "0.0167", 30: "0.0333"}[rate]
    page = samples(server)
    stages = {labels["stage"] for name, labels in page if name == "humanseg_stage_seconds_bucket"}
    assert stages == {*STREAM_STAGES, "decode"}
    for name in histograms:
        for stage in stages if name == "humanseg_stage_seconds" else [None]:
            label = {} if stage is None else {"stage": stage}
            assert (f"{name}_bucket", {**label, "le": edge}) in page


async def test_a_picture_that_is_decoded_is_counted(server: RunningServer) -> None:
    decoded = server.metric("humanseg_stage_seconds_count", stage="decode")
    _, jpeg = cv2.imencode(".jpg", red_gradient(W, H))
    async with open_stub(server.target) as stub:
        await stub.Segment(pb.SegmentRequest(picture=jpeg.tobytes(), pixel_format=pb.PIXEL_FORMAT_JPEG))
    assert server.metric("humanseg_stage_seconds_count", stage="decode") == decoded + 1


def test_the_event_loop_is_watched_while_nobody_calls(server: RunningServer) -> None:
    deadline = time.monotonic() + limit_s(20)
    while server.metric("humanseg_loop_lag_seconds_count") == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def samples(server: RunningServer) -> list[tuple[str, dict[str, str]]]:
    """(name, labels) of all of ours."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=limit_s(10)) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    ours = [family for family in families if family.name.startswith("humanseg")]
    return [(sample.name, sample.labels) for family in ours for sample in family.samples]


async def test_cpu_outside_of_engine_and_fusion_can_be_computed(fresh: RunningServer) -> None:
    """What the demo's report divides by the frames: all of the process, minus these two stages."""
    async with open_stream(fresh.target) as stream:
        await stream.config(
            width=640, height=360, pixel_format=pb.PIXEL_FORMAT_I420, frame_policy=pb.FRAME_POLICY_EVERY
        )
        before = fresh.metric("process_cpu_seconds_total")
        random = np.random.default_rng(0)
        for frame_id in range(40):
            await stream.send(frame_id, random.integers(0, 256, 640 * 360 * 3 // 2, dtype=np.uint8).tobytes())
            assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
        await stream.finish()
    process = fresh.metric("process_cpu_seconds_total") - before
    stages = [fresh.metric("humanseg_stage_cpu_seconds_total", stage=stage) for stage in ("inference", "fusion")]
    assert all(seconds > 0 for seconds in stages)
    assert sum(stages) < process + 0.05, "stages are a part of the process (its clock ticks in hundredths)"


async def test_an_engine_with_threads_of_its_own_is_named_and_counted(models_folder: Path) -> None:
    """The thread that waits for it spends next to nothing, so what stands in the metrics is the time it took."""
    with running_server(models_folder, "--engine", "openvino-f32") as server:
        async with open_stream(server.target) as stream:
            accepted = await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24)
            assert accepted.model.engine == "openvino-f32"
            await stream.send(1, GOOD)
            assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
            await stream.finish()
        assert server.metric("humanseg_engine_info", model="medium", version="test", engine="openvino-f32") == 1
        cpu = server.metric("humanseg_stage_cpu_seconds_total", stage="inference")
        assert cpu == server.metric("humanseg_stage_seconds_sum", stage="inference") > 0


async def test_no_label_grows_with_the_sessions(fresh: RunningServer) -> None:
    async def one(label: str) -> None:
        async with open_stream(fresh.target) as stream:
            await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24, session_label=label)
            await stream.send(1, GOOD)
            await stream.result()
            await stream.finish()

    await one("first")
    fresh.wait_for_metric(0, "humanseg_sessions_active")
    before = len(samples(fresh))
    await asyncio.gather(*(one(f"another-{index}") for index in range(12)))
    fresh.wait_for_metric(0, "humanseg_sessions_active")
    assert len(samples(fresh)) == before


async def test_live_frames_have_a_time_of_their_own_and_offline_ones_and_stills_are_not_in_it(
    fresh: RunningServer,
) -> None:
    for policy, frames in ((pb.FRAME_POLICY_NEWEST, 3), (pb.FRAME_POLICY_EVERY, 5)):
        async with open_stream(fresh.target) as stream:
            await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_RGB24, frame_policy=policy)
            for frame_id in range(frames):
                await stream.send(frame_id, GOOD)
                assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
            await stream.send(frames, b"short")
            await stream.finish()
    async with open_stub(fresh.target) as stub:
        await stub.Segment(pb.SegmentRequest(picture=GOOD, pixel_format=pb.PIXEL_FORMAT_RGB24, width=W, height=H))
    assert fresh.metric("humanseg_live_frame_seconds_count") == 3
    total = fresh.metric("humanseg_stage_seconds_sum", stage="total")
    assert 0 < fresh.metric("humanseg_live_frame_seconds_sum") < total


async def test_a_file_that_cannot_be_used_shows_without_a_call(models_folder: Path, tmp_path: Path) -> None:
    keys, tokens = tmp_path / "keys", tmp_path / "tokens"
    keys.write_text("k" * 32 + "\n")
    tokens.write_text("a" * 64 + " acme\n")
    flags = ("--resume-key-file", str(keys), "--auth-tokens-file", str(tokens))
    with running_server(models_folder, *flags) as server:
        for file in ("resume_key", "auth_tokens"):
            assert server.metric("humanseg_file_refused", file=file) == 0
        keys.write_text("short\n")
        server.wait_for_metric(1, "humanseg_file_refused", file="resume_key")
        assert server.metric("humanseg_file_refused", file="auth_tokens") == 0
        assert "event=file_refused" in server.log()
        keys.write_text("n" * 32 + "\n")
        server.wait_for_metric(0, "humanseg_file_refused", file="resume_key")
        assert server.rss_bytes() < server.metric("humanseg_memory_limit_bytes")
