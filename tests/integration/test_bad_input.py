"""What a real client can do wrong: each ends in a clear status or a drop, and harms nobody else."""

import asyncio
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest

from humanseg.v1 import segmentation_pb2 as pb
from support.server import ROOT, RunningServer, running_server
from support.stream import Ending, open_stream, open_stub, red_gradient

RGB = pb.PIXEL_FORMAT_RGB24
W, H = 160, 96
GOOD = red_gradient(W, H).tobytes()


def jpeg(picture: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    done, data = cv2.imencode(".jpg", picture[..., ::-1])
    assert done
    return data.tobytes()


async def assert_still_serving(server: RunningServer) -> None:
    """Another session gets its mask as if nothing had happened."""
    async with open_stream(server.target) as stream:
        await stream.config(width=W, height=H, pixel_format=RGB, temporal_fusion=pb.TEMPORAL_FUSION_OFF)
        await stream.send(1, GOOD)
        result = await stream.result()
        assert result.outcome == pb.FRAME_OUTCOME_MASK
        mask = np.frombuffer(result.mask, np.uint8).reshape(H, W)
        np.testing.assert_array_equal(mask, red_gradient(W, H)[..., 0])
        assert await stream.finish() == []
    assert server.process.poll() is None


async def test_a_frame_without_config(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        await stream.send(1, GOOD)
        ending = await stream.ending()
    assert (ending.code, ending.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CONFIG_MISSING")
    assert "frame 1 came before the first config" in ending.message
    assert ending.info is not None
    assert ending.info.domain == "humanseg.v1"
    await assert_still_serving(server)


async def test_an_empty_message(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        await stream.call.write(pb.StreamSegmentRequest())
        ending = await stream.ending()
    assert (ending.code, ending.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_EMPTY")


async def test_an_unknown_model(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        await stream.send_config(model="enormous", width=W, height=H)
        ending = await stream.ending()
    assert (ending.code, ending.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")
    assert ending.info is not None
    assert ending.info.metadata["served_models"] == "medium, faulty"


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 96), (160, 0), (2**32 - 1, 2**32 - 1), (5000, 10)])
async def test_a_size_that_cannot_be(server: RunningServer, width: int, height: int) -> None:
    async with open_stream(server.target) as stream:
        await stream.send_config(width=width, height=height)
        ending = await stream.ending()
    assert (ending.code, ending.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONFIG_INVALID")
    assert f"{width}x{height}" in ending.fields["config.width, config.height"]


async def test_enum_values_of_another_release(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        await stream.send_config(width=W, height=H, pixel_format=77, frame_policy=9)
        ending = await stream.ending()
    assert ending.reason == "CONFIG_INVALID"
    assert "value 77 is not known, allowed are PIXEL_FORMAT_RGB24 = 1" in ending.fields["config.pixel_format"]
    assert "config.frame_policy" in ending.fields


async def test_a_second_config_that_contradicts_the_frames(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        await stream.config(width=W, height=H, pixel_format=RGB)
        await stream.send(1, GOOD)
        assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
        accepted = await stream.config(width=W, height=W, pixel_format=RGB)
        assert list(accepted.resets) == [pb.STATE_RESET_SIZE]
        await stream.send(2, GOOD)
        dropped = await stream.result()
        assert dropped.drop_reason == pb.DROP_REASON_WRONG_BYTE_COUNT
        assert f"{len(GOOD)} bytes for RGB24 160x160, expected 76800" in dropped.drop_detail
        await stream.send(3, red_gradient(W, W).tobytes())
        assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK


@pytest.mark.parametrize("picture", [GOOD[:-1], GOOD + b"x", b"", b"\x00"])
async def test_a_truncated_frame(server: RunningServer, picture: bytes) -> None:
    async with open_stream(server.target) as stream:
        await stream.config(width=W, height=H, pixel_format=RGB)
        await stream.send(1, picture)
        dropped = await stream.result()
        assert (dropped.frame_id, dropped.outcome) == (1, pb.FRAME_OUTCOME_DROPPED)
        assert dropped.drop_reason == pb.DROP_REASON_WRONG_BYTE_COUNT
        assert f"{len(picture)} bytes for RGB24 160x96, expected {len(GOOD)}" in dropped.drop_detail
        await stream.send(2, GOOD)
        assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK, "the stream lives on"


def jpeg_bomb() -> bytes:
    """A JPEG of a few hundred bytes whose header declares 65500 x 65500 pixels."""
    data = bytearray(jpeg(red_gradient(16, 16)))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        pytest.param(jpeg(red_gradient(W, H))[:400], "", id="cut off"),
        pytest.param(b"\xff\xd8\xff" + bytes(200), "", id="zeros behind the signature"),
        pytest.param(b"not a jpeg at all", "", id="text"),
        pytest.param(jpeg(red_gradient(W, H - 2)), "160x94, declared was 160x96", id="another size"),
        pytest.param(jpeg_bomb(), "65500x65500", id="bomb"),
    ],
)
async def test_a_broken_jpeg(server: RunningServer, picture: bytes, text: str) -> None:
    before_bytes = server.rss_bytes()
    async with open_stream(server.target) as stream:
        await stream.config(width=W, height=H, pixel_format=pb.PIXEL_FORMAT_JPEG)
        await stream.send(1, picture)
        dropped = await stream.result()
        assert dropped.drop_reason == pb.DROP_REASON_UNDECODABLE
        assert text in dropped.drop_detail
        await stream.send(2, jpeg(red_gradient(W, H)))
        assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
    assert server.rss_bytes() - before_bytes < 200 << 20, "12 GB of declared pixels were not allocated"


async def test_a_jpeg_bomb_as_a_still(server: RunningServer) -> None:
    async with open_stub(server.target) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Segment(pb.SegmentRequest(picture=jpeg_bomb()))
    ending = Ending.of_error(caught.value)
    assert_over_the_limit(ending, "65500x65500")


def assert_over_the_limit(ending: Ending, size: str) -> None:
    assert (ending.code, ending.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert size in ending.message
    assert "max_frame_px" in ending.message
    assert ending.info is not None
    assert int(ending.info.metadata["max_frame_px"]) >= 1920 * 1080


async def test_a_png_bomb_as_a_still(server: RunningServer) -> None:
    """A kilobyte that declares 30000 x 30000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + chunk(b"IEND", b"")
    )
    async with open_stub(server.target) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Segment(pb.SegmentRequest(picture=bomb))
    assert_over_the_limit(Ending.of_error(caught.value), "30000x30000")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (161, 97), (1, 400), (399, 1)])
@pytest.mark.parametrize("pixel_format", [pb.PIXEL_FORMAT_I420, pb.PIXEL_FORMAT_NV12, pb.PIXEL_FORMAT_RGB24])
async def test_odd_sizes_are_served(server: RunningServer, width: int, height: int, pixel_format: int) -> None:
    chroma = ((width + 1) // 2) * ((height + 1) // 2) * 2
    count = width * height * 3 if pixel_format == pb.PIXEL_FORMAT_RGB24 else width * height + chroma
    async with open_stream(server.target) as stream:
        await stream.config(width=width, height=height, pixel_format=pixel_format)
        for frame_id in (1, 2, 3):
            await stream.send(frame_id, bytes([128]) * count)
            result = await stream.result()
            assert result.outcome == pb.FRAME_OUTCOME_MASK, result.drop_detail
            assert len(result.mask) == width * height


async def test_a_repeated_frame_id(server: RunningServer) -> None:
    async with open_stream(server.target) as stream:
        await stream.config(width=W, height=H, pixel_format=RGB)
        await stream.send(5, GOOD)
        await stream.result()
        await stream.send(5, GOOD)
        ending = await stream.ending()
    assert (ending.code, ending.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FRAME_ID_NOT_INCREASING")
    assert "frame_id 5 after 5" in ending.fields["frame.frame_id"]


async def test_a_message_over_the_limit_is_refused_by_name(server: RunningServer) -> None:
    """Between the frame limit and gRPC's own (64 KiB more) we answer; beyond it gRPC does."""
    async with open_stub(server.target) as stub:
        limits = (await stub.ListModels(pb.ListModelsRequest())).limits
    assert limits.max_frame_bytes >= 1920 * 1080 * 3
    async with open_stream(server.target) as stream:
        await stream.config(width=W, height=H, pixel_format=RGB)
        await stream.send(1, bytes(limits.max_frame_bytes + 1))
        dropped = await stream.result()
        assert dropped.drop_reason == pb.DROP_REASON_BAD_SIZE
        assert f"max_frame_bytes {limits.max_frame_bytes}" in dropped.drop_detail
        await stream.send(2, bytes(limits.max_frame_bytes + (1 << 20)))
        ending = await stream.ending()
    assert ending.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    await assert_still_serving(server)


async def test_an_engine_that_fails_costs_the_frame_and_not_the_stream(server: RunningServer) -> None:
    dark, bright = np.zeros((H, W, 3), np.uint8), np.full((H, W, 3), 255, np.uint8)
    async with open_stream(server.target) as stream:
        await stream.config(model="faulty", width=W, height=H, pixel_format=RGB)
        for frame_id, picture, outcome in (
            (1, dark, pb.FRAME_OUTCOME_MASK),
            (2, bright, pb.FRAME_OUTCOME_DROPPED),
            (3, dark, pb.FRAME_OUTCOME_MASK),
        ):
            await stream.send(frame_id, picture.tobytes())
            result = await stream.result()
            assert result.outcome == outcome
            if outcome == pb.FRAME_OUTCOME_DROPPED:
                assert result.drop_reason == pb.DROP_REASON_ENGINE_FAILED
                assert "onnx" not in result.drop_detail.lower(), "internal text stays in the log"
    assert "event=engine_failed" in server.log()


async def test_a_client_that_vanishes_in_mid_frame(server: RunningServer) -> None:
    """Half a message on the wire, then the connection is gone."""
    server.wait_for_metric(0, "humanseg_sessions_active")
    async with open_stream(server.target) as stream:
        await stream.config(width=1920, height=1080, pixel_format=RGB)
        writing = asyncio.ensure_future(stream.send(1, bytes(1920 * 1080 * 3)))
        await asyncio.sleep(0.002)
        stream.call.cancel()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    server.wait_for_metric(0, "humanseg_sessions_active")
    await assert_still_serving(server)


VANISHING_CLIENT = """
import asyncio, sys
from humanseg.v1 import segmentation_pb2 as pb
from support.stream import open_stream

async def main():
    async with open_stream(sys.argv[1]) as stream:
        await stream.config(width=1920, height=1080, pixel_format=pb.PIXEL_FORMAT_RGB24)
        print("open", flush=True)
        for frame_id in range(1, 10_000):
            await stream.send(frame_id, bytes(1920 * 1080 * 3))

asyncio.run(main())
"""


def start_vanishing_client(target: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", VANISHING_CLIENT, target],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


async def test_a_client_process_that_is_killed_in_mid_frame(server: RunningServer) -> None:
    """No half-close, no cancellation: the kernel drops the connection with part of a frame on the wire."""
    server.wait_for_metric(0, "humanseg_sessions_active")
    with start_vanishing_client(server.target) as client:
        assert client.stdout is not None
        assert await asyncio.to_thread(client.stdout.readline) == "open\n"
        await assert_still_serving(server)
        client.kill()
    await asyncio.to_thread(server.wait_for_metric, 0, "humanseg_sessions_active")
    await assert_still_serving(server)
    assert "event=call_failed" not in server.log(), "a client that goes is no fault of ours"


async def test_a_client_that_never_reads(models_folder: Path) -> None:
    """Its answers fill the window; the server neither buffers without end nor lets the others wait."""
    with running_server(models_folder, "--write-timeout-s", "1.5") as server:
        async with open_stream(server.target) as deaf:
            await deaf.send_config(
                width=8, height=8, pixel_format=RGB, mask_width=1920, mask_height=1080,
                frame_policy=pb.FRAME_POLICY_EVERY,
            )  # fmt: skip
            # As many as the window of the way there holds: a write under way when the status comes would become an
            # INTERNAL that grpc.aio makes itself. Their masks are half a gigabyte.
            for frame_id in range(1, 241):
                await deaf.send(frame_id, bytes(8 * 8 * 3))
            before_bytes = server.rss_bytes()
            server.wait_for_metric(1, "humanseg_sessions_active")
            for _ in range(5):
                await assert_still_serving(server)
                await asyncio.sleep(0.2)
            grown_bytes = server.rss_bytes() - before_bytes
            assert grown_bytes < 150 << 20, f"{grown_bytes >> 20} MiB for one client that does not read"
            await asyncio.to_thread(server.wait_for_metric, 0, "humanseg_sessions_active")
            ending = await deaf.ending()
        assert server.metric("humanseg_sessions_total", outcome="client_not_reading") == 1
        assert (ending.code, ending.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT_NOT_READING")
        await assert_still_serving(server)


async def test_silence_before_and_after_the_config(models_folder: Path) -> None:
    with running_server(models_folder, "--config-timeout-s", "0.3", "--idle-timeout-s", "0.6") as server:
        async with open_stream(server.target) as silent, open_stream(server.target) as idle:
            await idle.config(width=W, height=H)
            first, second = await silent.ending(), await idle.ending()
        assert (first.code, first.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "CONFIG_TIMEOUT")
        assert (second.code, second.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "IDLE_TIMEOUT")


async def test_more_sessions_than_there_is_room_for(models_folder: Path) -> None:
    with running_server(models_folder, "--max-sessions", "2") as server:
        async with open_stream(server.target) as one, open_stream(server.target) as two:
            await one.config(width=W, height=H, pixel_format=RGB)
            await two.config(width=W, height=H, pixel_format=RGB)
            async with open_stream(server.target) as three:
                # Nothing is sent: of a write that crosses the refusal grpc.aio's client makes an INTERNAL of its own.
                ending = await three.ending()
            assert (ending.code, ending.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_SESSIONS")
            assert ending.retry is not None
            assert ending.info is not None
            assert ending.info.metadata["max_sessions"] == "2"
            await one.send(1, GOOD)
            assert (await one.result()).outcome == pb.FRAME_OUTCOME_MASK


@pytest.mark.parametrize("data", [b"\x08" * 40, bytes(range(256))])
async def test_bytes_that_are_no_message(server: RunningServer, data: bytes) -> None:
    """protobuf cannot parse them; gRPC ends the call and the server lives."""
    async with grpc.aio.insecure_channel(server.target) as channel:
        method = channel.stream_stream("/humanseg.v1.SegmentationService/StreamSegment")
        call = method()
        await call.write(data)
        with pytest.raises(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
    await assert_still_serving(server)


def test_the_bomb_is_small() -> None:
    """The tests above would prove nothing with a bomb that is large itself."""
    assert len(jpeg_bomb()) < 2000
    assert io.BytesIO(jpeg_bomb()).read(3) == b"\xff\xd8\xff"
