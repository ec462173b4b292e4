"""Whatever comes in: the fused mask stays in [0, 1], finite, and the memory bounded."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size
from humanseg.vision.temporal import PARAMETERS, FusionState, ResetReason, fuse

SIZES = st.builds(Size, st.integers(1, 130), st.integers(1, 130))
LEVELS = st.sampled_from([TemporalFusion.LOW, TemporalFusion.HIGH])
STEPS = st.lists(
    st.tuples(st.sampled_from(["same", "noise", "flat", "shifted"]), LEVELS, st.integers(-700_000, 700_000)),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=120)
@given(size=SIZES, steps=STEPS, seed=st.integers(0, 2**32 - 1), hard=st.booleans())
def test_always_a_mask(size: Size, steps: list[tuple[str, TemporalFusion, int]], seed: int, hard: bool) -> None:
    random = np.random.default_rng(seed)
    state = FusionState()
    gray = random.integers(0, 256, size.shape, dtype=np.uint8)
    now_us = 0
    for index, (kind, level, gap_us) in enumerate(steps):
        now_us += gap_us
        match kind:
            case "noise":
                gray = random.integers(0, 256, size.shape, dtype=np.uint8)
            case "flat":
                gray = np.full(size.shape, 255, np.uint8)
            case "shifted":
                gray = np.roll(gray, (3, 7), (0, 1))
        alpha = random.random(size.shape, dtype=np.float32)
        alpha = (alpha > 0.5).astype(np.float32) if hard else alpha
        fused, reason = fuse(state, gray, alpha, now_us, PARAMETERS[level])
        assert fused.dtype == np.float32
        assert fused.shape == size.shape
        assert fused.min() >= 0
        assert fused.max() <= 1
        if reason is not None:
            np.testing.assert_array_equal(fused, alpha)
        expected = ResetReason.FIRST_FRAME if index == 0 else ResetReason.TIME
        assert (reason is expected) == (index == 0 or not 0 < gap_us <= 500_000)
        assert state.nbytes <= 5 * size.area_px
        assert 0 < state.noise <= 8
