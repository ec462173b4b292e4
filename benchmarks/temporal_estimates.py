"""How good the estimates are that stand in for frames which the network does not see."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.temporal_figures import at_picture_size, mean_iou
from benchmarks.temporal_footage import Footage
from humanseg.options import TemporalFusion
from humanseg.vision import temporal_metrics as metrics
from humanseg.vision.arrays import Alpha
from humanseg.vision.temporal import PARAMETERS, FusionState, carry, fuse

#: The network sees every which frame, as on a machine that is too slow by this factor.
SEEN_EVERY = 3


@dataclass(frozen=True, slots=True)
class EstimateFigures:
    """A sequence of which the network saw every third frame, under HIGH.

    IoU is the mean of foreground and background in percent, over the frames that were estimated; flicker along the
    motion is of the whole sequence, x100.
    """

    group: str
    name: str
    estimated: int
    """Frames; those for which there was nothing to carry, such as the first after a cut, are not among them."""
    iou_network: float
    """Of the network's own raw masks of the same frames, had it seen them."""
    iou_estimate: float
    iou_repeated: float
    """Of the last fused mask, shown again."""
    flicker_network: float
    """Of HIGH, had the network seen every frame."""
    flicker_estimate: float
    flicker_repeated: float

    def to_plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def judge_estimates(footage: Footage, raw: Sequence[Alpha], high: Sequence[Alpha]) -> EstimateFigures | None:
    """``raw`` and ``high`` are the masks of every frame under OFF and HIGH at picture size; None without truth."""
    truths = footage.truths
    if truths is None:
        return None
    carried, repeated, estimated = _every_third(footage)
    at_size = at_picture_size(carried, footage)
    again = at_picture_size(repeated, footage)

    def iou(masks: Sequence[Alpha]) -> float:
        return 100 * mean_iou([masks[index] for index in estimated], [truths[index] for index in estimated])

    def flicker(masks: Sequence[Alpha]) -> float:
        return metrics.flicker(masks, truths, footage.motions, footage.known, footage.cuts)

    return EstimateFigures(
        footage.group, footage.name, len(estimated),
        iou(raw), iou(at_size), iou(again), flicker(high), flicker(at_size), flicker(again),
    )  # fmt: skip


def _every_third(footage: Footage) -> tuple[list[Alpha], list[Alpha], list[int]]:
    """Masks with estimates, masks with repetitions, and which frames were estimated.

    A frame without an estimate has the network's own mask in both, so that they are alike but for the estimates.
    """
    state = FusionState()
    carried: list[Alpha] = []
    repeated: list[Alpha] = []
    estimated: list[int] = []
    shown: Alpha | None = None
    for index, (gray, raw, time_us) in enumerate(zip(footage.grays, footage.raws, footage.times_us, strict=True)):
        estimate = carry(state, gray, time_us) if index % SEEN_EVERY else None
        if estimate is not None and shown is not None:
            carried.append(estimate)
            repeated.append(shown)
            estimated.append(index)
        elif index % SEEN_EVERY:
            carried.append(raw)
            repeated.append(raw)
        else:
            shown, _ = fuse(state, gray, raw, time_us, PARAMETERS[TemporalFusion.HIGH])
            carried.append(shown)
            repeated.append(shown)
    return carried, repeated, estimated


def mean_by_group(figures: Sequence[EstimateFigures]) -> list[EstimateFigures]:
    """One entry a group: means over its sequences, frames added up."""
    grouped: dict[str, list[EstimateFigures]] = {}
    for one in figures:
        grouped.setdefault(one.group, []).append(one)
    return [
        EstimateFigures(
            group,
            group,
            sum(one.estimated for one in own),
            statistics.fmean(one.iou_network for one in own),
            statistics.fmean(one.iou_estimate for one in own),
            statistics.fmean(one.iou_repeated for one in own),
            statistics.fmean(one.flicker_network for one in own),
            statistics.fmean(one.flicker_estimate for one in own),
            statistics.fmean(one.flicker_repeated for one in own),
        )
        for group, own in grouped.items()
    ]
