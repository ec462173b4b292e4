import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg.errors import InvalidRequestError, LimitExceededError
from humanseg.frames import PACKED, PixelFormat, RawFrame, view_frame
from humanseg.options import ColorMatrix, ColorRange, YuvColor
from humanseg.pictures import PictureLike, check_byte_limit, check_color, flatten_picture, pack_picture
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
    check_byte_limit(10, 10)
    with pytest.raises(LimitExceededError, match="11 bytes exceeds the server's max_frame_bytes 10") as caught:
        check_byte_limit(11, 10)
    assert caught.value.metadata == {"max_frame_bytes": "10"}


def test_a_raw_frame_says_its_size_and_where_its_planes_lie() -> None:
    wide = np.arange(4 * 20, dtype=np.uint8).reshape(4, 20)
    frame = RawFrame(CONFIGURED, PixelFormat.RGB24, (wide[:, :18].reshape(4, 6, 3),))
    packed = pack_picture(frame, PixelFormat.RGB24, Size(1, 1))
    assert (packed.size, packed.layout) == (CONFIGURED, ((0, 20),))
    assert packed.data == wide.tobytes()[:-2]
    assert pack_picture(frame, PixelFormat.RGB24, Size(1, 1), room_bytes=77).layout == PACKED
    assert bytes(flatten_picture(frame, PixelFormat.RGB24, Size(1, 1)).data) == packed.data


def test_a_raw_frame_of_another_format_or_dtype_is_refused() -> None:
    frame = RawFrame(CONFIGURED, PixelFormat.RGB24, (RGB,))
    with pytest.raises(InvalidRequestError, match="frame is RGB24, expected BGR24"):
        pack_picture(frame, PixelFormat.BGR24, CONFIGURED)
    with pytest.raises(InvalidRequestError, match="float32, expected uint8"):
        pack_picture(RawFrame(CONFIGURED, PixelFormat.RGB24, (RGB.astype(np.float32),)), PixelFormat.RGB24, CONFIGURED)  # type: ignore[arg-type]


def test_a_frames_color_is_the_one_told() -> None:
    hd = view_frame(bytes(36), PixelFormat.I420, CONFIGURED, color=YuvColor(ColorMatrix.BT709, ColorRange.FULL))
    check_color(hd, ColorMatrix.BT709, ColorRange.FULL)
    with pytest.raises(
        InvalidRequestError, match="frame is BT709 FULL, color_matrix and color_range say BT601 LIMITED"
    ):
        check_color(hd, None, None)
    check_color(view_frame(bytes(36), PixelFormat.I420, CONFIGURED), None, None)
    check_color(RawFrame(CONFIGURED, PixelFormat.RGB24, (RGB,)), None, None)
