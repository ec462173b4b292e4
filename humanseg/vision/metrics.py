"""How good masks are: the only such figures in the project, used by training, evaluation and benchmarks alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def _ratio(intersection: int, union: int) -> float:
    return intersection / union if union else 1.0
