"""Strides and YUV colors with a real server: what works, and what a bad client can say of its planes."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg.frames import PixelFormat, PlaneLayout, RawFrame, frame_bytes, pack_planes, packed_layout
from humanseg.options import ColorMatrix, ColorRange, YuvColor
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size
from humanseg.vision.color import from_rgb
from support.regions import shared_region
from support.server import RunningServer, running_server
from support.stream import Ending, open_stream, open_stub, red_gradient

SIZE = Size(161, 97)
RAW = [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]
I420 = pb.PIXEL_FORMAT_I420


@pytest.fixture(scope="module")
def sharing_server(models_folder: Path) -> Iterator[RunningServer]:
    with running_server(models_folder, "--shared-memory") as running:
        yield running


def frame(pixel_format: PixelFormat) -> RawFrame:
    return from_rgb(red_gradient(*SIZE), pixel_format)


def padded(raw: RawFrame, padding: int = 7, gap: int = 5) -> tuple[bytes, list[pb.PlaneLayout]]:
    """The planes in reverse order, each row and plane followed by noise; nothing behind the last row of all."""
    noise = np.random.default_rng(1)
    data = b""
    planes: list[pb.PlaneLayout] = []
    for plane in reversed(raw.planes):
        rows: NDArray[np.uint8] = np.ascontiguousarray(plane).reshape(plane.shape[0], -1)
        wide = noise.integers(0, 256, (rows.shape[0], rows.shape[1] + padding), np.uint8)
        wide[:, : rows.shape[1]] = rows
        data += noise.bytes(gap)
        planes.insert(0, pb.PlaneLayout(offset_bytes=len(data), stride_bytes=wide.shape[1]))
        data += wide.tobytes()
    return data[:-padding], planes


def config(pixel_format: PixelFormat, **fields: object) -> dict[str, object]:
    number = pb.PixelFormat.Value(f"PIXEL_FORMAT_{pixel_format.name}")
    return {
        "width": SIZE.width, "height": SIZE.height, "pixel_format": number,
        "temporal_fusion": pb.TEMPORAL_FUSION_OFF, **fields,
    }  # fmt: skip


@pytest.mark.parametrize("pixel_format", RAW)
async def test_padded_and_packed_frames_have_the_same_masks(server: RunningServer, pixel_format: PixelFormat) -> None:
    raw = frame(pixel_format)
    data, planes = padded(raw)
    async with open_stream(server.target) as stream:
        await stream.config(**config(pixel_format))
        await stream.send(1, pack_planes(raw))
        packed = await stream.result()
        await stream.send(2, data, planes=planes)
        by_frame = await stream.result()
        accepted = await stream.config(**config(pixel_format, planes=planes))
        assert list(accepted.config.planes) == planes
        await stream.send(3, data)
        by_config = await stream.result()
        # One of another size, of which the config says nothing, is packed.
        await stream.send(4, bytes(frame_bytes(pixel_format, Size(5, 3))), width=5, height=3)
        assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK
    assert packed.outcome == pb.FRAME_OUTCOME_MASK, packed.drop_detail
    assert by_frame.mask == packed.mask, by_frame.drop_detail
    assert by_config.mask == packed.mask, by_config.drop_detail
    async with open_stub(server.target) as stub:
        number = pb.PixelFormat.Value(f"PIXEL_FORMAT_{pixel_format.name}")
        still = await stub.Segment(
            pb.SegmentRequest(picture=data, pixel_format=number, width=SIZE.width, height=SIZE.height, planes=planes)
        )
    assert still.mask == packed.mask


@pytest.mark.parametrize("pixel_format", RAW)
async def test_padded_frames_through_shared_memory(sharing_server: RunningServer, pixel_format: PixelFormat) -> None:
    raw = frame(pixel_format)
    data, planes = padded(raw)
    with shared_region(len(data) + 9, SIZE.area_px) as region:
        async with open_stream(sharing_server.target) as stream:
            await stream.config(**config(pixel_format, shared_memory=region.message()))
            await stream.send(1, pack_planes(raw))
            packed = await stream.result()
            await stream.send(2, b"", planes=planes, **region.put(data, offset_bytes=9))
            shared = await stream.result()
            assert shared.outcome == pb.FRAME_OUTCOME_MASK, shared.drop_detail
            assert region.mask(shared) == packed.mask
            await stream.send(3, b"", planes=planes, **region.put(data[:-1]))
            assert (await stream.result()).drop_reason == pb.DROP_REASON_WRONG_BYTE_COUNT


@pytest.mark.parametrize("levels", ColorRange)
@pytest.mark.parametrize("matrix", ColorMatrix)
@pytest.mark.parametrize("pixel_format", [PixelFormat.I420, PixelFormat.NV12])
async def test_a_background_gets_the_frames_own_color(
    server: RunningServer, pixel_format: PixelFormat, matrix: ColorMatrix, levels: ColorRange
) -> None:
    """The person is white and black at full contrast and comes back byte by byte; the background is converted alike."""
    color = YuvColor(matrix, levels)
    said = {
        "color_matrix": pb.ColorMatrix.Value(f"COLOR_MATRIX_{matrix.name}"),
        "color_range": pb.ColorRange.Value(f"COLOR_RANGE_{levels.name}"),
    }
    size = Size(160, 96)
    picture = np.zeros((*size.shape, 3), np.uint8)
    picture[:, 80:] = (255, 255, 255)
    raw = from_rgb(picture, pixel_format, color)
    data, planes = padded(raw)
    green = from_rgb(np.full((*size.shape, 3), (0, 177, 64), np.uint8), pixel_format, color)
    async with open_stream(server.target) as stream:
        composite = pb.Composite(color=pb.Composite.Color(red=0, green=177, blue=64))
        sent = config(pixel_format, composite=composite, planes=planes, **said)
        accepted = await stream.config(**{**sent, "width": 160, "height": 96})
        assert accepted.config.color_matrix == said["color_matrix"]
        assert accepted.config.color_range == said["color_range"]
        await stream.send(1, data)
        result = await stream.result()
    assert result.outcome == pb.FRAME_OUTCOME_PICTURE, result.drop_detail
    for place, before, behind in zip(packed_layout(pixel_format, size), raw.planes, green.planes, strict=True):
        out = np.ndarray(before.shape, np.uint8, result.picture, place.offset_bytes)
        columns = before.shape[1]
        np.testing.assert_array_equal(out[:, columns * 3 // 4 :], before[:, columns * 3 // 4 :])
        np.testing.assert_array_equal(out[:, : columns // 4], behind[:, : columns // 4])


DATA, PLANES = padded(from_rgb(red_gradient(*SIZE), PixelFormat.I420))


def moved(index: int, **changes: int) -> list[pb.PlaneLayout]:
    planes = [pb.PlaneLayout(offset_bytes=p.offset_bytes, stride_bytes=p.stride_bytes) for p in PLANES]
    for name, value in changes.items():
        setattr(planes[index], name, value)
    return planes


#: (planes, picture, why the frame is dropped, in words)
FRAMES = [
    (moved(1, offset_bytes=PLANES[0].offset_bytes), DATA, "BAD_LAYOUT", "set them apart"),
    (moved(0, stride_bytes=160), DATA, "BAD_LAYOUT", "stride_bytes 160 of plane Y below the 161 bytes"),
    (moved(2, stride_bytes=0), DATA, "BAD_LAYOUT", "stride_bytes 0 of plane V"),
    (PLANES[:2], DATA, "BAD_LAYOUT", "2 planes for I420, expected 3 (Y, U, V)"),
    (PLANES * 1000, DATA, "BAD_LAYOUT", "more than 3 planes for I420"),
    (PLANES, DATA[:-1], "WRONG_BYTE_COUNT", f"{len(DATA) - 1} bytes for I420 161x97, whose planes end at {len(DATA)}"),
    (PLANES, b"", "WRONG_BYTE_COUNT", "0 bytes"),
    (moved(0, offset_bytes=2**64 - 1), DATA, "WRONG_BYTE_COUNT", "whose planes end at 184467440737"),
    (moved(0, stride_bytes=2**32 - 1), DATA, "WRONG_BYTE_COUNT", "whose planes end at 412316"),
]


@pytest.mark.parametrize(("planes", "picture", "reason", "text"), FRAMES)
async def test_planes_that_cannot_be_cost_the_frame(
    server: RunningServer, planes: list[pb.PlaneLayout], picture: bytes, reason: str, text: str
) -> None:
    async with open_stream(server.target) as other, open_stream(server.target) as stream:
        await other.config(**config(PixelFormat.I420))
        await stream.config(**config(PixelFormat.I420))
        await stream.send(1, picture, planes=planes)
        dropped = await stream.result()
        assert pb.DropReason.Name(dropped.drop_reason) == f"DROP_REASON_{reason}", dropped.drop_detail
        assert text in dropped.drop_detail
        await stream.send(2, DATA, planes=PLANES)
        assert (await stream.result()).outcome == pb.FRAME_OUTCOME_MASK, "the stream lives on"
        await other.send(1, pack_planes(frame(PixelFormat.I420)))
        assert (await other.result()).outcome == pb.FRAME_OUTCOME_MASK


async def test_strides_that_change_in_mid_stream(server: RunningServer) -> None:
    narrow, narrow_planes = padded(frame(PixelFormat.I420), padding=1, gap=0)
    async with open_stream(server.target) as stream:
        await stream.config(**config(PixelFormat.I420, planes=PLANES))
        await stream.send(1, DATA)
        first = await stream.result()
        await stream.send(2, narrow)
        assert (await stream.result()).drop_reason == pb.DROP_REASON_WRONG_BYTE_COUNT
        await stream.send(3, narrow, planes=narrow_planes)
        second = await stream.result()
        await stream.config(**config(PixelFormat.I420, planes=narrow_planes))
        await stream.send(4, narrow)
        third = await stream.result()
    assert first.mask == second.mask == third.mask != b""


#: (fields of the config, field at fault, in words)
CONFIGS = [
    ({"planes": moved(0, stride_bytes=160)}, "config.planes", "below the 161 bytes of its row"),
    ({"planes": moved(1, offset_bytes=PLANES[2].offset_bytes)}, "config.planes", "set them apart"),
    ({"planes": moved(0, offset_bytes=2**64 - 1)}, "config.planes", "behind max_frame_bytes"),
    ({"pixel_format": pb.PIXEL_FORMAT_JPEG, "planes": PLANES}, "config.planes", "planes for JPEG, which is a file"),
    ({"color_matrix": 9}, "config.color_matrix", "value 9 is not known, allowed are COLOR_MATRIX_BT601 = 1"),
    ({"color_range": 9}, "config.color_range", "value 9 is not known, allowed are COLOR_RANGE_LIMITED = 1"),
    (
        {"pixel_format": pb.PIXEL_FORMAT_RGB24, "color_matrix": pb.COLOR_MATRIX_BT709},
        "config.color_matrix",
        "BT709 for RGB24, which is no YUV",
    ),
]


@pytest.mark.parametrize(("fields", "field", "text"), CONFIGS)
async def test_configs_that_cannot_be(server: RunningServer, fields: dict[str, object], field: str, text: str) -> None:
    async with open_stream(server.target) as other, open_stream(server.target) as stream:
        await other.config(**config(PixelFormat.I420))
        await stream.send_config(**{**config(PixelFormat.I420), **fields})
        ending = await stream.ending()
        await other.send(1, pack_planes(frame(PixelFormat.I420)))
        assert (await other.result()).outcome == pb.FRAME_OUTCOME_MASK
    assert (ending.code, ending.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONFIG_INVALID")
    assert text in ending.fields[field]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"planes": moved(0, stride_bytes=160)}, "planes"),
        ({"planes": PLANES, "picture": DATA[:-1]}, "picture"),
        ({"pixel_format": pb.PIXEL_FORMAT_JPEG, "planes": PLANES, "width": 0, "height": 0}, "planes"),
        ({"color_range": 9}, "color_range"),
    ],
)
async def test_stills_that_cannot_be(server: RunningServer, fields: dict[str, object], field: str) -> None:
    good = {"picture": DATA, "pixel_format": I420, "width": SIZE.width, "height": SIZE.height, "planes": PLANES}
    async with open_stub(server.target) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Segment(pb.SegmentRequest(**{**good, **fields}))  # type: ignore[arg-type]
    assert field in Ending.of_error(caught.value).fields


def test_the_layout_used_here_is_no_packed_one() -> None:
    """The tests above would prove nothing with planes that lie as they would anyway."""
    here = tuple(PlaneLayout(plane.offset_bytes, plane.stride_bytes) for plane in PLANES)
    assert here != packed_layout(PixelFormat.I420, SIZE)
    assert sorted(here) != list(here)
