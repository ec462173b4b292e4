"""How good masks are: the only such figures in the project, used by training, evaluation and benchmarks alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import BoolMask


@dataclass(frozen=True, slots=True)
class IouCounts:
    """Pixels by truth and prediction, void left out; counts of several pictures may be added."""

    both: int = 0
    """Person in truth and prediction."""
    missed: int = 0
    """Person in truth only."""
    false: int = 0
    """Person in prediction only."""
    neither: int = 0

    @classmethod
    def of(cls, predicted: BoolMask, truth: BoolMask, known: BoolMask) -> "IouCounts":
        """Count two (H, W) masks against each other where ``known``."""
        code = truth[known].astype(np.int64) * 2 + predicted[known]
        neither, false, missed, both = np.bincount(code, minlength=4).tolist()
        return cls(both, missed, false, neither)

    def __add__(self, other: "IouCounts") -> "IouCounts":
        return IouCounts(
            self.both + other.both, self.missed + other.missed, self.false + other.false, self.neither + other.neither
        )

    @property
    def foreground_iou(self) -> float:
        """Intersection over union of person, in [0, 1]; 1 where neither holds any."""
        return _ratio(self.both, self.both + self.missed + self.false)

    @property
    def background_iou(self) -> float:
        """Intersection over union of background, in [0, 1]; 1 where neither holds any."""
        return _ratio(self.neither, self.neither + self.missed + self.false)

    @property
    def mean_iou(self) -> float:
        """Mean of both (Chu et al. 2022 and its benchmark tables call it mIoU)."""
        return (self.foreground_iou + self.background_iou) / 2

    @property
    def false_share(self) -> float:
        """Share of the known background that is taken for person; the figure for pictures without people."""
        background = self.false + self.neither
        return self.false / background if background else 0.0


def mean_absolute_difference(
    alpha: NDArray[np.float32], truth: NDArray[np.float32], known: BoolMask | None = None
) -> float:
    """Mean of |alpha - truth| over the known pixels of two (H, W) float32 in [0, 1]; 0 where nothing is known."""
    difference = np.abs(alpha - truth)
    if known is not None:
        difference = difference[known]
    return float(difference.mean()) if difference.size else 0.0


def boundary_f(predicted: BoolMask, truth: BoolMask, known: BoolMask, tolerance_px: float) -> float | None:
    """F-score of the outline: how much of each mask's outline lies within a tolerance of the other's.

    Martin, Fowlkes, Malik (TPAMI 2004) in the form of DAVIS (Perazzi et al., CVPR 2016), distances exact. Masks are
    (H, W) bool. The border of the picture is no outline, and outlines within the tolerance of void do not count.
    Returns a value in [0, 1], 0 where only one of the masks has an outline, None where neither has one.
    """
    judged = known if known.all() else known & (cv.distance_to(~known) > tolerance_px)
    # Distances run to the whole outline, also to parts beside void: they may well be what was met.
    outlines = outline(predicted), outline(truth)
    counted = [one & judged for one in outlines]
    if not any(one.any() for one in counted):
        return None
    met = [_share_near(counted[0], outlines[1], tolerance_px), _share_near(counted[1], outlines[0], tolerance_px)]
    return 2 * met[0] * met[1] / sum(met) if all(met) else 0.0


def boundary_iou(predicted: BoolMask, truth: BoolMask, known: BoolMask, band_px: int) -> float:
    """IoU of the two bands that lie up to ``band_px`` inside each mask (Cheng et al., CVPR 2021), where known.

    As in the authors' code the distance is counted over diagonals as well, and the border of the picture is an edge
    like any other. Masks are (H, W) bool. Returns a value in [0, 1], 1 where both are empty.
    """
    bands = [_inner_band(mask, band_px) & known for mask in (predicted, truth)]
    return _ratio(int(np.count_nonzero(bands[0] & bands[1])), int(np.count_nonzero(bands[0] | bands[1])))


def outline(mask: BoolMask) -> BoolMask:
    """Pixels of an (H, W) mask with a neighbor above, below, left or right that is not of it."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return mask & ~inside


def _share_near(pixels: BoolMask, goal: BoolMask, tolerance_px: float) -> float:
    """Share of the pixels that lie within a distance of the goal; 0 where either is empty."""
    if not (pixels.any() and goal.any()):
        return 0.0
    return float((cv.distance_to(goal)[pixels] <= tolerance_px).mean())


def _inner_band(mask: BoolMask, band_px: int) -> BoolMask:
    padded = np.pad(mask.view(np.uint8), band_px)
    core = cv.erode(padded, 2 * band_px + 1)[band_px:-band_px, band_px:-band_px]
    band: BoolMask = mask & (core == 0)
    return band


def _ratio(intersection: int, union: int) -> float:
    return intersection / union if union else 1.0
