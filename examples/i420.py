"""PyAV's video frames to packed I420 and back, with one copy each way and no conversion."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

_PLANAR = "yuv420p"


def pack_i420(frame: VideoFrame) -> NDArray[np.uint8]:
    """The planes one after another, without the padding of their rows: (H * 3 / 2, W) uint8, as the client sends it.

    Frames of other formats are converted; odd sides, which no codec of WebRTC makes, are scaled to even.
    """
    width, height = frame.width - frame.width % 2, frame.height - frame.height % 2
    if frame.format.name != _PLANAR or (width, height) != (frame.width, frame.height):
        return cast(NDArray[np.uint8], frame.to_ndarray(format=_PLANAR, width=width, height=height))
    packed = np.empty((height * 3 // 2, width), np.uint8)
    for part, rows in _planes(packed, frame):
        part[:] = rows
    return packed


def unpack_i420(packed: NDArray[np.uint8]) -> VideoFrame:
    """A new frame of such an array, which may be read-only."""
    height, width = packed.shape[0] // 3 * 2, packed.shape[1]
    frame = VideoFrame(width, height, _PLANAR)
    for part, rows in _planes(packed, frame):
        rows[:] = part
    return frame


def _planes(packed: NDArray[np.uint8], frame: VideoFrame) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Y, U and V, each (h, w): where it lies in the packed array, and where in the frame."""
    flat, start = packed.reshape(-1), 0
    for plane in frame.planes:
        end = start + plane.width * plane.height
        rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(plane.height, plane.line_size)
        yield flat[start:end].reshape(plane.height, plane.width), rows[:, : plane.width]
        start = end
