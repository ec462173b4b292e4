"""From photos to batches: what is in each is decided by seed, epoch and position alone, so that a run resumes exactly.

Batches are made by threads ahead of the step that needs them (OpenCV and numpy let go of the interpreter), and come
out in order.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from humanseg.vision.arrays import Picture, Size
from humanseg.vision.letterbox import PAD_RGB, choose_canvas
from train.augment import backlight, degrade, happens, place_randomly
from train.cutouts import Cutouts
from train.data import Photo, Split, read_photo
from train.occluders import occlude
from train.presets import Canvases, Preset
from train.sample import Sample
from train.synthesis import (
    Borders,
    can_be_cut_out,
    composite,
    fill_canvas_randomly,
    place_anywhere,
    place_close_up,
)

#: Batches made ahead of the step.
AHEAD = 4


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Which photos go into a batch, onto which shape of canvas, and the seed of all its dice."""

    photos: tuple[Photo, ...]
    upright: bool
    seed: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LabeledBatch:
    """Tensors of one step.

    Attributes:
        frames: (N, H, W, 3) uint8 RGB.
        alpha: (N, H, W) float32 in [0, 1].
        known: (N, H, W) bool.
    """

    frames: Tensor
    alpha: Tensor
    known: Tensor

    @classmethod
    def stack(cls, samples: Sequence[Sample]) -> "LabeledBatch":
        """Samples of one size, in order."""
        alpha = np.stack([sample.alpha for sample in samples]).astype(np.float32) / 255
        return cls(
            torch.from_numpy(np.stack([sample.picture for sample in samples])),
            torch.from_numpy(alpha),
            torch.from_numpy(np.stack([sample.known for sample in samples]) == 255),
        )


def is_upright(size: Size, canvases: Canvases) -> bool:
    """Whether a photo is larger on the upright canvas, by the same rule as in the service."""
    return choose_canvas(size, canvases.landscape, canvases.upright) == canvases.upright


def plan_epoch(split: Split, preset: Preset, epoch: int) -> list[PlannedBatch]:
    """All batches of an epoch, each photo once, in an order that depends on seed and epoch alone.

    Every batch has one shape; what does not fill a batch at the end of a shape is left for the next epoch's shuffle.
    """
    rng = np.random.default_rng((preset.seed, epoch))
    negatives = min(len(split.train_backgrounds), round(preset.negative_share * len(split.train)))
    chosen = [split.train_backgrounds[i] for i in rng.permutation(len(split.train_backgrounds))[:negatives]]
    if split.train_boxed:
        boxed = min(len(split.train_boxed), round(preset.box_share * len(split.train)))
        chosen += [split.train_boxed[i] for i in rng.permutation(len(split.train_boxed))[:boxed]]
    photos: list[Photo] = [*split.train, *chosen]
    by_shape: dict[bool, list[Photo]] = {False: [], True: []}
    for index in rng.permutation(len(photos)):
        photo = photos[index]
        upright = is_upright(photo.size, preset.canvases) and rng.random() >= preset.landscape_share
        by_shape[upright].append(photo)
    batches = [
        (tuple(group[start : start + preset.batch]), upright)
        for upright, group in by_shape.items()
        for start in range(0, len(group) - preset.batch + 1, preset.batch)
    ]
    order = rng.permutation(len(batches))
    return [
        PlannedBatch(batches[index][0], batches[index][1], (preset.seed, epoch, position))
        for position, index in enumerate(order)
    ]


class SampleMaker:
    """Makes samples; one serves all threads. What it remembers decides only how soon a sample is made."""

    def __init__(self, split: Split, preset: Preset) -> None:
        self._backgrounds = split.train_backgrounds
        self._preset = preset
        self._cutouts = Cutouts()
        self._people = [photo for photo in split.train if self._may_be_cut_out(photo)]

    def samples(self, planned: PlannedBatch, canvases: Canvases) -> list[Sample]:
        """Read, composite and change the photos of a batch."""
        rng = np.random.default_rng(planned.seed)
        canvas = canvases.pick(upright=planned.upright)
        return [self._sample(photo, canvas, rng) for photo in planned.photos]

    def batch(self, planned: PlannedBatch, canvases: Canvases) -> LabeledBatch:
        """The samples of a batch as tensors."""
        return LabeledBatch.stack(self.samples(planned, canvases))

    def _sample(self, photo: Photo, canvas: Size, rng: np.random.Generator) -> Sample:
        sample = Sample.read(photo)
        turned = (sample.size.width > sample.size.height) != (canvas.width > canvas.height)
        # An upright photo on a landscape canvas is mostly padding, unless it gets a background that fills it.
        share = 0.85 if turned else self._preset.composite_share
        wanted = photo.mask is not None and rng.random() < share
        if wanted and self._backgrounds and self._may_be_cut_out(photo) and can_be_cut_out(sample):
            placed = self._composite(self._cutouts.without_rim(photo, sample), canvas, rng)
        else:
            placed = place_randomly(_stretched(sample, canvas) if self._preset.stretch else sample, canvas, rng)
        degraded = degrade(placed.picture, self._preset.scenes, rng)
        if not placed.known.all():
            # The letterbox pads after the camera has done its worst: padding is one flat color in the service, too.
            degraded[(placed.known == 0) & (placed.picture == PAD_RGB).all(axis=2)] = PAD_RGB
        return Sample(degraded, placed.alpha, placed.known)

    def _composite(self, person: Sample, canvas: Size, rng: np.random.Generator) -> Sample:
        scenes = self._preset.scenes
        background = self._background(rng)
        close_up = canvas.width > canvas.height and happens(scenes.closeup_share, rng)
        people = [(person, place_close_up if close_up else place_anywhere)]
        if happens(scenes.several_share, rng):
            people += [(other, place_anywhere) for other in self._others(1 if rng.random() < 0.7 else 2, rng)]
        placed = composite(people, background, canvas, rng)
        if happens(scenes.object_share, rng):
            placed = occlude(placed, fill_canvas_randomly(self._background(rng), canvas, rng), rng)
        if happens(scenes.backlight_share, rng):
            placed = backlight(placed, rng)
        return placed.flipped() if rng.random() < 0.5 else placed

    def _others(self, count: int, rng: np.random.Generator) -> list[Sample]:
        """Up to so many people more who may stand anywhere: not cut off at the left or the right."""
        others: list[Sample] = []
        for _ in range(3 * count):
            photo = self._people[int(rng.integers(len(self._people)))]
            sample = Sample.read(photo)
            borders = Borders.of(sample)
            if can_be_cut_out(sample) and not (borders.left or borders.right):
                others.append(self._cutouts.without_rim(photo, sample))
            if len(others) == count:
                break
        return others

    def _may_be_cut_out(self, photo: Photo) -> bool:
        sources = self._preset.scenes.sources
        return not photo.boxes and (not sources or photo.source in sources)

    def _background(self, rng: np.random.Generator) -> Picture:
        return read_photo(self._backgrounds[int(rng.integers(len(self._backgrounds)))])


def _stretched(sample: Sample, canvas: Size) -> Sample:
    """To the canvas's shape, with the photo's height: what is small stays as sharp as it was."""
    height = sample.size.height
    return sample.resized(Size(max(1, round(height * canvas.width / canvas.height)), height))


class BatchStream:
    """Batches of an epoch from a position on, made ahead by threads; use as a context manager."""

    def __init__(
        self, planned: Sequence[PlannedBatch], maker: SampleMaker, canvases: Sequence[Canvases], threads: int
    ) -> None:
        """``canvases`` holds one entry for each batch of ``planned``."""
        self._work = list(zip(planned, canvases, strict=True))
        self._maker = maker
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")

    def __enter__(self) -> Iterator[LabeledBatch]:
        return self._batches()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _batches(self) -> Iterator[LabeledBatch]:
        waiting: deque[Future[LabeledBatch]] = deque()
        for planned, canvases in self._work:
            waiting.append(self._pool.submit(self._maker.batch, planned, canvases))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
