"""Stills before another background, as the client reads them."""

import numpy as np
import pytest

from humanseg.composite_config import BlurBackground, Composite, ImageBackground
from humanseg.frames import PixelFormat
from humanseg.stills import ask_for_composite, read_composed, still_request
from humanseg.v1 import segmentation_pb2 as pb
from humanseg.vision.arrays import Size
from humanseg.vision.orientation import Rotation


def test_an_answer_becomes_a_picture() -> None:
    picture = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
    message = pb.SegmentResponse(
        picture=picture.tobytes(), picture_format=pb.PIXEL_FORMAT_BGR24, picture_width=4, picture_height=3
    )
    composed = read_composed(message)
    assert (composed.pixel_format, composed.size) == (PixelFormat.BGR24, Size(4, 3))
    np.testing.assert_array_equal(composed.array, picture)


@pytest.mark.parametrize(
    "message",
    [
        pb.SegmentResponse(mask=b"12", mask_width=2, mask_height=1),  # a server that does not know of composites
        pb.SegmentResponse(picture=b"12345", picture_format=pb.PIXEL_FORMAT_RGB24, picture_width=2, picture_height=1),
        pb.SegmentResponse(picture=b"123", picture_format=pb.PIXEL_FORMAT_RGB24),
        pb.SegmentResponse(picture=b"123", picture_format=77),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_no_whole_picture_is_refused(message: pb.SegmentResponse) -> None:
    with pytest.raises(ValueError, match=r"is none of format|each side must be|is not known"):
        read_composed(message)


def test_an_image_goes_with_its_request_and_nothing_else_does() -> None:
    request = still_request(np.zeros((4, 6, 3), np.uint8), None, None, Rotation.DEG_90, "small", room_bytes=10_000)
    ask_for_composite(request, Composite(ImageBackground(b"file", "beach")))
    assert (request.composite.image_id, request.background_image) == ("beach", b"file")
    assert (request.pixel_format, request.width, request.height) == (pb.PIXEL_FORMAT_RGB24, 6, 4)
    assert (request.rotation, request.model) == (pb.ROTATION_90, "small")
    ask_for_composite(plain := pb.SegmentRequest(), Composite(BlurBackground()))
    assert not plain.background_image
