"""What the sessions send: pictures of a video file, or drawn ones, encoded before the clock runs.

Played forth and back, so that the loop has no cut in it, and from another place in each session.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from humanseg.frames import PixelFormat, RawFrame, pack_planes
from humanseg.video import read_rgb
from humanseg.vision.arrays import Picture, Size
from humanseg.vision.color import rgb_to_i420
from humanseg.vision.letterbox import shrink_or_grow

#: A client process keeps at most this much footage; 360p I420 fits 388 frames, 1080p RGB 21.
LIMIT_BYTES = 128 * 2**20
#: Never more pictures than this, however small: at 30 fps a loop of 20 s.
MOST_FRAMES = 300
DRAWN_FRAMES = 90
JPEG_QUALITY = 85


def load(clip: str | None, size: Size, pixel_format: PixelFormat) -> list[bytes]:
    """The pictures as they are to be sent, at least one.

    Args:
        clip: path of a video file; None draws.
        size: of the pictures; another shape than the clip's stretches it, which costs the server the same.
        pixel_format: I420, RGB24 or JPEG.

    Raises:
        VideoError: the clip cannot be read.
    """
    encoded: list[bytes] = []
    total_bytes = 0
    for picture in islice(pictures(clip, size), MOST_FRAMES):
        encoded.append(encode(picture, pixel_format))
        total_bytes += len(encoded[-1])
        if total_bytes + len(encoded[-1]) > LIMIT_BYTES:
            break
    return encoded


def pictures(clip: str | None, size: Size) -> Iterator[Picture]:
    """The footage as RGB pictures, a clip to its end.

    Raises:
        VideoError: the clip cannot be read.
    """
    return drawn(size) if clip is None else _from_clip(Path(clip), size)


def encode(picture_rgb: Picture, pixel_format: PixelFormat) -> bytes:
    """An (H, W, 3) uint8 RGB picture as bytes of a format."""
    size = Size.of(picture_rgb)
    match pixel_format:
        case PixelFormat.RGB24:
            return picture_rgb.tobytes()
        case PixelFormat.I420:
            return pack_planes(RawFrame(size, pixel_format, rgb_to_i420(picture_rgb)))
        case PixelFormat.JPEG:
            _, file = cv2.imencode(".jpg", picture_rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            return file.tobytes()
        case _:
            raise ValueError(f"footage in {pixel_format.name} is not offered; choose i420, rgb24 or jpeg")


def bounce(frames: Sequence[bytes], start: int) -> Iterator[bytes]:
    """Endlessly forth and back from a position; a single picture again and again."""
    period = max(1, 2 * len(frames) - 2)
    position = start % period
    while True:
        yield frames[position if position < len(frames) else period - position]
        position = (position + 1) % period


def drawn(size: Size) -> Iterator[Picture]:
    """Pictures of a figure that sways before a patterned wall, with camera noise: `DRAWN_FRAMES` of them, RGB.

    Something moves, edges and noise cost what they cost in life; no network needs to see a person in it.
    """
    width, height = size
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    wall = 110 + 50 * np.sin(columns / 23) * np.cos(rows / 17)
    scene = np.stack((wall, wall * 0.9, wall * 0.75), axis=-1).astype(np.uint8)
    noise = rng.normal(0, 2.5, (4, height, width, 3)).astype(np.int16)
    for number in range(DRAWN_FRAMES):
        picture = scene.copy()
        sway = round(0.08 * width * float(np.sin(2 * np.pi * number / DRAWN_FRAMES)))
        head = (width // 2 + sway, height // 3)
        cv2.ellipse(picture, (width // 2 + sway // 2, height), (width // 4, height // 2), 0, 0, 360, (60, 80, 140), -1)
        cv2.circle(picture, head, max(1, height // 7), (205, 160, 135), -1, cv2.LINE_AA)
        yield np.clip(picture.astype(np.int16) + noise[number % 4], 0, 255).astype(np.uint8)


def _from_clip(path: Path, size: Size) -> Iterator[Picture]:
    for frame in read_rgb(path):
        yield shrink_or_grow(frame, size)
