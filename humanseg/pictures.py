"""Pictures on their way out: arrays and bytes to what goes into a message, and the checks that need no server."""

from dataclasses import dataclass
from typing import TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray

from humanseg.errors import InvalidRequestError, LimitExceededError
from humanseg.frames import PixelFormat
from humanseg.vision.arrays import Size

#: RGB24, BGR24: (H, W, 3) uint8. I420, NV12: (H * 3 / 2, W) uint8, as OpenCV and av lay them out, for even sizes.
#: Any format: packed bytes, also as a flat uint8 array.
PictureLike: TypeAlias = NDArray[np.uint8] | bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class PackedPicture:
    """A picture as it goes over the wire."""

    data: bytes | memoryview
    size: Size


def pack_picture(picture: PictureLike, pixel_format: PixelFormat, size: Size) -> PackedPicture:
    """Turn a picture into bytes; an array of two or three axes says its own size, all else is of ``size``.

    Bytes are not counted here: the server drops a frame of the wrong length and says what it expected.

    Raises:
        InvalidRequestError: an array whose shape or dtype does not fit the format.
    """
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


def flatten_picture(picture: PictureLike, pixel_format: PixelFormat, size: Size) -> PackedPicture:
    """As `pack_picture`, but copied only where the bytes do not lie one after the other.

    Raises:
        InvalidRequestError: as `pack_picture`.
    """
    if not isinstance(picture, np.ndarray):
        view = memoryview(picture)
        return PackedPicture(view.cast("B") if view.c_contiguous else bytes(view), size)
    checked_size = _checked_size(picture, pixel_format, size)
    return PackedPicture(np.ascontiguousarray(picture).reshape(-1).data, checked_size)


def check_byte_limit(data: bytes | memoryview, max_frame_bytes: int) -> None:
    """Refuse what the server would refuse, before it is sent.

    Raises:
        LimitExceededError: too many bytes; names the limit.
    """
    if len(data) > max_frame_bytes:
        raise LimitExceededError(
            f"picture of {len(data)} bytes exceeds the server's max_frame_bytes {max_frame_bytes}; send it smaller",
            code=grpc.StatusCode.RESOURCE_EXHAUSTED,
            reason="LIMIT_EXCEEDED",
            metadata={"max_frame_bytes": str(max_frame_bytes)},
        )


def _checked_size(picture: NDArray[np.uint8], pixel_format: PixelFormat, size: Size) -> Size:
    if picture.dtype != np.uint8:
        raise _unfit(f"picture is {picture.dtype}, expected uint8; scale to 0..255 and use .astype(np.uint8)")
    return size if picture.ndim == 1 else _array_size(picture.shape, pixel_format)


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
