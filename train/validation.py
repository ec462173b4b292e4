"""Judge a network on the photos left aside: at the photo's own size, through the service's letterbox."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from humanseg.vision.arrays import AlphaBatch, Batch, Size
from humanseg.vision.letterbox import choose_canvas, letterbox, restore
from humanseg.vision.metrics import IouCounts
from train.data import VOID, Photo, read_mask, read_photo

#: (1, H, W, 3) uint8 RGB to (1, H, W) float32 alpha.
Predictor = Callable[[Batch], AlphaBatch]


def judge_photo(photo: Photo, predict: Predictor, landscape: Size, upright: Size) -> IouCounts:
    """Counts of one photo at its own size, person at alpha >= 0.5."""
    picture, mask = read_photo(photo), read_mask(photo)
    canvas = choose_canvas(photo.size, landscape, upright)
    network_input, placement = letterbox(picture, canvas)
    alpha = restore(predict(network_input[np.newaxis])[0], placement)
    return IouCounts.of(alpha >= 0.5, mask == 255, mask != VOID)


def judge_photos(
    photos: Iterable[Photo], predict: Predictor, landscape: Size, upright: Size
) -> dict[str, list[IouCounts]]:
    """Counts by source, in the order of the photos."""
    counts: dict[str, list[IouCounts]] = defaultdict(list)
    for photo in photos:
        counts[photo.source].append(judge_photo(photo, predict, landscape, upright))
    return dict(counts)


def mean_iou(counts: Sequence[IouCounts]) -> float:
    """Mean over photos of the mean of foreground and background IoU; 0 where there are no photos."""
    return float(np.mean([one.mean_iou for one in counts])) if counts else 0.0


def overall_iou(by_source: dict[str, list[IouCounts]]) -> float:
    """Mean over the sources that show people, so that a large source does not outweigh the others."""
    means = [mean_iou(counts) for source, counts in by_source.items() if source != "backgrounds"]
    return float(np.mean(means)) if means else 0.0
