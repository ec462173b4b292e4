"""How the bytes of a raw frame are laid out: sizes, plane shapes, views without a copy, the message limit.

Pure layout: what the numbers in the planes mean as colors is the business of `humanseg.vision.color`.
"""

import enum
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from humanseg.vision.arrays import Picture, Size

#: Room in a message for everything beside the picture: field tags, ids, a session config.
MESSAGE_OVERHEAD_BYTES = 64 * 1024

#: Bytes a pixel of the fullest raw format (RGB24); no raw picture of an allowed size needs more.
LARGEST_BYTES_PER_PX = 3


class FrameError(ValueError):
    """Bytes that are not the picture they are said to be."""


class PixelFormat(enum.Enum):
    """How the bytes of a picture are to be read; the names are those of the contract's ``PIXEL_FORMAT_<name>``."""

    RGB24 = "rgb24"
    BGR24 = "bgr24"
    I420 = "i420"
    NV12 = "nv12"
    JPEG = "jpeg"
    PNG = "png"

    @property
    def compressed(self) -> bool:
        """Whether the bytes are a file (JPEG, PNG) whose length says nothing about its size in pixels."""
        return self in (PixelFormat.JPEG, PixelFormat.PNG)


#: Layouts and geometries that are kept: a stream asks for the same ones with every frame.
KEPT_LAYOUTS = 256


@lru_cache(KEPT_LAYOUTS)
def plane_shapes(pixel_format: PixelFormat, size: Size) -> tuple[tuple[int, ...], ...]:
    """Array shapes of a raw frame's planes, in the order they lie in the bytes; chroma of odd sizes is rounded up.

    Raises:
        FrameError: the format is compressed, or a side is not positive.
    """
    if size.width < 1 or size.height < 1:
        raise FrameError(f"frame size {size}, each side must be >= 1; send the picture's own width and height")
    height, width = size.shape
    half_height, half_width = (height + 1) // 2, (width + 1) // 2
    match pixel_format:
        case PixelFormat.RGB24 | PixelFormat.BGR24:
            return ((height, width, 3),)
        case PixelFormat.I420:
            return ((height, width), (half_height, half_width), (half_height, half_width))
        case PixelFormat.NV12:
            return ((height, width), (half_height, half_width, 2))
        case PixelFormat.JPEG | PixelFormat.PNG:
            raise FrameError(f"{pixel_format.name} has no planes; decode it first (humanseg.vision.decode)")


@lru_cache(KEPT_LAYOUTS)
def frame_bytes(pixel_format: PixelFormat, size: Size) -> int:
    """Number of bytes of a packed raw frame.

    Raises:
        FrameError: the format is compressed, or a side is not positive.
    """
    # Python integers: a declared size of 4 billion pixels must not wrap round on its way to the limit check.
    return sum(math.prod(shape) for shape in plane_shapes(pixel_format, size))


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A raw picture as views of its planes.

    ``planes`` by format: RGB24, BGR24 one (H, W, 3); I420 Y (H, W), U and V (ceil(H/2), ceil(W/2)); NV12 Y (H, W) and
    UV (ceil(H/2), ceil(W/2), 2). All uint8. Views keep the bytes they were made from alive, and are read-only where
    those are.
    """

    size: Size
    pixel_format: PixelFormat
    planes: tuple[NDArray[np.uint8], ...]

    def __post_init__(self) -> None:
        wanted = plane_shapes(self.pixel_format, self.size)
        seen = tuple(plane.shape for plane in self.planes)
        if seen != wanted:
            raise FrameError(f"planes of shapes {seen} for {self.pixel_format.name} {self.size}, expected {wanted}")


class TimedFrame(NamedTuple):
    """A frame with its capture time, for video of uneven frame rate.

    ``picture`` is (H, W, 3) uint8 RGB; the time is in microseconds on any one clock.
    """

    picture: Picture
    capture_time_us: int


def view_frame(picture: bytes | bytearray | memoryview, pixel_format: PixelFormat, size: Size) -> RawFrame:
    """See the bytes of a packed raw frame as planes, without a copy.

    Raises:
        FrameError: the number of bytes does not fit format and size, a side is not positive, or the format is
            compressed.
    """
    shapes = plane_shapes(pixel_format, size)
    expected = frame_bytes(pixel_format, size)
    seen = picture.nbytes if isinstance(picture, memoryview) else len(picture)
    if seen != expected:
        parts = "planes" if len(shapes) > 1 else "rows"
        raise FrameError(f"{seen} bytes for {pixel_format.name} {size}, expected {expected}; send whole {parts}")
    flat = np.frombuffer(picture, np.uint8)
    planes = []
    start = 0
    for shape in shapes:
        count = math.prod(shape)
        planes.append(flat[start : start + count].reshape(shape))
        start += count
    return RawFrame(size, pixel_format, tuple(planes))


def pack_planes(frame: RawFrame) -> bytes:
    """The bytes of a frame as they go over the wire: plane after plane, rows without padding."""
    return b"".join(plane.tobytes() for plane in frame.planes)


def largest_frame_bytes(max_frame_px: int) -> int:
    """Bytes of the largest raw picture of at most that many pixels, whatever its format and shape.

    RGB is the fullest at 3 bytes a pixel; I420 and NV12 reach that only at 1x1, where chroma is rounded up.
    """
    return LARGEST_BYTES_PER_PX * max_frame_px


def message_limit_bytes(max_frame_px: int) -> int:
    """The gRPC message size limit that lets every frame of at most ``max_frame_px`` pixels through."""
    return largest_frame_bytes(max_frame_px) + MESSAGE_OVERHEAD_BYTES
