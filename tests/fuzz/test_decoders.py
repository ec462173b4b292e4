"""Random and damaged bytes as photos, raw frames, masks: read, or refused with the documented exception."""

import os
import random

import cv2
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from humanseg.frames import FrameError, PixelFormat, frame_bytes, pack_planes, view_frame
from humanseg.masks import MaskEncoding, MaskError, decode_mask, encode_mask
from humanseg.png import PngError, read_chunks, read_header
from humanseg.vision.arrays import Size
from humanseg.vision.decode import DecodeError, decode_jpeg_scaled, decode_picture, exif_orientation, picture_size

EXAMPLES = int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "300"))
#: Hard masks are quick to read, so that a short run has more of them.
MASKS = int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "10000"))
MAX_PX, MAX_SIDE_PX = 64 * 64, 100


def _files() -> list[bytes]:
    rgb = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(rgb, (0, 0), 3)
    kinds = [
        (".jpg", smooth, []),
        (".jpg", smooth[..., 0], []),
        (".jpg", smooth, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".png", smooth, []),
        (".png", smooth[..., 0], []),
        (".png", np.dstack([smooth, smooth[..., 0]]), []),
    ]
    files = []
    for extension, array, flags in kinds:
        ok, data = cv2.imencode(extension, array, flags)
        assert ok
        files.append(data.tobytes())
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    files.append(files[0][:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + files[0][2:])
    return files


FILES = _files()
BEGINNINGS = [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\x00\x40Exif\0\0MM\0*", FILES[3][:33]]
#: (where, how many bytes go, what comes in their place)
WOUNDS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 40), st.binary(max_size=12)), min_size=1, max_size=4)


def wound(file: bytes, wounds: list[tuple[int, int, bytes]]) -> bytes:
    data = bytearray(file)
    for where, gone, instead in wounds:
        start = where % (len(data) + 1)
        data[start : start + gone] = instead
    return bytes(data)


def read_or_refuse(data: bytes) -> None:
    """The one criterion: an array as promised, or a DecodeError that says something."""
    for exif in (True, False):
        try:
            picture = decode_picture(data, MAX_PX, MAX_SIDE_PX, exif=exif)
        except DecodeError as error:
            assert str(error)
        else:
            assert picture.dtype == np.uint8
            assert picture.shape[2:] == (3,)
            assert picture.flags.c_contiguous
            assert 0 < Size.of(picture).area_px <= MAX_PX
            assert max(Size.of(picture)) <= MAX_SIDE_PX
            assert picture_size(data, exif=exif) == Size.of(picture), "the header told the truth"
        try:
            picture_size(data, exif=exif)
        except DecodeError as error:
            assert str(error)
    try:
        scaled = decode_jpeg_scaled(data, Size(9, 9), MAX_PX, MAX_SIDE_PX)
    except DecodeError as error:
        assert str(error)
    else:
        assert scaled.full_size.area_px <= MAX_PX
        assert Size.of(scaled.picture_rgb).area_px <= scaled.full_size.area_px
    exif_orientation(data)


@settings(deadline=None, max_examples=EXAMPLES)
@given(file=st.sampled_from(FILES), wounds=WOUNDS)
def test_a_damaged_photo(file: bytes, wounds: list[tuple[int, int, bytes]]) -> None:
    read_or_refuse(wound(file, wounds))


@settings(deadline=None, max_examples=EXAMPLES)
@given(start=st.sampled_from(BEGINNINGS), rest=st.binary(max_size=300))
@example(b"\xff\xd8\xff", b"")
def test_noise_behind_a_good_beginning(start: bytes, rest: bytes) -> None:
    read_or_refuse(start + rest)


@settings(deadline=None, max_examples=EXAMPLES)
@given(file=st.sampled_from(FILES[3:6]), wounds=WOUNDS)
def test_the_outside_of_a_png(file: bytes, wounds: list[tuple[int, int, bytes]]) -> None:
    data = wound(file, wounds)
    for read in (read_header, lambda data: list(read_chunks(data))):
        try:
            read(data)
        except PngError as error:
            assert str(error)


SIDES = st.one_of(st.integers(-2, 40), st.sampled_from([2**31, 2**32 - 1]))


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    pixel_format=st.sampled_from(PixelFormat),
    size=st.builds(Size, SIDES, SIDES),
    off=st.integers(-2, 2),
    count=st.integers(0, 99),
)
def test_the_layout_of_any_bytes(pixel_format: PixelFormat, size: Size, off: int, count: int) -> None:
    try:
        expected = frame_bytes(pixel_format, size)
    except FrameError as error:
        assert str(error)
        assert pixel_format.compressed or min(size) < 1
        expected = count
    data = bytes(max(0, expected + off)) if expected < 10_000 else bytes(count)
    try:
        frame = view_frame(data, pixel_format, size)
    except FrameError as error:
        assert str(error)
        assert pixel_format.compressed or min(size) < 1 or len(data) != expected
    else:
        assert len(data) == expected
        assert pack_planes(frame) == data


def test_the_bytes_of_a_hard_mask() -> None:
    """Noise, and good masks with wounds: one canonical form, or a MaskError that says something."""
    pick = random.Random(18)
    accepted = {MaskEncoding.PACKED: 0, MaskEncoding.RLE: 0}
    for _ in range(MASKS):
        encoding = pick.choice(list(accepted))
        size = Size(pick.randint(1, 12), pick.randint(1, 6))
        if pick.random() < 0.5:
            data = pick.randbytes(pick.randint(0, 12))
        else:
            mask = np.frombuffer(pick.randbytes(size.area_px), np.uint8).reshape(size.shape)
            at, gone = pick.randint(0, 12), pick.randint(0, 2)
            data = wound(encode_mask(mask, encoding), [(at, gone, pick.randbytes(gone))])
        try:
            seen = decode_mask(data, encoding, size)
        except MaskError as error:
            assert str(error)
        else:
            assert (seen.shape, seen.dtype) == (size.shape, np.uint8)
            assert encode_mask(seen, encoding) == data, "there is one form of a mask"
            accepted[encoding] += 1
    assert min(accepted.values()) > MASKS // 100, "the cases reach behind the checks"
