import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg.errors import InvalidRequestError, LimitExceededError
from humanseg.frames import PixelFormat
from humanseg.pictures import PictureLike, check_byte_limit, pack_picture
from humanseg.vision.arrays import Size

CONFIGURED = Size(6, 4)
RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.mark.parametrize("picture", [RGB.tobytes(), bytearray(RGB.tobytes()), memoryview(RGB.tobytes()), RGB.ravel()])
def test_bytes_go_as_they_are_at_the_size_configured(picture: PictureLike) -> None:
    packed = pack_picture(picture, PixelFormat.I420, CONFIGURED)
    assert (packed.data, packed.size) == (RGB.tobytes(), CONFIGURED)


@pytest.mark.parametrize("pixel_format", [PixelFormat.RGB24, PixelFormat.BGR24])
def test_an_array_says_its_own_size(pixel_format: PixelFormat) -> None:
    packed = pack_picture(RGB, pixel_format, Size(1, 1))
    assert (packed.data, packed.size) == (RGB.tobytes(), CONFIGURED)


def test_a_view_with_steps_is_packed() -> None:
    mirrored = RGB[:, ::-1]
    assert pack_picture(mirrored, PixelFormat.RGB24, CONFIGURED).data == mirrored.tobytes()


@pytest.mark.parametrize("pixel_format", [PixelFormat.I420, PixelFormat.NV12])
def test_planes_stacked_as_opencv_does(pixel_format: PixelFormat) -> None:
    assert pack_picture(np.zeros((6, 8), np.uint8), pixel_format, CONFIGURED).size == Size(8, 4)


@pytest.mark.parametrize(
    ("picture", "pixel_format", "complaint"),
    [
        (RGB.astype(np.float32), PixelFormat.RGB24, "float32, expected uint8"),
        (np.zeros((4, 6), np.uint8), PixelFormat.RGB24, r"expected \(height, width, 3\)"),
        (np.zeros((4, 6, 4), np.uint8), PixelFormat.BGR24, r"shape \(4, 6, 4\)"),
        (np.zeros((7, 8), np.uint8), PixelFormat.I420, "even size"),
        (np.zeros((6, 7), np.uint8), PixelFormat.NV12, "even size"),
        (np.zeros((0, 6, 3), np.uint8), PixelFormat.RGB24, "no pixels"),
        (RGB, PixelFormat.JPEG, "bytes of a file"),
    ],
)
def test_an_array_that_does_not_fit_its_format_is_refused(
    picture: NDArray[np.uint8], pixel_format: PixelFormat, complaint: str
) -> None:
    with pytest.raises(InvalidRequestError, match=complaint):
        pack_picture(picture, pixel_format, CONFIGURED)


def test_the_limit_is_inclusive_and_named() -> None:
    check_byte_limit(bytes(10), 10)
    with pytest.raises(LimitExceededError, match="11 bytes exceeds the server's max_frame_bytes 10") as caught:
        check_byte_limit(bytes(11), 10)
    assert caught.value.metadata == {"max_frame_bytes": "10"}
