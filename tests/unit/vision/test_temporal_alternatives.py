"""What defines each alternative, in numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from humanseg.options import TemporalFusion
from humanseg.vision.temporal import PARAMETERS, FusionState, fuse
from humanseg.vision.temporal_alternatives import Alternative, AlternativeState, apply
from support.clips import FRAME_US, SIZE, DrawnFrame, draw_clip

Mask = NDArray[np.float32]
EVERY = pytest.mark.parametrize("alternative", list(Alternative))
GRAY = draw_clip(shifts_px=[0.0], sensor_noise=0.0)[0].gray


def run(alternative: Alternative, frames: list[DrawnFrame]) -> list[Mask]:
    state = AlternativeState()
    return [apply(alternative, state, frame.gray, frame.noisy, frame.capture_time_us) for frame in frames]


def run_values(alternative: Alternative, values: list[float]) -> list[float]:
    """The middle of flat masks of these values before a picture that does not change."""
    state = AlternativeState()
    return [
        float(apply(alternative, state, GRAY, np.full(GRAY.shape, value, np.float32), i * FRAME_US)[48, 80])
        for i, value in enumerate(values)
    ]


def test_off_changes_nothing() -> None:
    frames = draw_clip(shifts_px=[0.0, 2.0, 4.0])
    for fused, frame in zip(run(Alternative.OFF, frames), frames, strict=True):
        assert np.array_equal(fused, frame.noisy)


@pytest.mark.parametrize("alternative", [Alternative.LOW, Alternative.HIGH])
def test_low_and_high_are_what_the_service_does(alternative: Alternative) -> None:
    frames = draw_clip(shifts_px=[1.5 * i for i in range(5)])
    state, parameters = FusionState(), PARAMETERS[TemporalFusion[alternative.name]]
    for fused, frame in zip(run(alternative, frames), frames, strict=True):
        assert np.array_equal(fused, fuse(state, frame.gray, frame.noisy, frame.capture_time_us, parameters)[0])


def test_ema_takes_three_tenths_of_the_new_mask() -> None:
    assert run_values(Alternative.EMA, [0, 1, 1, 0]) == pytest.approx([0, 0.3, 0.51, 0.357], abs=1e-6)


def test_uncertainty_passes_certain_pixels_and_holds_uncertain_ones() -> None:
    assert run_values(Alternative.UNCERTAINTY, [1.0, 0.0]) == pytest.approx([1, 0], abs=1e-3)
    # At 0.5 the uncertainty is 1: 0.5 + (1 - 0.5) * 0.9.
    assert run_values(Alternative.UNCERTAINTY, [1.0, 0.5]) == pytest.approx([1, 0.95], abs=1e-6)
    # In between, the square of the entropy in bits; the polynomial is a fit to it.
    entropy = -(0.7 * math.log2(0.7) + 0.3 * math.log2(0.3))
    assert run_values(Alternative.UNCERTAINTY, [1.0, 0.7])[1] == pytest.approx(0.7 + 0.3 * 0.9 * entropy**2, abs=0.02)


def test_hysteresis_switches_at_two_thresholds() -> None:
    levels = [0.0, 179 / 255, 181 / 255, 100 / 255, 81 / 255, 79 / 255, 100 / 255, 1.0]
    assert run_values(Alternative.HYSTERESIS, levels) == [0, 0, 1, 1, 1, 0, 0, 1]


def test_hysteresis_decides_the_first_frame_by_the_middle() -> None:
    assert run_values(Alternative.HYSTERESIS, [131 / 255]) == [1]
    assert run_values(Alternative.HYSTERESIS, [129 / 255]) == [0]


def test_the_reference_mixes_still_pixels_seven_to_three_however_uncertain() -> None:
    """0.3 of the new mask in a still picture: the weight 0.05, meant for uncertain pixels, is out of reach."""
    assert run_values(Alternative.REFERENCE, [1, 0, 0]) == pytest.approx([1, 0.7, 0.49], abs=1e-6)
    assert run_values(Alternative.REFERENCE, [1, 0.5]) == pytest.approx([1, 0.85], abs=1e-6)


def test_only_the_narrow_gap_of_the_scale_bug_counts_as_uncertain() -> None:
    # 0.5 of 255 levels lies between 0.1 and 0.9: there alone the weight of 0.05 holds.
    assert run_values(Alternative.REFERENCE, [1, 0.5 / 255])[1] == pytest.approx(0.05 * 0.5 / 255 + 0.95, abs=1e-6)


def test_the_reference_carries_the_mask_along_the_motion() -> None:
    """The disc moves by whole pixels; away from its rim the moved mask is mixed in with 0.6."""
    frames = draw_clip(shifts_px=[0.0, 4.0], sensor_noise=0.0, wall_moves=True)
    marked = np.zeros(GRAY.shape, np.float32)
    marked[40:56, 56:72] = 1.0
    state, nothing = AlternativeState(), np.zeros(GRAY.shape, np.float32)
    apply(Alternative.REFERENCE, state, frames[0].gray, marked, 0)
    fused = apply(Alternative.REFERENCE, state, frames[1].gray, nothing, FRAME_US)
    assert np.median(fused[42:54, 62:74]) == pytest.approx(0.6, abs=1e-6)
    assert np.median(fused[42:54, 50:58]) == 0
    # The square moved by about four pixels: so did the center of what is left of it.
    assert np.average(np.arange(GRAY.shape[1]), weights=fused.sum(axis=0)) == pytest.approx(63.5 + 4, abs=0.6)


def test_the_reference_keeps_the_old_person_across_a_cut() -> None:
    """Its known fault, which the comparison has to show; ours starts anew."""
    before = draw_clip(shifts_px=[0.0], seed=1)[0]
    after = draw_clip(shifts_px=[60.0], seed=50)[0]
    pair = [before, DrawnFrame(after.gray, after.truth, after.noisy, before.capture_time_us + FRAME_US)]
    assert np.abs(run(Alternative.REFERENCE, pair)[1] - after.noisy).max() > 0.5
    assert np.array_equal(run(Alternative.HIGH, pair)[1], after.noisy)


@pytest.mark.parametrize(
    ("alternative", "bytes_per_px"), [(Alternative.OFF, 0), (Alternative.EMA, 5), (Alternative.REFERENCE, 5)]
)
def test_the_size_of_the_memory(alternative: Alternative, bytes_per_px: int) -> None:
    frame, state = draw_clip(shifts_px=[0.0])[0], AlternativeState()
    apply(alternative, state, frame.gray, frame.noisy, 0)
    assert state.nbytes == bytes_per_px * frame.gray.size


@EVERY
@given(arrays(np.float32, (3, *SIZE.shape), elements=st.floats(0, 1, width=32), fill=st.sampled_from([0.0, 1.0, 0.5])))
@settings(max_examples=10, deadline=None)
def test_values_stay_between_0_and_1(alternative: Alternative, masks: NDArray[np.float32]) -> None:
    state = AlternativeState()
    for index, (frame, mask) in enumerate(zip(draw_clip(shifts_px=[0.0, 3.0, 9.0]), masks, strict=True)):
        fused = apply(alternative, state, frame.gray, mask, index * FRAME_US)
        assert fused.dtype == np.float32
        assert fused.shape == mask.shape
        assert np.isfinite(fused).all()
        assert fused.min() >= -1e-6
        assert fused.max() <= 1 + 1e-6


@EVERY
def test_the_answer_belongs_to_the_caller(alternative: Alternative) -> None:
    """Whoever scribbles into an answer, or into what was handed in, must not change the next one."""
    frames = draw_clip(shifts_px=[0.0, 1.0, 2.0])
    undisturbed = run(alternative, frames)
    state = AlternativeState()
    for frame, expected in zip(frames, undisturbed, strict=True):
        gray, alpha = frame.gray.copy(), frame.noisy.copy()
        fused = apply(alternative, state, gray, alpha, frame.capture_time_us)
        assert np.array_equal(fused, expected)
        fused[:], alpha[:], gray[:] = 0.25, 0.75, 7


@EVERY
def test_another_size_starts_anew(alternative: Alternative) -> None:
    small, large = draw_clip(shifts_px=[0.0])[0], draw_clip(shifts_px=[0.0], size=SIZE.transposed)[0]
    state = AlternativeState()
    apply(alternative, state, small.gray, small.noisy, 0)
    fused = apply(alternative, state, large.gray, large.noisy, FRAME_US)
    assert np.array_equal(fused, apply(alternative, AlternativeState(), large.gray, large.noisy, 0))
