"""Reading photos: what is read, and that everything else is refused by name before it costs memory."""

import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg.vision.arrays import Size
from humanseg.vision.decode import (
    MAX_JPEG_SCANS,
    DecodeError,
    TooLargeError,
    decode_jpeg_scaled,
    decode_picture,
    exif_orientation,
    picture_size,
)
from humanseg.vision.orientation import Rotation, to_upright
from support.clips import texture

SIZE = Size(64, 40)
LIMITS = (1920 * 1080, 4096)


def photo(size: Size = SIZE) -> NDArray[np.uint8]:
    """RGB, and different in every corner, so that a wrong turn shows."""
    rgb = np.stack([texture(size, seed) for seed in (1, 2, 3)], -1).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), 2), np.uint8)


def jpeg(rgb: NDArray[np.uint8], *flags: int) -> bytes:
    ok, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95, *flags])
    assert ok
    return data.tobytes()


def png(array: NDArray[np.generic]) -> bytes:
    ok, data = cv2.imencode(".png", array)
    assert ok
    return data.tobytes()


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png_by_hand(size: Size, depth: int, color: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body


def with_exif(file: bytes, orientation: int, order: str = "<", kind: int = 3) -> bytes:
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1)
    tiff += struct.pack(f"{order}HHIHH", 0x0112, kind, 1, orientation, 0) + struct.pack(f"{order}I", 0)
    payload = b"Exif\0\0" + tiff
    return file[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + file[2:]


def declaring(file: bytes, size: Size) -> bytes:
    """The same JPEG with another size in its header."""
    data = bytearray(file)
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", size.height, size.width)
    return bytes(data)


@pytest.mark.parametrize("flags", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)])
def test_a_jpeg_comes_back_about_as_it_was(flags: tuple[int, ...]) -> None:
    file = jpeg(photo(), *flags)
    assert picture_size(file) == SIZE
    seen = decode_picture(memoryview(file), *LIMITS, exif=True)
    assert seen.shape == (40, 64, 3)
    assert np.abs(seen.astype(int) - photo()).mean() < 3


def test_a_gray_jpeg_becomes_rgb() -> None:
    gray = photo()[..., 0]
    ok, data = cv2.imencode(".jpg", gray)
    assert ok
    seen = decode_picture(data.tobytes(), *LIMITS, exif=False)
    assert seen.shape == (40, 64, 3)
    assert np.abs(seen.astype(int) - gray[..., None]).mean() < 3


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        pytest.param(photo()[..., ::-1], photo(), id="rgb"),
        pytest.param(photo()[..., 0], np.repeat(photo()[..., :1], 3, 2), id="gray"),
        pytest.param(np.dstack([photo()[..., ::-1], photo()[..., 0]]), photo(), id="rgba: transparency is dropped"),
    ],
)
def test_a_png_comes_back_exactly(array: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> None:
    file = png(array)
    assert picture_size(file) == SIZE
    np.testing.assert_array_equal(decode_picture(file, *LIMITS, exif=True), wanted)


def test_a_palette_png_becomes_rgb() -> None:
    colors = chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50]))
    file = png_by_hand(Size(3, 2), 8, 3, bytes([0, 0, 1, 0, 0, 1, 1, 0]), colors)
    seen = decode_picture(file, *LIMITS, exif=True)
    first, second = [10, 20, 30], [200, 100, 50]
    assert seen.tolist() == [[first, second, first], [second, second, first]]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_gray_png_of_few_bits_is_scaled_up(depth: int) -> None:
    row = bytes([0, 0xF0])  # filter, then full ones and zeros
    width = 8 // depth
    seen = decode_picture(png_by_hand(Size(width, 1), depth, 0, row), *LIMITS, exif=True)
    assert seen[0, 0].tolist() == [255, 255, 255]
    assert seen[0, -1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("color", [0, 2, 4, 6])
def test_sixteen_bits_are_refused_by_name(color: int) -> None:
    with pytest.raises(DecodeError, match=r"PNG is 16-bit .*, allowed are 8 bits a channel"):
        decode_picture(png_by_hand(Size(1, 1), 16, color, bytes(9)), *LIMITS, exif=True)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_photo_upright(orientation: int, order: str) -> None:
    """What must come out is drawn first, and turned by hand into what such a camera stores."""
    upright = photo()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),  # the first row of the picture is the right-hand side of what is stored
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    file = with_exif(jpeg(np.ascontiguousarray(stored)), orientation, order)
    assert picture_size(file, exif=True) == SIZE
    seen = decode_picture(file, *LIMITS, exif=True)
    assert seen.shape == upright.shape
    assert np.abs(seen.astype(int) - upright).mean() < 4
    assert Size.of(decode_picture(file, *LIMITS, exif=False)) == Size.of(stored), "a stream ignores it"
    ours = exif_orientation(file)
    assert np.array_equal(to_upright(np.ascontiguousarray(stored), *ours), upright)


@pytest.mark.parametrize("order", ["<", ">"])
def test_opencv_reads_the_same_orientation(order: str) -> None:
    for orientation in range(1, 9):
        file = with_exif(jpeg(photo()), orientation, order)
        theirs = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
        assert theirs is not None
        seen = decode_picture(file, *LIMITS, exif=True)
        assert np.abs(seen.astype(int) - theirs[..., ::-1]).mean() < 1


@pytest.mark.parametrize(
    "file",
    [
        with_exif(jpeg(photo()), 0),
        with_exif(jpeg(photo()), 9),
        with_exif(jpeg(photo()), 6, kind=2),
        jpeg(photo())[:2] + b"\xff\xe1\x00\x0aExif\0\0II" + jpeg(photo())[2:],
        jpeg(photo())[:2] + b"\xff\xe1\x00\x10Exif\0\0MM\0*\xff\xff\xff\xff" + jpeg(photo())[2:],
        jpeg(photo())[:2] + b"\xff\xe1\x00\x08Exif\0\0" + jpeg(photo())[2:],
    ],
)
def test_an_exif_block_that_makes_no_sense_turns_nothing(file: bytes) -> None:
    assert exif_orientation(file) == (Rotation.DEG_0, False)
    assert Size.of(decode_picture(file, *LIMITS, exif=True)) == SIZE


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xe1\x00\x00" * 3])
def test_exif_of_almost_nothing(data: bytes) -> None:
    assert exif_orientation(data) == (Rotation.DEG_0, False)


@pytest.mark.parametrize("at", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_jpeg_is_refused_instead_of_filled_with_gray(at: float) -> None:
    file = jpeg(photo())
    with pytest.raises(DecodeError):
        decode_picture(file[: int(at * len(file))], *LIMITS, exif=True)


@pytest.mark.parametrize("at", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_png_is_refused(at: float) -> None:
    file = png(photo())
    with pytest.raises(DecodeError):
        decode_picture(file[: int(at * len(file))], *LIMITS, exif=True)


@pytest.mark.parametrize("rows", [b"", bytes(3), bytes(9 * 2 - 1)])
def test_a_png_with_too_few_pixels_inside_is_refused(rows: bytes) -> None:
    """All its checksums are right: the pixels themselves end early."""
    with pytest.raises(DecodeError, match="damaged or too few"):
        decode_picture(png_by_hand(Size(8, 2), 8, 0, rows), *LIMITS, exif=True)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(declaring(jpeg(photo()), Size(65500, 65500)), id="jpeg, both sides"),
        pytest.param(declaring(jpeg(photo()), Size(4097, 2)), id="jpeg, one side"),
        pytest.param(declaring(jpeg(photo()), Size(1921, 1080)), id="jpeg, the area"),
        pytest.param(png_by_hand(Size(30_000, 30_000), 8, 0, bytes(100)), id="png"),
        pytest.param(png_by_hand(Size(2**31 - 1, 2**31 - 1), 8, 6, b""), id="png, largest"),
        pytest.param(png_by_hand(Size(2**32 - 1, 2**32 - 1), 8, 6, b""), id="png, larger than allowed at all"),
    ],
)
def test_a_bomb_is_refused_by_its_declared_size(file: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="exceeds max_side_px 4096 or max_frame_px 2073600"):
            decode_picture(file, *LIMITS, exif=True)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_scaled_decode_has_the_same_limits() -> None:
    with pytest.raises(TooLargeError):
        decode_jpeg_scaled(declaring(jpeg(photo()), Size(65500, 65500)), Size(8, 8), *LIMITS)
    with pytest.raises(DecodeError, match="neither JPEG"):
        decode_jpeg_scaled(png(photo()), Size(8, 8), *LIMITS)


@pytest.mark.parametrize(
    ("at_least", "size"),
    [(Size(320, 180), Size(320, 180)), (Size(321, 1), Size(400, 225)), (Size(9999, 1), Size(640, 360))],
)
def test_a_scaled_decode_reaches_the_wanted_size_and_no_further(at_least: Size, size: Size) -> None:
    rgb = photo(Size(640, 360))
    scaled = decode_jpeg_scaled(jpeg(rgb), at_least, *LIMITS)
    assert scaled.full_size == Size(640, 360)
    assert Size.of(scaled.picture_rgb) == size
    wanted = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    assert np.abs(scaled.picture_rgb.astype(int) - wanted).mean() < 3


@pytest.mark.parametrize("size", [Size(0, 40), Size(64, 0), Size(0, 0)])
def test_no_pixels_declared(size: Size) -> None:
    with pytest.raises(DecodeError):
        decode_picture(declaring(jpeg(photo()), size), *LIMITS, exif=True)
    with pytest.raises(DecodeError):
        decode_picture(png_by_hand(size, 8, 0, b""), *LIMITS, exif=True)


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    """Each scan costs a pass over the whole picture, in a file that stays small."""
    file = jpeg(photo(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = file.rindex(b"\xff\xda")
    many = file[:last] + file[last:-2] * (MAX_JPEG_SCANS + 1) + file[-2:]
    with pytest.raises(DecodeError, match=f"scans, allowed are {MAX_JPEG_SCANS}"):
        decode_picture(many, *LIMITS, exif=True)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM" + bytes(60), b"\xff\xd8", b"%PDF-1.7"])
def test_other_kinds_of_files_are_refused(data: bytes) -> None:
    """OpenCV would decode some of them, by code that nobody here has looked at."""
    with pytest.raises(DecodeError, match="neither JPEG nor PNG"):
        decode_picture(data, *LIMITS, exif=True)
    with pytest.raises(DecodeError, match="neither JPEG nor PNG"):
        picture_size(data)


def test_padding_before_a_marker_is_no_damage() -> None:
    """Webcams with an MJPEG chip write it, and libjpeg complains."""
    file = jpeg(photo())
    end = file.rindex(b"\xff\xd9")
    seen = decode_picture(file[:end] + bytes(5) + file[end:], *LIMITS, exif=False)
    assert np.abs(seen.astype(int) - photo()).mean() < 3
