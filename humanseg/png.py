"""The outside of a PNG file (PNG specification, third edition, section 5): chunks, checksums, the header.

For whoever reads PNGs that came from elsewhere: masks in the client, photos in the service.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from humanseg.vision.arrays import Size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Head of a chunk: length of the payload, four-letter type. Behind the payload follows the CRC of type and payload.
_HEAD = struct.Struct(">I4s")
_CRC = struct.Struct(">I")
_IHDR = struct.Struct(">IIBBBBB")
_COLORS = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with alpha", 6: "RGBA"}


class PngError(ValueError):
    """Bytes that are not a whole PNG file."""


@dataclass(frozen=True, slots=True)
class PngHeader:
    """The IHDR chunk: what the file says about its picture, not checked against anything."""

    size: Size
    bit_depth: int
    color_type: int
    compression: int
    filter_method: int
    interlace: int

    @property
    def kind(self) -> str:
        """For messages: ``8-bit gray``."""
        return f"{self.bit_depth}-bit {_COLORS.get(self.color_type, f'color type {self.color_type}')}"

    @classmethod
    def parse(cls, payload: bytes) -> "PngHeader":
        """Read the payload of an IHDR chunk.

        Raises:
            PngError: it has not 13 bytes.
        """
        if len(payload) != _IHDR.size:
            raise PngError(f"PNG header of {len(payload)} bytes, expected {_IHDR.size}")
        width, height, *rest = _IHDR.unpack(payload)
        return cls(Size(width, height), *rest)

    def pack(self) -> bytes:
        """The payload of the IHDR chunk."""
        fields = (self.bit_depth, self.color_type, self.compression, self.filter_method, self.interlace)
        return _IHDR.pack(*self.size, *fields)


def pack_chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return b"".join((_HEAD.pack(len(payload), kind), payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(kind)))))


def read_header(data: bytes) -> PngHeader:
    """The header of a PNG file; looks at the first 33 bytes only.

    Raises:
        PngError: the file does not begin like a PNG.
    """
    for kind, payload in read_chunks(data):
        if kind != b"IHDR":
            break
        return PngHeader.parse(payload)
    raise PngError("PNG does not begin with an IHDR chunk")


def read_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and payload of every chunk up to and with IEND, each after its checksum proved right.

    Raises:
        PngError: no PNG signature, a chunk or the end is missing, a checksum is wrong.
    """
    if not data.startswith(SIGNATURE):
        raise PngError(f"not a PNG: begins with {data[:8].hex(' ') or 'nothing'}, expected {SIGNATURE.hex(' ')}")
    position = len(SIGNATURE)
    while True:
        start = position + _HEAD.size
        if start > len(data):
            raise PngError(f"PNG truncated: {len(data)} bytes without an IEND chunk")
        length, kind = _HEAD.unpack_from(data, position)
        end = start + length
        if end + _CRC.size > len(data):
            raise PngError(
                f"PNG truncated: chunk {chunk_name(kind)} of {length} bytes at byte {position} of {len(data)}"
            )
        payload = data[start:end]
        declared = _CRC.unpack_from(data, end)[0]
        computed = zlib.crc32(payload, zlib.crc32(kind))
        if declared != computed:
            raise PngError(
                f"PNG chunk {chunk_name(kind)} at byte {position}: wrong CRC {declared:08x}, expected {computed:08x}"
            )
        yield kind, payload
        if kind == b"IEND":
            return
        position = end + _CRC.size


def chunk_name(kind: bytes) -> str:
    """A chunk's type for messages, also where it is not text."""
    return kind.decode("ascii", "backslashreplace")
