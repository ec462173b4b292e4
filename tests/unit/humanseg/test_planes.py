"""Planes on their way out: what is sent is the frame, with no byte from around it that is not padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from humanseg.frames import PACKED, PixelFormat, RawFrame, frame_bytes, pack_planes, plane_shapes, view_frame
from humanseg.planes import CUTOUT_BYTES, join_planes
from humanseg.vision.arrays import Size

RAW = [PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.I420, PixelFormat.NV12]
SIZE = Size(7, 5)


def frame_with(pixel_format: PixelFormat, size: Size, padding: int, seed: int = 1) -> RawFrame:
    rng = np.random.default_rng(seed)
    planes: list[NDArray[np.uint8]] = []
    for shape in plane_shapes(pixel_format, size):
        channels = shape[2] if len(shape) == 3 else 1
        wide = rng.integers(0, 256, (shape[0], shape[1] * channels + padding), np.uint8)
        planes.append(wide[:, : shape[1] * channels].reshape(shape, copy=False))
    return RawFrame(size, pixel_format, tuple(planes))


@settings(deadline=None, max_examples=200)
@given(
    pixel_format=st.sampled_from(RAW),
    size=st.builds(Size, st.integers(1, 9), st.integers(1, 9)),
    padding=st.integers(0, CUTOUT_BYTES + 1),
    room=st.none() | st.integers(0, 6000),
)
def test_what_is_sent_is_seen_as_the_frame(
    pixel_format: PixelFormat, size: Size, padding: int, room: int | None
) -> None:
    frame = frame_with(pixel_format, size, padding)
    data, layout = join_planes(frame, room)
    seen = view_frame(data, pixel_format, size, layout=layout)
    assert pack_planes(seen) == pack_planes(frame)
    assert layout == PACKED or len(data) <= (room or len(data))


@pytest.mark.parametrize("pixel_format", RAW)
def test_rows_keep_the_padding_they_have(pixel_format: PixelFormat) -> None:
    frame = frame_with(pixel_format, SIZE, 3)
    data, layout = join_planes(frame)
    assert [plane.stride_bytes for plane in layout] == [plane.strides[0] for plane in frame.planes]
    rows = sum(plane.shape[0] for plane in frame.planes)
    # Behind the last row of a plane nothing is read: those bytes may not be there.
    assert len(data) == frame_bytes(pixel_format, SIZE) + 3 * (rows - len(frame.planes))


def test_a_single_plane_is_not_copied() -> None:
    frame = frame_with(PixelFormat.RGB24, SIZE, 3)
    data, _ = join_planes(frame)
    assert np.shares_memory(np.frombuffer(data, np.uint8), frame.planes[0])


@pytest.mark.parametrize("pixel_format", RAW)
def test_a_cutout_of_a_larger_picture_takes_nothing_from_around_it(pixel_format: PixelFormat) -> None:
    frame = frame_with(pixel_format, SIZE, CUTOUT_BYTES)
    assert join_planes(frame) == (pack_planes(frame), PACKED)
    assert join_planes(frame_with(pixel_format, SIZE, CUTOUT_BYTES - 1))[1] != PACKED


def test_planes_of_any_steps_are_packed() -> None:
    wide = np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3)
    views = [
        wide[::-1],
        wide[:, ::-1],
        wide[..., ::-1],
        wide.transpose(1, 0, 2),
        wide[:, ::2],
        np.broadcast_to(wide[:1], wide.shape),
    ]
    for plane in views:
        frame = RawFrame(Size.of(plane), PixelFormat.RGB24, (plane,))
        assert join_planes(frame) == (plane.tobytes(), PACKED)
