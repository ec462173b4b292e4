"""Still pictures and JPEG frames to RGB: read the header, check the limits, and only then decode.

A file of a few hundred bytes may declare four billion pixels, and libjpeg fills a truncated file up with gray and
only warns. Both are refused here, with the reason.
"""

import struct
from dataclasses import dataclass

import numpy as np
import simplejpeg

from humanseg.png import SIGNATURE as PNG_SIGNATURE
from humanseg.png import PngError, PngHeader, read_chunks, read_header
from humanseg.vision import cv
from humanseg.vision.arrays import Picture, Size
from humanseg.vision.orientation import Rotation, to_upright, upright_size

JPEG_SIGNATURE = b"\xff\xd8\xff"

#: Scans of one JPEG. Progressive files have about ten; each costs a pass over the whole picture, however few bytes it
#: has, so a small file with ten thousand of them would hold a thread for minutes.
MAX_JPEG_SCANS = 64

#: What libjpeg complains about although the picture is whole: padding before a marker (webcams with an MJPEG chip),
#: and a header field that some phones fill wrongly.
_HARMLESS_COMPLAINTS = ("extraneous bytes before marker", "Invalid SOS parameters")

#: EXIF orientation (CIPA DC-008, tag 0x0112) as a clockwise turn and a flip after it.
_EXIF_ORIENTATIONS = {
    1: (Rotation.DEG_0, False),
    2: (Rotation.DEG_0, True),
    3: (Rotation.DEG_180, False),
    4: (Rotation.DEG_180, True),
    5: (Rotation.DEG_90, True),
    6: (Rotation.DEG_90, False),
    7: (Rotation.DEG_270, True),
    8: (Rotation.DEG_270, False),
}
_UPRIGHT = _EXIF_ORIENTATIONS[1]


class DecodeError(ValueError):
    """A file that is no whole JPEG or PNG, or one over the limits."""


class TooLargeError(DecodeError):
    """A file whose header declares more pixels than allowed. Nothing was decoded."""


@dataclass(frozen=True, slots=True)
class ScaledPicture:
    """A picture decoded at a fraction of its size: (H, W, 3) uint8 RGB, and the size it has in full."""

    picture_rgb: Picture
    full_size: Size


def picture_size(data: bytes | memoryview, *, exif: bool = False) -> Size:
    """The size that a JPEG or PNG declares, from its header alone; with ``exif`` as viewers show it.

    Raises:
        DecodeError: neither a JPEG nor a PNG, or a header that cannot be read.
    """
    picture = bytes(data)
    if picture.startswith(PNG_SIGNATURE):
        return _png_header(picture).size
    size = _jpeg_size(picture)
    return upright_size(size, exif_orientation(picture)[0]) if exif else size


def decode_picture(data: bytes | memoryview, max_px: int, max_side_px: int, *, exif: bool) -> Picture:
    """Decode a JPEG or an 8-bit PNG to (H, W, 3) uint8 RGB; gray, CMYK, palette become RGB, transparency is dropped.

    ``exif`` turns a JPEG the way its EXIF orientation says. Decoded is only what declares at most ``max_px`` pixels
    and sides of at most ``max_side_px``.

    Raises:
        TooLargeError: the header declares more than that.
        DecodeError: neither JPEG nor PNG, truncated, damaged, or of a kind that is not read.
    """
    picture = bytes(data)
    if picture.startswith(PNG_SIGNATURE):
        return _decode_png(picture, max_px, max_side_px)
    _check_limits(_jpeg_size(picture), max_px, max_side_px)
    picture_rgb = _decode_jpeg(picture, Size(0, 0))
    return to_upright(picture_rgb, *exif_orientation(picture)) if exif else picture_rgb


def decode_jpeg_scaled(data: bytes | memoryview, at_least: Size, max_px: int, max_side_px: int) -> ScaledPicture:
    """Decode a JPEG at the smallest of libjpeg's fractions (eighths) whose sides reach ``at_least``.

    For streams, where the network's input is all that is wanted of a frame. EXIF is ignored.

    Raises:
        TooLargeError, DecodeError: as `decode_picture`; a PNG is refused too.
    """
    picture = bytes(data)
    full_size = _jpeg_size(picture)
    _check_limits(full_size, max_px, max_side_px)
    return ScaledPicture(_decode_jpeg(picture, at_least), full_size)


def exif_orientation(data: bytes) -> tuple[Rotation, bool]:
    """Clockwise turn, then flip, that a JPEG's EXIF asks for; nothing where there is none or it makes no sense.

    Read here because a damaged EXIF block must not make a good picture unreadable.
    """
    payload = _exif_block(data)
    if payload is None:
        return _UPRIGHT
    try:
        return _EXIF_ORIENTATIONS.get(_orientation_tag(payload), _UPRIGHT)
    except struct.error:
        return _UPRIGHT


def _check_limits(size: Size, max_px: int, max_side_px: int) -> None:
    if size.width < 1 or size.height < 1:
        raise DecodeError(f"picture of {size} has no pixels")
    if max(size) > max_side_px or size.area_px > max_px:
        raise TooLargeError(
            f"picture of {size} ({size.area_px} px) exceeds max_side_px {max_side_px} or max_frame_px {max_px};"
            " send it smaller"
        )


def _jpeg_size(data: bytes) -> Size:
    if not data.startswith(JPEG_SIGNATURE):
        raise DecodeError(f"neither JPEG nor PNG: begins with {data[:8].hex(' ') or 'nothing'}")
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise DecodeError(f"JPEG header cannot be read: {error}") from None
    return Size(width, height)


def _decode_jpeg(data: bytes, at_least: Size) -> Picture:
    # In the compressed pixels 0xff is always followed by 0 or a restart marker, so this counts scans (and those of
    # thumbnails in the EXIF block, of which there are one or two).
    scans = data.count(b"\xff\xda")
    if scans > MAX_JPEG_SCANS:
        raise DecodeError(f"JPEG of {scans} scans, allowed are {MAX_JPEG_SCANS}")
    try:
        return _run_libjpeg(data, at_least, strict=True)
    except ValueError as error:
        complaint = str(error)
    if not any(harmless in complaint for harmless in _HARMLESS_COMPLAINTS):
        raise DecodeError(f"JPEG of {len(data)} bytes is damaged or truncated: {complaint}")
    try:
        return _run_libjpeg(data, at_least, strict=False)
    except ValueError as error:
        raise DecodeError(f"JPEG of {len(data)} bytes is damaged: {error}") from None


def _run_libjpeg(data: bytes, at_least: Size, *, strict: bool) -> Picture:
    picture_rgb: Picture = simplejpeg.decode_jpeg(
        data, "RGB", min_width=at_least.width, min_height=at_least.height, strict=strict
    )
    return picture_rgb


def _png_header(data: bytes) -> PngHeader:
    try:
        return read_header(data)
    except PngError as error:
        raise DecodeError(str(error)) from None


def _decode_png(data: bytes, max_px: int, max_side_px: int) -> Picture:
    header = _png_header(data)
    _check_limits(header.size, max_px, max_side_px)
    if header.bit_depth > 8:
        raise DecodeError(f"PNG is {header.kind}, allowed are 8 bits a channel; convert it")
    try:
        # libpng would find the same faults, and write them to the process's standard error.
        for _ in read_chunks(data):
            pass
    except PngError as error:
        raise DecodeError(str(error)) from None
    picture_rgb = cv.decode_rgb(np.frombuffer(data, np.uint8))
    if picture_rgb is None or Size.of(picture_rgb) != header.size:
        raise DecodeError(f"PNG of {header.size}: compressed pixels are damaged or too few")
    return picture_rgb


def _exif_block(data: bytes) -> bytes | None:
    """The TIFF structure in the APP1 segment, if there is one before the pixels."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in (0xDA, 0xD9):
            return None
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        payload = data[position + 4 : position + 2 + length]
        if marker == 0xE1 and payload.startswith(b"Exif\0\0"):
            return payload[6:]
        position += 2 + max(length, 2)
    return None


def _orientation_tag(tiff: bytes) -> int:
    """Value of tag 0x0112 in the first directory (TIFF 6.0, section 2); 1 where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    for index in range(count):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * index)
        if tag == 0x0112:
            return int(value) if kind == 3 else 1
    return 1
