"""Find the photos, check them before an epoch is spent, and split them; no torch.

A data folder holds one folder a source. ``<source>/images/<id>.jpg`` with ``<source>/masks/<id>.png`` are annotated
photos; a source without ``masks`` holds backgrounds, which show nobody. Folders with boxes only are passed over. Mask
values: 255 person, 0 background, 128 void (unknown: counts in neither loss nor metric).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from humanseg.vision import cv
from humanseg.vision.arrays import Picture, Plane, Size
from humanseg.vision.decode import DecodeError, picture_size

VOID = 128
#: One photo in so many is kept for validation.
VALIDATION_SHARE = 10
#: Sources whose neighbors in the numbering show the same scene: they go to the same side of the split, ten at a time.
SERIES = ("pedestrians", "mixed")


class DataError(ValueError):
    """The data folder cannot be trained on; the message has a line for each complaint."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo on disk."""

    source: str
    id: str
    image: Path
    mask: Path | None
    """None: a background, with nobody in it."""
    size: Size

    @property
    def name(self) -> str:
        """``source/id``."""
        return f"{self.source}/{self.id}"


@dataclass(frozen=True, slots=True)
class Split:
    """Photos to learn from, photos to judge by, and backgrounds for both."""

    train: tuple[Photo, ...]
    validation: tuple[Photo, ...]
    train_backgrounds: tuple[Photo, ...]
    validation_backgrounds: tuple[Photo, ...]


def find_photos(root: Path, *, longest_complaint: int = 10) -> list[Photo]:
    """All photos under a data folder, in order of source and id.

    Raises:
        DataError: the folder holds none, a mask is missing or has another size than its photo.
    """
    if not root.is_dir():
        raise DataError(f"no data folder {root}; --data names the folder that holds <source>/images and <source>/masks")
    photos: list[Photo] = []
    complaints: list[str] = []
    for images in sorted(root.glob("*/images")):
        source = images.parent
        if (source / "boxes.csv").exists():
            continue
        masks = source / "masks"
        for image in sorted(images.glob("*.jpg")):
            mask = masks / f"{image.stem}.png" if masks.is_dir() else None
            try:
                size = picture_size(image.read_bytes(), exif=False)
                if mask is not None and (found := picture_size(mask.read_bytes(), exif=False)) != size:
                    raise DataError(f"mask is {found}, photo is {size}")
            except (OSError, DecodeError, DataError) as error:
                complaints.append(f"{source.name}/{image.stem}: {error}")
                continue
            photos.append(Photo(source.name, image.stem, image, mask, size))
    if complaints:
        more = f"\n... and {len(complaints) - longest_complaint} more" if len(complaints) > longest_complaint else ""
        raise DataError(
            f"{len(complaints)} photos of {root} cannot be used:\n" + "\n".join(complaints[:longest_complaint]) + more
        )
    if not any(photo.mask for photo in photos):
        raise DataError(f"{root} holds no <source>/images/*.jpg with <source>/masks/*.png")
    return photos


def split_photos(photos: Sequence[Photo]) -> Split:
    """Leave a tenth of each source aside by a hash of the id, so that the split outlives additions."""
    chosen: dict[tuple[bool, bool], list[Photo]] = {}
    for photo in photos:
        chosen.setdefault((photo.mask is not None, is_validation(photo)), []).append(photo)
    return Split(
        train=tuple(chosen.get((True, False), ())),
        validation=tuple(chosen.get((True, True), ())),
        train_backgrounds=tuple(chosen.get((False, False), ())),
        validation_backgrounds=tuple(chosen.get((False, True), ())),
    )


def is_validation(photo: Photo) -> bool:
    """Whether a photo is kept for validation."""
    group = photo.id[:-1] if photo.source in SERIES else photo.id
    digest = hashlib.sha256(f"{photo.source}/{group}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % VALIDATION_SHARE == 0


def read_photo(photo: Photo) -> Picture:
    """The photo as (H, W, 3) uint8 RGB.

    Raises:
        DataError: it cannot be decoded.
    """
    picture = cv.decode_rgb(np.frombuffer(photo.image.read_bytes(), np.uint8))
    if picture is None:
        raise DataError(f"{photo.image} cannot be decoded")
    return picture


def read_mask(photo: Photo) -> Plane:
    """The mask as (H, W) uint8, 0 background, 255 person, 128 void; all 0 for a background.

    Raises:
        DataError: it cannot be decoded, or holds other values.
    """
    if photo.mask is None:
        return np.zeros(photo.size.shape, np.uint8)
    mask = cv.read_gray(np.frombuffer(photo.mask.read_bytes(), np.uint8))
    if mask is None:
        raise DataError(f"{photo.mask} cannot be decoded")
    odd = np.setdiff1d(np.flatnonzero(cv.histogram(mask)), (0, VOID, 255))
    if odd.size:
        raise DataError(f"{photo.mask} holds the values {odd[:5].tolist()}; allowed are 0, 128 (void) and 255")
    return mask
