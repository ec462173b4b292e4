"""Shared memory between a real server and real clients: what works, and what a bad or dying client can do."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
import simplejpeg

from humanseg import (
    Accepted,
    BlurBackground,
    ColorBackground,
    Composite,
    FramePolicy,
    PictureAnswer,
    PixelFormat,
    SegmentationClient,
    SessionConfig,
    SharedMemory,
    Size,
    TemporalFusion,
    TransparentBackground,
)
from humanseg.answers import MaskAnswer
from humanseg.errors import LimitExceededError, ServerUnavailableError, SharedMemoryRefusedError
from humanseg.masks import MaskEncoding
from humanseg.shared_memory import FOLDER
from humanseg.stream import SegmentationStream
from humanseg.v1 import segmentation_pb2 as pb
from support.models import write_slow_model
from support.regions import TestRegion, shared_region
from support.server import ROOT, RunningServer, running_server
from support.stream import Ending, Stream, open_stream, red_gradient
from support.timing import limit_s

W, H = 160, 96
GOOD = red_gradient(W, H).tobytes()
RED = red_gradient(W, H)[..., 0]
CONFIG = {
    "width": W,
    "height": H,
    "pixel_format": pb.PIXEL_FORMAT_RGB24,
    "temporal_fusion": pb.TEMPORAL_FUSION_OFF,
}
CLIENT_CONFIG = SessionConfig(
    Size(W, H), temporal_fusion=TemporalFusion.OFF, frame_policy=FramePolicy.EVERY, label="shared"
)


@pytest.fixture(scope="module")
def sharing_server(models_folder: Path) -> Iterator[RunningServer]:
    with running_server(models_folder, "--shared-memory") as running:
        yield running


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("slow")
    write_slow_model(folder / "medium.onnx", name="medium", side=800)
    with running_server(folder, "--shared-memory", "--runners", "1") as running:
        yield running


@pytest.fixture
def region() -> Iterator[TestRegion]:
    with shared_region(len(GOOD), W * H) as made:
        yield made


def regions_in_server(server: RunningServer) -> list[str]:
    """Regions that the server has open, also those whose name is gone."""
    folder = Path(f"/proc/{server.process.pid}/fd")
    paths = []
    for link in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            paths.append(str(link.readlink()))
    return [path for path in paths if path.startswith(f"{FOLDER}/humanseg-")]


def assert_nothing_is_left(server: RunningServer) -> None:
    """The server has let go of every region; it may take a moment after the client has its status."""
    ends_s = time.monotonic() + limit_s(10)
    while (left := regions_in_server(server)) and time.monotonic() < ends_s:
        time.sleep(0.02)
    assert left == []


def regions_of(pid: int) -> list[Path]:
    """Regions that a client of ours has made and that still have a name."""
    return list(FOLDER.glob(f"humanseg-{pid}-*"))


async def assert_works(stream: Stream, region: TestRegion, frame_id: int) -> None:
    await stream.send(frame_id, b"", **region.put(GOOD, slot=1, mask_slot=1))
    result = await stream.result()
    assert (result.outcome, result.mask) == (pb.FRAME_OUTCOME_MASK, b""), result.drop_detail
    assert (result.shared_mask.slot, result.shared_mask.length_bytes) == (1, W * H)
    np.testing.assert_array_equal(np.frombuffer(region.mask(result), np.uint8).reshape(H, W), RED)


async def refusal(server: RunningServer, message: pb.SharedMemory) -> Ending:
    """How a stream ends whose config names this region; another one goes on meanwhile."""
    async with open_stream(server.target) as other, open_stream(server.target) as stream:
        await other.config(**CONFIG)
        await stream.send_config(**CONFIG, shared_memory=message)
        ending = await stream.ending()
        await other.send(1, GOOD)
        assert (await other.result()).outcome == pb.FRAME_OUTCOME_MASK
    assert_nothing_is_left(server)
    return ending


async def test_pictures_and_masks_go_through_the_region(sharing_server: RunningServer, region: TestRegion) -> None:
    async with open_stream(sharing_server.target) as stream:
        accepted = await stream.config(**CONFIG, shared_memory=region.message())
        assert accepted.config.shared_memory == region.layout.to_message()
        assert regions_in_server(sharing_server) == [str(region.path)]
        region.path.unlink()  # it has served its purpose
        await assert_works(stream, region, 1)
        # One in a message between them is answered in a message.
        await stream.send(2, GOOD)
        assert (await stream.result()).mask == RED.tobytes()
        # A later config names the region again, whose name is gone.
        await stream.config(**CONFIG, shared_memory=region.message())
        await assert_works(stream, region, 3)
        assert await stream.finish() == []
    assert_nothing_is_left(sharing_server)


@pytest.mark.parametrize("encoding", list(MaskEncoding))
@pytest.mark.parametrize("pixel_format", [PixelFormat.RGB24, PixelFormat.I420])
async def test_the_client_gets_the_same_masks_both_ways(
    sharing_server: RunningServer, encoding: MaskEncoding, pixel_format: PixelFormat
) -> None:
    rng = np.random.default_rng(7)
    shape = (H, W, 3) if pixel_format is PixelFormat.RGB24 else (H * 3 // 2, W)
    pictures = [rng.integers(0, 256, shape, np.uint8) for _ in range(9)]
    config = replace(CLIENT_CONFIG, pixel_format=pixel_format, mask_encoding=encoding)
    async with SegmentationClient(sharing_server.target) as client:
        seen = []
        for shared in (None, SharedMemory(slots=2)):
            async with client.stream(config, shared_memory=shared) as stream:
                sending = asyncio.create_task(send_all(stream, pictures))
                answers = [answer async for answer in stream]
                await sending
            assert all(isinstance(answer, MaskAnswer) for answer in answers)
            seen.append([answer.alpha8 for answer in answers if isinstance(answer, MaskAnswer)])
        assert len(seen[0]) == len(pictures)
        np.testing.assert_array_equal(seen[0], seen[1])
    assert_nothing_is_left(sharing_server)


async def send_all(stream: SegmentationStream, pictures: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> None:
    for picture in pictures:
        await stream.send(picture)
    await stream.finish()


async def test_sessions_with_regions_of_their_own_do_not_mix(sharing_server: RunningServer) -> None:
    async def one(client: SegmentationClient, shift: int) -> None:
        async with client.stream(CLIENT_CONFIG, shared_memory=SharedMemory(slots=1)) as stream:
            for _ in range(5):
                picture = red_gradient(W, H, shift)
                await stream.send(picture)
                answer = await anext(stream)
                assert isinstance(answer, MaskAnswer)
                np.testing.assert_array_equal(answer.alpha8, picture[..., 0])

    async with SegmentationClient(sharing_server.target) as client:
        await asyncio.gather(*(one(client, shift) for shift in range(0, 240, 40)))
    assert_nothing_is_left(sharing_server)


async def test_sending_waits_while_every_slot_is_in_use(slow_server: RunningServer) -> None:
    config = replace(CLIENT_CONFIG, frame_policy=FramePolicy.NEWEST)
    async with (
        SegmentationClient(slow_server.target) as client,
        client.stream(config, shared_memory=SharedMemory(slots=2)) as stream,
    ):
        most = 0
        for shift in range(6):
            await stream.send(red_gradient(W, H, shift))
            most = max(most, stream.unanswered)
        await stream.finish()
        answers = [answer async for answer in stream]
    assert most == 2
    # Whichever was superseded, none has another's picture.
    masks = {answer.frame_id: answer.alpha8 for answer in answers if isinstance(answer, MaskAnswer)}
    assert masks
    for frame_id, alpha8 in masks.items():
        np.testing.assert_array_equal(alpha8, red_gradient(W, H, frame_id - 1)[..., 0])


async def test_a_frame_that_does_not_fit_is_refused_and_the_stream_lives(sharing_server: RunningServer) -> None:
    async with SegmentationClient(sharing_server.target) as client:
        async with client.stream(CLIENT_CONFIG, shared_memory=SharedMemory()) as stream:
            with pytest.raises(LimitExceededError, match=r"exceeds the 58368 bytes of a slot"):
                await stream.send(red_gradient(2 * W, 2 * H))
            await stream.send(red_gradient(W, H))
            assert isinstance(await anext(stream), MaskAnswer)
        async with client.stream(CLIENT_CONFIG, shared_memory=SharedMemory(largest=Size(2 * W, 2 * H))) as stream:
            await stream.send(red_gradient(2 * W, 2 * H))
            answer = await anext(stream)
            assert isinstance(answer, MaskAnswer)
            assert answer.alpha8.shape == (2 * H, 2 * W)


async def test_a_server_that_was_not_told_to_refuses(server: RunningServer, region: TestRegion) -> None:
    ending = await refusal(server, region.message())
    assert (ending.code, ending.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SHARED_MEMORY_REFUSED")
    assert "switched off here" in ending.fields["config.shared_memory"]
    async with SegmentationClient(server.target) as client:
        with pytest.raises(SharedMemoryRefusedError, match="--shared-memory"):
            async with client.stream(CLIENT_CONFIG, shared_memory=SharedMemory()):
                pass
    assert regions_of(os.getpid()) == [], "the client takes its region away"


async def test_a_peer_from_elsewhere_is_refused(models_folder: Path, region: TestRegion) -> None:
    addresses = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family.name == "AF_INET" and not entry.address.startswith("127.")
    ]
    if not addresses:
        pytest.skip("this machine has no address but its loopback")
    with running_server(models_folder, "--shared-memory", "--host", "0.0.0.0") as running:
        async with open_stream(f"{addresses[0]}:{running.port}") as stream:
            await stream.send_config(**CONFIG, shared_memory=region.message())
            ending = await stream.ending()
    assert (ending.code, ending.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SHARED_MEMORY_REFUSED")
    assert f"not for ipv4:{addresses[0]}" in ending.fields["config.shared_memory"]


@pytest.mark.parametrize(
    "name",
    ["../etc/passwd", "/dev/shm/humanseg-x", "humanseg-a/../b", "humanseg-", "", "other", "humanseg-\0x", "humanseg-é"],
)
async def test_a_name_with_path_parts(sharing_server: RunningServer, region: TestRegion, name: str) -> None:
    ending = await refusal(sharing_server, region.message(name=name))
    assert (ending.code, ending.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONFIG_INVALID")
    assert "is no name of a region; allowed are 'humanseg-'" in ending.fields["config.shared_memory.name"]


def _nothing(path: Path) -> None:
    path.unlink()


def _link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name(f"{path.name}-target")))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_nothing, "cannot be opened: No such file"),
        (_link, "cannot be opened: Too many levels of symbolic links"),
        (_pipe, "is no shared-memory object"),
        (_folder, "cannot be opened: Is a directory"),
    ],
)
async def test_a_name_that_is_no_region(
    sharing_server: RunningServer, region: TestRegion, spoil: Callable[[Path], None], complaint: str
) -> None:
    spoil(region.path)
    ending = await refusal(sharing_server, region.message())
    assert ending.reason == "CONFIG_INVALID"
    assert complaint in ending.fields["config.shared_memory.name"]


async def test_a_region_one_byte_short(sharing_server: RunningServer, region: TestRegion) -> None:
    size_bytes = region.layout.size_bytes
    os.ftruncate(region.descriptor, size_bytes - 1)
    ending = await refusal(sharing_server, region.message())
    assert ending.reason == "CONFIG_INVALID"
    complaint = ending.fields["config.shared_memory.size_bytes"]
    assert f"has {size_bytes - 1} bytes, claimed were {size_bytes}" in complaint


@pytest.mark.parametrize("token", [b"", bytes(32), bytes(31)], ids=["none", "other", "short"])
async def test_somebody_elses_region(sharing_server: RunningServer, region: TestRegion, token: bytes) -> None:
    ending = await refusal(sharing_server, region.message(token=token))
    assert ending.reason == "CONFIG_INVALID"
    assert "bytes" in ending.fields["config.shared_memory.token"]


@pytest.mark.parametrize(
    ("mode", "owner", "complaint"),
    [
        (0o606, None, "is open to everybody"),
        (0o664, None, "is open to everybody"),
        (0o600, (4321, 4321), "neither the server's user's nor open to a group"),
        (0o660, (4321, 4321), "neither the server's user's nor open to a group"),
        (0o640, (4321, 0), "neither the server's user's nor open to a group"),
    ],
)
async def test_an_owner_or_mode_that_will_not_do(
    sharing_server: RunningServer, region: TestRegion, mode: int, owner: tuple[int, int] | None, complaint: str
) -> None:
    if owner is not None and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    if owner is not None:
        os.fchown(region.descriptor, *owner)
    os.fchmod(region.descriptor, mode)
    ending = await refusal(sharing_server, region.message())
    assert (ending.code, ending.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SHARED_MEMORY_REFUSED")
    assert complaint in ending.fields["config.shared_memory"]


async def test_another_users_region_that_is_open_to_a_common_group(
    sharing_server: RunningServer, region: TestRegion
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.fchown(region.descriptor, 4321, os.getegid())
    os.fchmod(region.descriptor, 0o660)
    async with open_stream(sharing_server.target) as stream:
        await stream.config(**CONFIG, shared_memory=region.message())
        await assert_works(stream, region, 1)


RINGS = [
    ("pictures", {"stride_bytes": len(GOOD) - 1}, "slots overlap"),
    ("pictures", {"slot_bytes": 0}, "a slot holds at least 1"),
    ("pictures", {"slots": 0}, "slots 0, allowed are 1 to 64"),
    ("pictures", {"slots": 65}, "slots 65, allowed are 1 to 64"),
    ("pictures", {"offset_bytes": 31}, "lies in the token"),
    ("pictures", {"offset_bytes": 2**64 - 1}, "behind the region's size_bytes"),
    ("pictures", {"stride_bytes": 2**64 - 1}, "behind the region's size_bytes"),
    ("masks", {"slots": 3}, "behind the region's size_bytes"),
    ("masks", {"offset_bytes": 4096 + 49152 + 4096}, "before the other ring ends"),
]


@pytest.mark.parametrize(("ring", "changes", "complaint"), RINGS)
async def test_rings_that_overlap_or_leave_the_region(
    sharing_server: RunningServer, region: TestRegion, ring: str, changes: dict[str, int], complaint: str
) -> None:
    message = region.message()
    for field, value in changes.items():
        setattr(getattr(message, ring), field, value)
    ending = await refusal(sharing_server, message)
    assert (ending.code, ending.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONFIG_INVALID")
    assert complaint in ending.fields[f"config.shared_memory.{ring}"]


async def test_another_region_in_mid_stream(sharing_server: RunningServer, region: TestRegion) -> None:
    with shared_region(len(GOOD), W * H) as second:
        async with open_stream(sharing_server.target) as stream:
            await stream.config(**CONFIG, shared_memory=region.message())
            await stream.send_config(**CONFIG, shared_memory=second.message())
            ending = await stream.ending()
    assert ending.reason == "CONFIG_INVALID"
    assert "name it again unchanged, or none" in ending.fields["config.shared_memory"]
    assert_nothing_is_left(sharing_server)


def noise(pixel_format: PixelFormat) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Of every value, and such that no file of it is smaller than its pixels by much."""
    shape = (H * 3 // 2, W) if pixel_format in (PixelFormat.I420, PixelFormat.NV12) else (H, W, 3)
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    "background", [ColorBackground(10, 200, 30), BlurBackground(), TransparentBackground()], ids=repr
)
@pytest.mark.parametrize("pixel_format", [PixelFormat.RGB24, PixelFormat.I420, PixelFormat.NV12, PixelFormat.JPEG])
async def test_the_client_gets_the_same_finished_pictures_both_ways(
    sharing_server: RunningServer, pixel_format: PixelFormat, background: object
) -> None:
    if pixel_format is PixelFormat.JPEG:
        picture = np.frombuffer(simplejpeg.encode_jpeg(noise(PixelFormat.RGB24), 90), np.uint8)
    else:
        picture = noise(pixel_format)
    composite = Composite(background)  # type: ignore[arg-type]
    config = replace(CLIENT_CONFIG, pixel_format=pixel_format, composite=composite)
    async with SegmentationClient(sharing_server.target) as client:
        seen = []
        for shared in (None, SharedMemory(slots=2)):
            async with client.stream(config, shared_memory=shared) as stream:
                sending = asyncio.create_task(send_all(stream, [picture, picture]))
                answers = [answer async for answer in stream]
                await sending
            assert all(isinstance(answer, PictureAnswer) for answer in answers), answers
            seen.append([answer.data for answer in answers if isinstance(answer, PictureAnswer)])
        assert seen[0] == seen[1]
    assert_nothing_is_left(sharing_server)


async def test_finished_pictures_go_through_the_region(sharing_server: RunningServer) -> None:
    composite = pb.Composite(color=pb.Composite.Color(red=1, green=2, blue=3))
    with shared_region(len(GOOD), len(GOOD)) as region:
        async with open_stream(sharing_server.target) as stream:
            await stream.config(**CONFIG, shared_memory=region.message(), composite=composite)
            await stream.send(1, b"", **region.put(GOOD, slot=1, mask_slot=0))
            shared = await stream.result()
            assert (shared.outcome, shared.picture) == (pb.FRAME_OUTCOME_PICTURE, b"")
            assert (shared.picture_width, shared.picture_height) == (W, H)
            assert shared.shared_picture == pb.SharedSpan(length_bytes=len(GOOD))
            assert not shared.HasField("shared_mask")
            # One in a message is answered in a message, and is the same.
            await stream.send(2, GOOD)
            sent = await stream.result()
            assert not sent.HasField("shared_picture")
            assert sent.picture == region.mask(shared)
            # Masks again, in the same ring.
            await stream.config(**CONFIG, shared_memory=region.message())
            await assert_works(stream, region, 3)
    assert_nothing_is_left(sharing_server)


async def test_a_composite_that_may_not_fit_is_refused_and_the_stream_lives(sharing_server: RunningServer) -> None:
    pictures = replace(CLIENT_CONFIG, composite=Composite(ColorBackground(1, 2, 3)))
    async with SegmentationClient(sharing_server.target) as client:
        async with client.stream(CLIENT_CONFIG, shared_memory=SharedMemory()) as stream:
            with pytest.raises(
                LimitExceededError, match=r"exceed the 27648 bytes of a mask slot; open the stream with"
            ):
                await stream.reconfigure(pictures)
            await stream.send(red_gradient(W, H))
            assert isinstance(await anext(stream), MaskAnswer)
        async with client.stream(pictures, shared_memory=SharedMemory()) as stream:
            larger = replace(pictures, size=Size(2 * W, 2 * H))
            with pytest.raises(LimitExceededError, match="finished pictures of up to"):
                await stream.reconfigure(larger)
            for config, kind in ((CLIENT_CONFIG, MaskAnswer), (pictures, PictureAnswer)):
                await stream.reconfigure(config)
                assert isinstance(await anext(stream), Accepted)
                await stream.send(red_gradient(W, H))
                assert isinstance(await anext(stream), kind)


async def test_a_finished_picture_whose_slot_is_gone_costs_the_frame(sharing_server: RunningServer) -> None:
    composite = pb.Composite(color=pb.Composite.Color(red=1, green=2, blue=3))
    with shared_region(len(GOOD), len(GOOD)) as region:
        async with open_stream(sharing_server.target) as stream:
            await stream.config(**CONFIG, shared_memory=region.message(), composite=composite)
            os.ftruncate(region.descriptor, region.layout.masks.offset_bytes)
            await stream.send(1, b"", **region.put(GOOD))
            dropped = await stream.result()
            assert dropped.drop_reason == pb.DROP_REASON_BAD_SHARED_MEMORY
            assert "picture cannot be written: the region has" in dropped.drop_detail
            assert os.fstat(region.descriptor).st_size == region.layout.masks.offset_bytes
            os.ftruncate(region.descriptor, region.layout.size_bytes)
            await stream.send(2, b"", **region.put(GOOD))
            assert (await stream.result()).outcome == pb.FRAME_OUTCOME_PICTURE
    assert_nothing_is_left(sharing_server)


def _span(slot: int = 0, offset_bytes: int = 0, length_bytes: int = len(GOOD)) -> pb.SharedSpan:
    return pb.SharedSpan(slot=slot, offset_bytes=offset_bytes, length_bytes=length_bytes)


FRAMES = [
    ({"shared_picture": _span(slot=2)}, "BAD_SHARED_MEMORY", "slot 2, there are 0 to 1"),
    ({"shared_picture": _span(offset_bytes=1)}, "BAD_SHARED_MEMORY", f"end at {len(GOOD) + 1}, behind slot_bytes"),
    ({"shared_picture": _span(offset_bytes=2**64 - 1)}, "BAD_SHARED_MEMORY", "behind slot_bytes"),
    ({"shared_picture": _span(length_bytes=2**64 - 1)}, "BAD_SHARED_MEMORY", "behind slot_bytes"),
    ({"shared_picture": _span(), "mask_slot": 2}, "BAD_SHARED_MEMORY", "mask_slot: slot 2, there are 0 to 1"),
    ({"shared_picture": _span(), "picture": GOOD}, "BAD_SHARED_MEMORY", "both picture and shared_picture"),
    ({"shared_picture": _span(length_bytes=len(GOOD) - 1)}, "WRONG_BYTE_COUNT", f"expected {len(GOOD)}"),
    ({"shared_picture": _span(length_bytes=0)}, "WRONG_BYTE_COUNT", "0 bytes for RGB24"),
]


@pytest.mark.parametrize(("fields", "reason", "complaint"), FRAMES)
async def test_a_frame_outside_its_slot_costs_the_frame(
    sharing_server: RunningServer, region: TestRegion, fields: dict[str, object], reason: str, complaint: str
) -> None:
    async with open_stream(sharing_server.target) as stream:
        await stream.config(**CONFIG, shared_memory=region.message())
        frame = pb.Frame(frame_id=1, capture_time_us=1, **fields)  # type: ignore[arg-type]
        await stream.write(pb.StreamSegmentRequest(frame=frame))
        dropped = await stream.result()
        assert pb.DropReason.Name(dropped.drop_reason) == f"DROP_REASON_{reason}"
        assert complaint in dropped.drop_detail
        await assert_works(stream, region, 2)


async def test_a_shared_frame_without_a_region(sharing_server: RunningServer, region: TestRegion) -> None:
    async with open_stream(sharing_server.target) as stream:
        await stream.config(**CONFIG)
        await stream.send(1, b"", shared_picture=_span())
        dropped = await stream.result()
        assert dropped.drop_reason == pb.DROP_REASON_BAD_SHARED_MEMORY
        assert "register a region" in dropped.drop_detail
        await stream.config(**CONFIG, shared_memory=region.message())
        await assert_works(stream, region, 2)


async def test_a_mask_that_does_not_fit_its_slot(sharing_server: RunningServer) -> None:
    with shared_region(len(GOOD), W * H - 1) as small:
        async with open_stream(sharing_server.target) as stream:
            await stream.config(**CONFIG, shared_memory=small.message())
            await stream.send(1, b"", **small.put(GOOD))
            dropped = await stream.result()
            assert dropped.drop_reason == pb.DROP_REASON_BAD_SHARED_MEMORY
            assert f"mask of {W * H} bytes does not fit" in dropped.drop_detail


async def test_run_lengths_that_do_not_fit_cost_the_frame(sharing_server: RunningServer) -> None:
    """Pixels of by turns person and nobody: a byte each, and one more for the first run of background."""
    stripes = np.zeros((H, W, 3), np.uint8)
    stripes[:, 0::2] = 255
    for mask_bytes, outcome in ((W * H + 1, pb.FRAME_OUTCOME_MASK), (W * H, pb.FRAME_OUTCOME_DROPPED)):
        with shared_region(len(GOOD), mask_bytes) as region:
            async with open_stream(sharing_server.target) as stream:
                await stream.config(**CONFIG, mask_encoding=pb.MASK_ENCODING_RLE, shared_memory=region.message())
                await stream.send(1, b"", **region.put(stripes.tobytes()))
                result = await stream.result()
                assert result.outcome == outcome, result.drop_detail
                if outcome == pb.FRAME_OUTCOME_DROPPED:
                    assert result.drop_reason == pb.DROP_REASON_BAD_SHARED_MEMORY
                    assert f"mask of {W * H + 1} bytes does not fit" in result.drop_detail
                else:
                    assert region.mask(result) == bytes([0] + [1] * (W * H))


async def test_slots_belong_to_the_server_until_the_answer(slow_server: RunningServer, region: TestRegion) -> None:
    async with open_stream(slow_server.target) as stream:
        await stream.config(**CONFIG, frame_policy=pb.FRAME_POLICY_EVERY, shared_memory=region.message())
        fields = region.put(GOOD, slot=0, mask_slot=0)
        await stream.send(1, b"", **fields)
        await stream.send(2, b"", **fields)
        await stream.send(3, b"", **{**fields, "shared_picture": _span(slot=1)})
        await stream.send(4, b"", **region.put(GOOD, slot=1, mask_slot=1))
        answers = [await stream.result() for _ in range(4)]
        assert [answer.outcome for answer in answers] == [
            pb.FRAME_OUTCOME_MASK, pb.FRAME_OUTCOME_DROPPED, pb.FRAME_OUTCOME_DROPPED, pb.FRAME_OUTCOME_MASK,
        ]  # fmt: skip
        assert "shared_picture: slot 0 belongs to frame 1" in answers[1].drop_detail
        assert "mask_slot: slot 0 belongs to frame 1" in answers[2].drop_detail
        await stream.send(5, b"", **fields)
        assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK, "answered: it is the client's again"


@pytest.mark.parametrize("left_bytes", [0, 4096, 4096 + len(GOOD) - 1])
async def test_a_region_that_shrinks_in_mid_stream_costs_frames_only(
    sharing_server: RunningServer, region: TestRegion, left_bytes: int
) -> None:
    async with open_stream(sharing_server.target) as other, open_stream(sharing_server.target) as stream:
        await other.config(**CONFIG)
        await stream.config(**CONFIG, shared_memory=region.message())
        await assert_works(stream, region, 1)
        fields = region.put(GOOD)
        os.ftruncate(region.descriptor, left_bytes)
        await stream.send(2, b"", **fields)
        dropped = await stream.result()
        assert dropped.drop_reason == pb.DROP_REASON_BAD_SHARED_MEMORY
        assert "picture cannot be read: the region ends after" in dropped.drop_detail
        assert os.fstat(region.descriptor).st_size == left_bytes, "the server never makes it larger"
        # The picture is there again, the mask's slot is not.
        os.ftruncate(region.descriptor, region.layout.masks.offset_bytes)
        await stream.send(3, b"", **region.put(GOOD))
        dropped = await stream.result()
        assert dropped.drop_reason == pb.DROP_REASON_BAD_SHARED_MEMORY
        assert "mask cannot be written: the region has" in dropped.drop_detail
        assert os.fstat(region.descriptor).st_size == region.layout.masks.offset_bytes
        os.ftruncate(region.descriptor, region.layout.size_bytes)
        await assert_works(stream, region, 4)
        await other.send(1, GOOD)
        assert (await other.result()).outcome == pb.FRAME_OUTCOME_MASK
    assert sharing_server.process.poll() is None


async def test_a_region_that_shrinks_and_grows_all_the_time(sharing_server: RunningServer) -> None:
    """Whatever moment it hits, each frame has an answer and the server lives: a mapped region would kill it here."""
    rgb = red_gradient(640, 480)
    with shared_region(rgb.nbytes, 640 * 480) as region:
        async with open_stream(sharing_server.target) as stream:
            config = {**CONFIG, "width": 640, "height": 480, "frame_policy": pb.FRAME_POLICY_EVERY}
            await stream.config(**config, shared_memory=region.message())
            stop = asyncio.Event()

            def shake() -> None:
                while not stop.is_set():
                    os.ftruncate(region.descriptor, 0)
                    os.ftruncate(region.descriptor, region.layout.size_bytes)

            shaking = asyncio.create_task(asyncio.to_thread(shake))
            try:
                for frame_id in range(1, 61):
                    await stream.send(frame_id, b"", **region.put(rgb.tobytes()))
                    result = await stream.result()
                    assert result.outcome in (pb.FRAME_OUTCOME_MASK, pb.FRAME_OUTCOME_DROPPED)
            finally:
                stop.set()
                await shaking
    assert sharing_server.process.poll() is None


CLIENT = """
import asyncio, sys
import numpy as np
from humanseg import FramePolicy, SegmentationClient, SessionConfig, SharedMemory, Size

async def main():
    config = SessionConfig(Size(160, 96), frame_policy=FramePolicy.EVERY)
    async with SegmentationClient(sys.argv[1]) as client:
        async with client.stream(config, shared_memory=SharedMemory()) as stream:
            while True:
                await stream.send(np.zeros((96, 160, 3), np.uint8))
                await anext(stream)
                print("answered", flush=True)

asyncio.run(main())
"""


async def test_a_killed_client_leaves_nothing_behind(sharing_server: RunningServer) -> None:
    command = [sys.executable, "-c", CLIENT, sharing_server.target]
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"answered\n"
    assert len(regions_in_server(sharing_server)) == 1
    child.kill()
    await child.wait()
    assert regions_of(child.pid) == [], "its name was gone as soon as the server had it"
    assert_nothing_is_left(sharing_server)


async def test_a_killed_server_leaves_nothing_behind(models_folder: Path) -> None:
    with running_server(models_folder, "--shared-memory") as server:
        async with (
            SegmentationClient(server.target) as client,
            client.stream(CLIENT_CONFIG, shared_memory=SharedMemory()) as stream,
        ):
            await stream.send(red_gradient(W, H))
            assert isinstance(await anext(stream), MaskAnswer)
            server.process.kill()
            with pytest.raises(ServerUnavailableError):
                await anext(stream)
    assert regions_of(os.getpid()) == []
