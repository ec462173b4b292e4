"""Where planes are said to lie: what cannot be is named, what can be is seen where it lies."""

import numpy as np
import pytest

from humanseg.frames import (
    FrameError,
    Layout,
    PixelFormat,
    PlaneLayout,
    byte_count_complaint,
    frame_bytes,
    layout_complaint,
    layout_end_bytes,
    packed_layout,
    plane_shapes,
    view_frame,
)
from humanseg.vision.arrays import Size

RAW = [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]
I420, NV12, RGB24 = PixelFormat.I420, PixelFormat.NV12, PixelFormat.RGB24
#: Y 5x3, U and V 3x2.
SIZE = Size(5, 3)


def places(*pairs: tuple[int, int]) -> Layout:
    return tuple(PlaneLayout(*pair) for pair in pairs)


@pytest.mark.parametrize("pixel_format", RAW)
@pytest.mark.parametrize("size", [Size(1, 1), SIZE, Size(640, 360)])
def test_a_packed_frame_is_a_layout_like_another(pixel_format: PixelFormat, size: Size) -> None:
    layout = packed_layout(pixel_format, size)
    assert layout_complaint(layout, pixel_format, size) is None
    assert layout_end_bytes(layout, pixel_format, size) == frame_bytes(pixel_format, size)
    data = np.random.default_rng(1).bytes(frame_bytes(pixel_format, size))
    pairs = zip(
        view_frame(data, pixel_format, size).planes,
        view_frame(data, pixel_format, size, layout=layout).planes,
        strict=True,
    )
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)


def test_planes_are_seen_where_they_lie() -> None:
    """U behind V, rows of 8, 4 and 5 bytes: each byte tells its own place."""
    layout = places((2, 8), (40, 4), (30, 5))
    frame = view_frame(bytes(range(47)), I420, SIZE, layout=layout)
    y, u, v = (plane.tolist() for plane in frame.planes)
    assert y == [[2, 3, 4, 5, 6], [10, 11, 12, 13, 14], [18, 19, 20, 21, 22]]
    assert u == [[40, 41, 42], [44, 45, 46]]
    assert v == [[30, 31, 32], [35, 36, 37]]


@pytest.mark.parametrize(
    ("pixel_format", "layout", "complaint"),
    [
        (I420, places((0, 4), (15, 3), (21, 3)), "stride_bytes 4 of plane Y below the 5 bytes of its row (I420 5x3)"),
        (I420, places((0, 5), (15, 3), (21, 2)), "stride_bytes 2 of plane V below the 3 bytes of its row (I420 5x3)"),
        (NV12, places((0, 5), (15, 5)), "stride_bytes 5 of plane UV below the 6 bytes of its row (NV12 5x3)"),
        (RGB24, places((0, 14)), "stride_bytes 14 of plane RGB below the 15 bytes of its row (RGB24 5x3)"),
        (RGB24, places((0, 0)), "stride_bytes 0 of plane RGB"),
        # one byte into the plane before, and one byte of it left over
        (I420, places((0, 5), (14, 3), (21, 3)), "plane U begins at 14, before plane Y ends at 15; set them apart"),
        (I420, places((0, 5), (15, 3), (20, 3)), "plane V begins at 20, before plane U ends at 21; set them apart"),
        (I420, places((6, 5), (15, 3), (0, 4)), "plane Y begins at 6, before plane V ends at 7; set them apart"),
        # interleaved row by row: no byte is in two planes, but the planes reach into one another
        (I420, places((0, 11), (5, 11), (8, 11)), "plane U begins at 5, before plane Y ends at 27; set them apart"),
        (I420, places((0, 5), (15, 3)), "2 planes for I420, expected 3 (Y, U, V)"),
        (NV12, places((0, 5), (15, 6), (30, 6)), "3 planes for NV12, expected 2 (Y, UV)"),
        (NV12, places(*[(0, 5)] * 4), "more than 3 planes for NV12, expected 2 (Y, UV)"),
        (PixelFormat.JPEG, places((0, 5)), "planes for JPEG, which is a file; leave them out"),
    ],
)
def test_what_cannot_be_is_named(pixel_format: PixelFormat, layout: Layout, complaint: str) -> None:
    seen = layout_complaint(layout, pixel_format, SIZE)
    assert seen is not None
    assert complaint in seen
    if not pixel_format.compressed:
        with pytest.raises(FrameError):
            view_frame(bytes(99), pixel_format, SIZE, layout=layout)


@pytest.mark.parametrize(
    ("layout", "end_bytes"),
    [
        (places((0, 5), (15, 3), (21, 3)), 27),
        # The padding of a plane's last row need not be there.
        (places((0, 8), (24, 4), (32, 4)), 39),
        (places((0, 8), (21, 4), (28, 4)), 35),
        (places((100, 8), (7, 4), (0, 4)), 121),
        # Beyond 64 bits: no wrap.
        (places((2**64 - 1, 2**32 - 1), (0, 3), (6, 3)), 2**64 - 1 + 2 * (2**32 - 1) + 5),
    ],
)
def test_a_picture_is_as_long_as_its_last_plane_reaches(layout: Layout, end_bytes: int) -> None:
    assert layout_complaint(layout, I420, SIZE) is None
    assert layout_end_bytes(layout, I420, SIZE) == end_bytes
    assert byte_count_complaint(end_bytes, I420, SIZE, layout) is None
    assert byte_count_complaint(end_bytes + 1, I420, SIZE, layout) is None, "more may follow"
    assert byte_count_complaint(end_bytes - 1, I420, SIZE, layout) == (
        f"{end_bytes - 1} bytes for I420 5x3, whose planes end at {end_bytes}; send them whole"
    )
    if end_bytes < 1000:
        last = view_frame(bytes(end_bytes), I420, SIZE, layout=layout)
        assert [plane.shape for plane in last.planes] == list(plane_shapes(I420, SIZE))
        with pytest.raises(FrameError, match=f"whose planes end at {end_bytes}"):
            view_frame(bytes(end_bytes - 1), I420, SIZE, layout=layout)


def test_the_stride_of_a_single_row_leads_nowhere() -> None:
    layout = places((0, 2**32 - 1), (4, 2**32 - 1), (6, 2**32 - 1))
    frame = view_frame(bytes(range(8)), I420, Size(4, 1), layout=layout)
    assert [plane.tolist() for plane in frame.planes] == [[[0, 1, 2, 3]], [[4, 5]], [[6, 7]]]
