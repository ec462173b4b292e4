"""Fusion over time: what it must never do, and what it is for, on drawn clips whose exact masks are known."""

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size
from humanseg.vision.letterbox import Placement
from humanseg.vision.temporal import (
    LONGEST_GAP_US,
    PARAMETERS,
    FusionParameters,
    FusionState,
    ResetReason,
    fuse,
)
from support.clips import FRAME_US, SIZE, DrawnFrame, disc, draw_clip, texture

HIGH, LOW = PARAMETERS[TemporalFusion.HIGH], PARAMETERS[TemporalFusion.LOW]
LEVELS = pytest.mark.parametrize("parameters", [HIGH, LOW], ids=["high", "low"])
#: One step of the state's 16 bits, and float32's own error.
QUANTUM = 1 / 65535 + 1e-6
Mask = NDArray[np.float32]


def run(frames: Iterable[DrawnFrame], parameters: FusionParameters) -> list[Mask]:
    state = FusionState()
    return [fuse(state, frame.gray, frame.noisy, frame.capture_time_us, parameters)[0] for frame in frames]


def still(count: int, masks: list[Mask] | None = None) -> list[DrawnFrame]:
    """A picture that stands still, under sensor noise; with these masks."""
    frames = draw_clip(shifts_px=[0.0] * count)
    if masks is None:
        return frames
    return [DrawnFrame(f.gray, f.truth, mask, f.capture_time_us) for f, mask in zip(frames, masks, strict=True)]


def flicker(masks: list[Mask]) -> float:
    """Mean absolute change from frame to frame; of a still picture all of it is flicker."""
    return float(np.mean([np.abs(after - before).mean() for before, after in itertools.pairwise(masks)]))


def mean_error(masks: list[Mask], frames: list[DrawnFrame]) -> float:
    """Mean absolute difference to the true masks, once the fusion has a past."""
    return float(np.mean([np.abs(mask - f.truth).mean() for mask, f in zip(masks[3:], frames[3:], strict=True)]))


def wrong_change(masks: list[Mask], frames: list[DrawnFrame]) -> float:
    """dtSSD: by how much the mask's change from frame to frame is not that of the true mask."""
    errors = [mask - frame.truth for mask, frame in zip(masks[3:], frames[3:], strict=True)]
    return float(np.sqrt(np.mean([(after - before) ** 2 for before, after in itertools.pairwise(errors)])))


@LEVELS
@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 0.731, 1.0])
def test_a_constant_mask_comes_out_as_it_is(value: float, parameters: FusionParameters) -> None:
    mask = np.full(SIZE.shape, value, np.float32)
    for fused in run(still(6, [mask] * 6), parameters):
        np.testing.assert_allclose(fused, mask, atol=QUANTUM)


@LEVELS
def test_a_mask_fused_with_itself_is_unchanged(parameters: FusionParameters) -> None:
    """Same picture, same mask, with all its edges: nothing to correct."""
    frame = draw_clip(shifts_px=[0.0])[0]
    state = FusionState()
    for index in range(8):
        fused, _ = fuse(state, frame.gray, frame.noisy, index * FRAME_US, parameters)
        np.testing.assert_allclose(fused, frame.noisy, atol=2 * QUANTUM)


def test_the_same_frames_give_the_same_bits() -> None:
    """Nothing uninitialized may leak in: OpenCV reads some of its output arguments."""
    frames = draw_clip(shifts_px=[3.1 * index for index in range(6)])
    first = run(frames, HIGH)
    junk = [np.full((*SIZE.shape, 4), np.nan, np.float32) for _ in range(8)]
    del junk
    for one, other in zip(first, run(frames, HIGH), strict=True):
        np.testing.assert_array_equal(one, other)


def test_flicker_of_a_still_picture_falls_by_more_than_half_and_low_lies_between() -> None:
    frames = still(30)
    off = flicker([frame.noisy for frame in frames])
    low, high = flicker(run(frames, LOW)), flicker(run(frames, HIGH))
    assert high < 0.5 * off
    assert high < low < off


@LEVELS
@pytest.mark.parametrize("speed_px", [0.4, 1.5, 3.5])
def test_a_moving_picture_is_followed_nearer_to_the_truth_than_the_raw_mask(
    speed_px: float, parameters: FusionParameters
) -> None:
    frames = draw_clip(shifts_px=[speed_px * index for index in range(12)], wall_moves=True)
    assert mean_error(run(frames, parameters), frames) < mean_error([frame.noisy for frame in frames], frames)


@LEVELS
@pytest.mark.parametrize("speed_px", [0.4, 1.5, 3.5])
def test_a_person_who_moves_alone_trembles_less_and_costs_little_accuracy(
    speed_px: float, parameters: FusionParameters
) -> None:
    """The wall behind is uncovered and has no past: there the raw mask is all there is."""
    frames = draw_clip(shifts_px=[speed_px * index for index in range(12)])
    raw, fused = [frame.noisy for frame in frames], run(frames, parameters)
    assert wrong_change(fused, frames) < wrong_change(raw, frames)
    assert mean_error(fused, frames) < 1.2 * mean_error(raw, frames)


def test_without_following_the_motion_the_error_would_be_larger() -> None:
    """The flow earns its time: the same recursion on frozen gray leaves the mask behind."""
    frames = draw_clip(shifts_px=[3.5 * index for index in range(12)], seed=4)
    frozen = [DrawnFrame(frames[0].gray, f.truth, f.noisy, f.capture_time_us) for f in frames]
    assert mean_error(run(frames, HIGH), frames) < 0.8 * mean_error(run(frozen, HIGH), frames)


def test_a_drop_out_of_one_frame_is_about_halved() -> None:
    person, nothing = disc(SIZE, (80, 48), 30), np.zeros(SIZE.shape, np.float32)
    inside = person == 1
    fused = run(still(14, [person] * 10 + [nothing] + [person] * 3), HIGH)
    center = [float(np.median(mask[inside])) for mask in fused]
    assert center[9] == pytest.approx(1.0, abs=0.02)
    assert 0.45 < center[10] < 0.7, "0.56 by the gain of 0.40 and the innovation's ramp"
    assert center[11] > center[10]
    assert center[12] > 0.75


@LEVELS
@pytest.mark.parametrize("rising", [True, False])
def test_a_true_step_is_at_nine_tenths_within_two_frames(rising: bool, parameters: FusionParameters) -> None:
    person, nothing = disc(SIZE, (80, 48), 30), np.zeros(SIZE.shape, np.float32)
    inside = person == 1
    before, after = (nothing, person) if rising else (person, nothing)
    fused = run(still(14, [before] * 10 + [after] * 4), parameters)
    moved = [abs(float(np.median(mask[inside])) - float(not rising)) for mask in fused]
    assert moved[9] < 0.02
    assert moved[11] >= 0.9
    assert moved[12] >= 0.9


def test_what_comes_in_from_outside_has_no_past() -> None:
    """The camera pans; a mask that rises by too little to insist is believed at once where the picture is new."""
    frames = draw_clip(shifts_px=[6.0 * index for index in range(10)], wall_moves=True)
    levels = [0.4] * 9 + [0.5]
    state = FusionState()
    for frame, level in zip(frames, levels, strict=True):
        fused, _ = fuse(state, frame.gray, np.full(SIZE.shape, level, np.float32), frame.capture_time_us, HIGH)
    assert np.median(fused[20:-20, :3]) > 0.48, "six columns are new at the left"
    assert np.median(fused[20:-20, 40:120]) < 0.44, "the rest has ten frames behind it"


def test_a_cut_resets_at_once_and_leaves_nothing_behind() -> None:
    before, after = draw_clip(shifts_px=[0.0] * 8, seed=1), draw_clip(shifts_px=[40.0] * 3, seed=9)
    state = FusionState()
    for frame in before:
        fuse(state, frame.gray, frame.noisy, frame.capture_time_us, HIGH)
    fused, reason = fuse(state, after[0].gray, after[0].noisy, 8 * FRAME_US + 1, HIGH)
    assert reason is ResetReason.SCENE
    np.testing.assert_array_equal(fused, after[0].noisy)
    _, reason = fuse(state, after[1].gray, after[1].noisy, 9 * FRAME_US + 1, HIGH)
    assert reason is None, "the new scene is a past of its own"


def test_a_lamp_switched_on_is_no_cut() -> None:
    frames = draw_clip(shifts_px=[0.0] * 4)
    state = FusionState()
    for frame in frames[:3]:
        fuse(state, frame.gray, frame.noisy, frame.capture_time_us, HIGH)
    brighter = np.clip(frames[3].gray.astype(int) + 25, 0, 255).astype(np.uint8)
    assert fuse(state, brighter, frames[3].noisy, frames[3].capture_time_us, HIGH)[1] is None


@pytest.mark.parametrize(
    ("gap_us", "reason"),
    [
        (FRAME_US, None),
        (1, None),
        (LONGEST_GAP_US, None),
        (LONGEST_GAP_US + 1, ResetReason.TIME),
        (0, ResetReason.TIME),
        (-1, ResetReason.TIME),
        (-(2**63), ResetReason.TIME),
    ],
)
def test_time_must_go_on(gap_us: int, reason: ResetReason | None) -> None:
    first, second = draw_clip(shifts_px=[0.0, 0.0])
    state = FusionState()
    assert fuse(state, first.gray, first.noisy, 10_000_000, HIGH)[1] is ResetReason.FIRST_FRAME
    fused, seen = fuse(state, second.gray, second.noisy, 10_000_000 + gap_us, HIGH)
    assert seen is reason
    assert np.array_equal(fused, second.noisy) == (reason is not None)
    assert state.last_capture_time_us == 10_000_000 + gap_us


def test_another_size_resets() -> None:
    state = FusionState()
    small, large = draw_clip(shifts_px=[0.0], size=Size(96, 64))[0], draw_clip(shifts_px=[0.0])[0]
    fuse(state, small.gray, small.noisy, 1, HIGH)
    fused, reason = fuse(state, large.gray, large.noisy, 2, HIGH)
    assert reason is ResetReason.SIZE
    np.testing.assert_array_equal(fused, large.noisy)


@pytest.mark.parametrize("size", [Size(1, 1), Size(2, 1), Size(31, 7), Size(33, 97), Size(161, 97), Size(32, 96)])
def test_any_size_is_fused(size: Size) -> None:
    """Odd ones halve unevenly, tiny ones have no flow; on none may the process die."""
    state = FusionState()
    random = np.random.default_rng(0)
    for index in range(3):
        gray = random.integers(0, 256, size.shape, dtype=np.uint8)
        alpha = random.random(size.shape, dtype=np.float32)
        fused, _ = fuse(state, gray, alpha, index + 1, HIGH)
        assert fused.shape == size.shape
        assert np.isfinite(fused).all()


def test_the_memory_of_a_session_is_small() -> None:
    state = FusionState()
    size = Size(320, 192)
    frames = draw_clip(shifts_px=[0.0, 1.0], size=size)
    assert state.nbytes == 0
    for frame in frames:
        fuse(state, frame.gray, frame.noisy, frame.capture_time_us, HIGH)
        assert 200_000 < state.nbytes <= 350_000


def test_denormal_tails_of_a_sigmoid_do_not_live_on() -> None:
    """Values of 1e-40 would make every later operation 10 to 60 times slower."""
    frame = draw_clip(shifts_px=[0.0])[0]
    faint = np.full(SIZE.shape, 1e-40, np.float32)
    state = FusionState()
    for index in range(4):
        fused, _ = fuse(state, frame.gray, faint, index + 1, HIGH)
    tiny = np.finfo(np.float32).tiny
    assert not ((fused > 0) & (fused < tiny)).any()


def letterboxed(array: NDArray[np.generic], placement: Placement, void: float) -> NDArray[np.generic]:
    out = np.full(placement.canvas.shape, void, array.dtype)
    placement.crop(out)[:] = array
    return out


def test_padding_neither_changes_nor_dilutes_the_fusion() -> None:
    """Half of the canvas is padding that always agrees with itself; the fused picture is the same as without."""
    placement = Placement.fit(SIZE, Size(160, 192))
    before, after = draw_clip(shifts_px=[0.0, 1.0, 2.0], seed=1), draw_clip(shifts_px=[40.0], seed=9)
    bare, padded = FusionState(), FusionState()
    for frame in [*before, DrawnFrame(after[0].gray, after[0].truth, after[0].noisy, 4 * FRAME_US)]:
        wanted, reason = fuse(bare, frame.gray, frame.noisy, frame.capture_time_us, HIGH)
        gray, alpha = letterboxed(frame.gray, placement, 127), letterboxed(frame.noisy, placement, 0.25)
        fused, padded_reason = fuse(padded, gray, alpha, frame.capture_time_us, HIGH, placement)
        np.testing.assert_array_equal(placement.crop(fused), wanted)
        assert padded_reason is reason
        assert fused[0, 0] == np.float32(0.25), "the void keeps the new mask's values"
    assert reason is ResetReason.SCENE, "the padding does not vouch for the past"


def test_the_arrays_handed_in_and_out_are_the_callers_own() -> None:
    frames = draw_clip(shifts_px=[0.0, 1.0, 2.0])
    state, twin = FusionState(), FusionState()
    for frame in frames:
        gray, alpha = frame.gray.copy(), frame.noisy.copy()
        fused, _ = fuse(state, gray, alpha, frame.capture_time_us, HIGH)
        np.testing.assert_array_equal(gray, frame.gray)
        np.testing.assert_array_equal(alpha, frame.noisy)
        wanted, _ = fuse(twin, frame.gray, frame.noisy, frame.capture_time_us, HIGH)
        np.testing.assert_array_equal(fused, wanted)
        gray[:], alpha[:], fused[:] = 0, 0.5, 0.5


@pytest.mark.parametrize(
    ("gray", "alpha"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.float32)),
        (np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.float64)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.float32)),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(gray: NDArray[np.uint8], alpha: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="must be"):
        fuse(FusionState(), gray, alpha, 1, HIGH)


@pytest.mark.parametrize("wrong", [{"min_gain": 1.5}, {"weak": 0.5}, {"sigma": 0.0}, {"max_age": 18.0}])
def test_constants_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    good = {"min_gain": 0.1, "first_gain": 0.4, "second_gain": 0.9, "weak": 0.1, "strong": 0.4, "sigma": 10.0}
    with pytest.raises(ValueError, match=r"must lie|do not hold"):
        FusionParameters(**{**good, "max_age": 16.0, **wrong})


def by_the_book(
    gray: NDArray[np.uint8], alpha: Mask, before: NDArray[np.uint8], past: tuple[Mask, Mask, Mask], p: FusionParameters
) -> tuple[Mask, Mask, Mask, Mask]:
    """Steps 3 to 7 of the recommended form in plain float64, without motion: mask, innovation, age, validity."""

    def filtered(array: Mask, kernel: NDArray[np.float64]) -> Mask:
        padded = np.pad(array, 1, mode="reflect")
        height, width = array.shape
        return sum(kernel[dy, dx] * padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3))  # type: ignore[return-value]

    mask, innovation, age = (array.astype(np.float64) for array in past)
    difference = gray.astype(np.float64) - before.astype(np.float64)
    disagreement = filtered(np.abs(difference - difference.mean()), np.full((3, 3), 1 / 9))
    validity = np.exp(-np.minimum((disagreement / (p.sigma * (0.5 + 0.2 * 2.0))) ** 2, 12)) * np.minimum(age, 1)
    d = filtered(alpha.astype(np.float64) - mask, np.outer([1, 2, 1], [1, 2, 1]) / 16)
    ramp = lambda x: np.clip((x - p.weak) / (p.strong - p.weak), 0, 1)  # noqa: E731
    insist = np.where(d * innovation > 0, ramp(np.minimum(np.abs(d), np.abs(innovation))), 0)
    gain = np.maximum(1 / (age + 1), p.min_gain)
    gain = np.maximum.reduce([gain, p.first_gain * ramp(np.abs(d)), p.second_gain * insist])
    gain = 1 - (1 - gain) * validity
    fused = np.clip(mask + gain * d, 0, 1)
    older = np.maximum(1, np.minimum((age + 1) * validity, p.max_age) * (1 - insist))
    return fused, d, older, validity


@LEVELS
def test_two_steps_equal_the_form_in_the_book(parameters: FusionParameters) -> None:
    """A picture below the size at which motion is looked for, so that steps 3 to 7 stand alone."""
    size = Size(60, 28)
    random = np.random.default_rng(3)
    scene = texture(size, 5)
    grays = [np.clip(scene + random.normal(0, 4, size.shape), 0, 255).astype(np.uint8) for _ in range(3)]
    grays[2][5:15, 10:20] = 255 - grays[2][5:15, 10:20]
    masks = [disc(size, (30 + 2 * index, 14), 10).astype(np.float32) for index in range(3)]
    state = FusionState()
    fuse(state, grays[0], masks[0], 1, parameters)
    past = (masks[0], np.zeros(size.shape, np.float32), np.ones(size.shape, np.float32))
    wanted, innovation, older, validity = by_the_book(grays[1], masks[1], grays[0], past, parameters)
    assert validity.mean() > 0.45
    fused, reason = fuse(state, grays[1], masks[1], 2, parameters)
    assert reason is None
    np.testing.assert_allclose(fused, wanted, atol=1e-4)
    # The second step starts from what the state keeps.
    state.noise = 2.0
    past = (wanted.astype(np.float32), innovation.astype(np.float32), older.astype(np.float32))
    wanted, _, _, _ = by_the_book(grays[2], masks[2], grays[1], past, parameters)
    fused, _ = fuse(state, grays[2], masks[2], 3, parameters)
    np.testing.assert_allclose(fused, wanted, atol=0.01)
