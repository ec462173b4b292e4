"""What the command line writes: each file appears under its name when it is whole, or not at all."""

import argparse
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from humanseg.backgrounds import choose_background
from humanseg.media import MediaError
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha8, Picture, Size
from humanseg.vision.composite import blurred_room, compose, cover, solid
from humanseg.vision.composite_planes import Blur

#: Makes the picture to write of a frame, (H, W, 3) uint8 RGB, and its alpha, (H, W) uint8.
Finish: TypeAlias = Callable[[Picture, Alpha8], Picture]


def choose_finish(text: str) -> Finish:
    """What makes pictures before the background that ``--composite`` names (`choose_background`).

    Raises:
        MediaError: as `choose_background` says.
    """
    background = choose_background(text)
    if isinstance(background, Blur):
        return _before_blur
    if isinstance(background, tuple):
        return _BeforeColor(background)
    return _BeforePicture(background)


def finish_argument(text: str) -> Finish:
    """`choose_finish` as the ``type`` of a command line's argument.

    Raises:
        argparse.ArgumentTypeError: as `choose_finish` says.
    """
    try:
        return choose_finish(text)
    except MediaError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def write_png(path: Path, picture: Picture | Alpha8) -> None:
    """Write an (H, W) gray or (H, W, 3) RGB picture.

    Raises:
        MediaError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(cv.encode_png(picture))
        part.replace(path)
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


class FrameFolder:
    """A folder of 0000.png, 0001.png and on; used inside ``with``.

    The frames move in when the block ends without an exception; those of an earlier, longer video go then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._names: list[str] = []

    def __enter__(self) -> Self:
        try:
            # What a killed run left behind.
            shutil.rmtree(self._part, ignore_errors=True)
            self._part.mkdir()
        except OSError as error:
            raise MediaError(f"{self._path}: {error.strerror or error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            shutil.rmtree(self._part, ignore_errors=True)

    def write(self, picture: Picture | Alpha8) -> None:
        """Add the next frame.

        Raises:
            MediaError: it cannot be written.
        """
        name = f"{len(self._names):04d}.png"
        write_png(self._part / name, picture)
        self._names.append(name)

    def _finish(self) -> None:
        try:
            self._path.mkdir(exist_ok=True)
            for name in self._names:
                (self._part / name).replace(self._path / name)
            kept = set(self._names)
            for path in self._path.iterdir():
                if re.fullmatch(r"\d{4,}\.png", path.name) and path.name not in kept:
                    path.unlink()
        except OSError as error:
            raise MediaError(f"{self._path}: {error.strerror or error}") from None


def _before_blur(frame_rgb: Picture, alpha8: Alpha8) -> Picture:
    return compose(frame_rgb, alpha8, blurred_room(frame_rgb, alpha8))


class _BeforeColor:
    def __init__(self, color_rgb: tuple[int, int, int]) -> None:
        self._color_rgb = color_rgb

    def __call__(self, frame_rgb: Picture, alpha8: Alpha8) -> Picture:
        return compose(frame_rgb, alpha8, solid(Size.of(frame_rgb), self._color_rgb))


class _BeforePicture:
    """Keeps the picture at the size of the latest frame: those of a video are of one size."""

    def __init__(self, picture_rgb: Picture) -> None:
        self._picture_rgb = picture_rgb
        self._covering = picture_rgb

    def __call__(self, frame_rgb: Picture, alpha8: Alpha8) -> Picture:
        size = Size.of(frame_rgb)
        if Size.of(self._covering) != size:
            self._covering = cover(self._picture_rgb, size)
        return compose(frame_rgb, alpha8, self._covering)
