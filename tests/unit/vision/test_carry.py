"""Estimates for frames that the network did not see: carried along the flow, never a reason to believe old news."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size
from humanseg.vision.letterbox import Placement
from humanseg.vision.temporal import LONGEST_GAP_US, PARAMETERS, FusionState, carry, fuse
from support.clips import FRAME_US, SIZE, DrawnFrame, draw_clip

HIGH = PARAMETERS[TemporalFusion.HIGH]


def after(frames: list[DrawnFrame]) -> FusionState:
    state = FusionState()
    for frame in frames:
        fuse(state, frame.gray, frame.truth, frame.capture_time_us, HIGH)
    return state


def test_a_still_mask_is_carried_unchanged() -> None:
    frames = draw_clip(shifts_px=[0.0] * 5, sensor_noise=0.0)
    estimate = carry(after(frames[:4]), frames[4].gray, frames[4].capture_time_us)
    assert estimate is not None
    np.testing.assert_allclose(estimate, frames[4].truth, atol=1 / 65535 + 1e-6)


@pytest.mark.parametrize("step_px", [1.3, 3.5])
def test_a_moving_mask_goes_along(step_px: float) -> None:
    frames = draw_clip(shifts_px=[step_px * i for i in range(6)], wall_moves=True)
    estimate = carry(after(frames[:5]), frames[5].gray, frames[5].capture_time_us)
    assert estimate is not None
    assert np.abs(estimate - frames[5].truth).mean() < 0.35 * np.abs(frames[4].truth - frames[5].truth).mean()


def test_an_estimate_leaves_no_trace() -> None:
    """Frames that the network sees come out bit by bit as if nothing had been estimated between them."""
    frames = draw_clip(shifts_px=[1.7 * i for i in range(9)], wall_moves=True)

    def seen(*, estimated: bool) -> list[NDArray[np.float32]]:
        state = FusionState()
        masks = []
        for index, frame in enumerate(frames):
            if index % 3 == 0:
                masks.append(fuse(state, frame.gray, frame.noisy, frame.capture_time_us, HIGH)[0])
            elif estimated:
                assert carry(state, frame.gray, frame.capture_time_us) is not None
        return masks

    np.testing.assert_array_equal(seen(estimated=True), seen(estimated=False))


def test_nothing_to_carry() -> None:
    frame, other = draw_clip(shifts_px=[0.0])[0], draw_clip(shifts_px=[0.0], seed=77)[0]
    assert carry(FusionState(), frame.gray, 1) is None
    small = draw_clip(shifts_px=[0.0], size=Size(96, 64))[0]
    start_us = frame.capture_time_us
    for gray, time_us in (
        (small.gray, start_us + 1),
        (frame.gray, start_us),
        (frame.gray, start_us + LONGEST_GAP_US + 1),
        (other.gray, start_us + FRAME_US),
    ):
        state = after([frame])
        assert carry(state, gray, time_us) is None
        # The state is as it was: the same frame again is still its future.
        assert state.last_capture_time_us == start_us
        assert carry(state, frame.gray, start_us + FRAME_US) is not None


def test_the_void_of_a_letterbox_is_empty() -> None:
    placement = Placement.fit(Size(160, 60), SIZE)
    frames = draw_clip(shifts_px=[0.0] * 3)
    state = FusionState()
    for frame in frames[:2]:
        fuse(state, frame.gray, frame.truth, frame.capture_time_us, HIGH, placement)
    estimate = carry(state, frames[2].gray, frames[2].capture_time_us, placement)
    assert estimate is not None
    assert estimate.shape == SIZE.shape
    inside = placement.crop(estimate)
    assert np.abs(inside - placement.crop(frames[2].truth)).mean() < 0.01
    assert estimate.sum() == pytest.approx(inside.sum())


def test_estimates_are_the_callers_own() -> None:
    frames = draw_clip(shifts_px=[0.0] * 4, sensor_noise=0.0)
    state = after(frames[:2])
    first = carry(state, frames[2].gray, frames[2].capture_time_us)
    assert first is not None
    kept = first.copy()
    first[:] = 0.5
    second = carry(state, frames[3].gray, frames[3].capture_time_us)
    assert second is not None
    np.testing.assert_allclose(second, kept, atol=1e-4)


@given(st.integers(0, 2**31), st.lists(st.booleans(), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_any_mix_of_masks_and_estimates_stays_in_range(seed: int, seen: list[bool]) -> None:
    frames = draw_clip(shifts_px=[2.0 * i for i in range(len(seen) + 1)], seed=seed)
    state = after(frames[:1])
    for frame, is_seen in zip(frames[1:], seen, strict=True):
        if is_seen:
            alpha = fuse(state, frame.gray, frame.noisy, frame.capture_time_us, HIGH)[0]
        else:
            carried = carry(state, frame.gray, frame.capture_time_us)
            assert carried is not None
            alpha = carried
        assert np.isfinite(alpha).all()
        assert 0 <= alpha.min() <= alpha.max() <= 1
        assert not ((alpha > 0) & (alpha < np.finfo(np.float32).tiny)).any()


def test_a_colored_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="must be"):
        carry(FusionState(), np.zeros((*SIZE.shape, 3), np.uint8), 1, HIGH)
