"""Other people's ways to smooth masks over time, behind one function with ours, for comparison in one run.

The service offers OFF, LOW and HIGH only. What each of the others does wrong is part of what is compared and stays in:
see `Alternative`. All work on (H, W) float32 alpha in [0, 1] at network size.
"""

import enum
from dataclasses import dataclass, field

import numpy as np

from humanseg.options import TemporalFusion
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, BoolMask, Field, Plane
from humanseg.vision.temporal import PARAMETERS, FusionState, fuse

#: Share of the new mask in `Alternative.EMA`, as in PP-HumanSeg's constant.
EMA_SHARE = 0.3
#: How much of the last mask an entirely uncertain pixel takes in `Alternative.UNCERTAINTY`, as in MediaPipe's example.
UNCERTAIN_SHARE = 0.9
#: On above, off below; Twilio's 180 and 80 of 255.
HYSTERESIS_ON, HYSTERESIS_OFF = 180 / 255, 80 / 255

# The published algorithm's constants.
_NEW_SHARE, _NEW_SHARE_STILL = 0.3, 0.05
_CERTAIN_NEW_SHARE, _CERTAIN_NEW_SHARE_STILL = 0.4, 0.3
_CERTAIN_ABOVE, _CERTAIN_BELOW = 0.9, 0.1
_LEVELS = 255.0
_LARGEST_MISMATCH_PX2 = 8
#: Short side up to which DIS starts at which finest scale.
_FINEST_SCALES = ((64, 1), (160, 2))
_FINEST_SCALE_ELSE = 3


class Alternative(enum.StrEnum):
    """A way to treat the masks of consecutive frames."""

    OFF = "off"
    """Each mask as the network gave it."""
    LOW = "low"
    """`humanseg.vision.temporal.fuse`, weak."""
    HIGH = "high"
    """`humanseg.vision.temporal.fuse`, strong."""
    REFERENCE = "reference"
    """PP-HumanSeg's published post-processing (Chu et al. 2022): two rounded flows, scattered masks, no reset.

    With its scale bug: the code brings masks to 0..255 and compares them with the thresholds 0.9 and 0.1 of a mask in
    0..1, so that nearly every pixel counts as certain and two of its four weights are never used. Repaired it
    measured worse.
    """
    UNCERTAINTY = "uncertainty"
    """MediaPipe's segmentation smoothing: uncertain pixels take the last output's value, certain ones pass."""
    EMA = "ema"
    """Exponential moving average without motion."""
    HYSTERESIS = "hysteresis"
    """Twilio's: a pixel switches on above one threshold and off below another; the mask is hard."""


@dataclass(slots=True)
class AlternativeState:
    """What one sequence remembers under one alternative; made empty, owned by the caller."""

    fusion: FusionState = field(default_factory=FusionState)
    gray: Plane | None = None
    alpha: Alpha | None = None
    """The last output."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays held."""
        return self.fusion.nbytes + sum(array.nbytes for array in (self.gray, self.alpha) if array is not None)


def apply(alternative: Alternative, state: AlternativeState, gray: Plane, alpha: Alpha, capture_time_us: int) -> Alpha:
    """The next mask of a sequence, an array of the caller's own; ``state`` is brought up to this frame.

    ``gray`` (H, W) uint8 is the network's input in gray, ``alpha`` its answer. Another size starts anew; only LOW and
    HIGH look at the time and start anew at cuts.
    """
    if state.alpha is not None and state.alpha.shape != alpha.shape:
        state.gray = state.alpha = None
    match alternative:
        case Alternative.OFF:
            return alpha.copy()
        case Alternative.LOW | Alternative.HIGH:
            return fuse(state.fusion, gray, alpha, capture_time_us, PARAMETERS[TemporalFusion[alternative.name]])[0]
        case Alternative.REFERENCE:
            smoothed = _reference(state.gray, state.alpha, gray, alpha)
        case Alternative.UNCERTAINTY:
            smoothed = alpha.copy() if state.alpha is None else _mix_uncertain(state.alpha, alpha)
        case Alternative.EMA:
            smoothed = alpha.copy() if state.alpha is None else _moving_average(state.alpha, alpha)
        case Alternative.HYSTERESIS:
            smoothed = _hysteresis(state.alpha, alpha)
    # Copies: what the caller does with gray or the answer must not change the past.
    state.gray, state.alpha = gray.copy(), smoothed
    return smoothed.copy()


def _moving_average(before: Alpha, alpha: Alpha) -> Alpha:
    return cv.scale_add(alpha, EMA_SHARE, 0.0) + cv.scale_add(before, 1 - EMA_SHARE, 0.0)


def _mix_uncertain(before: Alpha, alpha: Alpha) -> Alpha:
    """``new + (before - new) * uncertainty * share``.

    Uncertainty is MediaPipe's polynomial in (new - 0.5)^2 (segmentation_smoothing_calculator): it follows the square
    of the entropy of the new value, 1 at 0.5 and 0 at 0 and 1.
    """
    x = np.square(alpha - np.float32(0.5))
    # Horner's scheme, from the highest power down.
    power: Field = np.full_like(x, -624.717)
    for coefficient in (291.309, -57.8051, -0.748699, 5.68842):
        power = power * x + np.float32(coefficient)
    uncertainty = 1 - np.minimum(np.float32(1), x * power)
    mixed: Alpha = alpha + (before - alpha) * uncertainty * np.float32(UNCERTAIN_SHARE)
    return mixed


def _hysteresis(before: Alpha | None, alpha: Alpha) -> Alpha:
    """Between the thresholds a pixel stays as it was; in the first frame the middle of both decides."""
    was_on: BoolMask = alpha > (HYSTERESIS_ON + HYSTERESIS_OFF) / 2 if before is None else before > 0.5
    return np.where(was_on, alpha >= HYSTERESIS_OFF, alpha > HYSTERESIS_ON).astype(np.float32)


def _reference(gray_before: Plane | None, before: Alpha | None, gray: Plane, alpha: Alpha) -> Alpha:
    """The published algorithm: scatter the last mask along the rounded forward flow, then mix by fixed weights."""
    if gray_before is None or before is None:
        return alpha.copy()
    short = min(gray.shape)
    finest = next((scale for side, scale in _FINEST_SCALES if short <= side), _FINEST_SCALE_ELSE)
    forward = np.rint(cv.dis_flow(gray_before, gray, finest)).astype(np.int64)
    backward = np.rint(cv.dis_flow(gray, gray_before, finest)).astype(np.int64)

    height, width = gray.shape
    y, x = np.mgrid[:height, :width]
    to_x, to_y = x + forward[:, :, 0], y + forward[:, :, 1]
    inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
    y, x, to_y, to_x = y[inside], x[inside], to_y[inside], to_x[inside]
    mismatch = forward[y, x] + backward[to_y, to_x]
    same = np.square(mismatch).sum(axis=1) < _LARGEST_MISMATCH_PX2
    y, x, to_y, to_x = y[same], x[same], to_y[same], to_x[same]

    # Where several land on one pixel the last in raster order stays, which is numpy's order of assignment, too.
    old = np.zeros(gray.shape, np.float32)
    tracked = np.zeros(gray.shape, np.bool_)
    old[to_y, to_x] = before[y, x] * np.float32(_LEVELS)
    tracked[to_y, to_x] = True
    still = ~(forward.any(axis=2) | backward.any(axis=2))

    new = alpha * np.float32(_LEVELS)
    share = np.where(still, np.float32(_NEW_SHARE_STILL), np.float32(_NEW_SHARE))
    # The bug that stays in: levels of 255 against thresholds of 1.
    certain = (new > _CERTAIN_ABOVE) | (new < _CERTAIN_BELOW)
    certain_share = np.where(still, np.float32(_CERTAIN_NEW_SHARE_STILL), np.float32(_CERTAIN_NEW_SHARE))
    share = np.where(certain, certain_share, share)
    mixed = share * new + (1 - share) * old
    levels: Alpha = np.where(tracked, mixed, new)
    return levels * np.float32(1 / _LEVELS)
