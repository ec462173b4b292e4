"""The real client against a real server: what it promises, and what it raises."""

import asyncio
import dataclasses
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest

from humanseg import (
    Accepted,
    CallCancelledError,
    ClientOptions,
    DeadlineError,
    Degradation,
    Dropped,
    DropReason,
    FrameDroppedError,
    FramePolicy,
    InvalidRequestError,
    LimitExceededError,
    MaskAnswer,
    MaskEncoding,
    Notice,
    NoticeReason,
    PictureError,
    PixelFormat,
    ProtocolError,
    Rotation,
    SegmentationClient,
    SegmentationStream,
    ServerDrainingError,
    ServerUnavailableError,
    SessionConfig,
    Size,
    StateReset,
    TemporalFusion,
    TimedFrame,
    UnknownModelError,
)
from humanseg.answers import Answer
from humanseg.vision.arrays import Alpha8, Picture
from humanseg.vision.color import rgb_to_i420
from support.models import LANDSCAPE, UPRIGHT, write_red_model
from support.server import RunningServer, running_server
from support.stream import red_gradient
from support.timing import limit_s

SIZE = Size(*LANDSCAPE)
CONFIG = SessionConfig(SIZE, temporal_fusion=TemporalFusion.OFF, frame_policy=FramePolicy.EVERY)
STEP_US = 33_333


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[SegmentationClient]:
    async with SegmentationClient(server.target) as opened:
        yield opened


def frame_of(level: int, size: Size = SIZE) -> Picture:
    """A frame whose red, which is the model's answer, is one level all over."""
    picture = np.full((*size.shape, 3), 90, np.uint8)
    picture[..., 0] = level
    return picture


def jpeg(picture: Picture) -> bytes:
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def assert_mask(seen: Alpha8, wanted: Alpha8, tolerance: float = 1.0) -> None:
    assert seen.dtype == np.uint8
    assert seen.shape == wanted.shape
    assert float(np.abs(seen.astype(int) - wanted.astype(int)).mean()) <= tolerance


async def next_answer(stream: SegmentationStream) -> Answer:
    async with asyncio.timeout(limit_s(20)):
        return await anext(stream)


async def next_mask(stream: SegmentationStream) -> MaskAnswer:
    answer = await next_answer(stream)
    assert isinstance(answer, MaskAnswer), answer
    return answer


# --- models and still pictures


async def test_models_are_listed_with_the_limits(client: SegmentationClient) -> None:
    listed = await client.list_models()
    assert [model.name for model in listed.models] == ["medium", "faulty"]
    medium = listed.models[0]
    assert (medium.version, medium.engine, medium.network_size) == ("test", "onnxruntime-cpu", LANDSCAPE)
    assert medium.is_default
    assert not listed.models[1].is_default
    assert listed.limits.max_frame_px == 1920 * 1088
    assert listed.limits.config_timeout_s == 10


async def test_a_still_picture_as_array_png_and_jpeg(client: SegmentationClient) -> None:
    picture = red_gradient(*LANDSCAPE)
    png = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    for still, tolerance in ((picture, 0.5), (png, 0.5), (jpeg(picture), 3)):
        answer = await client.segment(still)
        assert_mask(answer.alpha8, picture[..., 0], tolerance)
        assert answer.model.name == "medium"
        assert answer.times.inference_us > 0


async def test_a_still_picture_as_raw_bytes(client: SegmentationClient) -> None:
    picture = frame_of(200)
    planes = b"".join(plane.tobytes() for plane in rgb_to_i420(picture))
    answer = await client.segment(planes, pixel_format=PixelFormat.I420, size=SIZE, mask_encoding=MaskEncoding.PNG)
    assert_mask(answer.alpha8, np.full(SIZE.shape, 200, np.uint8), 3)


async def test_a_still_picture_is_turned_and_its_mask_turned_back(client: SegmentationClient) -> None:
    lying = np.ascontiguousarray(np.rot90(red_gradient(*UPRIGHT)))
    answer = await client.segment(lying, rotation=Rotation.DEG_90, mask_size=Size(80, 48))
    assert_mask(answer.alpha8, np.asarray(cv2.resize(lying[..., 0], (80, 48), interpolation=cv2.INTER_AREA)), 1.5)


async def test_what_is_wrong_with_a_still_picture_is_said_by_type(client: SegmentationClient) -> None:
    whole = jpeg(frame_of(10))
    with pytest.raises(PictureError, match="truncated") as caught:
        await client.segment(whole[:-40])
    assert caught.value.field_violations[0].field == "picture"
    with pytest.raises(LimitExceededError, match="max_frame_bytes") as too_large:
        await client.segment(np.zeros((2160, 3840, 3), np.uint8))
    assert too_large.value.metadata == {"max_frame_bytes": str(1920 * 1088 * 3)}
    with pytest.raises(UnknownModelError) as unknown:
        await client.segment(whole, model="huge")
    assert unknown.value.code is grpc.StatusCode.NOT_FOUND
    assert "medium" in unknown.value.metadata["served_models"]


# --- streams


async def test_every_frame_has_a_mask_in_order(client: SegmentationClient) -> None:
    levels = [3 * number for number in range(60)]
    async with client.stream(CONFIG) as stream:
        assert stream.accepted.model.name == "medium"
        assert stream.accepted.config == dataclasses.replace(CONFIG, model="medium", degradation=Degradation.OFF)

        async def send() -> None:
            for number, level in enumerate(levels):
                await stream.send(frame_of(level), capture_time_us=number * STEP_US)
                assert stream.unanswered <= ClientOptions().max_unanswered
            await stream.finish()

        sender = asyncio.create_task(send())
        async with asyncio.timeout(limit_s(30)):
            answers = [answer async for answer in stream]
        await sender
    assert all(isinstance(answer, MaskAnswer) for answer in answers)
    masks = [answer for answer in answers if isinstance(answer, MaskAnswer)]
    assert [mask.frame_id for mask in masks] == list(range(1, 61))
    assert [mask.capture_time_us for mask in masks] == [number * STEP_US for number in range(60)]
    for mask, level in zip(masks, levels, strict=True):
        assert_mask(mask.alpha8, np.full(SIZE.shape, level, np.uint8))


async def test_the_newest_frame_wins_and_each_has_an_answer(client: SegmentationClient) -> None:
    config = dataclasses.replace(CONFIG, frame_policy=FramePolicy.NEWEST, size=Size(1280, 720))
    async with client.stream(config) as stream:

        async def send() -> None:
            for number in range(60):
                await stream.send(frame_of(number, config.size))
            await stream.finish()

        sender = asyncio.create_task(send())
        async with asyncio.timeout(limit_s(60)):
            answers = [answer async for answer in stream]
        await sender
    assert [answer.frame_id for answer in answers if isinstance(answer, MaskAnswer | Dropped)] == list(range(1, 61))
    dropped = [answer for answer in answers if isinstance(answer, Dropped)]
    assert {answer.reason for answer in dropped} <= {DropReason.SUPERSEDED}
    assert isinstance(answers[-1], MaskAnswer)
    assert_mask(answers[-1].alpha8, np.full(config.size.shape, 59, np.uint8))


async def test_a_config_in_mid_stream_holds_for_the_frames_after_it(client: SegmentationClient) -> None:
    fused = dataclasses.replace(CONFIG, temporal_fusion=TemporalFusion.HIGH)
    upright = dataclasses.replace(fused, size=UPRIGHT, rotation=Rotation.DEG_90)
    other = dataclasses.replace(upright, model="faulty")
    async with client.stream(fused) as stream:
        first = await stream.send(frame_of(40))
        await stream.reconfigure(upright)
        second = await stream.send(frame_of(50, UPRIGHT))
        await stream.reconfigure(other)
        third = await stream.send(frame_of(60, UPRIGHT))
        await stream.finish()
        async with asyncio.timeout(limit_s(20)):
            answers = [answer async for answer in stream]
    before, to_upright, between, to_other, after = answers
    assert isinstance(before, MaskAnswer)
    assert (before.frame_id, before.reset) == (first, StateReset.FIRST_FRAME)
    assert_mask(before.alpha8, np.full(SIZE.shape, 40, np.uint8))
    assert isinstance(to_upright, Accepted)
    assert to_upright.config == dataclasses.replace(upright, model="medium", degradation=Degradation.OFF)
    assert set(to_upright.resets) == {StateReset.SIZE, StateReset.ROTATION}
    assert isinstance(between, MaskAnswer)
    assert between.frame_id == second
    assert_mask(between.alpha8, np.full(UPRIGHT.shape, 50, np.uint8))
    assert isinstance(to_other, Accepted)
    assert to_other.model.name == "faulty"
    assert to_other.resets == (StateReset.MODEL,)
    assert isinstance(after, MaskAnswer)
    assert after.frame_id == third


async def test_a_frame_may_have_its_own_size_and_rotation(client: SegmentationClient) -> None:
    async with client.stream(CONFIG) as stream:
        await stream.send(frame_of(70, Size(64, 40)), rotation=Rotation.DEG_270, mirrored=True)
        mask = await next_mask(stream)
        await stream.send(frame_of(80))
        own = await next_mask(stream)
    assert_mask(mask.alpha8, np.full((40, 64), 70, np.uint8))
    assert_mask(own.alpha8, np.full(SIZE.shape, 80, np.uint8))


@pytest.mark.parametrize("encoding", list(MaskEncoding))
async def test_masks_are_handed_out_decoded(client: SegmentationClient, encoding: MaskEncoding) -> None:
    config = dataclasses.replace(CONFIG, mask_encoding=encoding, mask_size=Size(80, 48))
    async with client.stream(config) as stream:
        await stream.send(frame_of(130))
        level = 255 if encoding in (MaskEncoding.PACKED, MaskEncoding.RLE) else 130
        assert_mask((await next_mask(stream)).alpha8, np.full((48, 80), level, np.uint8))
    still = await client.segment(frame_of(130), mask_encoding=encoding)
    assert_mask(still.alpha8, np.full(SIZE.shape, level, np.uint8))


async def test_a_broken_frame_is_dropped_and_the_stream_lives(client: SegmentationClient) -> None:
    async with client.stream(CONFIG) as stream:
        await stream.send(b"too short")
        dropped = await next_answer(stream)
        assert isinstance(dropped, Dropped)
        assert dropped.reason is DropReason.WRONG_BYTE_COUNT
        assert "9 bytes" in dropped.detail
        await stream.send(frame_of(5))
        assert (await next_mask(stream)).frame_id == dropped.frame_id + 1


async def test_what_cannot_be_sent_leaves_the_stream_alone(client: SegmentationClient) -> None:
    async with client.stream(CONFIG) as stream:
        with pytest.raises(InvalidRequestError, match="float64"):
            await stream.send(np.zeros((96, 160, 3)))  # type: ignore[arg-type]
        with pytest.raises(LimitExceededError, match="max_frame_bytes"):
            await stream.send(np.zeros((2160, 3840, 3), np.uint8))
        assert stream.unanswered == 0
        await stream.send(frame_of(5))
        assert (await next_mask(stream)).frame_id == 1
        await stream.finish()
        await stream.finish()
        with pytest.raises(ProtocolError, match="after finish"):
            await stream.send(frame_of(6))


async def test_waiting_for_an_answer_may_be_given_up(client: SegmentationClient) -> None:
    async with client.stream(CONFIG) as stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(stream)
        await stream.send(frame_of(5))
        assert (await next_mask(stream)).frame_id == 1


async def test_an_unacceptable_config_raises_on_entering(client: SegmentationClient) -> None:
    with pytest.raises(UnknownModelError, match="huge"):
        async with client.stream(dataclasses.replace(CONFIG, model="huge")):
            pass
    with pytest.raises(InvalidRequestError) as caught:
        async with client.stream(dataclasses.replace(CONFIG, size=Size(0, 90))):
            pass
    assert caught.value.reason == "CONFIG_INVALID"
    assert "config.width" in caught.value.field_violations[0].field


async def test_an_unacceptable_config_ends_the_stream(client: SegmentationClient) -> None:
    async with client.stream(CONFIG) as stream:
        await stream.send(frame_of(5))
        assert (await next_mask(stream)).frame_id == 1
        await stream.reconfigure(dataclasses.replace(CONFIG, model="huge"))
        with pytest.raises(UnknownModelError):
            await next_answer(stream)
        with pytest.raises(UnknownModelError):
            await stream.send(frame_of(6))


async def test_ids_that_do_not_grow_end_the_stream(client: SegmentationClient) -> None:
    async with client.stream(CONFIG) as stream:
        await stream.send(frame_of(5), frame_id=7)
        assert (await next_mask(stream)).frame_id == 7
        await stream.send(frame_of(5), frame_id=7)
        with pytest.raises(ProtocolError) as caught:
            await next_answer(stream)
        assert caught.value.reason == "FRAME_ID_NOT_INCREASING"


async def test_leaving_early_frees_the_session(client: SegmentationClient, server: RunningServer) -> None:
    async with client.stream(CONFIG) as stream:
        await stream.send(frame_of(5))
    await asyncio.to_thread(server.wait_for_metric, 0, "humanseg_sessions_active")
    with pytest.raises(CallCancelledError):
        await anext(stream)


async def test_closing_the_client_ends_what_is_under_way(server: RunningServer) -> None:
    client = SegmentationClient(server.target)
    with pytest.raises(RuntimeError, match="not open"):
        await client.list_models()
    async with client:
        stream = await client.stream(CONFIG).__aenter__()
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
    with pytest.raises(CallCancelledError):
        await waiting


# --- masks()


async def test_masks_pairs_each_frame_with_its_mask(client: SegmentationClient) -> None:
    frames = [frame_of(level, Size(160, 96) if level < 60 else Size(96, 160)) for level in range(0, 120, 10)]
    seen = [pair async for pair in client.masks(iter(frames), temporal_fusion=TemporalFusion.OFF)]
    assert len(seen) == len(frames)
    for (frame, alpha8), wanted in zip(seen, frames, strict=True):
        assert frame is wanted
        assert_mask(alpha8, wanted[..., 0])


async def test_masks_takes_asynchronous_and_timed_frames(client: SegmentationClient) -> None:
    async def timed() -> AsyncIterator[TimedFrame]:
        for number in range(5):
            await asyncio.sleep(0)
            yield TimedFrame(frame_of(number), number * 1000)

    seen = [pair async for pair in client.masks(timed())]
    assert [frame.capture_time_us for frame, _ in seen] == [0, 1000, 2000, 3000, 4000]


async def test_masks_of_nothing_is_nothing(client: SegmentationClient) -> None:
    assert [pair async for pair in client.masks(iter([]))] == []


class CameraFailed(Exception):
    pass


async def test_what_reading_the_frames_raises_comes_after_their_masks(client: SegmentationClient) -> None:
    def frames() -> Iterator[Picture]:
        yield from (frame_of(level) for level in (1, 2, 3))
        raise CameraFailed

    seen = []
    with pytest.raises(CameraFailed):
        async for frame, _ in client.masks(frames()):
            seen.append(int(frame[0, 0, 0]))
    assert seen == [1, 2, 3]


async def test_masks_left_early_reads_no_further_and_frees_the_session(
    client: SegmentationClient, server: RunningServer
) -> None:
    read = 0

    def frames() -> Iterator[Picture]:
        nonlocal read
        while True:
            read += 1
            yield frame_of(1)

    async with aclosing(client.masks(frames())) as pairs:
        async for _ in pairs:
            break
    after = read
    assert after <= 3 + ClientOptions().max_unanswered
    await asyncio.to_thread(server.wait_for_metric, 0, "humanseg_sessions_active")
    assert read == after


async def test_frames_are_read_beside_the_event_loop(client: SegmentationClient) -> None:
    main = threading.get_ident()
    readers: set[int] = set()

    def frames() -> Iterator[Picture]:
        for level in range(3):
            readers.add(threading.get_ident())
            yield frame_of(level)

    async for _ in client.masks(frames()):
        pass
    assert main not in readers


async def test_a_dropped_frame_is_an_error_where_each_must_have_a_mask(client: SegmentationClient) -> None:
    seen = 0
    with pytest.raises(FrameDroppedError) as caught:
        async for _ in client.masks(iter([frame_of(10), frame_of(200), frame_of(10)]), model="faulty"):
            seen += 1
    assert caught.value.reason == DropReason.ENGINE_FAILED.name
    assert seen == 1


# --- servers that go


async def test_no_server_is_said_by_type() -> None:
    async with SegmentationClient("127.0.0.1:1") as client:
        with pytest.raises(ServerUnavailableError) as caught:
            await client.list_models()
        assert caught.value.retryable
        with pytest.raises(ServerUnavailableError):
            async with client.stream(CONFIG):
                pass


async def test_a_silent_server_is_given_up() -> None:
    # Connections are made by the system, and nobody answers on them.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = ClientOptions(timeout_s=0.5, answer_timeout_s=0.5)
        async with SegmentationClient(f"127.0.0.1:{listener.getsockname()[1]}", options=options) as client:
            with pytest.raises((DeadlineError, ServerUnavailableError)):
                await client.list_models()
            with pytest.raises((DeadlineError, ServerUnavailableError)):
                async with asyncio.timeout(limit_s(30)), client.stream(CONFIG):
                    pass


async def test_a_server_that_stops_answering_is_given_up(models_folder: Path) -> None:
    options = ClientOptions(answer_timeout_s=1.0)
    with running_server(models_folder) as server:
        async with SegmentationClient(server.target, options=options) as client, client.stream(CONFIG) as stream:
            await stream.send(frame_of(1))
            await next_mask(stream)
            server.process.send_signal(signal.SIGSTOP)
            try:
                await stream.send(frame_of(2))
                with pytest.raises(DeadlineError, match="answer_timeout_s"):
                    await next_answer(stream)
            finally:
                server.process.send_signal(signal.SIGCONT)


async def test_a_killed_server_ends_the_stream(models_folder: Path) -> None:
    with running_server(models_folder) as server:
        async with SegmentationClient(server.target) as client, client.stream(CONFIG) as stream:
            await stream.send(frame_of(1))
            await next_mask(stream)
            server.process.kill()
            await asyncio.to_thread(server.wait)
            with pytest.raises(ServerUnavailableError):
                await next_answer(stream)
            with pytest.raises(ServerUnavailableError):
                await stream.send(frame_of(2))


async def test_a_drain_is_announced_and_frames_are_served_until_it_ends(models_folder: Path) -> None:
    with running_server(models_folder, "--drain-s", "1.5") as server:
        async with SegmentationClient(server.target) as client, client.stream(CONFIG) as stream:
            await stream.send(frame_of(1))
            await next_mask(stream)
            server.terminate()
            notice = await next_answer(stream)
            assert isinstance(notice, Notice)
            assert notice.reason is NoticeReason.DRAINING
            assert 0 < notice.time_left_s <= 1.5
            await stream.send(frame_of(2))
            assert_mask((await next_mask(stream)).alpha8, np.full(SIZE.shape, 2, np.uint8))
            with pytest.raises(ServerDrainingError) as caught:
                await next_answer(stream)
            assert caught.value.retry_after_s == pytest.approx(0.5)
        assert await asyncio.to_thread(server.wait) == 0


async def test_one_model_named_otherwise_is_the_default(tmp_path: Path) -> None:
    write_red_model(tmp_path / "tiny.onnx", name="tiny")
    with running_server(tmp_path, "--default-model", "tiny") as server:
        async with SegmentationClient(server.target) as client:
            assert (await client.segment(frame_of(9))).model.name == "tiny"
