"""Find the photos, check them before an epoch is spent, and split them; no torch.

A data folder holds one folder a source. ``<source>/images/<id>.jpg`` with ``<source>/masks/<id>.png`` are annotated
photos; a source without ``masks`` holds backgrounds, which show nobody. Folders with boxes only are passed over. Mask
values: 255 person, 0 background, 128 void (unknown: counts in neither loss nor metric).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha8, Picture, Plane, Size
from humanseg.vision.decode import DecodeError, decode_picture, picture_size

VOID = 128
#: Width of the band round each box that counts nowhere.
BAND_PX = 4
#: In a box that is right, people fill a half; a teacher who sees less than this has missed them.
LEAST_SEEN = 0.15
#: One photo in so many is kept for validation.
VALIDATION_SHARE = 10
#: Sources whose neighbors in the numbering show the same scene: they go to the same side of the split, ten at a time.
SERIES = ("pedestrians", "mixed")


class DataError(ValueError):
    """The data folder cannot be trained on; the message has a line for each complaint."""


class Box(NamedTuple):
    """Where a person is, in pixels of the photo; right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def rows(self) -> slice:
        """To index an (H, W) array with."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """To index an (H, W) array with."""
        return slice(self.left, self.right)


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo on disk."""

    source: str
    id: str
    image: Path
    mask: Path | None
    """None: a background, with nobody in it."""
    size: Size
    boxes: tuple[Box, ...] = ()
    """If there are any, the mask is a teacher's, soft, and holds within them; `train.boxes` says where."""

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
    train_boxed: tuple[Photo, ...] = ()
    """Photos with boxes only, with masks of a teacher."""


def find_photos(root: Path) -> list[Photo]:
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
        raise DataError(listed(f"{len(complaints)} photos of {root} cannot be used", complaints))
    if not any(photo.mask for photo in photos):
        raise DataError(f"{root} holds no <source>/images/*.jpg with <source>/masks/*.png")
    return photos


def check_contents(photos: Iterable[Photo]) -> None:
    """Decode every photo and mask once, as strictly as the service does, so that no fault shows hours into a run.

    Raises:
        DataError: with a line for each that is truncated, damaged, or a mask with other values.
    """
    complaints = []
    for photo in photos:
        try:
            for file in (photo.image, *([photo.mask] if photo.mask else [])):
                decode_picture(file.read_bytes(), photo.size.area_px, max(photo.size), exif=False)
            read_mask(photo)
        except (OSError, DecodeError, DataError) as error:
            complaints.append(f"{photo.name}: {error}")
    if complaints:
        raise DataError(listed(f"{len(complaints)} photos cannot be used", complaints))


def listed(title: str, complaints: Sequence[str], most: int = 10) -> str:
    """A message with a line for each of the first complaints."""
    more = [f"... and {len(complaints) - most} more"] if len(complaints) > most else []
    return "\n".join([f"{title}:", *complaints[:most], *more])


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
    """The mask as (H, W) uint8, 0 background, 255 person, 128 void; all 0 for a background; soft where there are boxes.

    Raises:
        DataError: it cannot be decoded, or holds other values.
    """
    if photo.mask is None:
        return np.zeros(photo.size.shape, np.uint8)
    mask = cv.read_gray(np.frombuffer(photo.mask.read_bytes(), np.uint8))
    if mask is None:
        raise DataError(f"{photo.mask} cannot be decoded")
    if photo.boxes:
        return mask
    odd = np.setdiff1d(np.flatnonzero(cv.histogram(mask)), (0, VOID, 255))
    if odd.size:
        raise DataError(f"{photo.mask} holds the values {odd[:5].tolist()}; allowed are 0, 128 (void) and 255")
    return mask


def known_of_boxes(boxes: Sequence[Box], alpha: Alpha8) -> Plane:
    """Where a teacher's mask (H, W) uint8 holds: 255, and 0 in the band round boxes and in boxes it sees nobody in."""
    size = Size.of(alpha)
    seen = [box for box in boxes if (alpha[box.rows, box.columns] > 127).mean() >= LEAST_SEEN]
    known = 255 - inside_boxes(boxes, size, BAND_PX)
    known[inside_boxes(seen, size, 0) > 0] = 255
    return known


def inside_boxes(boxes: Sequence[Box], size: Size, margin_px: int) -> Plane:
    """255 within so many pixels of any box, else 0; (H, W) uint8."""
    inside = np.zeros(size.shape, np.uint8)
    for box in boxes:
        top, left = max(0, box.top - margin_px), max(0, box.left - margin_px)
        inside[top : box.bottom + margin_px, left : box.right + margin_px] = 255
    return inside
