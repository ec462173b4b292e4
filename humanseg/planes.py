"""The planes of a raw frame on their way out: as they lie, padding and all, or packed.

A single plane is not copied as it lies (1280x720 RGB with a padding: 0.011 ms of CPU against 2.0 for packing), which
counts in shared memory. Through a message, which is a copy, the two cost the same: I420 1.0 and 1.0 ms, RGB 1.9 and 2.1
(medians on a busy machine).
"""

import math
from typing import cast

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from humanseg.frames import PACKED, Layout, PlaneLayout, RawFrame, pack_planes, packed_layout

#: Rows with this much behind them or more are not aligned but cut out of a larger picture, and what lies around such a
#: cut is not for the server. av and WebRTC align rows to at most 64 bytes, CUDA to 512.
CUTOUT_BYTES = 512


def join_planes(frame: RawFrame, room_bytes: int | None = None) -> tuple[bytes | memoryview, Layout]:
    """A frame's bytes, and where its planes lie in them; `PACKED` where rows have no padding.

    Rows keep their padding, unless that makes the picture longer than ``room_bytes``, is `CUTOUT_BYTES` or more, or
    the pixels do not lie one after the other: then rows are packed. The bytes of a single plane are a view.
    """
    lying = [_as_they_lie(plane) for plane in frame.planes]
    spans = [span for span in lying if span is not None]
    length = sum(map(len, spans))
    if len(spans) < len(lying) or (room_bytes is not None and length > room_bytes):
        return pack_planes(frame), PACKED
    layout, offset_bytes = [], 0
    for plane, span in zip(frame.planes, spans, strict=True):
        layout.append(PlaneLayout(offset_bytes, _stride_bytes(plane)))
        offset_bytes += len(span)
    data = spans[0].data if len(spans) == 1 else b"".join(span.data for span in spans)
    return data, PACKED if tuple(layout) == packed_layout(frame.pixel_format, frame.size) else tuple(layout)


def _as_they_lie(plane: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The bytes from a plane's first to its last, with the padding between, as a view; None if it is to be packed."""
    row_bytes, stride_bytes = _row_bytes(plane), _stride_bytes(plane)
    if not plane[0].flags.c_contiguous or not 0 <= stride_bytes - row_bytes < CUTOUT_BYTES:
        return None
    length = (plane.shape[0] - 1) * stride_bytes + row_bytes
    # Nothing beyond the plane's own first and last byte is looked at.
    return cast("NDArray[np.uint8]", as_strided(plane, (length,), (1,), writeable=False))


def _row_bytes(plane: NDArray[np.uint8]) -> int:
    return math.prod(plane.shape[1:])


def _stride_bytes(plane: NDArray[np.uint8]) -> int:
    # The stride of a single row leads nowhere, and may be of any size.
    return plane.strides[0] if plane.shape[0] > 1 else _row_bytes(plane)
