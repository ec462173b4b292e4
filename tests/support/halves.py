"""A clip whose left half is red, which the red model takes for a person, and whose right half is green."""

import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from humanseg.vision.arrays import Alpha8, Picture
from support.timing import limit_s

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
FRAMES = 10


def source(size: str = "320x180", seconds: float = FRAMES / 25) -> str:
    """For ffmpeg's ``-f lavfi -i``."""
    color = f"s={size}:r=25:d={seconds}"
    return f"color=red:{color}[a];color=lime:{color},crop=iw/2:ih:0:0[b];[a][b]overlay=x=W/2"


def make_clip(path: Path, ffmpeg: str, *, size: str = "320x180", seconds: float = FRAMES / 25) -> Path:
    """Half a second with sound; y4m without."""
    more = ["-pix_fmt", "yuv420p", "-color_range", "tv"]
    if path.suffix != ".y4m":
        more = ["-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}", *more, "-c:v", "libx264", "-crf", "10"]
    subprocess.run(
        [ffmpeg, "-v", "error", "-f", "lavfi", "-i", source(size, seconds), *more, path],
        check=True, timeout=limit_s(60),
    )  # fmt: skip
    return path


def assert_halves(picture: Picture, left: tuple[int, int, int], right: tuple[int, int, int]) -> None:
    """Colors away from the middle and the borders, to what two encodings leave of them."""
    for seen, color in zip(_halves(picture), (left, right), strict=True):
        assert np.abs(np.median(seen.reshape(-1, 3), axis=0) - color).max() <= 12, (left, right)


def assert_mask(mask: Alpha8, *, width: int, height: int) -> None:
    """The red model's answer to the clip."""
    assert mask.shape == (height, width)
    left, right = _halves(mask)
    assert left.min() >= 240
    assert right.max() <= 15


def _halves(array: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    middle, margin = array.shape[1] // 2, 24
    return array[8:-8, 8 : middle - margin], array[8:-8, middle + margin : -8]
