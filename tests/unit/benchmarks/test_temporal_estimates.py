"""Estimates and exact motion, judged on a drawn clip whose motion is known by formula."""

import numpy as np
import pytest

from benchmarks.temporal_estimates import judge_estimates, mean_by_group
from benchmarks.temporal_figures import along_exact_motion, at_picture_size, smooth
from benchmarks.temporal_footage import Footage
from humanseg.vision.letterbox import Placement
from humanseg.vision.temporal_alternatives import Alternative
from support.clips import SIZE, draw_clip

STEP_PX = 2.0


def footage(count: int = 12, *, cut_at: int | None = None) -> Footage:
    """A disc that moves to the right with its wall; at ``cut_at`` another one begins."""
    frames = draw_clip(shifts_px=[STEP_PX * index for index in range(count)], wall_moves=True)
    if cut_at is not None:
        frames[cut_at:] = draw_clip(shifts_px=[STEP_PX * index for index in range(count)], wall_moves=True, seed=50)[
            cut_at:
        ]
    motion = np.zeros((*SIZE.shape, 2), np.float32)
    motion[:, :, 0] = -STEP_PX
    return Footage(
        group="disc",
        name="disc_0",
        pictures=[np.stack([frame.gray] * 3, -1) for frame in frames],
        placement=Placement.fit(SIZE, SIZE),
        grays=[frame.gray for frame in frames],
        raws=[frame.noisy for frame in frames],
        truths=[frame.truth for frame in frames],
        motions=[motion] * count,
        known=[np.ones(SIZE.shape, np.bool_)] * count,
        moving=[np.ones(SIZE.shape, np.bool_)] * count,
        cuts=[index == cut_at for index in range(count)],
        times_us=[33_333 * index for index in range(count)],
        is_exact=True,
    )


def judged(clip: Footage) -> tuple[float, float, float, int]:
    raw = at_picture_size(smooth(Alternative.OFF, clip), clip)
    figures = judge_estimates(clip, raw, at_picture_size(smooth(Alternative.HIGH, clip), clip))
    assert figures is not None
    return figures.iou_network, figures.iou_estimate, figures.iou_repeated, figures.estimated


def test_an_estimate_is_better_than_the_last_mask_again() -> None:
    _, estimate, repeated, count = judged(footage())
    assert count == 8
    assert estimate > repeated + 2
    assert estimate > 95


def test_frames_without_an_estimate_are_not_judged() -> None:
    """The cut falls on the fifth frame: it and the sixth have nothing to carry."""
    assert judged(footage(cut_at=4))[3] == 6


def test_without_truth_nothing_is_said() -> None:
    clip = footage(4)
    clip = Footage(**{name: None if name == "truths" else getattr(clip, name) for name in clip.__slots__})
    assert judge_estimates(clip, clip.raws, clip.raws) is None


def test_means_are_by_group() -> None:
    clip = footage()
    raw = at_picture_size(smooth(Alternative.OFF, clip), clip)
    one = judge_estimates(clip, raw, raw)
    assert one is not None
    (mean,) = mean_by_group([one, one])
    assert mean.estimated == 2 * one.estimated
    assert mean.iou_estimate == pytest.approx(one.iou_estimate)


def test_along_the_exact_motion_only_the_noise_of_the_mask_is_averaged_out() -> None:
    """A running mean of n equal independent errors has 1/sqrt(n) of the error; a cut begins anew."""
    clip = footage(12, cut_at=6)
    assert clip.truths is not None
    averaged = along_exact_motion(clip.raws, clip)
    # Inside, where noise is neither clipped at 0 nor at 1 and the motion stays in the picture.
    edge = [(truth > 0.2) & (truth < 0.8) for truth in clip.truths]

    def error(masks: list[np.ndarray], t: int) -> float:
        return float(np.abs(masks[t] - clip.truths[t])[edge[t]].mean())  # type: ignore[index]

    np.testing.assert_array_equal(averaged[0], clip.raws[0])
    np.testing.assert_array_equal(averaged[6], clip.raws[6])
    for t in (5, 11):
        assert error(averaged, t) < 0.65 * error(clip.raws, t)
