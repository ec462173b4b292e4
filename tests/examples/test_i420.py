"""Frames with padded rows to packed planes and back, held against PyAV's own way."""

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs PyAV: pip install -e '.[vision]'")

from examples.i420 import pack_i420, unpack_i420  # noqa: E402 - what it imports may be missing


@pytest.mark.parametrize(("width", "height"), [(640, 360), (322, 182), (2, 2)])
def test_planes_survive_both_ways_whatever_their_rows_are_padded_to(width: int, height: int) -> None:
    packed = np.random.default_rng(width).integers(0, 256, (height * 3 // 2, width), np.uint8)
    packed.setflags(write=False)  # as a message's bytes
    frame = unpack_i420(packed)
    assert (frame.format.name, frame.width, frame.height) == ("yuv420p", width, height)
    assert np.array_equal(frame.to_ndarray(), packed)
    assert np.array_equal(pack_i420(frame), packed)


def test_the_rows_of_some_frames_are_padded() -> None:
    """Else the test above would prove nothing of it."""
    frame = av.VideoFrame(322, 182, "yuv420p")
    assert frame.planes[0].line_size > 322


def test_the_packed_planes_are_a_copy() -> None:
    frame = unpack_i420(np.full((6, 4), 7, np.uint8))
    packed = pack_i420(frame)
    frame.planes[0].update(bytes(frame.planes[0].buffer_size))
    assert packed.min() == 7


def test_odd_sides_and_other_formats_are_converted() -> None:
    odd = av.VideoFrame.from_ndarray(np.full((5, 7, 3), 255, np.uint8), format="rgb24")
    packed = pack_i420(odd)
    assert packed.shape == (6, 6)
    assert packed[:4].min() >= 230
