"""Masks over the wire; OpenCV's libpng is the second opinion."""

import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg.masks import MaskEncoding, MaskError, decode_mask, encode_mask
from humanseg.png import SIGNATURE
from humanseg.v1 import segmentation_pb2
from humanseg.vision.arrays import Size

Mask = NDArray[np.uint8]
FILTER_NAMES = ["none", "sub", "up", "average", "paeth"]


def person(size: Size) -> Mask:
    """A head and shoulders with a soft edge, drawn."""
    mask = np.zeros(size.shape, np.uint8)
    cv2.ellipse(mask, (size.width // 2, size.height // 3), (size.width // 10, size.height // 5), 0, 0, 360, 255, -1)
    cv2.ellipse(mask, (size.width // 2, size.height), (size.width // 4, size.height // 2), 0, 0, 360, 255, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.5), np.uint8)


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(
    rows: bytes, width: int, height: int, *, depth: int = 8, color: int = 0, interlace: int = 0, extra: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return SIGNATURE + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def filtered_rows(mask: Mask, filter_of_row: Callable[[int], int]) -> bytes:
    """The five filters as section 9 of the PNG specification writes them: byte by byte, slowly."""
    out = bytearray()
    for y, row in enumerate(mask.astype(int).tolist()):
        above = mask[y - 1].astype(int).tolist() if y else [0] * len(row)
        kind = filter_of_row(y)
        out.append(kind)
        for x, value in enumerate(row):
            a, b, c = (row[x - 1] if x else 0), above[x], (above[x - 1] if x else 0)
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            out.append((value - [0, a, b, (a + b) // 2, nearest][kind]) % 256)
    return bytes(out)


def test_names_are_those_of_the_contract() -> None:
    contract = {name.removeprefix("MASK_ENCODING_") for name in segmentation_pb2.MaskEncoding.DESCRIPTOR.values_by_name}
    assert {encoding.name for encoding in MaskEncoding} == contract - {"UNSPECIFIED"}


def test_alpha8_is_the_bytes_themselves() -> None:
    mask = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert encode_mask(mask, MaskEncoding.ALPHA8) == bytes([1, 2, 3, 4, 5, 6])
    assert encode_mask(np.ascontiguousarray(mask.T).T, MaskEncoding.ALPHA8) == bytes([1, 2, 3, 4, 5, 6])


def test_opencv_reads_our_png() -> None:
    mask = person(Size(321, 181))
    seen = cv2.imdecode(np.frombuffer(encode_mask(mask, MaskEncoding.PNG), np.uint8), cv2.IMREAD_UNCHANGED)
    assert seen is not None
    assert seen.dtype == np.uint8
    np.testing.assert_array_equal(seen, mask)


@pytest.mark.parametrize("strategy", range(6))
def test_we_read_opencvs_png(strategy: int) -> None:
    mask = person(Size(97, 61))
    flags = [cv2.IMWRITE_PNG_FILTER, [0, 8, 16, 32, 64, 128, 248][strategy]]
    ok, file = cv2.imencode(".png", mask, flags)
    assert ok
    np.testing.assert_array_equal(decode_mask(file.tobytes(), MaskEncoding.PNG, Size(97, 61)), mask)


@pytest.mark.parametrize("kind", range(5), ids=FILTER_NAMES)
def test_every_filter_alone(kind: int) -> None:
    mask = np.random.default_rng(kind).integers(0, 256, (9, 13), dtype=np.uint8)
    file = png(filtered_rows(mask, lambda _: kind), 13, 9)
    np.testing.assert_array_equal(decode_mask(file, MaskEncoding.PNG, Size(13, 9)), mask)


def test_filters_mixed_and_pixels_in_several_chunks() -> None:
    mask = np.random.default_rng(9).integers(0, 256, (20, 7), dtype=np.uint8)
    packed = zlib.compress(filtered_rows(mask, lambda y: (3 * y + 2) % 5))
    parts = b"".join(chunk(b"IDAT", packed[at : at + 10]) for at in range(0, len(packed), 10))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 20, 8, 0, 0, 0, 0))
    comment = chunk(b"tEXt", b"Comment\0drawn")
    file = SIGNATURE + header + comment + parts + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_mask(file, MaskEncoding.PNG, Size(7, 20)), mask)


ROWS_3X2 = bytes(2 * 4)


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (b"", "not a PNG: begins with nothing"),
        (b"\xff\xd8\xff\xe0 a JPEG", "not a PNG: begins with ff d8"),
        (png(ROWS_3X2, 3, 2, depth=16), "16-bit gray, expected 8-bit gray"),
        (png(ROWS_3X2, 3, 2, depth=1), "1-bit gray, expected 8-bit gray"),
        (png(ROWS_3X2, 3, 2, color=2), "8-bit RGB, expected 8-bit gray"),
        (png(ROWS_3X2, 3, 2, color=3), "palette"),
        (png(ROWS_3X2, 3, 2, color=9), "color type 9"),
        (png(ROWS_3X2, 3, 2, interlace=1), "interlaced"),
        (png(ROWS_3X2, 2, 3), "PNG is 2x3, expected 3x2"),
        (png(ROWS_3X2, 2**31, 2**31), "PNG is 2147483648x2147483648, expected 3x2"),
        (png(bytes(7), 3, 2), "truncated, 7 of 8 bytes"),
        (png(bytes(9), 3, 2), "more than the 8 bytes"),
        (png(bytes([5, 0, 0, 0] * 2), 3, 2), "row 0 has filter type 5"),
        (png(ROWS_3X2, 3, 2, extra=chunk(b"PLTE", bytes(3))), "PLTE is not allowed"),
        (png(ROWS_3X2, 3, 2, extra=chunk(b"IHDR", bytes(13))), "IHDR must be the first"),
        (SIGNATURE + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "IHDR must be the first"),
        (SIGNATURE + chunk(b"IHDR", bytes(12)) + chunk(b"IEND", b""), "header of 12 bytes"),
        (png(ROWS_3X2, 3, 2)[:-1], "truncated"),
        (png(ROWS_3X2, 3, 2)[:-12], "without an IEND"),
        (png(ROWS_3X2, 3, 2)[:40], "truncated"),
    ],
)
def test_refused_by_name(file: bytes, complaint: str) -> None:
    with pytest.raises(MaskError, match=complaint):
        decode_mask(file, MaskEncoding.PNG, Size(3, 2))


def test_every_flipped_bit_is_noticed() -> None:
    good = encode_mask(person(Size(17, 11)), MaskEncoding.PNG)
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 1
        with pytest.raises(MaskError):
            decode_mask(bytes(damaged), MaskEncoding.PNG, Size(17, 11))


def test_every_truncation_is_noticed() -> None:
    good = encode_mask(person(Size(17, 11)), MaskEncoding.PNG)
    for length in range(len(good)):
        with pytest.raises(MaskError):
            decode_mask(good[:length], MaskEncoding.PNG, Size(17, 11))


def test_a_bomb_does_not_go_off() -> None:
    # 200 MB of zeros in 200 KB; the decoder stops one byte behind the declared 12.
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(10**6)) for _ in range(200)) + packer.flush()
    header = struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, 0)
    file = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    with pytest.raises(MaskError, match="more than the 12 bytes"):
        decode_mask(file, MaskEncoding.PNG, Size(3, 3))


@pytest.mark.parametrize("count", [0, 5, 7])
def test_alpha8_of_wrong_length(count: int) -> None:
    with pytest.raises(MaskError, match=f"{count} bytes for an ALPHA8 mask of 3x2, expected 6"):
        decode_mask(bytes(count), MaskEncoding.ALPHA8, Size(3, 2))


@pytest.mark.parametrize("encoding", list(MaskEncoding))
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 2, 1)])
def test_what_is_no_mask_is_not_written(encoding: MaskEncoding, shape: tuple[int, ...]) -> None:
    with pytest.raises(MaskError, match="expected"):
        encode_mask(np.zeros(shape, np.uint8), encoding)


def test_bits_are_those_of_numpy_and_pbm() -> None:
    mask = np.zeros((2, 10), np.uint8)
    mask[0, 0], mask[0, 8], mask[1, 9], mask[1, 1] = 128, 255, 200, 127
    assert encode_mask(mask, MaskEncoding.PACKED) == bytes([0b1000_0000, 0b1000_0000, 0, 0b0100_0000])


def test_runs_of_drawn_masks() -> None:
    mask = np.zeros((3, 100), np.uint8)
    assert encode_mask(mask, MaskEncoding.RLE) == bytes([300 % 128 + 128, 300 // 128])
    mask[0, 0] = mask[1, 0] = mask[0, 99] = 255
    assert encode_mask(mask, MaskEncoding.RLE) == bytes([0, 1, 98, 2, 199 % 128 + 128, 1])
    largest = np.full((1, 1), 255, np.uint8)
    assert encode_mask(largest, MaskEncoding.RLE) == bytes([0, 1])


@pytest.mark.parametrize(
    ("data", "encoding", "complaint"),
    [
        (bytes(3), MaskEncoding.PACKED, "3 bytes for a PACKED mask of 10x2, expected 4"),
        (bytes(5), MaskEncoding.PACKED, "5 bytes for a PACKED mask of 10x2, expected 4"),
        (bytes([0, 0, 255, 0b0010_0000]), MaskEncoding.PACKED, "row 1 ends in 00100000; bits behind pixel 10"),
        (b"", MaskEncoding.RLE, "0 bytes that do not end"),
        (bytes([20, 0x80]), MaskEncoding.RLE, "2 bytes that do not end"),
        (bytes([19]), MaskEncoding.RLE, "runs of 19 pixels for a mask of 10x2, expected 20"),
        (bytes([20, 1]), MaskEncoding.RLE, "runs of 21 pixels"),
        (bytes([10, 0, 10]), MaskEncoding.RLE, "run 1 is 0"),
        (bytes([20, 0]), MaskEncoding.RLE, "run 1 is 0"),
        (bytes([0x94, 0]), MaskEncoding.RLE, "run 0 is not written in as few bytes"),
        (bytes([0x94, 0x80, 0x80, 0x80, 1]), MaskEncoding.RLE, "run 0 takes 5 bytes, at most 4"),
        (bytes([0xFF] * 9 + [1]), MaskEncoding.RLE, "run 0 takes 10 bytes, at most 4"),
    ],
)
def test_bad_bits_and_runs_are_refused_by_name(data: bytes, encoding: MaskEncoding, complaint: str) -> None:
    with pytest.raises(MaskError, match=complaint):
        decode_mask(data, encoding, Size(10, 2))


def test_five_bytes_do_not_become_gigabytes() -> None:
    with pytest.raises(MaskError, match="more than the 268435455 pixels"):
        decode_mask(bytes([0x80, 0x80, 0x80, 0x80, 1]), MaskEncoding.RLE, Size(16384, 16384))


@pytest.mark.parametrize("encoding", list(MaskEncoding))
def test_a_mask_without_pixels_is_refused(encoding: MaskEncoding) -> None:
    with pytest.raises(MaskError, match="mask of 0x3, both sides must be at least 1"):
        decode_mask(b"", encoding, Size(0, 3))
