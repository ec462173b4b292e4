"""Fusion of masks over time along the optical flow: less flicker at the edges, no ghosts behind what moves.

A recursive mean along the motion: the last fused mask is carried to the new frame by one backward DIS flow, and the
new mask corrects it by a gain of 1/age, as a Kalman filter would with age for variance. The gain opens where the
picture says that the history is false (a photometric check), and where the network insists: a first strong
disagreement moves 40 % of the way, a second one in the same direction 88 % of the rest.

Form and constants were found on clips with exact masks, on which the published PP-HumanSeg post-processing
(two rounded flows, scatter, no reset) removed less flicker and left more ghosts. One thing to know when changing it:
values that decay towards zero become denormal floats, and each operation on them 10 to 60 times slower. Here nothing
decays across frames in floating point: the state is kept in whole numbers.
"""

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from humanseg.options import TemporalFusion
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, Field, Plane
from humanseg.vision.letterbox import Placement

#: A longer gap between two capture times starts anew: what moved meanwhile is anyone's guess.
LONGEST_GAP_US = 500_000
#: Mean validity below which the picture counts as another scene.
SCENE_VALIDITY = 0.45

#: Gray levels of disagreement that sensor noise explains, at first, and at most; how fast the estimate follows.
_FIRST_NOISE, _LARGEST_NOISE, _NOISE_RATE = 2.0, 8.0, 0.1
#: exp(-12) is 6e-6: as good as zero, and far from denormal.
_LARGEST_EXPONENT = 12.0

# Fixed point of the state. The mask needs 16 bits: at a gain of 0.06, eight would never close the last levels.
_MASK_SCALE = 65535.0
INNOVATION_SCALE, INNOVATION_ZERO = 127.0, 128.0
_AGE_SCALE = 15.0

#: DIS at its third finest scale: half a millisecond; a finer one costs four times that for 2 to 4 points of flicker.
_FINEST_SCALE = 2
#: Smaller pictures are fused without motion: OpenCV's DIS reads outside of its pyramid on them and takes the process
#: down (5.0.0: 320x24 crashes, 320x16 answers NaN; 100 % of 1800 sizes from 32 and 91 pixels up were sound).
_FLOW_SHORT_SIDE_PX, _FLOW_LONG_SIDE_PX = 32, 96

#: Every which pixel counts for the median of the noise: 3600 of them are plenty, and 30 times as fast.
_MEDIAN_STEP_PX = 4


class ResetReason(enum.Enum):
    """Why the memory was given up; the names are those of the contract's ``STATE_RESET_<name>``."""

    FIRST_FRAME = enum.auto()
    SIZE = enum.auto()
    ROTATION = enum.auto()
    MODEL = enum.auto()
    TIME = enum.auto()
    SCENE = enum.auto()


@dataclass(frozen=True, slots=True)
class FusionParameters:
    """Constants of one level of fusion."""

    min_gain: float
    """Least share of the new mask, 0..1: how long noise is averaged."""
    first_gain: float
    """Share of the new mask at a strong disagreement that was not there a frame ago."""
    second_gain: float
    """Share at the second strong disagreement in the same direction."""
    weak: float
    """Disagreement (0..1) up to which it counts as noise."""
    strong: float
    """Disagreement from which on it counts as full."""
    sigma: float
    """Photometric tolerance in gray levels, for a camera without noise times two."""
    max_age: float
    """Frames after which the average forgets, at most 17 (the state's fixed point)."""

    def __post_init__(self) -> None:
        if not (0 <= self.min_gain <= 1 and 0 <= self.first_gain <= 1 and 0 <= self.second_gain <= 1):
            raise ValueError(f"gains {self.min_gain}, {self.first_gain}, {self.second_gain} must lie in 0..1")
        if not (0 < self.weak < self.strong and self.sigma > 0 and 1 <= self.max_age <= 255 / _AGE_SCALE):
            raise ValueError(
                f"weak {self.weak} < strong {self.strong}, sigma {self.sigma} > 0 and max_age {self.max_age} in 1..17"
                " do not hold"
            )


#: Measured on synthetic clips with exact masks (docs/temporal.md): flicker of a still person -87 % and -71 %, of one
#: who talks -61 % and -52 %, 90 % of a step within two frames. HIGH's ramp from 0.12 to 0.40 takes off one to four
#: points more, and costs accuracy on more clips.
PARAMETERS = {
    TemporalFusion.HIGH: FusionParameters(0.06, 0.40, 0.88, 0.06, 0.30, 12.0, 16.0),
    TemporalFusion.LOW: FusionParameters(0.35, 0.55, 0.92, 0.08, 0.30, 9.0, 3.0),
}
#: Estimates ask the picture as HIGH does whether it is still the same scene.
_CARRY_SIGMA = PARAMETERS[TemporalFusion.HIGH].sigma


@dataclass(slots=True)
class LastFrame:
    """The last frame in fixed point: 5 bytes a pixel, 307 KB at 320x192. `humanseg.vision.snapshot` makes it small."""

    gray: Plane
    mask: NDArray[np.uint16]
    """Fused alpha, 0..65535."""
    innovation: Plane
    """Smoothed new mask minus expected mask, -1..1 as 1..255."""
    age: Plane
    """Frames averaged, in fifteenths."""
    capture_time_us: int


@dataclass(slots=True)
class FusionState:
    """What one session remembers; made empty, filled by `fuse`, owned and passed in by the session.

    Not for two threads at once. The optical flow and all working arrays live only during a call, so that a waiting
    session holds nothing else.
    """

    memory: LastFrame | None = None
    noise: float = _FIRST_NOISE
    """Median photometric disagreement in gray levels, followed slowly: the camera's noise. Outlives a cut."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays held."""
        memory = self.memory
        if memory is None:
            return 0
        return memory.gray.nbytes + memory.mask.nbytes + memory.innovation.nbytes + memory.age.nbytes

    @property
    def last_capture_time_us(self) -> int | None:
        """Capture time of the last fused frame; None before the first."""
        return None if self.memory is None else self.memory.capture_time_us


def fuse(
    state: FusionState,
    gray: Plane,
    alpha: Alpha,
    capture_time_us: int,
    parameters: FusionParameters,
    placement: Placement | None = None,
) -> tuple[Alpha, ResetReason | None]:
    """Fuse a new mask with those of earlier frames.

    ``gray`` (H, W) uint8 is the network's own input in gray and ``alpha`` (H, W) float32 in [0, 1] its answer for the
    same frame. Of a letterboxed pair, ``placement`` names the part that shows picture: only that is fused, so that
    padding, which always agrees with itself, neither costs time nor vouches for the rest. The void keeps the new
    mask's values. ``state`` is brought up to this frame. Times may be irregular and frames may be missing: the
    constants hold for 5 to 60 frames a second as they are (scaling gains by the time step measured worse).

    Returns the fused (H, W) float32 in [0, 1], an array of the caller's own, and why the past was given up, in which
    case the array is a plain copy of ``alpha``; or None.

    Raises:
        ValueError: arrays of different or wrong shape or dtype.
    """
    if gray.shape != alpha.shape or gray.ndim != 2 or gray.dtype != np.uint8 or alpha.dtype != np.float32:
        raise ValueError(
            f"gray {gray.shape} {gray.dtype} and alpha {alpha.shape} {alpha.dtype} must be (H, W) uint8 and float32"
        )
    if placement is None:
        return _fuse_inside(state, gray, alpha, capture_time_us, parameters)
    inside, reason = _fuse_inside(
        state, np.ascontiguousarray(placement.crop(gray)), placement.crop(alpha), capture_time_us, parameters
    )
    if placement.inner == placement.canvas:
        return inside, reason
    fused = alpha.copy()
    placement.crop(fused)[:] = inside
    return fused, reason


def _fuse_inside(
    state: FusionState, gray: Plane, alpha: Alpha, capture_time_us: int, parameters: FusionParameters
) -> tuple[Alpha, ResetReason | None]:
    memory = state.memory
    reason = _reason_to_start_anew(state, gray, capture_time_us)
    if memory is None or reason is not None:
        return _start_anew(state, gray, alpha, capture_time_us), reason

    past = _carry_along(memory, gray)
    gray_f32 = gray.astype(np.float32)
    validity, disagreement = _validity(gray_f32, past, state.noise, parameters.sigma)
    if cv.mean(validity) < SCENE_VALIDITY:
        # The noise estimate stays: another scene, the same camera.
        return _start_anew(state, gray, alpha, capture_time_us), ResetReason.SCENE

    fused, innovation, age = _correct(past, alpha, validity, parameters)
    state.noise += _NOISE_RATE * (min(_sampled_median(disagreement), _LARGEST_NOISE) - state.noise)
    _remember(memory, gray, fused, innovation, age, capture_time_us)
    return fused, None


def _remember(memory: LastFrame, gray: Plane, mask: Alpha, innovation: Field, age: Field, capture_time_us: int) -> None:
    np.copyto(memory.gray, gray)
    np.copyto(memory.mask, cv.scale_add(mask, _MASK_SCALE, 0.5), casting="unsafe")
    memory.innovation = cv.scale_to_u8(innovation, INNOVATION_SCALE, INNOVATION_ZERO)
    memory.age = cv.scale_to_u8(age, _AGE_SCALE)
    memory.capture_time_us = capture_time_us


def carry(state: FusionState, gray: Plane, capture_time_us: int, placement: Placement | None = None) -> Alpha | None:
    """Estimate the mask of a frame that the network did not see: the last fused one, carried along the flow.

    Arguments as in `fuse`. ``state`` stays as it is: on talking heads of which the network saw every third frame,
    bringing it up to each estimated frame gained the estimates nothing, cost the frames after them up to 0.2 points of
    IoU, and let the whole flicker more by a quarter at least. The void of a letterboxed canvas is 0.

    Returns the estimate, (H, W) float32 in [0, 1], the caller's own; or None where there is nothing to carry: no frame
    before it, another size, too long a gap or another scene.

    Raises:
        ValueError: gray is not (H, W) uint8.
    """
    if gray.ndim != 2 or gray.dtype != np.uint8:
        raise ValueError(f"gray {gray.shape} {gray.dtype} must be (H, W) uint8")
    inside = gray if placement is None else np.ascontiguousarray(placement.crop(gray))
    memory = state.memory
    if memory is None or _reason_to_start_anew(state, inside, capture_time_us) is not None:
        return None
    past = _carry_along(memory, inside)
    validity, _ = _validity(inside.astype(np.float32), past, state.noise, _CARRY_SIGMA)
    if cv.mean(validity) < SCENE_VALIDITY:
        return None
    if placement is None or placement.inner == placement.canvas:
        return past.mask.copy()  # the rest of its block goes free
    estimate = np.zeros(gray.shape, np.float32)
    placement.crop(estimate)[:] = past.mask
    return estimate


def _reason_to_start_anew(state: FusionState, gray: Plane, capture_time_us: int) -> ResetReason | None:
    memory = state.memory
    if memory is None:
        return ResetReason.FIRST_FRAME
    if memory.gray.shape != gray.shape:
        return ResetReason.SIZE
    if not 0 < capture_time_us - memory.capture_time_us <= LONGEST_GAP_US:
        return ResetReason.TIME
    return None


def _start_anew(state: FusionState, gray: Plane, alpha: Alpha, capture_time_us: int) -> Alpha:
    state.memory = LastFrame(
        gray.copy(),
        np.rint(np.clip(alpha, 0.0, 1.0) * np.float32(_MASK_SCALE)).astype(np.uint16),
        np.full(gray.shape, int(INNOVATION_ZERO), np.uint8),
        np.full(gray.shape, int(_AGE_SCALE), np.uint8),
        capture_time_us,
    )
    return alpha.copy()


@dataclass(slots=True)
class _Past:
    """The last frame as it would look in this one: moved along the flow; float32, each (H, W)."""

    gray: Field
    mask: Field
    innovation: Field
    age: Field


def _carry_along(memory: LastFrame, gray: Plane) -> _Past:
    """Sample the last frame where each pixel of this one came from; what came from outside has age 0."""
    height, width = gray.shape
    # All large arrays of a call from one block. glibc maps what is larger than anything freed so far, and every page of
    # it faults: with an array each, fusing at 256x144 took 1.5 ms in a fresh process instead of 1.1.
    area, rimmed_area = height * width, (height + 2) * (width + 2)
    block = np.empty(4 * rimmed_area + 10 * area, np.float32)
    planes = block[4 * rimmed_area + 4 * area :].reshape(6, height, width)
    # Four channels in one array: one remap of four costs as much as one of one (0.1 ms at 320x192), and a rim of one
    # pixel gives the ages another border (0) than the rest (the nearest pixel). Scaled afterwards, which is the same.
    packed = block[: 4 * rimmed_area].reshape(height + 2, width + 2, 4)
    inside = packed[1:-1, 1:-1]
    inside[:] = cv.merge(memory.gray, memory.age, memory.innovation, memory.age)
    inside[:, :, 1] = memory.mask
    packed[0], packed[-1] = packed[1], packed[-2]
    packed[:, 0], packed[:, -1] = packed[:, 1], packed[:, -2]
    packed[0, :, 3] = packed[-1, :, 3] = packed[:, 0, 3] = packed[:, -1, 3] = 0.0
    moved = block[4 * rimmed_area : 4 * rimmed_area + 4 * area].reshape(height, width, 4)
    _find_sources(memory.gray, gray, planes[4], planes[5])
    cv.remap_f32_into(moved, packed, planes[4], planes[5])
    for index in range(4):
        cv.channel_f32_into(planes[index], moved, index)
    past = _Past(planes[0], planes[1], planes[2], planes[3])
    past.mask *= np.float32(1 / _MASK_SCALE)
    past.innovation -= np.float32(INNOVATION_ZERO)
    past.innovation *= np.float32(1 / INNOVATION_SCALE)
    past.age *= np.float32(1 / _AGE_SCALE)
    return past


def _find_sources(gray_before: Plane, gray: Plane, x: Field, y: Field) -> None:
    """Fill x and y, (H, W) each: the place, one added for the rim, in the last frame that each pixel came from."""
    height, width = gray.shape
    columns = np.arange(1, width + 1, dtype=np.float32)
    rows = np.arange(1, height + 1, dtype=np.float32)[:, None]
    if min(height, width) < _FLOW_SHORT_SIDE_PX or max(height, width) < _FLOW_LONG_SIDE_PX:
        x[:], y[:] = columns, rows
        return
    flow = cv.dis_flow(gray, gray_before, _FINEST_SCALE)
    np.add(flow[:, :, 0], columns, out=x)
    np.add(flow[:, :, 1], rows, out=y)


def _validity(gray: Field, past: _Past, noise: float, sigma: float) -> tuple[Field, Field]:
    """How far the picture bears the history out, in [0, 1], and by how many gray levels it does not.

    The mean difference is taken off first, so that a lamp switched on or an exposure step does not end the history.
    """
    difference = gray - past.gray
    difference -= np.float32(cv.mean(difference))
    disagreement = cv.box3_f32(np.abs(difference, out=difference))
    tolerance = sigma * (0.5 + 0.2 * noise)
    exponent = cv.scale_add(disagreement, 1 / tolerance, 0.0)
    np.multiply(exponent, exponent, out=exponent)
    _clip(exponent, 0.0, _LARGEST_EXPONENT)
    np.negative(exponent, out=exponent)
    validity = cv.exp_f32(exponent)
    # Age 0 came from outside the picture; between outside and inside the bilinear weight fades.
    validity *= np.clip(past.age, np.float32(0.0), np.float32(1.0))
    return validity, disagreement


def _correct(past: _Past, alpha: Alpha, validity: Field, parameters: FusionParameters) -> tuple[Alpha, Field, Field]:
    """The fused mask, the innovation that made it and the new ages."""
    slope = 1 / (parameters.strong - parameters.weak)
    # Sigmoids of far pixels are denormal already when they come in: adding one and taking it off again flushes them.
    innovation = (alpha + np.float32(1.0)) - np.float32(1.0)
    innovation -= past.mask
    # Ten points less flicker at no loss of IoU; 5x5 is too soft.
    innovation = cv.gauss3_f32(innovation)

    size = np.abs(innovation)
    # |d + e| - |d - e| is twice the smaller of both where they agree in sign, and negative where they do not.
    insistence = np.abs(innovation + past.innovation)
    insistence -= np.abs(innovation - past.innovation)
    _ramp(insistence, 0.5 * slope, -parameters.weak * slope)
    _ramp(size, slope, -parameters.weak * slope)

    older = past.age + np.float32(1.0)
    gain = np.reciprocal(older)
    _clip(gain, parameters.min_gain, 1.0)
    np.maximum(gain, cv.scale_add(size, parameters.first_gain, 0.0), out=gain)
    np.maximum(gain, cv.scale_add(insistence, parameters.second_gain, 0.0), out=gain)
    # 1 - (1 - gain) * validity
    trust = cv.scale_add(gain, -1.0, 1.0)
    trust *= validity
    gain = cv.scale_add(trust, -1.0, 1.0)

    fused = np.multiply(gain, innovation, out=gain)
    fused += past.mask
    # The 3x3 blur overshoots next to a hard edge.
    _clip(fused, 0.0, 1.0)

    older *= validity
    _clip(older, 0.0, parameters.max_age)
    older *= cv.scale_add(insistence, -1.0, 1.0)
    _clip(older, 1.0, parameters.max_age)
    return fused, innovation, older


def _ramp(array: Field, slope: float, offset: float) -> None:
    """``clip(array * slope + offset, 0, 1)`` in place."""
    array *= np.float32(slope)
    array += np.float32(offset)
    _clip(array, 0.0, 1.0)


def _clip(array: Field, low: float, high: float) -> None:
    """In place; half the time of `np.minimum` with a scalar."""
    np.clip(array, np.float32(low), np.float32(high), out=array)


def _sampled_median(array: Field) -> float:
    sample = array[::_MEDIAN_STEP_PX, ::_MEDIAN_STEP_PX].ravel()
    middle = sample.size // 2
    return float(np.partition(sample, middle)[middle])
