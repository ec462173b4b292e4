"""How each alternative does on one sequence, and what it costs."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.temporal_footage import Footage
from humanseg.options import TemporalFusion
from humanseg.vision import cv
from humanseg.vision import temporal_metrics as metrics
from humanseg.vision.arrays import Alpha, Plane, Size
from humanseg.vision.letterbox import restore8
from humanseg.vision.metrics import IouCounts, mean_absolute_difference
from humanseg.vision.temporal import PARAMETERS
from humanseg.vision.temporal_alternatives import Alternative, AlternativeState, apply

#: Sizes of the networks that there are and of the one that the contract of costs names.
COST_SIZES = (Size(256, 144), Size(320, 192))
_COST_FRAMES, _COST_ROUNDS = 12, 6
#: The step for the lag comes when the average is as old as it gets.
_STEP_AFTER, _STEP_WATCHED = 20, 30
_FLOW_SCALE = 2
_EXACT_GAIN = PARAMETERS[TemporalFusion.HIGH].min_gain


@dataclass(frozen=True, slots=True)
class Figures:
    """One alternative on one sequence; None where there is no truth to say."""

    group: str
    name: str
    alternative: Alternative
    frames: int
    iou_percent: float | None
    """Mean over the frames of the mean of foreground and background IoU."""
    mad: float | None
    """Mean |alpha - truth|, x1000."""
    dtssd: float | None
    messddt: float | None
    warped_error: float
    flicker: float
    """Of clips without truth: in the band round the edge of the raw mask."""
    static_flicker: float
    ghost_percent: float | None
    cut_residue: float

    def to_plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def smooth(alternative: Alternative, footage: Footage) -> list[Alpha]:
    """The masks of a sequence at network size under an alternative, from a fresh start."""
    state = AlternativeState()
    return [
        apply(alternative, state, gray, raw, time_us)
        for gray, raw, time_us in zip(footage.grays, footage.raws, footage.times_us, strict=True)
    ]


def at_picture_size(alphas: Sequence[Alpha], footage: Footage) -> list[Alpha]:
    """As the service sends them: restored from the canvas, in 8 bits; float32 in [0, 1]."""
    return [_as_sent(alpha, footage) for alpha in alphas]


def _as_sent(alpha: Alpha, footage: Footage) -> Alpha:
    placement = footage.placement
    canvas = np.zeros(placement.canvas.shape, np.float32)
    placement.crop(canvas)[:] = alpha
    return restore8(canvas, placement).astype(np.float32) * np.float32(1 / 255)


def judge(footage: Footage, alternative: Alternative, fused: Sequence[Alpha], raw: Sequence[Alpha]) -> Figures:
    """Figures of masks at picture size; ``raw`` are the same frames' under OFF."""
    truths, cuts = footage.truths, footage.cuts
    edges = truths if truths is not None else raw
    return Figures(
        group=footage.group,
        name=footage.name,
        alternative=alternative,
        frames=len(fused),
        iou_percent=None if truths is None else 100 * mean_iou(fused, truths),
        mad=None
        if truths is None
        else 1000 * statistics.fmean(mean_absolute_difference(a, g) for a, g in zip(fused, truths, strict=True)),
        dtssd=None if truths is None else metrics.dtssd(fused, truths, cuts),
        messddt=None if truths is None else metrics.messddt(fused, truths, footage.motions, footage.known, cuts),
        warped_error=metrics.warped_error(fused, footage.motions, footage.known, cuts),
        flicker=metrics.flicker(fused, edges, footage.motions, footage.known, cuts),
        static_flicker=metrics.static_flicker(fused, footage.moving, cuts),
        ghost_percent=None if truths is None else metrics.ghost(fused, raw, truths),
        cut_residue=metrics.cut_residue(fused, raw, cuts),
    )


def mean_iou(alphas: Sequence[Alpha], truths: Sequence[Alpha]) -> float:
    """Mean over the frames of the mean of foreground and background IoU, 0..1."""
    known = np.ones(truths[0].shape, np.bool_)
    return statistics.fmean(
        IouCounts.of(alpha >= 0.5, truth >= 0.5, known).mean_iou for alpha, truth in zip(alphas, truths, strict=True)
    )


def along_exact_motion(raw: Sequence[Alpha], footage: Footage) -> list[Alpha]:
    """The running mean of masks at picture size along the motion that is known exactly: no flow, no gate, no doubt.

    Gain 1/age down to `_EXACT_GAIN`, as HIGH has it. What remains wrong in it, no smoothing along the motion can mend.
    """
    averaged: list[Alpha] = []
    age = 0
    for t, alpha in enumerate(raw):
        if t == 0 or footage.cuts[t]:
            age = 1
            averaged.append(alpha.copy())
            continue
        age += 1
        past = metrics.carried(averaged[-1], footage.motions[t])
        followed = footage.known[t] & metrics.from_inside(footage.motions[t])
        gain = np.float32(max(1 / age, _EXACT_GAIN))
        averaged.append(np.where(followed, past + gain * (alpha - past), alpha))
    return averaged


def step_response(alternative: Alternative, grays: Sequence[Plane], person: Alpha, *, appears: bool) -> list[float]:
    """Share of the way done, frame by frame, after the mask of a person appears or vanishes in a still picture.

    ``grays`` are played forth and back, so that they may be few.
    """
    fused, raw = _step(alternative, grays, person, appears=appears)
    before, after = fused[_STEP_AFTER - 1], raw[_STEP_AFTER]
    stepping = np.abs(after - before) > 0.5
    return [float(np.mean((alpha - before)[stepping] / (after - before)[stepping])) for alpha in fused[_STEP_AFTER:]]


def lag_frames(alternative: Alternative, grays: Sequence[Plane], person: Alpha) -> int | None:
    """Frames to 90 % of a step, of an appearing and a vanishing person the slower; None: longer than watched."""
    lags = []
    for appears in (True, False):
        lag = metrics.lag(*_step(alternative, grays, person, appears=appears), _STEP_AFTER)
        if lag is None:
            return None
        lags.append(lag)
    return max(lags)


def _step(
    alternative: Alternative, grays: Sequence[Plane], person: Alpha, *, appears: bool
) -> tuple[list[Alpha], list[Alpha]]:
    there = (person > 0.5).astype(np.float32)
    gone = np.zeros_like(there)
    before, after = (gone, there) if appears else (there, gone)
    raw = [before] * _STEP_AFTER + [after] * _STEP_WATCHED
    state = AlternativeState()
    to_and_fro = [*grays, *grays[-2:0:-1]]
    fused = [
        apply(alternative, state, to_and_fro[number % len(to_and_fro)], alpha, number * 33_333)
        for number, alpha in enumerate(raw)
    ]
    return fused, raw


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of one thread, a frame."""

    alternative: Alternative | None
    """None: the bare optical flow."""
    size: Size
    cpu_ms: float
    ratio: float
    """To the bare optical flow of the same rounds."""
    state_bytes: int


def costs(footage: Footage) -> list[Cost]:
    """What each alternative and the bare DIS call cost at each of `COST_SIZES`, taken in turns in one run."""
    found: list[Cost] = []
    for size in COST_SIZES:
        grays = [_resized(gray, size) for gray in footage.grays[:_COST_FRAMES]]
        raws = [cv.resize_linear_f32(raw, size) for raw in footage.raws[:_COST_FRAMES]]
        samples: dict[Alternative | None, list[float]] = {None: [], **{name: [] for name in Alternative}}
        sizes: dict[Alternative | None, int] = {None: 0}
        for _ in range(_COST_ROUNDS):
            for before, gray in itertools.pairwise(grays):
                samples[None].append(_cpu_ms(cv.dis_flow, gray, before, _FLOW_SCALE))
            for name in Alternative:
                state = AlternativeState()
                for number, (gray, raw) in enumerate(zip(grays, raws, strict=True)):
                    spent = _cpu_ms(apply, name, state, gray, raw, number * 33_333)
                    if number:
                        samples[name].append(spent)
                sizes[name] = state.nbytes
        bare = statistics.median(samples[None])
        for key, spent_ms in samples.items():
            cpu_ms = statistics.median(spent_ms)
            found.append(Cost(key, size, cpu_ms, cpu_ms / bare, sizes[key]))
    return found


def _resized(gray: Plane, size: Size) -> Plane:
    return cv.resize_area(gray, size) if size.width < gray.shape[1] else cv.resize_linear(gray, size)


def _cpu_ms(work: Callable[..., object], *arguments: object) -> float:
    began_ns = time.thread_time_ns()
    work(*arguments)
    return (time.thread_time_ns() - began_ns) / 1e6
