"""Judge a network on the photos left aside: at the photo's own size, through the service's letterbox."""

import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, AlphaBatch, Batch, Picture, Plane, Size
from humanseg.vision.letterbox import choose_canvas, letterbox, restore, shrink_or_grow
from humanseg.vision.metrics import IouCounts, boundary_f, boundary_iou, mean_absolute_difference
from train.data import VOID, Photo, read_mask, read_photo

#: (1, H, W, 3) uint8 RGB to (1, H, W) float32 alpha.
Predictor = Callable[[Batch], AlphaBatch]
#: A picture (H, W, 3) uint8 RGB of any size to its alpha, (H, W) float32 in [0, 1]; each contestant has its geometry.
Segmenter = Callable[[Picture], Alpha]

#: An outline is met within 2 px of a picture whose long side is 320.
TOLERANCE_OF_LONG_SIDE = 2 / 320
#: Width of the bands of the boundary IoU, of the picture's diagonal (Cheng et al., CVPR 2021).
BAND_OF_DIAGONAL = 0.02


class Slice(enum.StrEnum):
    """What is hard about a photo, found from photo and mask alone, so that every data folder has it."""

    SMALL = "small person"
    """People fill less than 5 % of the picture."""
    SEVERAL = "several people"
    """The mask has at least two parts of 1 % of the picture each; people who touch count as one."""
    DARK = "low light"
    """Mean luma below 70 of 255."""
    BACKLIGHT = "backlight"
    """The person's mean luma lies 60 or more below the background's: a window behind, or dark clothes."""


@dataclass(frozen=True, slots=True)
class PhotoScore:
    """How well one photo was segmented, person at alpha >= 0.5, void left out.

    Attributes:
        photo: which.
        slices: what is hard about it; nothing where it shows nobody.
        counts: pixels by truth and prediction.
        boundary_f: `metrics.boundary_f` at 2 px of a long side of 320; None where nobody is seen nor predicted.
        boundary_iou: `metrics.boundary_iou` at 2 % of the diagonal.
        mad: mean absolute difference of alpha from the mask, in [0, 1].
    """

    photo: Photo
    slices: tuple[Slice, ...]
    counts: IouCounts
    boundary_f: float | None
    boundary_iou: float
    mad: float


def letterboxed(predict: Predictor, landscape: Size, upright: Size) -> Segmenter:
    """A network behind the service's letterbox, as it is served."""

    def segment(picture: Picture) -> Alpha:
        network_input, placement = letterbox(picture, choose_canvas(Size.of(picture), landscape, upright))
        return restore(predict(network_input[np.newaxis])[0], placement)

    return segment


def stretched(predict: Predictor, landscape: Size, upright: Size) -> Segmenter:
    """A network that sees pictures stretched to its input, as the published configs do; only to be compared with."""

    def segment(picture: Picture) -> Alpha:
        size = Size.of(picture)
        squeezed = shrink_or_grow(picture, choose_canvas(size, landscape, upright))
        return np.clip(cv.resize_cubic_f32(predict(squeezed[np.newaxis])[0], size), 0.0, 1.0)

    return segment


def judge_photo(photo: Photo, segment: Segmenter) -> PhotoScore:
    """Score of one photo at its own size.

    Raises:
        DataError: the photo cannot be read.
    """
    picture, mask = read_photo(photo), read_mask(photo)
    alpha = segment(picture)
    predicted, truth, known = alpha >= 0.5, mask == 255, mask != VOID
    diagonal_px = float(np.hypot(*photo.size))
    return PhotoScore(
        photo=photo,
        slices=slices_of(picture, mask) if photo.mask else (),
        counts=IouCounts.of(predicted, truth, known),
        boundary_f=boundary_f(predicted, truth, known, TOLERANCE_OF_LONG_SIDE * max(photo.size)),
        boundary_iou=boundary_iou(predicted, truth, known, max(1, round(BAND_OF_DIAGONAL * diagonal_px))),
        mad=mean_absolute_difference(alpha, truth.astype(np.float32), known),
    )


def slices_of(picture: Picture, mask: Plane) -> tuple[Slice, ...]:
    """What is hard about a photo; (H, W, 3) uint8 RGB, and its mask (H, W) uint8 as `read_mask` gives it."""
    person, background = mask == 255, mask == 0
    luma = cv.rgb_to_gray(picture)
    found = {
        Slice.SMALL: person.mean() < 0.05,
        Slice.SEVERAL: sum(area >= 0.01 * person.size for area in cv.parts(person)) >= 2,
        Slice.DARK: luma.mean() < 70,
        Slice.BACKLIGHT: person.any() and background.any() and luma[background].mean() - luma[person].mean() >= 60,
    }
    return tuple(name for name, is_so in found.items() if is_so)


def judge_photos(photos: Iterable[Photo], segment: Segmenter) -> dict[str, list[PhotoScore]]:
    """Scores by group (see `group_of`), in the order of the photos.

    Raises:
        DataError: a photo cannot be read.
    """
    scores: dict[str, list[PhotoScore]] = defaultdict(list)
    for photo in photos:
        scores[group_of(photo)].append(judge_photo(photo, segment))
    return dict(scores)


def group_of(photo: Photo) -> str:
    """The source; where nobody is in the picture also what stands before the ``_`` of its id, for example ``house``."""
    prefix, separator, _ = photo.id.partition("_")
    return f"{photo.source} {prefix}" if photo.mask is None and separator else photo.source


def by_slice(scores: dict[str, list[PhotoScore]]) -> dict[str, list[PhotoScore]]:
    """The same scores by slice, all sources together; slices without a photo are left out."""
    found = {one.value: [score for group in scores.values() for score in group if one in score.slices] for one in Slice}
    return {name: group for name, group in found.items() if group}


def mean_iou(scores: Sequence[PhotoScore]) -> float:
    """Mean over photos of the mean of foreground and background IoU; 0 where there are no photos."""
    return float(np.mean([one.counts.mean_iou for one in scores])) if scores else 0.0


def mean_boundary_f(scores: Sequence[PhotoScore]) -> float:
    """Mean over the photos that have an outline to judge; 0 where there are none."""
    known = [one.boundary_f for one in scores if one.boundary_f is not None]
    return float(np.mean(known)) if known else 0.0


def shows_people(scores: Sequence[PhotoScore]) -> bool:
    """Whether these are photos of a source with people."""
    return any(one.photo.mask is not None for one in scores)


def mean_false_share(scores: Sequence[PhotoScore]) -> float:
    """Mean over photos of the share of background that is taken for person; without people, of the whole picture."""
    return float(np.mean([one.counts.false_share for one in scores])) if scores else 0.0


def overall_iou(groups: dict[str, list[PhotoScore]]) -> float:
    """Mean over the sources that show people, so that a large source does not outweigh the others."""
    means = [mean_iou(scores) for scores in groups.values() if shows_people(scores)]
    return float(np.mean(means)) if means else 0.0
