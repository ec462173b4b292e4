"""Photos of which only boxes round the people are known, filled with a teacher's soft masks; no torch.

Outside all boxes is background; within, the teacher's mask holds, as soft as it is. A band round each box counts
nowhere, since boxes are a pixel or two off, and neither does a box in which the teacher sees hardly anybody:
somebody is there, and nobody knows where.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha8, Size
from humanseg.vision.decode import DecodeError, picture_size
from humanseg.vision.letterbox import to_alpha8
from train.data import Box, DataError, Photo, inside_boxes, listed, read_photo
from train.validation import Segmenter

#: From a photo to its soft mask of the photo's size.
Labeler = Callable[[Photo], Alpha8]

#: COCO's box of a whole crowd comes after at most 13 of persons and cannot be told from them.
MOST_BOXES = 12
_COLUMNS = ("id", "width", "height", "x0", "y0", "x1", "y1")


def find_boxed(root: Path) -> list[Photo]:
    """Photos with boxes under a data folder, without masks yet; those with more than `MOST_BOXES` are left out.

    A source of this kind is ``<source>/images/<id>.jpg`` with ``<source>/boxes.csv``: id, width, height of the photo,
    and x0, y0, x1, y1 of a box, the last two exclusive; a row a box.

    Raises:
        DataError: there are none; a photo is missing or of another size, a box cannot be read or leaves its photo.
    """
    photos: list[Photo] = []
    complaints: list[str] = []
    for table in sorted(root.glob("*/boxes.csv")):
        boxes, sizes = _read_table(table, complaints)
        for name, found in boxes.items():
            image = table.parent / "images" / f"{name}.jpg"
            try:
                size = picture_size(image.read_bytes(), exif=False)
            except (OSError, DecodeError) as error:
                complaints.append(f"{table.parent.name}/{name}: {error}")
                continue
            if size != sizes[name]:
                complaints.append(f"{table.parent.name}/{name}: photo is {size}, its boxes were drawn on {sizes[name]}")
            elif len(found) <= MOST_BOXES:
                photos.append(Photo(table.parent.name, name, image, None, size, tuple(found)))
    if complaints:
        raise DataError(listed(f"{len(complaints)} boxes or photos with boxes of {root} cannot be used", complaints))
    if not photos:
        raise DataError(f"{root} holds no <source>/boxes.csv with boxes of at most {MOST_BOXES} people a photo")
    return photos


def _read_table(table: Path, complaints: list[str]) -> tuple[dict[str, list[Box]], dict[str, Size]]:
    boxes: dict[str, list[Box]] = defaultdict(list)
    sizes: dict[str, Size] = {}
    with table.open(newline="") as file:
        rows = csv.DictReader(file)
        if missing := [column for column in _COLUMNS if column not in (rows.fieldnames or ())]:
            complaints.append(f"{table}: no column {', '.join(missing)}")
            return {}, {}
        for number, row in enumerate(rows, start=2):
            try:
                width, height, x0, y0, x1, y1 = (int(row[column]) for column in _COLUMNS[1:])
            except (TypeError, ValueError):
                complaints.append(f"{table}, line {number}: not whole numbers: {', '.join(map(str, row.values()))}")
                continue
            if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
                complaints.append(f"{table}, line {number}: box {x0},{y0} to {x1},{y1} in a photo of {width}x{height}")
                continue
            boxes[row["id"]].append(Box(x0, y0, x1, y1))
            sizes[row["id"]] = Size(width, height)
    return boxes, sizes


def segmented_by(segment: Segmenter) -> Labeler:
    """Masks of a model that runs here."""
    return lambda photo: to_alpha8(segment(read_photo(photo)))


def masks_in(folder: Path, photos: Sequence[Photo]) -> Labeler:
    """Masks that another program made: ``folder/<source>_<id>.png``, grey, soft, as large as the photo.

    Raises:
        DataError: one is missing, cannot be decoded or has another size; the message has a line for each.
    """
    complaints = []
    for photo in photos:
        file = folder / f"{photo.source}_{photo.id}.png"
        try:
            if (found := picture_size(file.read_bytes(), exif=False)) != photo.size:
                complaints.append(f"{file}: mask is {found}, photo is {photo.size}")
        except (OSError, DecodeError) as error:
            complaints.append(f"{file}: {error}")
    if complaints:
        raise DataError(listed(f"{len(complaints)} masks of {folder} cannot be used", complaints))

    def read(photo: Photo) -> Alpha8:
        file = folder / f"{photo.source}_{photo.id}.png"
        mask = cv.read_gray(np.frombuffer(file.read_bytes(), np.uint8))
        if mask is None:
            raise DataError(f"{file} cannot be decoded")
        return mask

    return read


def label_boxes(photos: Sequence[Photo], label: Labeler, folder: Path) -> list[Photo]:
    """The photos with a teacher's soft masks, 0 outside the boxes, as ``folder/<source>_<id>.png``.

    Files that are there are taken as they are, so that a run that goes on sees what it saw; give each teacher a folder.

    Raises:
        DataError: a photo or its mask cannot be decoded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    labeled = []
    for photo in tqdm(photos, desc="masks within boxes", unit="photo", leave=False, mininterval=2.0):
        mask = folder / f"{photo.source}_{photo.id}.png"
        if not mask.exists():
            alpha = label(photo).copy()
            alpha[inside_boxes(photo.boxes, photo.size, 0) == 0] = 0
            unfinished = mask.with_suffix(".tmp")
            unfinished.write_bytes(cv.encode_png(alpha))
            unfinished.replace(mask)
        labeled.append(replace(photo, mask=mask))
    return labeled
