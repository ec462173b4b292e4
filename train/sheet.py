"""Pictures of what a network makes of photos, to look at instead of reading figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from humanseg.vision import cv
from humanseg.vision.arrays import Picture, Size
from humanseg.vision.letterbox import choose_canvas, letterbox
from humanseg.vision.sheet import contact_sheet, mask_panel, side_by_side
from train.data import Photo, read_photo
from train.sample import Sample
from train.validation import Predictor

#: Color that stands for background where a prediction is shown.
_BACK_RGB = np.array((30, 140, 60), np.float32)
_VOID_RGB = (160, 40, 40)
_CELL = Size(200, 200)


def cut_out(picture: Picture, alpha: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Picture:
    """The picture before a plain green; alpha (H, W) float32 in [0, 1]."""
    cover = alpha[:, :, np.newaxis]
    return np.rint(picture * cover + _BACK_RGB * (1 - cover)).astype(np.uint8)


def write_prediction_sheet(
    path: Path, photos: Sequence[Photo], predict: Predictor, landscape: Size, upright: Size, *, columns: int = 4
) -> None:
    """Pairs of photo and cut-out, ``columns`` pairs a row, as a PNG."""
    pairs = []
    for photo in photos:
        network_input, placement = letterbox(read_photo(photo), choose_canvas(photo.size, landscape, upright))
        alpha = predict(network_input[np.newaxis])[0]
        shown = (network_input, cut_out(network_input, alpha))
        pairs.append(_pair(*(np.ascontiguousarray(placement.crop(picture)) for picture in shown)))
    path.write_bytes(cv.encode_png(contact_sheet(pairs, columns)))


def write_sample_sheet(path: Path, samples: Sequence[Sample], *, columns: int = 4) -> None:
    """Pairs of training picture and label (void red), as a PNG."""
    pairs = []
    for sample in samples:
        label = mask_panel(sample.alpha)
        label[sample.known == 0] = _VOID_RGB
        pairs.append(_pair(sample.picture, label))
    path.write_bytes(cv.encode_png(contact_sheet(pairs, columns)))


def _pair(left: Picture, right: Picture) -> Picture:
    return side_by_side([letterbox(picture, _CELL)[0] for picture in (left, right)], gap_px=2)
