"""How steady masks of a sequence are, and what the steadiness costs; the only such figures in the project.

A frozen mask is perfectly steady: none of these is worth reading without `metrics.IouCounts`, `lag` and `ghost`.

Conventions of all functions: a sequence is a list of (H, W) float32 alphas in [0, 1], one a frame. ``cuts`` says of
each frame whether it begins another scene; the *transition* into such a frame counts nowhere, nor does the first frame,
which has none. ``motions`` are (H, W, 2) float32 a frame: by how many pixels in x and y each pixel of frame t lay
elsewhere in frame t - 1 (backward motion, as `cv.dis_flow` of gray and earlier gray). ``known`` says where that motion
can be followed, for example not where something else has just uncovered a pixel. Entries of frames that begin a scene
are not looked at.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, BoolMask, Size

#: Transitions after a motion that do not count as static: what a fusion is late by is lag, and measured as such.
SETTLING_TRANSITIONS = 5
#: How far from the true edge `flicker` looks, to either side, in pixels.
BAND_PX = 8
#: Share of a step that must be done, and percentile over frames of the ghost.
LAG_SHARE, GHOST_PERCENTILE = 0.9, 98.0

#: (H, W, 2) float32, see the module.
Motion = NDArray[np.float32]


def dtssd(alphas: Sequence[Alpha], truths: Sequence[Alpha], cuts: Sequence[bool]) -> float:
    """Error of the change from frame to frame, x100 (Erofeev et al. 2015, "Perceptually motivated benchmark").

    ``100 * sqrt(mean(((a_t - a_(t-1)) - (g_t - g_(t-1)))^2))`` over the pixels, then the mean over the transitions.
    The first frame is left out, not counted as 0; 0 where there is no transition.
    """
    return 100.0 * _mean(
        [
            float(np.sqrt(np.mean(np.square((alphas[t] - truths[t]) - (alphas[t - 1] - truths[t - 1])))))
            for t in transitions(cuts)
        ]
    )


def messddt(
    alphas: Sequence[Alpha],
    truths: Sequence[Alpha],
    motions: Sequence[Motion],
    known: Sequence[BoolMask],
    cuts: Sequence[bool],
) -> float:
    """Change of the squared error along the true motion, x1000 (MESSDdt of Erofeev et al. 2015, a pixel's mean).

    ``mean |(a_t - g_t)^2 - (a_(t-1) - g_(t-1))^2 carried along|`` over the known pixels, mean over the transitions.
    """
    errors = [np.square(alpha - truth) for alpha, truth in zip(alphas, truths, strict=True)]
    return 1000.0 * _mean(
        [
            _mean_where(np.abs(errors[t] - carried(errors[t - 1], motions[t])), from_inside(motions[t]) & known[t])
            for t in transitions(cuts)
        ]
    )


def warped_error(
    alphas: Sequence[Alpha], motions: Sequence[Motion], known: Sequence[BoolMask], cuts: Sequence[bool]
) -> float:
    """Difference to the last mask carried along the motion, root of the mean square of all known pixels, x100.

    The warping error of Lai et al. 2018 ("Learning blind video temporal consistency"), whose root is taken here for a
    unit of alpha; needs no truth, so that it can be had for real clips with an estimated flow.
    """
    return 100.0 * _mean(
        [
            float(
                np.sqrt(
                    _mean_where(
                        np.square(alphas[t] - carried(alphas[t - 1], motions[t])), from_inside(motions[t]) & known[t]
                    )
                )
            )
            for t in transitions(cuts)
        ]
    )


def flicker(
    alphas: Sequence[Alpha],
    truths: Sequence[Alpha],
    motions: Sequence[Motion],
    known: Sequence[BoolMask],
    cuts: Sequence[bool],
    *,
    band_px: int = BAND_PX,
) -> float:
    """Mean ``|a_t - a_(t-1) carried along the true motion|`` in a band round the true edge, x100.

    Over the known pixels at most ``band_px`` from the edge of the person of frame t (alpha 0.5), mean over the
    transitions; 0 where there is none.
    """
    return 100.0 * _mean(
        [
            _mean_where(
                np.abs(alphas[t] - carried(alphas[t - 1], motions[t])),
                edge_band(truths[t], band_px) & from_inside(motions[t]) & known[t],
            )
            for t in transitions(cuts)
        ]
    )


def static_flicker(alphas: Sequence[Alpha], moving: Sequence[BoolMask], cuts: Sequence[bool]) -> float:
    """Mean ``|a_t - a_(t-1)|`` where the picture is static, x100.

    ``moving`` (H, W) says of each pixel whether it changed by motion from frame t - 1 to t. A pixel is static in a
    transition if it did not move in it nor in the `SETTLING_TRANSITIONS` before; a cut moves everything. The mean is
    over all static pixels of all transitions; 0 where there are none.
    """
    total, count = 0.0, 0
    since = np.full(alphas[0].shape, SETTLING_TRANSITIONS)
    for t in range(1, len(alphas)):
        since = np.where(moving[t] | cuts[t], -1, since) + 1
        static = since > SETTLING_TRANSITIONS
        total += float(np.abs(alphas[t] - alphas[t - 1])[static].sum(dtype=np.float64))
        count += int(np.count_nonzero(static))
    return 100.0 * total / count if count else 0.0


def lag(fused: Sequence[Alpha], raw: Sequence[Alpha], step: int) -> int | None:
    """Frames until 90 % of a step of the raw mask is done; 1 is at once, None is not within the sequence.

    ``step`` is the first frame of the raw mask's new value. Looked at are the pixels where it changes by more than a
    half; what counts is the mean of the share of the way from the fused value before it to the new raw value.
    """
    before, after = fused[step - 1], raw[step]
    stepping = np.abs(after - raw[step - 1]) > 0.5
    if not stepping.any():
        raise ValueError(f"the raw mask has no step of more than 0.5 between frames {step - 1} and {step}")
    way = (after - before)[stepping]
    for number, alpha in enumerate(fused[step:], 1):
        done = np.mean((alpha - before)[stepping] / np.where(way == 0, np.float32(1), way))
        # One step of 16 bits, so that a share of exactly nine tenths is not lost to rounding.
        if done >= LAG_SHARE - 1e-5:
            return number
    return None


def ghost(fused: Sequence[Alpha], raw: Sequence[Alpha], truths: Sequence[Alpha]) -> float:
    """What a fusion keeps of where the person was, in % of the person's pixels.

    Pixels with fused > 0.5 where raw < 0.5 and truth < 0.1, 98th percentile over the frames; frames without a person
    (truth > 0.5 nowhere) count none.
    """
    shares = [
        100.0 * np.count_nonzero((kept > 0.5) & (new < 0.5) & (truth < 0.1)) / person
        for kept, new, truth in zip(fused, raw, truths, strict=True)
        if (person := np.count_nonzero(truth > 0.5))
    ]
    return float(np.percentile(shares, GHOST_PERCENTILE)) if shares else 0.0


def cut_residue(fused: Sequence[Alpha], raw: Sequence[Alpha], cuts: Sequence[bool]) -> float:
    """Largest difference to the raw mask in the frames that begin a scene; 0 where no frame does."""
    return max((float(np.abs(fused[t] - raw[t]).max()) for t, cut in enumerate(cuts) if cut), default=0.0)


def transitions(cuts: Sequence[bool]) -> list[int]:
    """The frames whose transition from the one before counts."""
    return [t for t in range(1, len(cuts)) if not cuts[t]]


def carried(before: NDArray[np.float32], motion: Motion) -> NDArray[np.float32]:
    """An (H, W) float32 of the frame before, bilinearly sampled where each pixel came from; the border is repeated."""
    x, y = _sources(motion)
    return cv.remap_f32(before, x, y)


def from_inside(motion: Motion) -> BoolMask:
    """Where, (H, W), the place that a pixel came from lies inside the picture."""
    x, y = _sources(motion)
    width, height = Size.of(motion)
    inside: BoolMask = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return inside


def edge_band(truth: Alpha, band_px: int) -> BoolMask:
    """Pixels at most ``band_px`` (in a square) from where a person begins or ends; the picture's border is no edge."""
    person = (truth > 0.5).astype(np.uint8)
    side = 2 * band_px + 1
    band: BoolMask = cv.dilate(person, side) != cv.erode(person, side)
    return band


def _sources(motion: Motion) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    width, height = Size.of(motion)
    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)[:, np.newaxis]
    return columns + motion[:, :, 0], rows + motion[:, :, 1]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _mean_where(values: NDArray[np.float32], where: BoolMask) -> float:
    chosen = values[where]
    return float(chosen.mean(dtype=np.float64)) if chosen.size else 0.0
