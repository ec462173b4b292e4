"""Pictures of what a network makes of photos, to look at instead of reading figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from humanseg.vision import cv
from humanseg.vision.arrays import Picture, Size
from humanseg.vision.letterbox import choose_canvas, letterbox
from train.data import Photo, read_photo
from train.sample import Sample
from train.validation import Predictor

#: Color that stands for background where a prediction is shown.
_BACK_RGB = np.array((30, 140, 60), np.float32)
_CELL = Size(200, 200)


def cut_out(picture: Picture, alpha: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Picture:
    """The picture before a plain green; alpha (H, W) float32 in [0, 1]."""
    cover = alpha[:, :, np.newaxis]
    return np.rint(picture * cover + _BACK_RGB * (1 - cover)).astype(np.uint8)


def write_prediction_sheet(
    path: Path, photos: Sequence[Photo], predict: Predictor, landscape: Size, upright: Size, *, columns: int = 4
) -> None:
    """Pairs of photo and cut-out, ``columns`` pairs a row, as a PNG."""
    cells: list[Picture] = []
    for photo in photos:
        picture = read_photo(photo)
        network_input, placement = letterbox(picture, choose_canvas(photo.size, landscape, upright))
        alpha = predict(network_input[np.newaxis])[0]
        shown = placement.crop(cut_out(network_input, alpha))
        cells += [_cell(np.ascontiguousarray(placement.crop(network_input))), _cell(np.ascontiguousarray(shown))]
    write_grid(path, cells, columns=2 * columns)


def write_sample_sheet(path: Path, samples: Sequence[Sample], *, columns: int = 4) -> None:
    """Pairs of training picture and label (void red), as a PNG."""
    cells: list[Picture] = []
    for sample in samples:
        label = cv.merge(sample.alpha, sample.alpha, sample.alpha)
        label[sample.known == 0] = (160, 40, 40)
        cells += [_cell(sample.picture), _cell(label)]
    write_grid(path, cells, columns=2 * columns)


def _cell(picture: Picture) -> Picture:
    return letterbox(picture, _CELL)[0]


def write_grid(path: Path, cells: Sequence[Picture], *, columns: int) -> None:
    """Cells of one size, row by row, as a PNG; missing ones at the end are gray."""
    empty = np.full_like(cells[0], 127)
    filled = [*cells, *[empty] * (-len(cells) % columns)]
    rows = [np.hstack(filled[start : start + columns]) for start in range(0, len(filled), columns)]
    path.write_bytes(cv.encode_png(np.vstack(rows)))
