"""Figures of sequences against values computed by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from humanseg.vision import temporal_metrics as metrics

SHAPE = (12, 20)
Frame = NDArray[np.float32]


def flat(value: float) -> Frame:
    return np.full(SHAPE, value, np.float32)


def column_step(at: int) -> Frame:
    """A person that fills the columns from ``at`` on."""
    frame = flat(0)
    frame[:, at:] = 1
    return frame


def moved(x: float, y: float = 0.0) -> NDArray[np.float32]:
    return np.broadcast_to(np.float32((x, y)), (*SHAPE, 2)).copy()


STILL, ALL = moved(0), np.ones(SHAPE, bool)


def test_dtssd_is_the_error_of_the_change_times_a_hundred() -> None:
    # Changes 0.3 and -0.1 where the truth changes by 0.1 and 0: errors 0.2 and 0.1, mean 0.15.
    alphas, truths = [flat(0.2), flat(0.5), flat(0.4)], [flat(0.0), flat(0.1), flat(0.1)]
    assert metrics.dtssd(alphas, truths, [False] * 3) == pytest.approx(15.0, rel=1e-5)


def test_dtssd_is_a_root_of_a_mean_square_within_a_frame() -> None:
    after = flat(0)
    after[: SHAPE[0] // 4] = 0.8  # a quarter of the pixels: 100 * sqrt(0.64 / 4)
    assert metrics.dtssd([flat(0), after], [flat(0)] * 2, [False] * 2) == pytest.approx(40.0, rel=1e-5)


def test_a_constant_error_is_steady() -> None:
    truths = [column_step(8), column_step(9), column_step(10)]
    alphas = [truth + flat(0.3) for truth in truths]
    assert metrics.dtssd(alphas, truths, [False] * 3) == pytest.approx(0.0, abs=1e-4)
    assert metrics.messddt(alphas, truths, [moved(-1)] * 3, [ALL] * 3, [False] * 3) == pytest.approx(0.0, abs=1e-3)
    assert metrics.dtssd([truth * np.float32(0.5) for truth in truths], truths, [False] * 3) > 1


def test_messddt_compares_squared_errors_along_the_motion() -> None:
    # Errors 0.1 and 0.3 everywhere: |0.09 - 0.01| * 1000.
    alphas = [flat(0.1), flat(0.3)]
    assert metrics.messddt(alphas, [flat(0)] * 2, [STILL] * 2, [ALL] * 2, [False] * 2) == pytest.approx(80, rel=1e-4)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_cut_counts_nowhere(cut: int) -> None:
    alphas = [flat(0.0)] * cut + [flat(1.0)] * (4 - cut)
    truths = [flat(0.0)] * 4
    cuts = [t == cut for t in range(4)]
    motions, known = [STILL] * 4, [ALL] * 4
    band = [column_step(10)] * 4
    assert metrics.dtssd(alphas, truths, cuts) == 0
    assert metrics.messddt(alphas, truths, motions, known, cuts) == 0
    assert metrics.warped_error(alphas, motions, known, cuts) == 0
    assert metrics.flicker(alphas, band, motions, known, cuts) == 0
    assert metrics.static_flicker(alphas, [~ALL] * 4, cuts) == 0
    no_cut = [False] * 4
    assert metrics.dtssd(alphas, truths, no_cut) > 0
    assert metrics.warped_error(alphas, motions, known, no_cut) > 0
    assert metrics.flicker(alphas, band, motions, known, no_cut) > 0
    assert metrics.static_flicker(alphas, [~ALL] * 4, no_cut) > 0


def test_a_mask_that_follows_the_motion_does_not_flicker() -> None:
    # The edge goes two pixels to the right a frame, so each pixel came from two to the left.
    alphas = [column_step(6 + 2 * t) for t in range(4)]
    motions = [moved(-2)] * 4
    assert metrics.flicker(alphas, alphas, motions, [ALL] * 4, [False] * 4) == 0
    assert metrics.warped_error(alphas, motions, [ALL] * 4, [False] * 4) == 0
    assert metrics.flicker(alphas, alphas, [STILL] * 4, [ALL] * 4, [False] * 4) > 1
    # The wrong way is four pixels off.
    assert metrics.warped_error(alphas, [moved(2)] * 4, [ALL] * 4, [False] * 4) > 30


def test_warped_error_by_hand() -> None:
    # A quarter of the rows changes by 0.4: sqrt(0.16 / 4) = 0.2.
    after = flat(0)
    after[:3] = 0.4
    assert metrics.warped_error([flat(0), after], [STILL] * 2, [ALL] * 2, [False] * 2) == pytest.approx(20, rel=1e-5)
    rows = np.zeros(SHAPE, bool)
    rows[:3] = True
    assert metrics.warped_error([flat(0), after], [STILL] * 2, [rows] * 2, [False] * 2) == pytest.approx(40, rel=1e-5)


def test_flicker_is_looked_for_in_the_band_only() -> None:
    truth = column_step(10)
    near, far = flat(0), flat(0)
    near[:, 9] = 0.5  # one column of the four (8..11) within two pixels of the edge
    far[:, 3] = 0.5
    arguments = ([truth] * 2, [STILL] * 2, [ALL] * 2, [False] * 2)
    assert metrics.flicker([flat(0), near], *arguments, band_px=2) == pytest.approx(100 * 0.5 / 4, rel=1e-5)
    assert metrics.flicker([flat(0), far], *arguments, band_px=2) == 0


def test_the_band_is_as_wide_as_it_says() -> None:
    band = metrics.edge_band(column_step(10), 3)
    assert np.flatnonzero(band.all(axis=0)).tolist() == [7, 8, 9, 10, 11, 12]
    assert np.flatnonzero(band.any(axis=0)).tolist() == [7, 8, 9, 10, 11, 12]


def test_pixels_from_outside_the_picture_do_not_count() -> None:
    after = flat(0)
    after[:, :3] = 1  # comes in from the left with the motion
    assert metrics.warped_error([flat(0), after], [moved(-3)] * 2, [ALL] * 2, [False] * 2) == 0


def test_static_flicker_waits_five_transitions_after_a_motion() -> None:
    alphas = [flat(0.1 * (t % 2)) for t in range(12)]
    moving = [np.full(SHAPE, t == 3) for t in range(12)]
    quiet = [~ALL] * 12
    assert metrics.static_flicker(alphas, quiet, [False] * 12) == pytest.approx(10, rel=1e-5)
    # Only the transitions 1, 2 and 9..11 count: the motion is in 3, 4..8 are its settling.
    only = [flat(0.0)] * 12
    for t in range(3, 9):
        only[t] = flat(0.5) if t % 2 else flat(0.0)
    only[8] = flat(0.0)
    assert metrics.static_flicker(only, moving, [False] * 12) == 0
    late = [flat(0.0)] * 9 + [flat(0.5)] * 3  # a change in transition 9, one of the five that count
    assert metrics.static_flicker(late, moving, [False] * 12) == pytest.approx(100 * 0.5 / 5, rel=1e-5)


def test_static_flicker_looks_at_still_pixels_only() -> None:
    right = column_step(10) > 0
    alphas = [flat(0.0), 0.6 * column_step(10)]
    assert metrics.static_flicker(alphas, [right] * 2, [False] * 2) == 0
    assert metrics.static_flicker(alphas, [~right] * 2, [False] * 2) == pytest.approx(60, rel=1e-5)


def test_lag_counts_frames_to_nine_tenths() -> None:
    raw = [flat(0)] * 3 + [flat(1)] * 5
    assert metrics.lag(raw, raw, 3) == 1
    slow = [flat(0)] * 3 + [flat(v) for v in (0.5, 0.89, 0.9, 1.0, 1.0)]
    assert metrics.lag(slow, raw, 3) == 3
    never = [flat(0)] * 3 + [flat(0.8)] * 5
    assert metrics.lag(never, raw, 3) is None
    # Downward, and from where the fused mask stood.
    down = [flat(1)] * 3 + [flat(0)] * 3
    assert metrics.lag([flat(0.9)] * 3 + [flat(0.1), flat(0.05), flat(0.0)], down, 3) == 2


def test_lag_needs_a_step() -> None:
    with pytest.raises(ValueError, match="no step"):
        metrics.lag([flat(0)] * 3, [flat(0)] * 3, 1)


def test_ghost_is_what_was_kept_of_the_person_who_left() -> None:
    truth, kept = flat(0), flat(0)
    truth[:, 10:] = 1  # 120 pixels
    kept[:, 8:] = 1  # two columns of 12 too many: 24 pixels, 20 %
    raw = truth.copy()
    assert metrics.ghost([kept], [raw], [truth]) == pytest.approx(20)
    # Where the raw mask says person, it is the network's error and not a ghost; so is true hair.
    raw_wrong = raw.copy()
    raw_wrong[:, 9] = 1
    assert metrics.ghost([kept], [raw_wrong], [truth]) == pytest.approx(10)
    hair = truth.copy()
    hair[:, 8] = 0.2
    assert metrics.ghost([kept], [raw], [hair]) == pytest.approx(10)


def test_ghost_takes_nearly_the_worst_frame() -> None:
    truth, kept = column_step(10), column_step(8)
    frames = [truth] * 95 + [kept] * 5
    assert metrics.ghost(frames, [truth] * 100, [truth] * 100) == pytest.approx(20)
    assert metrics.ghost([truth] * 99 + [kept], [truth] * 100, [truth] * 100) < 1
    assert metrics.ghost([kept], [flat(0)], [flat(0)]) == 0


def test_the_residue_of_a_cut_is_the_largest_difference() -> None:
    raw = [flat(0), flat(0), flat(0)]
    spot = flat(0)
    spot[4, 4] = 0.75
    assert metrics.cut_residue([spot, flat(0), spot], raw, [False, True, False]) == 0
    assert metrics.cut_residue([flat(0), spot, flat(0)], raw, [False, True, False]) == pytest.approx(0.75)


@given(st.integers(0, 2**31), st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_frozen_masks_are_steady_and_nothing_is_negative(seed: int, x: float, y: float) -> None:
    random = np.random.default_rng(seed)
    truths = list(random.random((4, *SHAPE), np.float32))
    alphas = list(random.random((4, *SHAPE), np.float32))
    cuts = [False, *(bool(cut) for cut in random.random(3) < 0.3)]
    motions, known = [moved(x, y)] * 4, [ALL] * 4
    figures = (
        metrics.dtssd(alphas, truths, cuts),
        metrics.messddt(alphas, truths, motions, known, cuts),
        metrics.warped_error(alphas, motions, known, cuts),
        metrics.flicker(alphas, truths, motions, known, cuts),
        metrics.static_flicker(alphas, [~ALL] * 4, cuts),
        metrics.ghost(alphas, list(random.random((4, *SHAPE), np.float32)), truths),
    )
    assert all(np.isfinite(figure) and figure >= 0 for figure in figures)
    frozen = [alphas[0]] * 4
    assert metrics.warped_error(frozen, [STILL] * 4, known, cuts) == 0
    assert metrics.static_flicker(frozen, [~ALL] * 4, cuts) == 0
    assert metrics.dtssd(truths, truths, cuts) == 0
