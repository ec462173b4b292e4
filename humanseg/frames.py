"""How the bytes of a raw frame are laid out: sizes, plane shapes, strides, views without a copy, the message limit.

Pure layout: what the numbers in the planes mean as colors is the business of `humanseg.vision.color`.
"""

import enum
import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from humanseg.options import BT601_LIMITED, YuvColor
from humanseg.vision.arrays import Picture, Size

#: Room in a message for everything beside the picture: field tags, ids, a session config.
MESSAGE_OVERHEAD_BYTES = 64 * 1024

#: Bytes a pixel of the fullest raw format (RGB24); no packed picture of an allowed size needs more.
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

    @property
    def is_yuv(self) -> bool:
        """Whether a matrix and a range say what its levels mean."""
        return self in (PixelFormat.I420, PixelFormat.NV12)


class PlaneLayout(NamedTuple):
    """Where a plane lies in a picture's bytes: where its first row begins, and from each row to the next."""

    offset_bytes: int
    stride_bytes: int


#: A `PlaneLayout` for each plane, in the order of `PLANE_NAMES`.
Layout: TypeAlias = tuple[PlaneLayout, ...]

#: Nothing said: plane after plane, rows without padding.
PACKED: Layout = ()

#: Planes of the raw formats, in the order in which they are named.
PLANE_NAMES: dict[PixelFormat, tuple[str, ...]] = {
    PixelFormat.RGB24: ("RGB",),
    PixelFormat.BGR24: ("BGR",),
    PixelFormat.I420: ("Y", "U", "V"),
    PixelFormat.NV12: ("Y", "UV"),
}
MOST_PLANES = max(len(names) for names in PLANE_NAMES.values())

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


@lru_cache(KEPT_LAYOUTS)
def packed_layout(pixel_format: PixelFormat, size: Size) -> Layout:
    """Where the planes of a packed frame lie.

    Raises:
        FrameError: the format is compressed, or a side is not positive.
    """
    planes, offset_bytes = [], 0
    for shape in plane_shapes(pixel_format, size):
        planes.append(PlaneLayout(offset_bytes, _row_bytes(shape)))
        offset_bytes += math.prod(shape)
    return tuple(planes)


@lru_cache(KEPT_LAYOUTS)
def layout_complaint(layout: Layout, pixel_format: PixelFormat, size: Size) -> str | None:
    """What is wrong with a layout that somebody names, if anything; how many bytes there are is another question.

    Raises:
        FrameError: a side is not positive.
    """
    if pixel_format.compressed:
        return f"planes for {pixel_format.name}, which is a file; leave them out"
    shapes, names = plane_shapes(pixel_format, size), PLANE_NAMES[pixel_format]
    if len(layout) != len(names):
        seen = len(layout) if len(layout) <= MOST_PLANES else f"more than {MOST_PLANES}"
        return f"{seen} planes for {pixel_format.name}, expected {len(names)} ({', '.join(names)})"
    for name, shape, plane in zip(names, shapes, layout, strict=True):
        if plane.stride_bytes < _row_bytes(shape):
            return (
                f"stride_bytes {plane.stride_bytes} of plane {name} below the {_row_bytes(shape)} bytes of its row"
                f" ({pixel_format.name} {size}); use at least that"
            )
    spans = sorted(
        (plane.offset_bytes, _end_bytes(plane, shape), name)
        for name, shape, plane in zip(names, shapes, layout, strict=True)
    )
    for (_, end_bytes, before), (begin_bytes, _, behind) in itertools.pairwise(spans):
        if begin_bytes < end_bytes:
            return f"plane {behind} begins at {begin_bytes}, before plane {before} ends at {end_bytes}; set them apart"
    return None


@lru_cache(KEPT_LAYOUTS)
def layout_end_bytes(layout: Layout, pixel_format: PixelFormat, size: Size) -> int:
    """How many bytes a picture must have at least for its planes to lie in it; the layout is one without complaint.

    Raises:
        FrameError: the format is compressed, or a side is not positive.
    """
    shapes = plane_shapes(pixel_format, size)
    return max(_end_bytes(plane, shape) for plane, shape in zip(layout, shapes, strict=True))


def byte_count_complaint(count: int, pixel_format: PixelFormat, size: Size, layout: Layout = PACKED) -> str | None:
    """What is wrong with a picture of so many bytes, if anything: packed it has exactly its own, else at least them.

    Raises:
        FrameError: the format is compressed, or a side is not positive.
    """
    what = f"{count} bytes for {pixel_format.name} {size}"
    if layout:
        end_bytes = layout_end_bytes(layout, pixel_format, size)
        return f"{what}, whose planes end at {end_bytes}; send them whole" if count < end_bytes else None
    expected = frame_bytes(pixel_format, size)
    if count == expected:
        return None
    parts = "planes" if pixel_format.is_yuv else "rows"
    return f"{what}, expected {expected}; send whole {parts}, or say where they lie"


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A raw picture as views of its planes, which may have strides of any kind.

    ``planes`` by format: RGB24, BGR24 one (H, W, 3); I420 Y (H, W), U and V (ceil(H/2), ceil(W/2)); NV12 Y (H, W) and
    UV (ceil(H/2), ceil(W/2), 2). All uint8. Views keep the bytes they were made from alive, and are read-only where
    those are. ``color`` is what I420 and NV12 mean.

    What the client sends as it lies in memory; see `SegmentationStream.send`.
    """

    size: Size
    pixel_format: PixelFormat
    planes: tuple[NDArray[np.uint8], ...]
    color: YuvColor = BT601_LIMITED

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


def view_frame(
    picture: bytes | bytearray | memoryview,
    pixel_format: PixelFormat,
    size: Size,
    *,
    layout: Layout = PACKED,
    color: YuvColor = BT601_LIMITED,
) -> RawFrame:
    """See the bytes of a raw frame as planes, without a copy.

    Raises:
        FrameError: the number of bytes does not fit format, size and layout, the layout does not fit format and size, a
            side is not positive, or the format is compressed.
    """
    shapes = plane_shapes(pixel_format, size)
    if layout and (complaint := layout_complaint(layout, pixel_format, size)):
        raise FrameError(complaint)
    count = picture.nbytes if isinstance(picture, memoryview) else len(picture)
    if complaint := byte_count_complaint(count, pixel_format, size, layout):
        raise FrameError(complaint)
    places = layout or packed_layout(pixel_format, size)
    planes = tuple(_view_plane(picture, place, shape) for place, shape in zip(places, shapes, strict=True))
    return RawFrame(size, pixel_format, planes, color)


def pack_planes(frame: RawFrame) -> bytes:
    """The bytes of a frame as they go over the wire: plane after plane, rows without padding."""
    return b"".join(np.ascontiguousarray(plane).data for plane in frame.planes)


def largest_frame_bytes(max_frame_px: int) -> int:
    """Bytes of the largest packed picture of at most that many pixels, whatever its format and shape.

    RGB is the fullest at 3 bytes a pixel; I420 and NV12 reach that only at 1x1, where chroma is rounded up.
    """
    return LARGEST_BYTES_PER_PX * max_frame_px


def message_limit_bytes(max_frame_px: int) -> int:
    """The gRPC message size limit that lets every frame of at most ``max_frame_px`` pixels through."""
    return largest_frame_bytes(max_frame_px) + MESSAGE_OVERHEAD_BYTES


def _row_bytes(shape: tuple[int, ...]) -> int:
    return math.prod(shape[1:])


def _end_bytes(plane: PlaneLayout, shape: tuple[int, ...]) -> int:
    """Behind the last byte of the last row, whose padding need not be there. Python integers do not wrap round."""
    return plane.offset_bytes + (shape[0] - 1) * plane.stride_bytes + _row_bytes(shape)


def _view_plane(
    picture: bytes | bytearray | memoryview, plane: PlaneLayout, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    channels = math.prod(shape[2:])
    # The stride of a single row leads nowhere, and may be of any size.
    stride_bytes = plane.stride_bytes if shape[0] > 1 else _row_bytes(shape)
    strides = (stride_bytes, channels, 1)[: len(shape)]
    return np.ndarray(shape, np.uint8, picture, plane.offset_bytes, strides)
