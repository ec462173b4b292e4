"""A finished picture never shows the real room: a loud pattern stands behind the person, and no answer may hold it.

Looked for where it is hardest to hide: on the first frames, while frames are superseded and late, where the engine
fails, where a stream is broken and goes on at another replica, and where a config changes in mid-stream. In messages
and through shared memory, which is searched as well.
"""

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from humanseg import (
    Accepted,
    BlurBackground,
    ColorBackground,
    Composite,
    Dropped,
    DropReason,
    Estimated,
    Estimates,
    ImageBackground,
    MaskAnswer,
    Notice,
    PictureAnswer,
    PixelFormat,
    ResumeOutcome,
    SegmentationClient,
    SegmentationStream,
    SessionConfig,
    SharedMemory,
    Size,
    TransparentBackground,
)
from humanseg.answers import Answer
from humanseg.frames import view_frame
from humanseg.shared_memory import Span
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Picture
from humanseg.vision.color import rgb_to_i420, to_rgb
from humanseg.vision.cv import encode_png
from humanseg.vision.decode import decode_picture
from support.models import write_faulty_model, write_red_model, write_slow_model
from support.regions import TestRegion, shared_region
from support.server import RunningServer, running_server
from support.stream import open_stream
from support.timing import limit_s

SIZE = Size(320, 192)
STEP_US = 33_333
#: Saturated, and without red, which is the models' answer: nobody is in them.
STRIPES = ((0, 255, 0), (0, 0, 255))
STRIPE_PX = 8
BACKGROUNDS = [
    BlurBackground(),
    BlurBackground(0.03),
    ColorBackground(90, 90, 90),
    ImageBackground(encode_png(np.full((90, 160, 3), 90, np.uint8))),
    TransparentBackground(),
]


def loud(index: int, *, with_person: bool = True) -> Picture:
    """Stripes, and a white person that moves to the right."""
    picture = np.empty((*SIZE.shape, 3), np.uint8)
    odd = (np.arange(SIZE.width) // STRIPE_PX) % 2 == 1
    picture[:, ~odd], picture[:, odd] = STRIPES
    if with_person:
        left = 40 + 6 * index
        picture[60:150, left : left + 90] = 255
    return picture


def loudness(answer: PictureAnswer) -> float:
    """Difference between what lies under green stripes and under blue ones, in levels; 255 in the frames sent.

    In the rows above the person, where there is room only.
    """
    if answer.pixel_format.compressed:
        picture = decode_picture(answer.data, 10**7, 10**4, exif=False)
    else:
        picture = to_rgb(view_frame(answer.data, answer.pixel_format, answer.size))
    above = picture[:48].astype(float)
    odd = (np.arange(SIZE.width) // STRIPE_PX) % 2 == 1
    return float(np.abs(above[:, odd].mean((0, 1)) - above[:, ~odd].mean((0, 1))).max())


def assert_no_room(answers: Sequence[Answer]) -> None:
    for answer in answers:
        assert not isinstance(answer, MaskAnswer | Estimated), "pictures were asked for"
        if isinstance(answer, PictureAnswer):
            assert loudness(answer) < 40, f"the room shows in frame {answer.frame_id}"


def composite_of(background: object, model: str = "medium", **changes: object) -> SessionConfig:
    return SessionConfig(SIZE, model=model, composite=Composite(background), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    models: Path = tmp_path_factory.mktemp("models")
    write_red_model(models / "medium.onnx")
    write_slow_model(models / "slow.onnx")
    write_faulty_model(models / "faulty.onnx")
    with running_server(models, "--runners", "1", "--shared-memory") as running:
        yield running


@pytest.fixture(params=[None, SharedMemory(slots=64)], ids=["messages", "shared memory"])
def shared(request: pytest.FixtureRequest) -> SharedMemory | None:
    """How pictures travel; with a slot for each frame of a test, since they are sent before answers are taken."""
    way: SharedMemory | None = request.param
    return way


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[SegmentationClient]:
    async with SegmentationClient(server.target) as opened:
        yield opened


async def send_all(
    stream: SegmentationStream, frames: Sequence[Picture | bytes], first: int = 0, pause_s: float = 0.0
) -> None:
    for index, frame in enumerate(frames, first):
        await stream.send(frame, capture_time_us=(index + 1) * STEP_US)
        await asyncio.sleep(pause_s)


async def rest_of(stream: SegmentationStream) -> list[Answer]:
    await stream.finish()
    async with asyncio.timeout(limit_s(30)):
        return [answer async for answer in stream]


def test_the_pattern_is_loud() -> None:
    frame = loud(0)
    raw = pb.FrameResult(picture=frame.tobytes())
    answer = PictureAnswer(1, 1, raw.picture, PixelFormat.RGB24, SIZE, None, None)  # type: ignore[arg-type]
    assert loudness(answer) == 255


@pytest.mark.parametrize("background", BACKGROUNDS, ids=lambda one: type(one).__name__)
async def test_on_the_first_frames(client: SegmentationClient, shared: SharedMemory | None, background: object) -> None:
    async with client.stream(composite_of(background), shared_memory=shared) as stream:
        await send_all(stream, [loud(index) for index in range(5)], pause_s=0.05)
        answers = await rest_of(stream)
    assert len(answers) == 5
    assert isinstance(answers[0], PictureAnswer), "the first one has a mask of its own"
    assert_no_room(answers)


@pytest.mark.parametrize("background", BACKGROUNDS, ids=lambda one: type(one).__name__)
async def test_of_a_spread_mask_beyond_its_rim(client: SegmentationClient, background: object) -> None:
    """The rim shows the room, as its option says; nothing beyond it does, and light is not the room's."""
    wrap = 0 if isinstance(background, TransparentBackground) else 100
    composite = Composite(background, spread_percent=2.0, light_wrap_percent=wrap)  # type: ignore[arg-type]
    config = SessionConfig(SIZE, model="medium", composite=composite)
    async with client.stream(config) as stream:
        await send_all(stream, [loud(index) for index in range(5)], pause_s=0.05)
        answers = await rest_of(stream)
    assert isinstance(answers[0], PictureAnswer)
    assert_no_room(answers)
    if isinstance(background, ColorBackground):
        left = 40 + 6 * (answers[0].frame_id - 1)
        # 2 % of the height are four pixels, and the mask's soft edge a pixel of the network's input, which is two.
        rim_px = 4 + 6
        beyond = np.ones(SIZE.shape, bool)
        beyond[60 - rim_px : 150 + rim_px, left - rim_px : left + 90 + rim_px] = False
        assert (answers[0].array[beyond] == 90).all()
        assert (answers[0].array[58:60, left : left + 90] != 90).any(), "there is a rim"


async def test_light_of_a_dark_background_is_none(client: SegmentationClient) -> None:
    """Whatever the room is like: what falls on the person is the new background's light."""
    data = []
    for wrap in (0, 100):
        composite = Composite(ColorBackground(0, 0, 0), light_wrap_percent=wrap)
        async with client.stream(SessionConfig(SIZE, model="medium", composite=composite)) as stream:
            await send_all(stream, [loud(0)])
            (answer,) = await rest_of(stream)
        assert isinstance(answer, PictureAnswer)
        data.append(bytes(answer.data))
    assert data[0] == data[1]


async def test_of_a_frame_without_anybody(client: SegmentationClient, shared: SharedMemory | None) -> None:
    for background in BACKGROUNDS:
        async with client.stream(composite_of(background), shared_memory=shared) as stream:
            await send_all(stream, [loud(0, with_person=False)])
            answers = await rest_of(stream)
        assert isinstance(answers[0], PictureAnswer)
        assert_no_room(answers)


@pytest.mark.parametrize("deadline_s", [0.0, 0.03])
async def test_under_overload(client: SegmentationClient, shared: SharedMemory | None, deadline_s: float) -> None:
    """Far more frames than the slow model can take: superseded and late ones have no picture at all."""
    config = composite_of(ColorBackground(90, 90, 90), model="slow", frame_deadline_s=deadline_s)
    async with client.stream(config, shared_memory=shared) as stream:
        await send_all(stream, [loud(index % 20) for index in range(60)], pause_s=0.005)
        answers = await rest_of(stream)
    assert len(answers) == 60
    dropped = [answer for answer in answers if isinstance(answer, Dropped)]
    assert {answer.reason for answer in dropped} <= {DropReason.SUPERSEDED, DropReason.LATE}
    assert len(dropped) >= 10, "this was no overload"
    assert_no_room(answers)


async def test_where_the_engine_fails(server: RunningServer) -> None:
    """The raw answers: whatever the outcome says, no byte of a picture may be there."""
    white, black = np.full((*SIZE.shape, 3), 255, np.uint8), np.zeros((*SIZE.shape, 3), np.uint8)
    fields = {"width": SIZE.width, "height": SIZE.height, "pixel_format": pb.PIXEL_FORMAT_RGB24, "model": "faulty"}
    composite = pb.Composite(color=pb.Composite.Color(red=90, green=90, blue=90))
    async with open_stream(server.target) as stream:
        await stream.config(composite=composite, frame_policy=pb.FRAME_POLICY_EVERY, **fields)
        for frame_id, picture in enumerate((white, black, white, loud(0, with_person=False)), 1):
            await stream.send(frame_id, picture.tobytes())
            result = await stream.result()
            if picture is white:
                assert result.drop_reason == pb.DROP_REASON_ENGINE_FAILED
                assert not result.picture
                assert not result.mask
            else:
                assert result.outcome == pb.FRAME_OUTCOME_PICTURE
                assert set(np.frombuffer(result.picture, np.uint8).tolist()) == {90}
        await stream.finish()


async def test_of_broken_frames(client: SegmentationClient, shared: SharedMemory | None) -> None:
    async with client.stream(composite_of(BlurBackground()), shared_memory=shared) as stream:
        await send_all(stream, [loud(0).tobytes()[:-1], loud(0).tobytes() + b"?"], pause_s=0.05)
        answers = await rest_of(stream)
    assert [type(answer) for answer in answers] == [Dropped, Dropped]


async def test_where_masks_with_estimates_turn_into_pictures(
    client: SegmentationClient, shared: SharedMemory | None
) -> None:
    """What waits for an estimate when the config changes stays a mask; what comes after it is never estimated."""
    masks = SessionConfig(SIZE, model="slow", estimates=Estimates.SUPERSEDED)
    answers: list[Answer] = []
    # Room for pictures where the first config asks for masks.
    roomy = None if shared is None else SharedMemory(slots=16, largest=Size(640, 384))
    async with client.stream(masks, shared_memory=roomy) as stream:
        for round_ in range(6):
            first = 10 * round_
            await send_all(stream, [loud(index) for index in range(5)], first=first)
            await stream.reconfigure(composite_of(ColorBackground(90, 90, 90), model="slow"))
            await send_all(stream, [loud(index) for index in range(5)], first=first + 5)
            await stream.reconfigure(masks)
            async with asyncio.timeout(limit_s(30)):
                while len(answers) < first + 10:
                    answer = await anext(stream)
                    if not isinstance(answer, Accepted):
                        answers.append(answer)
    assert len(answers) == 60
    for answer in answers:
        wants_masks = (answer.frame_id - 1) % 10 < 5  # type: ignore[union-attr]
        allowed = (MaskAnswer, Estimated, Dropped) if wants_masks else (PictureAnswer, Dropped)
        assert isinstance(answer, allowed), (answer, wants_masks)
    assert any(isinstance(answer, Estimated) for answer in answers), "none was estimated before either"
    assert_no_room([answer for answer in answers if isinstance(answer, PictureAnswer)])


async def test_across_a_reconnect(tmp_path: Path, shared: SharedMemory | None) -> None:
    """One replica drains, the next goes on from the token; another is killed, and the stream begins anew."""
    write_red_model(tmp_path / "medium.onnx")
    key = tmp_path / "key"
    key.write_text("k" * 40)
    flags = ("--resume-key-file", str(key), "--shared-memory")
    config = composite_of(BACKGROUNDS[3])
    answers: list[Answer] = []
    with running_server(tmp_path, *flags) as first, running_server(tmp_path, *flags) as second:
        async with SegmentationClient(first.target) as here, SegmentationClient(second.target) as there:
            async with here.stream(config, shared_memory=shared) as stream:
                await send_all(stream, [loud(index) for index in range(4)], pause_s=0.05)
                first.terminate()
                async with asyncio.timeout(limit_s(20)):
                    while not isinstance(answer := await anext(stream), Notice):
                        answers.append(answer)
                answers += await rest_of(stream)
                point = stream.resume_point
            assert point is not None
            async with there.stream(config, resume=point, shared_memory=shared) as stream:
                assert stream.accepted.resume is ResumeOutcome.RESUMED
                # The person is elsewhere by now: the memory of the masks before must not uncover the room.
                await send_all(stream, [loud(20), loud(21, with_person=False)], first=4, pause_s=0.1)
                answers += await rest_of(stream)
            async with there.stream(dataclasses.replace(config, label="killed"), shared_memory=shared) as stream:
                await send_all(stream, [loud(0)], pause_s=0.1)
                second.process.kill()
    pictures = [answer for answer in answers if isinstance(answer, PictureAnswer)]
    assert len(pictures) >= 4
    assert_no_room([answer for answer in answers if not isinstance(answer, Notice)])
    after = [answer for answer in pictures if answer.frame_id <= 2 and answer is not pictures[0]]
    assert after, "pictures came after the move"


async def test_an_i420_stream_keeps_it_as_well(client: SegmentationClient, shared: SharedMemory | None) -> None:
    frames = [b"".join(plane.tobytes() for plane in rgb_to_i420(loud(index))) for index in range(3)]
    for background in BACKGROUNDS:
        i420 = composite_of(background, pixel_format=PixelFormat.I420)
        async with client.stream(i420, shared_memory=shared) as stream:
            await send_all(stream, frames, pause_s=0.05)
            answers = await rest_of(stream)
        assert any(isinstance(answer, PictureAnswer) for answer in answers)
        assert_no_room(answers)


#: What lies in the slots before the server writes: neither the room, nor the new background, nor a person.
BLANK = 0x77


def frame_fields(model: str, policy: "pb.FramePolicy.ValueType", region: TestRegion) -> dict[str, object]:
    """A config for raw streams; also fills the ring that the server writes to."""
    ring = region.layout.masks
    os.pwrite(region.descriptor, bytes((BLANK,)) * (ring.end_bytes - ring.offset_bytes), ring.offset_bytes)
    return {
        "width": SIZE.width, "height": SIZE.height, "pixel_format": pb.PIXEL_FORMAT_RGB24, "model": model,
        "frame_policy": policy, "composite": pb.Composite(color=pb.Composite.Color(red=90, green=90, blue=90)),
        "shared_memory": region.message(),
    }  # fmt: skip


def written(region: TestRegion, slot: int) -> set[int]:
    """Which values a slot for answers holds."""
    ring = region.layout.masks
    seen = os.pread(region.descriptor, ring.slot_bytes, ring.position(Span(slot, 0, 0)))
    return set(np.frombuffer(seen, np.uint8).tolist())


async def test_a_dropped_frame_leaves_nothing_in_the_region(server: RunningServer) -> None:
    """The engine fails, a byte is missing, the picture does not fit: no byte is written, in no slot."""
    room, failing = loud(0, with_person=False).tobytes(), np.full((*SIZE.shape, 3), 255, np.uint8).tobytes()
    every = pb.FRAME_POLICY_EVERY
    with shared_region(len(room), len(room)) as region, shared_region(len(room), len(room) - 1) as small:
        async with open_stream(server.target) as stream:
            await stream.config(**frame_fields("faulty", every, region))
            for frame_id, picture, reason in (
                (1, failing, pb.DROP_REASON_ENGINE_FAILED),
                (2, room[:-1], pb.DROP_REASON_WRONG_BYTE_COUNT),
            ):
                await stream.send(frame_id, b"", **region.put(picture, mask_slot=1))
                assert (await stream.result()).drop_reason == reason
            assert written(region, 0) == written(region, 1) == {BLANK}
            await stream.send(3, b"", **region.put(room, mask_slot=1))
            result = await stream.result()
            assert (result.outcome, result.shared_picture.slot) == (pb.FRAME_OUTCOME_PICTURE, 1)
            assert (written(region, 0), written(region, 1)) == ({BLANK}, {90})
        async with open_stream(server.target) as stream:
            await stream.config(**frame_fields("medium", every, small))
            await stream.send(1, b"", **small.put(room))
            result = await stream.result()
            assert (result.drop_reason, result.picture) == (pb.DROP_REASON_BAD_SHARED_MEMORY, b"")
            assert f"picture of {len(room)} bytes does not fit" in result.drop_detail
            assert written(small, 0) == written(small, 1) == {BLANK}


async def test_a_superseded_frame_leaves_nothing_in_the_region(server: RunningServer) -> None:
    room = loud(0, with_person=False).tobytes()
    with shared_region(len(room), len(room), slots=8) as region:
        async with open_stream(server.target) as stream:
            await stream.config(**frame_fields("slow", pb.FRAME_POLICY_NEWEST, region))
            for slot in range(8):
                await stream.send(slot + 1, b"", **region.put(room, slot, slot))
            results = [await stream.result() for _ in range(8)]
            reasons = {result.drop_reason for result in results}
            assert reasons == {pb.DROP_REASON_UNSPECIFIED, pb.DROP_REASON_SUPERSEDED}
            for slot, result in enumerate(results):
                assert written(region, slot) == ({BLANK} if result.drop_reason else {90})


async def test_of_a_client_that_writes_on_while_its_picture_is_worked_on(server: RunningServer) -> None:
    """The person jumps to and fro in the server's slot: one picture's mask must not uncover the other's room."""
    here, there = loud(0), loud(20)
    with shared_region(here.nbytes, here.nbytes) as region:
        async with open_stream(server.target) as stream:
            fields = frame_fields("slow", pb.FRAME_POLICY_EVERY, region)
            await stream.config(temporal_fusion=pb.TEMPORAL_FUSION_OFF, **fields)
            for frame_id in range(1, 7):
                await stream.send(frame_id, b"", **region.put(here.tobytes()))
                answer = asyncio.create_task(stream.result())
                while not answer.done():
                    region.put(there.tobytes())
                    await asyncio.sleep(0.002)
                    region.put(here.tobytes())
                    await asyncio.sleep(0.002)
                result = await answer
                assert result.outcome == pb.FRAME_OUTCOME_PICTURE
                seen = np.frombuffer(region.mask(result), np.uint8).reshape(here.shape)
                # Of the stripes, only the rim of a person may hold a trace: it is soft, and a letterbox's pixel wide.
                assert (np.ptp(seen.astype(int), axis=2) > 100).mean() < 0.005
