"""YUV4MPEG2 (y4m): the raw video that ffmpeg and others write into a pipe, with its size and frame rate in front.

Planes are I420, 8 bits, as the service takes them: BT.601, limited range.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from humanseg.frames import PixelFormat, frame_bytes
from humanseg.vision.arrays import Size

#: No header of a real program comes near it.
_LONGEST_LINE = 1024
_HOW = "let ffmpeg write it by `-pix_fmt yuv420p -color_range tv -f yuv4mpegpipe`"


class Y4mError(ValueError):
    """Bytes that are no y4m video that can be sent; one line for people."""


@dataclass(frozen=True, slots=True)
class Y4mHeader:
    """What stands in front of the frames."""

    size: Size
    fps: Fraction

    @classmethod
    def read(cls, stream: BinaryIO) -> "Y4mHeader":
        """Read the first line.

        Raises:
            Y4mError: no y4m, or another layout of the planes than 8-bit I420.
        """
        line = _read_line(stream)
        words = line.split()
        if not words or words[0] != "YUV4MPEG2":
            raise Y4mError(f"the input is no y4m video: it begins with {line[:20]!r}; {_HOW}")
        fields = {word[0]: word[1:] for word in words[1:] if word[0] != "X"}
        width, height, rate = (fields.get(key, "") for key in "WHF")
        fps = re.fullmatch(r"(\d+):(\d+)", rate)
        if not (width.isdecimal() and height.isdecimal() and fps and 0 not in map(int, (width, height, *fps.groups()))):
            raise Y4mError(f"y4m header {line!r} lacks width W, height H or frame rate F; {_HOW}")
        layout = fields.get("C", "420jpeg")
        if layout not in ("420", "420jpeg", "420mpeg2", "420paldv"):
            raise Y4mError(f"y4m with planes C{layout}, allowed is 8-bit C420; {_HOW}")
        if "XCOLORRANGE=FULL" in words:
            raise Y4mError(f"y4m of full range, allowed is limited range; {_HOW}")
        return cls(Size(int(width), int(height)), Fraction(int(fps[1]), int(fps[2])))

    def to_bytes(self) -> bytes:
        """The first line, as ffmpeg reads it."""
        rate = f"{self.fps.numerator}:{self.fps.denominator}"
        return f"YUV4MPEG2 W{self.size.width} H{self.size.height} F{rate} Ip C420jpeg XCOLORRANGE=LIMITED\n".encode()

    def frames(self, stream: BinaryIO) -> Iterator[bytes]:
        """The planes of each frame, packed, to the end of the stream.

        Raises:
            Y4mError: it breaks off in the middle of a frame.
        """
        length = frame_bytes(PixelFormat.I420, self.size)
        number = 0
        while line := _read_line(stream):
            if line.split()[:1] != ["FRAME"]:
                raise Y4mError(f"{line[:20]!r} where frame {number} should begin; is the video really {self.size}?")
            planes = stream.read(length)
            if len(planes) != length:
                raise Y4mError(f"breaks off in frame {number}: {len(planes)} of {length} bytes")
            yield planes
            number += 1


def write_frame(stream: BinaryIO, planes: bytes) -> None:
    """Write one frame's packed planes."""
    stream.write(b"FRAME\n")
    stream.write(planes)


def _read_line(stream: BinaryIO) -> str:
    """A line without its end; empty at the end of the stream."""
    line = stream.readline(_LONGEST_LINE)
    if line and not line.endswith(b"\n"):
        raise Y4mError(f"the input is no y4m video: a line that begins with {line[:20]!r} has no end; {_HOW}")
    return line.decode("latin-1").removesuffix("\n")
