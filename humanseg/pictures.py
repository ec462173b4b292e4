"""Pictures on their way out: arrays and bytes to what goes into a message, and the checks that need no server."""

from dataclasses import dataclass
from typing import TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray

from humanseg.errors import InvalidRequestError, LimitExceededError
from humanseg.frames import PACKED, Layout, PixelFormat, RawFrame
from humanseg.options import BT601_LIMITED, ColorMatrix, ColorRange, YuvColor
from humanseg.planes import join_planes
from humanseg.vision.arrays import Size

#: RGB24, BGR24: (H, W, 3) uint8. I420, NV12: (H * 3 / 2, W) uint8, as OpenCV and av lay them out, for even sizes.
#: Any format: packed bytes, also as a flat uint8 array. Planes with strides: a `RawFrame`.
PictureLike: TypeAlias = NDArray[np.uint8] | bytes | bytearray | memoryview | RawFrame


@dataclass(frozen=True, slots=True)
class PackedPicture:
    """A picture as it goes over the wire."""

    data: bytes | memoryview
    size: Size
    layout: Layout = PACKED
    """Where the planes lie in ``data``."""


def pack_picture(
    picture: PictureLike, pixel_format: PixelFormat, size: Size, room_bytes: int | None = None
) -> PackedPicture:
    """Turn a picture into bytes; a `RawFrame` and an array of two or three axes say their size, others are of ``size``.

    Bytes are not counted here: the server drops a frame of the wrong length and says what it expected. Planes that have
    a padding keep it where that fits into ``room_bytes``, see `join_planes`.

    Raises:
        InvalidRequestError: an array whose shape or dtype does not fit the format, a frame of another format.
    """
    if isinstance(picture, RawFrame):
        flat = flatten_picture(picture, pixel_format, size, room_bytes)
        return PackedPicture(bytes(flat.data), flat.size, flat.layout)
    if not isinstance(picture, np.ndarray):
        return PackedPicture(bytes(picture), size)
    return PackedPicture(picture.tobytes(), _checked_size(picture, pixel_format, size))


def unpack_picture(data: bytes, pixel_format: PixelFormat, size: Size) -> NDArray[np.uint8]:
    """The array that `pack_picture` makes such bytes of; flat for files, and for I420 and NV12 of odd sizes. A view."""
    flat = np.frombuffer(data, np.uint8)
    match pixel_format:
        case PixelFormat.RGB24 | PixelFormat.BGR24:
            return flat.reshape(*size.shape, 3)
        case PixelFormat.I420 | PixelFormat.NV12 if size.width % 2 == size.height % 2 == 0:
            return flat.reshape(size.height * 3 // 2, size.width)
        case _:
            return flat


def flatten_picture(
    picture: PictureLike, pixel_format: PixelFormat, size: Size, room_bytes: int | None = None
) -> PackedPicture:
    """As `pack_picture`, but copied only where the bytes do not lie one after the other.

    Raises:
        InvalidRequestError: as `pack_picture`.
    """
    if isinstance(picture, RawFrame):
        if picture.pixel_format is not pixel_format:
            text = f"frame is {picture.pixel_format.name}, expected {pixel_format.name}; give the pixel_format it has"
            raise _unfit(text)
        for plane in picture.planes:
            _check_dtype(plane)
        data, layout = join_planes(picture, room_bytes)
        return PackedPicture(data, picture.size, layout)
    if not isinstance(picture, np.ndarray):
        view = memoryview(picture)
        return PackedPicture(view.cast("B") if view.c_contiguous else bytes(view), size)
    checked_size = _checked_size(picture, pixel_format, size)
    return PackedPicture(np.ascontiguousarray(picture).reshape(-1).data, checked_size)


def check_color(frame: RawFrame, matrix: ColorMatrix | None, levels: ColorRange | None) -> None:
    """Refuse a frame whose YUV is not what the server is told; None is what it takes by default.

    Raises:
        InvalidRequestError: it is not.
    """
    told = YuvColor(matrix or BT601_LIMITED.matrix, levels or BT601_LIMITED.range)
    if frame.pixel_format.is_yuv and frame.color != told:
        raise _unfit(f"frame is {frame.color}, color_matrix and color_range say {told}; give those it has")


def check_byte_limit(picture_bytes: int, max_frame_bytes: int, image_bytes: int = 0) -> None:
    """Refuse what the server would refuse, before it is sent.

    Args:
        picture_bytes: of the picture.
        max_frame_bytes: the server's limit.
        image_bytes: of a background image that goes in the same message.

    Raises:
        LimitExceededError: too many bytes; names the limit.
    """
    if picture_bytes + image_bytes > max_frame_bytes:
        beside = f" with a background image of {image_bytes}" if image_bytes else ""
        raise LimitExceededError(
            f"picture of {picture_bytes} bytes{beside} exceeds the server's max_frame_bytes {max_frame_bytes};"
            " send it smaller",
            code=grpc.StatusCode.RESOURCE_EXHAUSTED,
            reason="LIMIT_EXCEEDED",
            metadata={"max_frame_bytes": str(max_frame_bytes)},
        )


def _checked_size(picture: NDArray[np.uint8], pixel_format: PixelFormat, size: Size) -> Size:
    _check_dtype(picture)
    return size if picture.ndim == 1 else _array_size(picture.shape, pixel_format)


def _check_dtype(array: NDArray[np.uint8]) -> None:
    if array.dtype != np.uint8:
        raise _unfit(f"picture is {array.dtype}, expected uint8; scale to 0..255 and use .astype(np.uint8)")


def _array_size(shape: tuple[int, ...], pixel_format: PixelFormat) -> Size:
    if 0 in shape:
        raise _unfit(f"picture of shape {shape} has no pixels")
    match pixel_format:
        case PixelFormat.RGB24 | PixelFormat.BGR24:
            if len(shape) != 3 or shape[2] != 3:
                raise _unfit(f"picture of shape {shape} for {pixel_format.name}, expected (height, width, 3)")
            return Size(shape[1], shape[0])
        case PixelFormat.I420 | PixelFormat.NV12:
            if len(shape) != 2 or shape[0] % 3 or shape[1] % 2:
                raise _unfit(
                    f"picture of shape {shape} for {pixel_format.name}, expected (height * 3 / 2, width) of even size;"
                    " send other sizes as bytes"
                )
            return Size(shape[1], shape[0] // 3 * 2)
        case PixelFormat.JPEG | PixelFormat.PNG:
            raise _unfit(f"picture of shape {shape} for {pixel_format.name}, expected the bytes of a file")


def _unfit(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code=grpc.StatusCode.INVALID_ARGUMENT)
