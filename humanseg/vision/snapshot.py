"""A fusion state made small enough to travel: 34 KB at 320x180 instead of 288, below 40 KB at 512x288 instead of 737.

Not exact. The picture becomes a JPEG, the mask 8 bits, the ages steps of half a frame, and an innovation below which no
level of fusion insists on anything becomes nothing; what does not fit is packed more coarsely, down a ladder. After 45
frames of the clip in ``benchmarks/clips`` (model medium, level HIGH) the first mask out of a restored state lay 0.06
gray levels from that of the state itself on average and 3 at most at 320x180, 0.15 and 15 at 512x288; that of a fusion
which starts anew 0.97 and 53, 0.92 and 51. ``tests/integration/test_resume.py`` holds it over the wire.
"""

import struct
import zlib

import numpy as np
import simplejpeg

from humanseg.vision.arrays import Field, Plane
from humanseg.vision.temporal import INNOVATION_SCALE, INNOVATION_ZERO, PARAMETERS, FusionState, LastFrame

#: (JPEG quality, step of the ages in fifteenths of a frame, step of the mask of 255), from fine to coarse. The picture
#: and the ages give way first: a mask in steps of 2 costs the first mask afterwards as much as a JPEG of quality 60.
_LADDER = ((95, 8, 1), (85, 15, 1), (60, 30, 1), (40, 30, 1), (40, 30, 2), (30, 30, 4), (30, 30, 16))
#: Width, height, capture time in microseconds, noise, bytes of the JPEG.
_HEAD = struct.Struct("<HHqfI")
_LARGEST_SIDE_PX = 65535
_LARGEST_NOISE = 255.0
#: Mask, innovation, age: a byte a pixel each.
_PLANES = 3
#: Smoothed disagreements up to this one leave the gain as it is, at every level (`FusionParameters.weak`).
_UNHEARD_INNOVATION = int(min(level.weak for level in PARAMETERS.values()) * INNOVATION_SCALE)


class SnapshotError(ValueError):
    """Bytes that are no snapshot of a fusion state."""


def pack_state(state: FusionState, max_bytes: int) -> bytes | None:
    """The state in at most ``max_bytes``; None where there is nothing to remember, or no step of the ladder fits."""
    memory = state.memory
    if memory is None or max(memory.gray.shape) > _LARGEST_SIDE_PX:
        return None
    for quality, age_step, mask_step in _LADDER:
        packed = _pack(memory, state.noise, quality, age_step, mask_step)
        if len(packed) <= max_bytes:
            return packed
    return None


def unpack_state(data: bytes, max_px: int) -> FusionState:
    """The state out of `pack_state`'s bytes.

    Raises:
        SnapshotError: they are not, or the picture has more than ``max_px`` pixels; nothing of that size was allocated.
    """
    if len(data) < _HEAD.size:
        raise SnapshotError(f"snapshot of {len(data)} bytes, expected at least {_HEAD.size}")
    width, height, capture_time_us, noise, jpeg_bytes = _HEAD.unpack_from(data)
    area_px = width * height
    if not 0 < area_px <= max_px:
        raise SnapshotError(f"snapshot of {width}x{height}, allowed are 1 to {max_px} px")
    if not 0.0 <= noise <= _LARGEST_NOISE:
        raise SnapshotError(f"snapshot with a noise of {noise} gray levels, allowed are 0 to {_LARGEST_NOISE:g}")
    jpeg, rest = data[_HEAD.size : _HEAD.size + jpeg_bytes], data[_HEAD.size + jpeg_bytes :]
    gray = _read_gray(jpeg, width, height)
    unpacker = zlib.decompressobj()
    try:
        # One byte more than there may be: a bomb is noticed before it unfolds.
        planes = unpacker.decompress(rest, _PLANES * area_px + 1)
    except zlib.error as error:
        raise SnapshotError(f"planes cannot be read: {error}") from None
    if len(planes) != _PLANES * area_px or not unpacker.eof or unpacker.unused_data:
        raise SnapshotError(f"planes are not the {_PLANES * area_px} bytes of {width}x{height}")
    steps, innovation, age = np.frombuffer(planes, np.uint8).reshape(_PLANES, height, width)
    mask8 = np.cumsum(steps, axis=1, dtype=np.uint8)
    memory = LastFrame(gray, mask8.astype(np.uint16) * np.uint16(257), innovation.copy(), age.copy(), capture_time_us)
    return FusionState(memory, noise)


def _pack(memory: LastFrame, noise: float, quality: int, age_step: int, mask_step: int) -> bytes:
    height, width = memory.gray.shape
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(memory.gray)[..., np.newaxis], quality, colorspace="GRAY")
    mask8 = _rounded(memory.mask.astype(np.float32) * np.float32(1 / 257), mask_step)
    innovation = memory.innovation.copy()
    innovation[np.abs(innovation - np.float32(INNOVATION_ZERO)) <= _UNHEARD_INNOVATION] = int(INNOVATION_ZERO)
    planes = (
        # Differences along the row, modulo 256: a tenth less.
        np.diff(mask8, axis=1, prepend=np.uint8(0)),
        innovation,
        _rounded(memory.age.astype(np.float32), age_step),
    )
    packer = zlib.compressobj(level=4)
    packed = b"".join([*(packer.compress(plane.tobytes()) for plane in planes), packer.flush()])
    return _HEAD.pack(width, height, memory.capture_time_us, noise, len(jpeg)) + jpeg + packed


def _rounded(values: Field, step: int) -> Plane:
    """To the nearest multiple, 255 at most."""
    steps: Plane = np.clip(np.rint(values / np.float32(step)) * np.float32(step), 0, 255).astype(np.uint8)
    return steps


def _read_gray(jpeg: bytes, width: int, height: int) -> Plane:
    try:
        seen_height, seen_width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
        if (seen_width, seen_height) != (width, height):
            raise SnapshotError(f"picture of {seen_width}x{seen_height}, expected {width}x{height}")
        gray: Plane = simplejpeg.decode_jpeg(jpeg, "GRAY")[..., 0].copy()
    except ValueError as error:
        raise SnapshotError(f"picture cannot be read: {error}") from None
    return gray
