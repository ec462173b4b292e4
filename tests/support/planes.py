"""Raw frames whose planes lie as in real buffers: in any order, with gaps and padding full of noise."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from humanseg.frames import Layout, PlaneLayout, RawFrame


def lay_out(
    raw: RawFrame, paddings: Sequence[int], gaps: Sequence[int] = (0, 0, 0), order: Sequence[int] = (0, 1, 2)
) -> tuple[bytes, Layout]:
    """The bytes, and where the planes lie in them; nothing behind the last row of all.

    ``paddings`` and ``gaps``, for each plane: bytes behind each row, and before the first. ``order``: which plane comes
    first, second, third.
    """
    noise = np.random.default_rng(1)
    places: dict[int, PlaneLayout] = {}
    data = b""
    padding = 0
    for index in order:
        if index >= len(raw.planes):
            continue
        plane, padding = raw.planes[index], paddings[index]
        rows: NDArray[np.uint8] = np.ascontiguousarray(plane).reshape(plane.shape[0], -1)
        wide = noise.integers(0, 256, (rows.shape[0], rows.shape[1] + padding), np.uint8)
        wide[:, : rows.shape[1]] = rows
        data += noise.bytes(gaps[index])
        places[index] = PlaneLayout(len(data), wide.shape[1])
        data += wide.tobytes()
    return data[: len(data) - padding], tuple(places[index] for index in sorted(places))
