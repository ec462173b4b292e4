"""Masks as they go over the wire, both directions: plain bytes, a gray PNG, bits, or run lengths. numpy and zlib only.

The PNG part follows the PNG specification (third edition, sections 5, 9, 11) for one kind of picture: 8-bit gray, not
interlaced. The client needs it without OpenCV, and knows that it reads what the server writes; everything else is
refused by name. PACKED and RLE are written in the contract (``MaskEncoding`` in the proto), and each mask has one
form only in them: what the encoder would not write is refused.
"""

import enum
import zlib

import numpy as np
from numpy.typing import NDArray

from humanseg.png import SIGNATURE, PngError, PngHeader, chunk_name, pack_chunk, read_chunks
from humanseg.vision.arrays import Alpha8, Size

#: What zlib may use beside the level: window, memory. The level itself has no effect on run lengths.
_ZLIB_LEVEL, _ZLIB_WBITS, _ZLIB_MEMORY = 1, 15, 9
#: A pixel is person in a hard mask (PACKED, RLE) from this value on.
HARD_LEVEL = 128
#: Bytes of the longest run; 2**28 - 1 pixels, and so also the largest RLE mask: four times the largest that is served.
_RUN_BYTES = 4
LARGEST_RLE_PX = 2 ** (7 * _RUN_BYTES) - 1
_FILTER_NONE, _FILTER_SUB, _FILTER_UP, _FILTER_AVERAGE, _FILTER_PAETH = range(5)


class MaskError(ValueError):
    """Bytes that are not the mask they are said to be."""


class MaskEncoding(enum.Enum):
    """How a mask is written; the names are those of the contract's ``MASK_ENCODING_<name>``."""

    ALPHA8 = "alpha8"
    PNG = "png"
    PACKED = "packed"
    RLE = "rle"


def encode_mask(alpha8: Alpha8, encoding: MaskEncoding) -> bytes:
    """Write an (H, W) uint8 mask, 0 background to 255 person.

    Raises:
        MaskError: the array is not (H, W) uint8, or empty, or too large for RLE.
    """
    if alpha8.ndim != 2 or alpha8.dtype != np.uint8 or alpha8.size == 0:
        raise MaskError(f"mask of shape {alpha8.shape}, {alpha8.dtype}; expected (H, W) uint8 with H, W >= 1")
    match encoding:
        case MaskEncoding.ALPHA8:
            return alpha8.tobytes()
        case MaskEncoding.PNG:
            return _encode_png(alpha8)
        case MaskEncoding.PACKED:
            return np.packbits(alpha8 >= HARD_LEVEL, axis=1).tobytes()
        case MaskEncoding.RLE:
            return _encode_runs(alpha8)


def decode_mask(data: bytes | memoryview, encoding: MaskEncoding, size: Size) -> Alpha8:
    """Read a mask of a known size; the inverse of `encode_mask`.

    Returns (H, W) uint8, of PACKED and RLE 0 and 255 only; of ALPHA8 a read-only view of ``data``, else an array of its
    own.

    Raises:
        MaskError: the bytes are not a whole, valid mask of that size and encoding.
    """
    if min(size) < 1:
        raise MaskError(f"mask of {size}, both sides must be at least 1")
    match encoding:
        case MaskEncoding.ALPHA8:
            seen = data.nbytes if isinstance(data, memoryview) else len(data)
            if seen != size.area_px:
                raise MaskError(f"{seen} bytes for an ALPHA8 mask of {size}, expected {size.area_px}")
            return np.frombuffer(data, np.uint8).reshape(size.shape)
        case MaskEncoding.PNG:
            return _decode_png(bytes(data), size)
        case MaskEncoding.PACKED:
            return _decode_bits(np.frombuffer(data, np.uint8), size)
        case MaskEncoding.RLE:
            return _decode_runs(np.frombuffer(data, np.uint8), size)


def _decode_bits(data: NDArray[np.uint8], size: Size) -> Alpha8:
    row_bytes = (size.width + 7) // 8
    if data.size != size.height * row_bytes:
        text = f"{data.size} bytes for a PACKED mask of {size}, expected {size.height * row_bytes}"
        raise MaskError(f"{text} ({row_bytes} a row)")
    rows = data.reshape(size.height, row_bytes)
    left_over = np.uint8((1 << (8 * row_bytes - size.width)) - 1)
    if (wrong := rows[:, -1] & left_over).any():
        bad = int(np.flatnonzero(wrong)[0])
        raise MaskError(f"PACKED row {bad} ends in {rows[bad, -1]:08b}; bits behind pixel {size.width} must be 0")
    return np.unpackbits(rows, axis=1, count=size.width) * np.uint8(255)


def _encode_runs(alpha8: Alpha8) -> bytes:
    if alpha8.size > LARGEST_RLE_PX:
        raise MaskError(f"mask of {Size.of(alpha8)} for RLE, which holds at most {LARGEST_RLE_PX} pixels; use PACKED")
    person = (alpha8 >= HARD_LEVEL).ravel()
    edges = np.flatnonzero(person[1:] != person[:-1]) + 1
    # Background comes first: where there is none, its run is 0.
    bounds = np.concatenate(([0, 0] if person[0] else [0], edges, [person.size]))
    # (runs, 4): what is left of each run before each of its bytes; the first byte is always written.
    left = np.diff(bounds)[:, np.newaxis] >> np.arange(0, 7 * _RUN_BYTES, 7)
    written = left > 0
    written[:, 0] = True
    codes = (left & 0x7F).astype(np.uint8)
    codes[:, :-1] |= written[:, 1:].astype(np.uint8) << 7
    return codes[written].tobytes()


def _decode_runs(data: NDArray[np.uint8], size: Size) -> Alpha8:
    if size.area_px > LARGEST_RLE_PX:
        raise MaskError(f"RLE mask of {size}, which is more than the {LARGEST_RLE_PX} pixels that RLE holds")
    ends = np.flatnonzero(data < 0x80)
    if ends.size == 0 or ends[-1] != data.size - 1:
        raise MaskError(f"RLE mask of {size}: {data.size} bytes that do not end with the last byte of a run")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if (bad := np.flatnonzero(lengths > _RUN_BYTES)).size:
        raise MaskError(f"RLE run {bad[0]} takes {lengths[bad[0]]} bytes, at most {_RUN_BYTES} are allowed")
    if (bad := np.flatnonzero((lengths > 1) & (data[ends] == 0))).size:
        raise MaskError(f"RLE run {bad[0]} is not written in as few bytes as it needs")
    place = np.arange(data.size) - np.repeat(starts, lengths)
    runs = np.add.reduceat((data & 0x7F).astype(np.int64) << (7 * place), starts)
    if (bad := np.flatnonzero(runs[1:] == 0)).size:
        raise MaskError(f"RLE run {bad[0] + 1} is 0; only the first one, of background, may be")
    if (total := int(runs.sum())) != size.area_px:
        raise MaskError(f"RLE runs of {total} pixels for a mask of {size}, expected {size.area_px}")
    # Sums along the mask, modulo 256: 255 where a run of person begins, 0 where it ends (255 + 1).
    edges = np.cumsum(runs)[:-1]
    steps = np.zeros(size.area_px, np.uint8)
    steps[edges[0::2]] = 255
    steps[edges[1::2]] = 1
    return np.cumsum(steps, dtype=np.uint8).reshape(size.shape)


def _encode_png(alpha8: Alpha8) -> bytes:
    height, width = alpha8.shape
    # Rows of a mask repeat the row above nearly everywhere, so the difference to it (filter Up) is mostly zero.
    filtered = np.empty((height, width + 1), np.uint8)
    filtered[:, 0] = _FILTER_UP
    filtered[0, 1:] = alpha8[0]
    np.subtract(alpha8[1:], alpha8[:-1], out=filtered[1:, 1:])
    # Run lengths and Huffman codes only: after Up there is little else to find. Against level 1 of the full search
    # (drawn person, 640x360 and 1920x1080, zlib 1.3, ms and KB): smooth mask .35, 10.6 for .29, 9.8 and 3.9, 50 for
    # 3.2, 59; mask with noise in its tails 1.7, 55 for 1.7, 64 and 9.9, 265 for 11, 342. Level 6 takes 2 to 7 times as
    # long for 10 to 30 % less.
    deflate = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, _ZLIB_WBITS, _ZLIB_MEMORY, zlib.Z_RLE)
    pixels = deflate.compress(filtered.data) + deflate.flush()
    header = PngHeader(Size(width, height), 8, 0, 0, 0, 0)
    return b"".join(
        (SIGNATURE, pack_chunk(b"IHDR", header.pack()), pack_chunk(b"IDAT", pixels), pack_chunk(b"IEND", b""))
    )


def _decode_png(data: bytes, size: Size) -> Alpha8:
    try:
        compressed = _collect_pixels(data, size)
    except PngError as error:
        raise MaskError(str(error)) from None
    height, width = size.shape
    expected = height * (width + 1)
    inflate = zlib.decompressobj()
    try:
        # One byte more than wanted is enough to tell a bomb from a mask; the rest is never written to memory.
        raw = inflate.decompress(compressed, expected + 1)
    except zlib.error as error:
        raise MaskError(f"PNG of {size}: compressed pixels are damaged ({error})") from None
    if len(raw) > expected:
        raise MaskError(f"PNG of {size}: more than the {expected} bytes of its declared size come out")
    if len(raw) < expected or not inflate.eof:
        raise MaskError(f"PNG of {size}: compressed pixels are truncated, {len(raw)} of {expected} bytes come out")
    rows = np.frombuffer(raw, np.uint8).reshape(height, width + 1)
    return _unfilter(rows[:, 0], rows[:, 1:])


def _collect_pixels(data: bytes, size: Size) -> bytes:
    """The joined IDAT payloads of a mask of ``size``."""
    parts: list[bytes] = []
    header: PngHeader | None = None
    for kind, payload in read_chunks(data):
        if (kind == b"IHDR") != (header is None):
            raise MaskError(f"PNG chunk {chunk_name(kind)}: IHDR must be the first chunk and the only one of its kind")
        if kind == b"IHDR":
            header = PngHeader.parse(payload)
            _check_header(header, size)
        elif kind == b"IDAT":
            parts.append(payload)
        elif kind != b"IEND" and not kind[0] & 0x20:
            # Upper case first letter: a critical chunk, without which the pixels cannot be understood.
            raise MaskError(f"PNG chunk {chunk_name(kind)} is not allowed in a gray mask")
    return b"".join(parts)


def _check_header(header: PngHeader, size: Size) -> None:
    if (header.bit_depth, header.color_type) != (8, 0):
        raise MaskError(f"PNG is {header.kind}, expected 8-bit gray")
    if header.interlace:
        raise MaskError("PNG is interlaced, expected a plain one")
    if header.compression or header.filter_method:
        raise MaskError(f"PNG compression {header.compression}, filters {header.filter_method}; only 0 and 0 exist")
    if header.size != size:
        raise MaskError(f"PNG is {header.size}, expected {size}")


def _unfilter(filters: NDArray[np.uint8], rows: NDArray[np.uint8]) -> Alpha8:
    """Undo the row filters (PNG 9.2); one byte a pixel, so the pixel to the left is the byte to the left."""
    if int(filters.max()) > _FILTER_PAETH:
        bad = int(np.argmax(filters > _FILTER_PAETH))
        raise MaskError(f"PNG row {bad} has filter type {int(filters[bad])}, allowed are 0 to 4")
    if not (filters != _FILTER_NONE).any():
        return rows.copy()
    if (filters == _FILTER_UP).all():
        # What `encode_mask` writes: sums down the columns, modulo 256, in one call.
        return np.cumsum(rows, axis=0, dtype=np.uint8)
    out = np.empty_like(rows)
    above = np.zeros(rows.shape[1], np.uint8)
    for index, kind in enumerate(filters.tolist()):
        row = rows[index]
        if kind == _FILTER_NONE:
            out[index] = row
        elif kind == _FILTER_SUB:
            np.cumsum(row, dtype=np.uint8, out=out[index])
        elif kind == _FILTER_UP:
            np.add(row, above, out=out[index])
        elif kind == _FILTER_AVERAGE:
            out[index] = _undo_average(row.tobytes(), above.tobytes())
        else:
            out[index] = _undo_paeth(row.tobytes(), above.tobytes())
        above = out[index]
    return out


def _undo_average(row: bytes, above: bytes) -> NDArray[np.uint8]:
    # Each pixel needs the finished one to its left, with rounding in between: no vector form. Our own PNGs never come
    # here; it is for masks that were written again by other tools.
    out = bytearray(len(row))
    left = 0
    for x, (value, up) in enumerate(zip(row, above, strict=True)):
        left = (value + ((left + up) >> 1)) & 0xFF
        out[x] = left
    return np.frombuffer(out, np.uint8)


def _undo_paeth(row: bytes, above: bytes) -> NDArray[np.uint8]:
    out = bytearray(len(row))
    left = upper_left = 0
    for x, (value, up) in enumerate(zip(row, above, strict=True)):
        to_left, to_up, to_upper_left = abs(up - upper_left), abs(left - upper_left), abs(left + up - 2 * upper_left)
        if to_left <= to_up and to_left <= to_upper_left:
            predicted = left
        elif to_up <= to_upper_left:
            predicted = up
        else:
            predicted = upper_left
        left = (value + predicted) & 0xFF
        out[x] = left
        upper_left = up
    return np.frombuffer(out, np.uint8)
