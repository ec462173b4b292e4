"""What fusion over time owes its callers, whatever the picture, the mask, the level and the times."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size
from humanseg.vision.temporal import LONGEST_GAP_US, PARAMETERS, FusionState, ResetReason, carry, fuse
from support.clips import FRAME_US, disc, texture

SIZES = st.builds(Size, st.integers(1, 130), st.integers(1, 130))
#: Large enough for the optical flow.
CLIP_SIZE = Size(160, 96)
#: How far a scene may be moved before its end comes into sight.
MARGIN_PX = 24
#: How far a whole picture of this size may jump from one frame to the next; what jumps further may be another scene.
FOLLOWED_PX = 10.0
LEVELS = st.sampled_from([TemporalFusion.LOW, TemporalFusion.HIGH])
SEEDS = st.integers(0, 2**32 - 1)
STEPS = st.lists(
    st.tuples(st.sampled_from(["same", "noise", "flat", "shifted"]), LEVELS, st.integers(-700_000, 700_000)),
    min_size=1,
    max_size=6,
)
MASK_KINDS = st.sampled_from(["soft", "hard", "disc", "denormal", "zero", "one"])
PICTURE_KINDS = st.sampled_from(["texture", "noise", "flat"])
#: One step of the state's 16 bits, and float32's own error.
QUANTUM = 1 / 65535 + 1e-6
TINY = np.finfo(np.float32).tiny
Gray = NDArray[np.uint8]
Mask = NDArray[np.float32]


def mask_of(kind: str, size: Size, seed: int) -> Mask:
    random = np.random.default_rng(seed)
    soft = random.random(size.shape, dtype=np.float32)
    match kind:
        case "soft":
            return soft
        case "hard":
            return (soft > 0.5).astype(np.float32)
        case "disc":
            center = (size.width * random.uniform(0.3, 0.7), size.height * random.uniform(0.3, 0.7))
            return disc(size, center, min(size) * random.uniform(0.1, 0.5))
        case "denormal":
            # The tails of a sigmoid: 1 down to the smallest float there is.
            return np.exp2(-150 * soft).astype(np.float32)
        case _:
            return np.full(size.shape, float(kind == "one"), np.float32)


def picture_of(kind: str, size: Size, seed: int) -> Gray:
    random = np.random.default_rng(seed)
    match kind:
        case "texture":
            return texture(size, seed).astype(np.uint8)
        case "noise":
            return random.integers(0, 256, size.shape, dtype=np.uint8)
        case _:
            return np.full(size.shape, random.integers(0, 256), np.uint8)


def assert_is_mask(alpha: Mask, size: Size) -> None:
    assert alpha.dtype == np.float32
    assert alpha.shape == size.shape
    assert np.isfinite(alpha).all()
    assert alpha.min() >= 0
    assert alpha.max() <= 1


def has_denormals(alpha: Mask) -> bool:
    return bool(((alpha != 0) & (np.abs(alpha) < TINY)).any())


@settings(deadline=None, max_examples=80)
@given(size=SIZES, steps=STEPS, seed=SEEDS, kind=MASK_KINDS)
def test_always_a_mask(size: Size, steps: list[tuple[str, TemporalFusion, int]], seed: int, kind: str) -> None:
    """In [0, 1], never NaN, and the memory bounded; also of estimates."""
    random = np.random.default_rng(seed)
    state = FusionState()
    gray = random.integers(0, 256, size.shape, dtype=np.uint8)
    now_us = 0
    for index, (change, level, gap_us) in enumerate(steps):
        now_us += gap_us
        match change:
            case "noise":
                gray = random.integers(0, 256, size.shape, dtype=np.uint8)
            case "flat":
                gray = np.full(size.shape, 255, np.uint8)
            case "shifted":
                gray = np.roll(gray, (3, 7), (0, 1))
        alpha = mask_of(kind, size, seed + index)
        fused, reason = fuse(state, gray, alpha, now_us, PARAMETERS[level])
        assert_is_mask(fused, size)
        if reason is not None:
            np.testing.assert_array_equal(fused, alpha)
        else:
            assert not has_denormals(fused)
        expected = ResetReason.FIRST_FRAME if index == 0 else ResetReason.TIME
        assert (reason is expected) == (index == 0 or not 0 < gap_us <= LONGEST_GAP_US)
        assert state.nbytes <= 5 * size.area_px
        assert 0 < state.noise <= 8
        estimate = carry(state, np.roll(gray, 2, 1), now_us + FRAME_US)
        if estimate is not None:
            assert_is_mask(estimate, size)
            assert not has_denormals(estimate)


@settings(deadline=None, max_examples=40)
@given(size=SIZES, seed=SEEDS, level=LEVELS, mask=MASK_KINDS, picture=PICTURE_KINDS, count=st.integers(2, 7))
def test_constant_input_gives_constant_output(
    size: Size, seed: int, level: TemporalFusion, mask: str, picture: str, count: int
) -> None:
    """From the second frame on, and it is the input."""
    gray, alpha = picture_of(picture, size, seed), mask_of(mask, size, seed)
    state = FusionState()
    outputs = [fuse(state, gray, alpha, (index + 1) * FRAME_US, PARAMETERS[level]) for index in range(count)]
    assert all(reason is None for _, reason in outputs[1:])
    for fused, _ in outputs[1:]:
        np.testing.assert_allclose(fused, alpha, atol=QUANTUM)
        np.testing.assert_allclose(fused, outputs[1][0], atol=QUANTUM)


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, level=LEVELS, kinds=st.lists(MASK_KINDS, min_size=1, max_size=4))
def test_a_mask_fused_with_itself_changes_nothing(seed: int, level: TemporalFusion, kinds: list[str]) -> None:
    """Whatever came before: the last picture and its fused mask once more give that mask."""
    gray, state = picture_of("texture", CLIP_SIZE, seed % 2**16), FusionState()
    for index, kind in enumerate(kinds):
        alpha = mask_of(kind, CLIP_SIZE, seed + index)
        fused, _ = fuse(state, gray, alpha, (index + 1) * FRAME_US, PARAMETERS[level])
    again, reason = fuse(state, gray, fused, (len(kinds) + 1) * FRAME_US, PARAMETERS[level])
    assert reason is None
    np.testing.assert_allclose(again, fused, atol=2 * QUANTUM)


class Scene:
    """A textured wall with a textured disc, both moved together: what a camera sees that turns."""

    def __init__(self, seed: int, size: Size = CLIP_SIZE) -> None:
        self._seed, self._size = seed, size
        self._wide = Size(size.width + 2 * MARGIN_PX, size.height + 2 * MARGIN_PX)
        self._mask = disc(self._wide, (self._wide.width / 2, self._wide.height / 2), size.height * 0.3)
        cloth, wall = texture(self._wide, seed + 1), texture(self._wide, seed)
        self._picture = np.where(self._mask > 0.5, cloth, wall).astype(np.float32)

    def at(self, x_px: float, y_px: float, *, sensor_noise: float = 0.0, frame: int = 0) -> tuple[Gray, Mask]:
        """Picture and exact mask, moved by so many pixels; ``frame`` draws the noise."""
        gray = self._moved(self._picture, x_px, y_px, cv2.INTER_CUBIC)
        if sensor_noise:
            gray = gray + np.random.default_rng((self._seed, frame)).normal(0, sensor_noise, gray.shape)
        mask = self._moved(self._mask, x_px, y_px, cv2.INTER_LINEAR)
        return np.clip(np.rint(gray), 0, 255).astype(np.uint8), np.clip(mask, 0, 1)

    def _moved(self, picture: Mask, x_px: float, y_px: float, interpolation: int) -> Mask:
        matrix = np.array([[1, 0, x_px - MARGIN_PX], [0, 1, y_px - MARGIN_PX]], np.float32)
        return np.asarray(cv2.warpAffine(picture, matrix, self._size, flags=interpolation), np.float32)


SHIFTS = st.floats(-4, 4)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**16), level=LEVELS, dx_px=SHIFTS, dy_px=SHIFTS)
def test_a_pure_translation_is_followed(seed: int, level: TemporalFusion, dx_px: float, dy_px: float) -> None:
    """Picture and mask move together: the fused mask moves with them, where a mean without motion would trail."""
    scene, state = Scene(seed), FusionState()
    errors, steps = [], []
    before: Mask | None = None
    for index in range(6):
        gray, truth = scene.at(dx_px * index, dy_px * index)
        fused, reason = fuse(state, gray, truth, (index + 1) * FRAME_US, PARAMETERS[level])
        if before is not None:
            assert reason is None
            errors.append(float(np.abs(fused - truth).mean()))
            steps.append(float(np.abs(truth - before).mean()))
        before = truth
    # The second term: what sampling half way between pixels costs, at an edge of this length.
    assert np.mean(errors) < 0.15 * np.mean(steps) + 0.0015


@settings(deadline=None, max_examples=3)
@given(seed=SEEDS, kind=st.sampled_from(["soft", "denormal"]), level=LEVELS)
def test_no_denormals_after_500_static_frames(seed: int, kind: str, level: TemporalFusion) -> None:
    """A mask that vanishes and stays away: nothing may decay towards zero for ever."""
    size = Size(100, 40)
    gray, alpha, nothing = picture_of("texture", size, seed % 2**16), mask_of(kind, size, seed), np.zeros(size.shape)
    random = np.random.default_rng(seed)
    state = FusionState()
    for index in range(503):
        noisy = np.clip(gray + random.normal(0, 1, size.shape), 0, 255).astype(np.uint8)
        seen = alpha if index < 3 else nothing.astype(np.float32)
        fused, _ = fuse(state, noisy, seen, (index + 1) * FRAME_US, PARAMETERS[level])
        if index:
            assert not has_denormals(fused)
    # The state's fixed point ends the decay: at a gain of 0.06, eight steps round to themselves.
    assert fused.max() <= 10 * QUANTUM


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**16),
    before=st.integers(2, 12),
    level=st.floats(0.3, 1.0),
    radius=st.floats(6, 40),
    dx_px=st.sampled_from([0.0, 0.0, 0.7, 2.0]),
    noise=st.sampled_from([0.0, 0.0, 2.0, 4.0]),
)
def test_a_drop_out_of_one_frame_at_most_halves_alpha_under_high(
    seed: int, before: int, level: float, radius: float, dx_px: float, noise: float
) -> None:
    """The mask is gone for one frame. Pixel by pixel where nothing else changes, but for the faintest rim of an edge,
    which the smoothing over 3x3 pixels may take along; in the mean under motion and noise.
    """
    scene, state, high = Scene(seed), FusionState(), PARAMETERS[TemporalFusion.HIGH]
    for index in range(before + 1):
        gray, _ = scene.at(dx_px * index, 0.0, sensor_noise=noise, frame=index)
        person = np.float32(level) * disc(CLIP_SIZE, (70 + dx_px * index, 48), radius)
        alpha = person if index < before else np.zeros_like(person)
        fused, reason = fuse(state, gray, alpha, (index + 1) * FRAME_US, high)
    assert reason is None
    if dx_px or noise:
        assert fused.sum() >= 0.5 * person.sum()
    else:
        inside = person >= level / 4
        assert (fused[inside] >= 0.5 * person[inside]).all()
        assert fused.sum() >= 0.5 * person.sum()


@settings(deadline=None, max_examples=15)
@given(order=st.lists(st.integers(0, 2), min_size=1, max_size=18), level=LEVELS, seed=st.integers(0, 2**16))
def test_sessions_never_share_state(order: list[int], level: TemporalFusion, seed: int) -> None:
    """In whatever order the frames of three sessions are fused: each comes out bit by bit as it does alone."""
    scenes = [Scene(seed + 10 * index, Size(100, 40)) for index in range(3)]

    def frame(session: int, number: int) -> tuple[Gray, Mask, int]:
        gray, mask = scenes[session].at(1.3 * number, 0.4 * session, sensor_noise=2.0, frame=number)
        rough = np.random.default_rng((seed, session, number)).normal(0, 0.1, mask.shape)
        return gray, np.clip(mask + rough, 0, 1).astype(np.float32), (number + 1) * FRAME_US

    together, counts = [FusionState() for _ in scenes], [0, 0, 0]
    mixed: list[list[Mask]] = [[], [], []]
    for session in order:
        gray, alpha, time_us = frame(session, counts[session])
        mixed[session].append(fuse(together[session], gray, alpha, time_us, PARAMETERS[level])[0])
        carry(together[session], gray, time_us + 1)
        counts[session] += 1
    for session in range(3):
        alone = FusionState()
        for number, fused in enumerate(mixed[session]):
            gray, alpha, time_us = frame(session, number)
            np.testing.assert_array_equal(fuse(alone, gray, alpha, time_us, PARAMETERS[level])[0], fused)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    level=LEVELS,
    fps=st.floats(5, 60),
    seen=st.lists(st.booleans(), min_size=6, max_size=24),
    period_s=st.floats(2, 6),
    start_us=st.sampled_from([0, 1, -(2**40), 2**62]),
)
def test_frames_dropped_in_between_do_not_break_it(
    seed: int, level: TemporalFusion, fps: float, seen: list[bool], period_s: float, start_us: int
) -> None:
    """At any rate, with any of the frames missing: only a gap of more than half a second, or a jump that the flow
    cannot follow, starts anew, and without such jumps the fused mask of a swaying scene is nearer to the truth than the
    network's own.
    """
    scene, state = Scene(seed), FusionState()
    last_us: int | None = None
    last_x_px, largest_jump_px = 0.0, 0.0
    raw_errors, fused_errors = [], []
    for number, is_seen in enumerate(seen):
        if not is_seen:
            continue
        time_us = round(number * 1e6 / fps)
        x_px = 10 * math.sin(2 * math.pi * time_us / 1e6 / period_s)
        gray, truth = scene.at(x_px, 0.0, sensor_noise=1.5, frame=number)
        noisy = _noisy_edge(truth, (seed, number))
        fused, reason = fuse(state, gray, noisy, start_us + time_us, PARAMETERS[level])
        if last_us is None:
            assert reason is ResetReason.FIRST_FRAME
        elif time_us - last_us > LONGEST_GAP_US:
            assert reason is ResetReason.TIME
        elif abs(x_px - last_x_px) > FOLLOWED_PX and reason is ResetReason.SCENE:
            assert np.array_equal(fused, noisy), "nothing of the past is left"
        else:
            assert reason is None
            raw_errors.append(float(np.abs(noisy - truth).mean()))
            fused_errors.append(float(np.abs(fused - truth).mean()))
            largest_jump_px = max(largest_jump_px, abs(x_px - last_x_px))
        last_us, last_x_px = time_us, x_px
    assume(len(raw_errors) >= 4 and largest_jump_px <= FOLLOWED_PX)
    assert np.mean(fused_errors) < np.mean(raw_errors)


def _noisy_edge(truth: Mask, seed: tuple[int, int]) -> Mask:
    """What a network might say: the truth with its edge displaced at random, anew in each frame."""
    rough = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, truth.shape), (0, 0), 1.5)
    noisy = truth + 0.35 * (4 * truth * (1 - truth) + 0.1) * rough / rough.std()
    return np.clip(noisy, 0, 1).astype(np.float32)


@pytest.mark.parametrize("gap_us", [LONGEST_GAP_US, LONGEST_GAP_US + 1, 0, -1])
def test_the_limits_of_a_gap(gap_us: int) -> None:
    gray, mask = Scene(3).at(0.0, 0.0)
    state = FusionState()
    fuse(state, gray, mask, 7, PARAMETERS[TemporalFusion.HIGH])
    _, reason = fuse(state, gray, mask, 7 + gap_us, PARAMETERS[TemporalFusion.HIGH])
    assert (reason is None) == (gap_us == LONGEST_GAP_US)
