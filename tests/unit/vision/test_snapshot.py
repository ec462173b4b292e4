"""A fusion state that went through a snapshot goes on nearly as if it had stayed."""

import copy

import numpy as np
import pytest

from humanseg.options import TemporalFusion
from humanseg.vision.arrays import Size
from humanseg.vision.snapshot import SnapshotError, pack_state, unpack_state
from humanseg.vision.temporal import PARAMETERS, FusionState, fuse
from support.clips import DrawnFrame, draw_clip

SIZE = Size(320, 180)
HIGH = PARAMETERS[TemporalFusion.HIGH]
FRAMES = 16


def fused(state: FusionState, frames: list[DrawnFrame]) -> list[np.ndarray]:
    return [np.rint(255 * fuse(state, f.gray, f.noisy, f.capture_time_us, HIGH)[0]) for f in frames]


@pytest.fixture(scope="module")
def frames() -> list[DrawnFrame]:
    return draw_clip(shifts_px=[0.8 * index for index in range(FRAMES)], size=SIZE)


@pytest.fixture
def state(frames: list[DrawnFrame]) -> FusionState:
    state = FusionState()
    fused(state, frames[:8])
    return state


def test_masks_go_on_as_they_would_have(frames: list[DrawnFrame], state: FusionState) -> None:
    packed = pack_state(state, 1 << 20)
    assert packed is not None
    stayed, moved = fused(copy.deepcopy(state), frames[8:]), fused(unpack_state(packed, SIZE.area_px), frames[8:])
    anew = fused(FusionState(), frames[8:])
    # A noisy camera and a mask that trembles all over: four times the seam of a good clip.
    seam, seam_anew = np.abs(moved[0] - stayed[0]).mean(), np.abs(anew[0] - stayed[0]).mean()
    assert seam < 0.3
    assert seam_anew > 10 * seam, "the past counts in this test"
    assert np.abs(moved[-1] - stayed[-1]).mean() < 0.3


@pytest.mark.parametrize("max_bytes", [60_000, 40_000, 30_000, 25_000])
def test_a_tighter_limit_is_kept_at_the_cost_of_detail(state: FusionState, max_bytes: int) -> None:
    packed = pack_state(state, max_bytes)
    assert packed is not None
    assert len(packed) <= max_bytes
    assert state.memory is not None
    back = unpack_state(packed, SIZE.area_px)
    assert back.memory is not None
    assert back.memory.capture_time_us == state.memory.capture_time_us
    assert back.noise == pytest.approx(state.noise)
    error = np.abs(back.memory.mask.astype(int) - state.memory.mask.astype(int))
    assert error.max() <= 8.5 * 257


def test_noise_that_cannot_be_made_small_enough_is_given_up() -> None:
    random = np.random.default_rng(0)
    state = FusionState()
    gray = random.integers(0, 256, SIZE.shape, dtype=np.uint8)
    fuse(state, gray, random.random(SIZE.shape, dtype=np.float32), 1, HIGH)
    assert pack_state(state, 5_000) is None


def test_nothing_is_packed_of_nothing() -> None:
    assert pack_state(FusionState(), 40_000) is None


def test_what_is_no_snapshot_is_refused(state: FusionState) -> None:
    packed = pack_state(state, 1 << 20)
    assert packed is not None
    for broken in (b"", packed[:10], packed[:-1], packed[:5000], packed + packed, packed[:9000] + packed[9050:]):
        with pytest.raises(SnapshotError):
            unpack_state(broken, SIZE.area_px)
    with pytest.raises(SnapshotError, match="allowed are 1 to 100 px"):
        unpack_state(packed, 100)
