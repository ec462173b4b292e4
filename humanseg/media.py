"""What the command line is given: which files are photos, videos, frames of a video, and where their results go."""

import enum
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from humanseg.frames import TimedFrame
from humanseg.png import SIGNATURE as PNG_SIGNATURE
from humanseg.vision import cv
from humanseg.vision.arrays import Picture
from humanseg.vision.decode import JPEG_SIGNATURE, DecodeError, decode_picture

#: Sent as they are, if the server takes their size; all others are decoded here.
JPEG_AND_PNG = frozenset({".jpg", ".jpeg", ".png"})
PHOTO_SUFFIXES = JPEG_AND_PNG | {".bmp", ".tif", ".tiff", ".webp"}
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"})
#: A photo of more pixels is refused before it is decoded; phones take 200 million.
MAX_PHOTO_PX = 2**28
MAX_PHOTO_SIDE_PX = 2**16


class MediaError(Exception):
    """A file that cannot be used; one line for people, with its name."""


class Reading(enum.Enum):
    """How the files are to be taken."""

    BY_KIND = enum.auto()
    """Photos one by one, videos as streams; of a folder, every photo and video in it."""
    STILL = enum.auto()
    """Photos only, one by one."""
    AS_VIDEO = enum.auto()
    """A folder is a video, its photos are the frames."""


class Output(enum.Enum):
    """What is written."""

    MASKS = enum.auto()
    """Alpha as 8-bit gray PNGs."""
    PICTURES = enum.auto()
    """Finished pictures: a PNG for a photo, an mp4 for a video."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo, and the PNG to write."""

    path: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Clip:
    """A video file, or the frames of one in order, and the mp4 or the folder of PNGs to write."""

    path: Path
    target: Path
    frames: tuple[Path, ...] = ()


Job = Photo | Clip


@dataclass(frozen=True, slots=True)
class Plan:
    """What can be done, and what cannot, a line each."""

    jobs: tuple[Job, ...]
    complaints: tuple[str, ...]


def make_plan(inputs: Sequence[Path], out: Path, reading: Reading, output: Output) -> Plan:
    """Sort the inputs and give each its own result; two results under one name are a complaint about the second."""
    jobs: list[Job] = []
    complaints: list[str] = []
    taken: dict[Path, Path] = {}
    for given in inputs:
        try:
            # Collected first: one complaint about a folder leaves nothing of it half planned.
            found = list(_jobs_of(given, out, reading, output))
        except (MediaError, OSError) as error:
            complaints.append(str(error))
            continue
        for job in found:
            if job.target.resolve() == job.path.resolve():
                complaints.append(f"{job.path}: the result would overwrite it; choose another --out")
            elif job.target in taken:
                earlier = taken[job.target]
                if earlier.resolve() == job.path.resolve():
                    # The same file, named twice or in a folder as well.
                    continue
                complaints.append(
                    f"{job.path}: its result {job.target} is that of {earlier}; run it with another --out"
                )
            else:
                taken[job.target] = job.path
                jobs.append(job)
    return Plan(tuple(jobs), tuple(complaints))


def read_photo(path: Path) -> bytes:
    """The bytes of a photo's file.

    Raises:
        MediaError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from None


def decode_photo(photo: bytes, path: Path) -> Picture:
    """The picture as viewers show it, (H, W, 3) uint8 RGB; ``path`` is for the message.

    Raises:
        MediaError: it cannot be decoded.
    """
    try:
        if is_jpeg_or_png(photo):
            return decode_picture(photo, MAX_PHOTO_PX, MAX_PHOTO_SIDE_PX, exif=True)
    except DecodeError as error:
        raise MediaError(f"{path}: {error}") from None
    picture = cv.decode_rgb(np.frombuffer(photo, np.uint8)) if photo else None
    if picture is None:
        raise MediaError(f"{path}: not a picture that can be read, or a damaged one")
    return picture


def is_jpeg_or_png(photo: bytes) -> bool:
    """Whether the server can read it, by its first bytes."""
    return photo.startswith((JPEG_SIGNATURE, PNG_SIGNATURE))


def read_frames(paths: Iterable[Path], fps: float) -> Iterator[TimedFrame]:
    """The photos as frames of a video.

    Raises:
        MediaError: one cannot be read.
    """
    for index, path in enumerate(paths):
        yield TimedFrame(decode_photo(read_photo(path), path), round(index * 1_000_000 / fps))


def _jobs_of(given: Path, out: Path, reading: Reading, output: Output) -> Iterator[Job]:
    if given.is_dir():
        if reading is Reading.AS_VIDEO:
            frames = sorted(_files_in(given, PHOTO_SUFFIXES), key=_by_number)
            if not frames:
                raise MediaError(f"{given}: no photo in this folder")
            # `resolve`, so that "." has a name too.
            yield Clip(given, _clip_target(out, given.resolve().name, output), tuple(frames))
            return
        wanted = PHOTO_SUFFIXES if reading is Reading.STILL else PHOTO_SUFFIXES | VIDEO_SUFFIXES
        files = sorted(_files_in(given, wanted), key=_by_number)
        if not files:
            raise MediaError(f"{given}: no {'photo' if reading is Reading.STILL else 'photo or video'} in this folder")
        for path in files:
            yield _job_of_file(path, out, output)
        return
    if not given.exists():
        raise MediaError(f"{given}: no such file")
    job = _job_of_file(given, out, output)
    if reading is Reading.STILL and isinstance(job, Clip):
        raise MediaError(f"{given}: not a photo, which --still is for")
    if reading is Reading.AS_VIDEO and isinstance(job, Photo):
        raise MediaError(f"{given}: a single photo; --as-video takes a folder of them")
    yield job


def _job_of_file(path: Path, out: Path, output: Output) -> Job:
    suffix = path.suffix.lower()
    if suffix in PHOTO_SUFFIXES or (suffix not in VIDEO_SUFFIXES and _looks_like_photo(path)):
        return Photo(path, out / f"{path.stem}.png")
    return Clip(path, _clip_target(out, path.stem, output))


def _clip_target(out: Path, stem: str, output: Output) -> Path:
    return out / (f"{stem}.mp4" if output is Output.PICTURES else stem)


def _looks_like_photo(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_jpeg_or_png(file.read(16))
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from None


def _files_in(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]


def _by_number(path: Path) -> list[tuple[bool, int, str]]:
    """A key by which 9.png comes before 10.png."""
    parts = re.findall(r"(\d+)|(\D+)", path.name)
    return [(not number, int(number or 0), text) for number, text in parts]
