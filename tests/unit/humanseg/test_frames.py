"""Byte counts and plane views of raw frames."""

import numpy as np
import pytest

from humanseg.frames import (
    FrameError,
    PixelFormat,
    RawFrame,
    frame_bytes,
    largest_frame_bytes,
    message_limit_bytes,
    pack_planes,
    view_frame,
)
from humanseg.v1 import segmentation_pb2
from humanseg.vision.arrays import Size

RAW = [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]


def test_names_are_those_of_the_contract() -> None:
    contract = {name.removeprefix("PIXEL_FORMAT_") for name in segmentation_pb2.PixelFormat.DESCRIPTOR.values_by_name}
    assert {pixel_format.name for pixel_format in PixelFormat} == contract - {"UNSPECIFIED"}


@pytest.mark.parametrize(
    ("pixel_format", "size", "expected"),
    [
        (PixelFormat.RGB24, Size(640, 360), 640 * 360 * 3),
        (PixelFormat.BGR24, Size(3, 5), 45),
        (PixelFormat.I420, Size(640, 360), 640 * 360 * 3 // 2),
        (PixelFormat.NV12, Size(640, 360), 640 * 360 * 3 // 2),
        # 5x3 has 3x2 samples of each chroma plane
        (PixelFormat.I420, Size(5, 3), 15 + 6 + 6),
        (PixelFormat.NV12, Size(5, 3), 15 + 12),
        (PixelFormat.I420, Size(1, 1), 3),
        # beyond 32 bits: no wrap
        (PixelFormat.RGB24, Size(2**32 - 1, 2**32 - 1), 3 * (2**32 - 1) ** 2),
    ],
)
def test_frame_bytes(pixel_format: PixelFormat, size: Size, expected: int) -> None:
    assert frame_bytes(pixel_format, size) == expected


def test_i420_planes_lie_one_after_the_other() -> None:
    picture = bytes(range(15)) + bytes([100, 101, 102, 103, 104, 105]) + bytes([200, 201, 202, 203, 204, 205])
    frame = view_frame(picture, PixelFormat.I420, Size(5, 3))
    y, u, v = frame.planes
    assert y[1, 2] == 7
    assert u.tolist() == [[100, 101, 102], [103, 104, 105]]
    assert v.tolist() == [[200, 201, 202], [203, 204, 205]]


def test_nv12_interleaves_chroma() -> None:
    picture = bytes(4) + bytes([10, 20])
    _, uv = view_frame(picture, PixelFormat.NV12, Size(2, 2)).planes
    assert uv.tolist() == [[[10, 20]]]


@pytest.mark.parametrize("pixel_format", RAW)
def test_views_share_the_bytes_and_pack_again(pixel_format: PixelFormat) -> None:
    size = Size(7, 4)
    picture = bytearray(np.random.default_rng(1).bytes(frame_bytes(pixel_format, size)))
    frame = view_frame(picture, pixel_format, size)
    picture[0] ^= 0xFF
    assert frame.planes[0].flat[0] == picture[0]
    assert pack_planes(frame) == bytes(picture)
    assert pack_planes(view_frame(memoryview(bytes(picture)), pixel_format, size)) == bytes(picture)


@pytest.mark.parametrize("missing", [-1, 1, 345600])
def test_wrong_number_of_bytes_is_named(missing: int) -> None:
    with pytest.raises(FrameError, match=f"{345600 - missing} bytes for I420 640x360, expected 345600; send whole pl"):
        view_frame(bytes(345600 - missing), PixelFormat.I420, Size(640, 360))


@pytest.mark.parametrize("size", [Size(0, 360), Size(640, 0), Size(-1, -1), Size(0, 0)])
def test_no_pixels_is_refused(size: Size) -> None:
    with pytest.raises(FrameError, match="each side must be >= 1"):
        view_frame(b"", PixelFormat.RGB24, size)


@pytest.mark.parametrize("pixel_format", [PixelFormat.JPEG, PixelFormat.PNG])
def test_files_have_no_planes(pixel_format: PixelFormat) -> None:
    assert pixel_format.compressed
    with pytest.raises(FrameError, match=pixel_format.name):
        frame_bytes(pixel_format, Size(640, 360))


def test_planes_of_other_shape_are_refused() -> None:
    with pytest.raises(FrameError, match=r"expected \(\(2, 2, 3\),\)"):
        RawFrame(Size(2, 2), PixelFormat.RGB24, (np.zeros((2, 3, 3), np.uint8),))


@pytest.mark.parametrize("pixel_format", RAW)
@pytest.mark.parametrize("size", [Size(1, 1), Size(1, 999), Size(999, 1), Size(3, 333), Size(1919, 1079)])
def test_the_limit_lets_every_raw_format_through(pixel_format: PixelFormat, size: Size) -> None:
    assert frame_bytes(pixel_format, size) <= largest_frame_bytes(size.area_px)


def test_limit_of_full_hd() -> None:
    assert largest_frame_bytes(1920 * 1080) == 6_220_800
    assert message_limit_bytes(1920 * 1080) == 6_220_800 + 65536
