"""Still pictures: the request of one, and what it becomes where people are put before another background."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from humanseg.answers import ModelInfo, StageTimes, read_model, read_times
from humanseg.composite_config import Composite, ImageBackground
from humanseg.frames import PixelFormat, RawFrame, frame_bytes
from humanseg.options import ColorMatrix, ColorRange
from humanseg.pictures import PictureLike, check_color, pack_picture, unpack_picture
from humanseg.proto_enums import COLOR_MATRIX, COLOR_RANGE, PIXEL_FORMAT, ROTATION, plane_messages
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation


@dataclass(frozen=True, slots=True)
class Composed:
    """A still picture's people before the background of a `Composite`.

    ``data`` is a raw picture or a file of ``pixel_format``; `array` has raw ones as numpy.
    """

    data: bytes
    pixel_format: PixelFormat
    size: Size
    model: ModelInfo
    times: StageTimes

    @property
    def array(self) -> NDArray[np.uint8]:
        """As `PictureAnswer.array`."""
        return unpack_picture(self.data, self.pixel_format, self.size)


def still_request(
    picture: PictureLike,
    pixel_format: PixelFormat | None,
    size: Size | None,
    rotation: Rotation,
    model: str,
    color_matrix: ColorMatrix | None = None,
    color_range: ColorRange | None = None,
    *,
    room_bytes: int,
) -> pb.SegmentRequest:
    """A request for a mask of the picture's own size; a `RawFrame` says its color itself.

    Planes with padding that would not fit into ``room_bytes`` are packed.

    Raises:
        InvalidRequestError: an array whose shape or dtype does not fit the format, or a frame of another color.
    """
    request = pb.SegmentRequest(model=model, rotation=ROTATION.number(rotation))
    if pixel_format is None and isinstance(picture, np.ndarray) and picture.ndim > 1:
        pixel_format = PixelFormat.RGB24
    if isinstance(picture, RawFrame):
        pixel_format = pixel_format or picture.pixel_format
        if picture.pixel_format.is_yuv:
            color_matrix, color_range = color_matrix or picture.color.matrix, color_range or picture.color.range
        check_color(picture, color_matrix, color_range)
    packed = pack_picture(picture, pixel_format or PixelFormat.JPEG, size or Size(0, 0), room_bytes=room_bytes)
    request.picture = bytes(packed.data)
    request.width, request.height = packed.size
    if pixel_format is not None:
        request.pixel_format = PIXEL_FORMAT.number(pixel_format)
    request.planes.extend(plane_messages(packed.layout))
    request.color_matrix = COLOR_MATRIX.number(color_matrix)
    request.color_range = COLOR_RANGE.number(color_range)
    return request


def ask_for_composite(request: pb.SegmentRequest, composite: Composite) -> None:
    """Make it a request for a finished picture."""
    request.composite.CopyFrom(composite.to_message())
    if isinstance(composite.background, ImageBackground):
        request.background_image = composite.background.file


def read_composed(message: pb.SegmentResponse) -> Composed:
    """The finished picture of a still.

    Raises:
        ValueError: the bytes are not a whole picture of the declared format and size.
    """
    pixel_format = PIXEL_FORMAT.choice(message.picture_format)
    size, data = Size(message.picture_width, message.picture_height), message.picture
    # A server of an earlier release does not know of composites, and answers with a mask.
    if pixel_format is None or not (pixel_format.compressed or len(data) == frame_bytes(pixel_format, size)):
        raise ValueError(f"picture of {len(data)} bytes is none of format {message.picture_format} and {size}")
    return Composed(data, pixel_format, size, read_model(message.model), read_times(message.times))
