"""The Python client with planes as they lie in memory and the colors that cameras and decoders have."""

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from humanseg import (
    ClientOptions,
    ColorMatrix,
    ColorRange,
    FramePolicy,
    InvalidRequestError,
    MaskAnswer,
    PixelFormat,
    RawFrame,
    SegmentationClient,
    SegmentationStream,
    SessionConfig,
    SharedMemory,
    Size,
    TemporalFusion,
    YuvColor,
)
from humanseg.av_frames import raw_frame
from humanseg.frames import PACKED, frame_bytes, pack_planes, plane_shapes, view_frame
from humanseg.options import BT601_LIMITED
from humanseg.planes import join_planes
from humanseg.vision.arrays import Alpha8
from humanseg.vision.color import from_rgb, to_rgb
from support.planes import lay_out
from support.server import RunningServer, running_server
from support.stream import red_gradient
from support.timing import limit_s

SIZE = Size(161, 97)
RAW = [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]
HD = YuvColor(ColorMatrix.BT709, ColorRange.FULL)


@pytest.fixture(scope="module")
def sharing_server(models_folder: Path) -> Iterator[RunningServer]:
    with running_server(models_folder, "--shared-memory") as running:
        yield running


def config(raw: RawFrame) -> SessionConfig:
    said = raw.color if raw.pixel_format.is_yuv else None
    return SessionConfig(
        raw.size,
        pixel_format=raw.pixel_format,
        temporal_fusion=TemporalFusion.OFF,
        frame_policy=FramePolicy.EVERY,
        color_matrix=None if said is None else said.matrix,
        color_range=None if said is None else said.range,
    )


def padded(raw: RawFrame, padding: int = 7) -> RawFrame:
    """The same planes in one buffer of noise, each row with a padding."""
    data, layout = lay_out(raw, [padding] * 3)
    return view_frame(data, raw.pixel_format, raw.size, layout=layout, color=raw.color)


async def mask(stream: SegmentationStream, picture: RawFrame | bytes) -> Alpha8:
    await stream.send(picture)
    async with asyncio.timeout(limit_s(20)):
        answer = await anext(stream)
    assert isinstance(answer, MaskAnswer), answer
    return answer.alpha8


@pytest.mark.parametrize("shared", [None, SharedMemory()])
@pytest.mark.parametrize("pixel_format", RAW)
async def test_planes_with_a_padding_have_the_masks_of_packed_ones(
    sharing_server: RunningServer, pixel_format: PixelFormat, shared: SharedMemory | None
) -> None:
    raw = from_rgb(red_gradient(*SIZE), pixel_format)
    wide = padded(raw)
    assert join_planes(wide)[1] != PACKED, "else this proves nothing"
    async with SegmentationClient(sharing_server.target) as client:
        async with client.stream(config(raw), shared_memory=shared) as stream:
            packed = await mask(stream, pack_planes(raw))
            assert packed[0, 0] + 100 < packed[0, -1]
            np.testing.assert_array_equal(await mask(stream, wide), packed)
            # A slot, and the server, have no room for more padding than this: rows are packed then.
            np.testing.assert_array_equal(await mask(stream, padded(raw, 300)), packed)
            other = padded(from_rgb(red_gradient(50, 40), pixel_format))
            assert (await mask(stream, other)).shape == (40, 50)
        np.testing.assert_array_equal((await client.segment(wide)).alpha8, packed)


async def test_padding_beyond_the_servers_limit_is_left_out(models_folder: Path) -> None:
    raw = from_rgb(red_gradient(*SIZE), PixelFormat.RGB24)
    with running_server(models_folder, "--max-frame-px", str(SIZE.area_px)) as server:
        async with SegmentationClient(server.target) as client, client.stream(config(raw)) as stream:
            assert stream.limits.max_frame_bytes == frame_bytes(PixelFormat.RGB24, SIZE)
            assert (await mask(stream, padded(raw))).shape == SIZE.shape
            assert (await client.segment(padded(raw))).alpha8.shape == SIZE.shape


@pytest.mark.parametrize("pixel_format", [PixelFormat.I420, PixelFormat.NV12])
@pytest.mark.parametrize("color", [HD, YuvColor(ColorMatrix.BT709), YuvColor(range=ColorRange.FULL), BT601_LIMITED])
async def test_the_mask_is_of_the_color_told(server: RunningServer, pixel_format: PixelFormat, color: YuvColor) -> None:
    """The model answers the red channel, which each of the four makes another of these levels."""
    levels = {"I420": (150, 110, 180), "NV12": (150, (110, 180))}[pixel_format.name]
    shapes = plane_shapes(pixel_format, SIZE)
    planes = tuple(np.full(shape, level, np.uint8) for shape, level in zip(shapes, levels, strict=True))
    raw = RawFrame(SIZE, pixel_format, planes, color)
    reds = {
        (matrix, part): int(to_rgb(RawFrame(SIZE, pixel_format, planes, YuvColor(matrix, part)))[0, 0, 0])
        for matrix in ColorMatrix
        for part in ColorRange
    }
    assert min(abs(one - other) for one in reds.values() for other in reds.values() if one != other) > 5
    assert len(set(reds.values())) == 4
    async with SegmentationClient(server.target) as client:
        async with client.stream(config(raw)) as stream:
            assert (stream.accepted.config.color_matrix, stream.accepted.config.color_range) == color
            assert np.abs((await mask(stream, raw)).astype(int) - reds[color]).max() <= 1
        still = await client.segment(raw)
        assert np.abs(still.alpha8.astype(int) - reds[color]).max() <= 1
        by_bytes = await client.segment(
            pack_planes(raw), pixel_format=pixel_format, size=SIZE, color_matrix=color.matrix, color_range=color.range
        )
        np.testing.assert_array_equal(by_bytes.alpha8, still.alpha8)


async def test_a_frame_of_another_color_or_format_is_not_sent(server: RunningServer) -> None:
    raw = from_rgb(red_gradient(*SIZE), PixelFormat.I420)
    hd = dataclasses.replace(raw, color=HD)
    async with SegmentationClient(server.target) as client, client.stream(config(raw)) as stream:
        with pytest.raises(InvalidRequestError, match="frame is BT709 FULL, color_matrix and color_range say BT601"):
            await stream.send(hd)
        with pytest.raises(InvalidRequestError, match="frame is NV12, expected I420"):
            await stream.send(from_rgb(red_gradient(*SIZE), PixelFormat.NV12))
        assert (stream.unanswered, (await mask(stream, raw)).shape) == (0, SIZE.shape)
        await stream.reconfigure(config(hd))
        await anext(stream)
        with pytest.raises(InvalidRequestError, match="frame is BT601 LIMITED, color_matrix and color_range say BT709"):
            await stream.send(raw)
        assert (await mask(stream, hd)).shape == SIZE.shape
        with pytest.raises(InvalidRequestError, match="frame is BT709 FULL"):
            await client.segment(hd, color_matrix=ColorMatrix.BT601)


async def test_a_color_for_what_is_no_yuv_is_the_servers_to_refuse(server: RunningServer) -> None:
    raw = from_rgb(red_gradient(*SIZE), PixelFormat.RGB24)
    async with SegmentationClient(server.target, options=ClientOptions(timeout_s=limit_s(20))) as client:
        with pytest.raises(InvalidRequestError, match="BT709 for RGB24, which is no YUV"):
            await client.segment(raw, color_matrix=ColorMatrix.BT709)
        said = dataclasses.replace(config(raw), color_range=ColorRange.FULL)
        with pytest.raises(InvalidRequestError, match="FULL for RGB24, which is no YUV"):
            async with client.stream(said):
                pass


@pytest.mark.parametrize("name", ["yuv420p", "nv12"])
async def test_a_frame_of_av_goes_as_it_is(server: RunningServer, name: str) -> None:
    picture = av.VideoFrame.from_ndarray(red_gradient(162, 98), format="rgb24").reformat(
        format=name, dst_colorspace=1, dst_color_range=2
    )
    picture.colorspace, picture.color_range = 1, 2
    raw = raw_frame(picture)
    assert raw.color == HD
    assert join_planes(raw)[1] != PACKED
    async with SegmentationClient(server.target) as client, client.stream(config(raw)) as stream:
        seen = await mask(stream, raw)
    assert np.abs(seen.astype(int) - red_gradient(162, 98)[..., 0]).mean() < 4
