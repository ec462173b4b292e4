"""Put annotated people on other backgrounds; no torch.

PP-HumanSeg names compositing as its way to more samples and publishes no recipe, so this one is ours. Two things it
must not teach: the rim of the old background round a cut-out (`train.cutouts` takes it away), and people who float
(whoever is cut off by the photo's border is cut off by the canvas at the same side).
"""

import math
from dataclasses import dataclass

import numpy as np

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha8, Picture, Size
from train.sample import Sample, fit_scale

#: A cut-out smaller than this is not worth a composite.
SMALLEST_PERSON_PX = 600


@dataclass(frozen=True, slots=True)
class Borders:
    """At which sides of the photo its person is cut off."""

    left: bool
    top: bool
    right: bool
    bottom: bool

    @classmethod
    def of(cls, sample: Sample) -> "Borders":
        """Sides at which more than 2 % of the border is person."""
        alpha = sample.alpha
        edges = (alpha[:, 0], alpha[0], alpha[:, -1], alpha[-1])
        return cls(*(bool((edge > 127).mean() > 0.02) for edge in edges))


def can_be_cut_out(sample: Sample) -> bool:
    """Whether all of the label is known and there is a person worth cutting out."""
    return bool((sample.known == 255).all() and np.count_nonzero(sample.alpha > 127) >= SMALLEST_PERSON_PX)


def composite(person: Sample, background: Picture, canvas: Size, rng: np.random.Generator) -> Sample:
    """A person on another background, on the canvas of a network; everything in it is known.

    ``person`` must satisfy `can_be_cut_out` and come without its rim (`train.cutouts`); ``background`` is (h, w, 3)
    uint8 RGB of any size.
    """
    borders = Borders.of(person)
    scale, x, y = _choose_place(person, borders, canvas, rng)
    small = person.resized(Size(max(2, round(person.size.width * scale)), max(2, round(person.size.height * scale))))
    # Hard masks are a little generous: pull the edge in by up to one pixel, then soften it.
    alpha8 = cv.erode(small.alpha, 3) if rng.random() < 0.4 else small.alpha
    alpha8 = cv.gauss(alpha8, float(rng.uniform(0.4, 0.9)))
    behind = fill_canvas_randomly(background, canvas, rng)
    if rng.random() < 0.4:
        behind = cv.gauss(behind, float(rng.uniform(0.5, 3.0)))
    colors = _match_light(small.picture, alpha8, behind, rng)

    label = np.zeros(canvas.shape, np.uint8)
    into, out_of = _overlap(canvas, small.size, x, y)
    if not label[into].size:
        return Sample(behind, label, np.full(canvas.shape, 255, np.uint8))
    label[into] = alpha8[out_of]
    behind[into] = cv.blend(*(np.ascontiguousarray(part) for part in (colors[out_of], behind[into], alpha8[out_of])))
    return Sample(behind, label, np.full(canvas.shape, 255, np.uint8))


def _choose_place(person: Sample, borders: Borders, canvas: Size, rng: np.random.Generator) -> tuple[float, int, int]:
    """Scale, and where the photo's top left corner comes to lie on the canvas."""
    rows, columns = np.nonzero(person.alpha > 127)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    tall = bottom - top
    if borders.bottom:
        # Head and shoulders before a webcam: the head stays in the picture in most samples.
        share = rng.uniform(0.45, 1.15)
    else:
        share = rng.uniform(0.4, 1.1) if rng.random() < 0.7 else rng.uniform(0.15, 0.5)
    scale = share * canvas.height / tall
    if borders.left and borders.right:
        scale = max(scale, canvas.width / person.size.width)
    # Not beyond what the photo's pixels can bear.
    scale = min(scale, 3.0 * fit_scale(person.size, canvas))
    width, height = person.size.width * scale, person.size.height * scale
    slack_x = canvas.width - (right - left) * scale
    x = -left * scale + slack_x * rng.uniform(-0.1, 1.1)
    if borders.left and borders.right:
        x = (canvas.width - width) * rng.uniform(0, 1)
    elif borders.left:
        x = -rng.uniform(0, 0.15) * width
    elif borders.right:
        x = canvas.width - width * rng.uniform(0.85, 1.0)
    if borders.bottom:
        y = canvas.height - height + rng.uniform(0, 0.25) * tall * scale
        y = max(y, canvas.height - height)
    elif borders.top:
        y = -rng.uniform(0, 0.2) * tall * scale
    else:
        y = -top * scale + (canvas.height - tall * scale) * rng.uniform(0.3, 1.1)
    return scale, math.floor(x), math.floor(y)


def fill_canvas_randomly(background: Picture, canvas: Size, rng: np.random.Generator) -> Picture:
    """A random cut of the background that fills the canvas, never squashed."""
    size = Size.of(background)
    scale = max(canvas.width / size.width, canvas.height / size.height) * rng.uniform(1.0, 1.6)
    grown = Size(max(canvas.width, round(size.width * scale)), max(canvas.height, round(size.height * scale)))
    picture = cv.resize_area(background, grown) if scale < 1 else cv.resize_linear(background, grown)
    x = int(rng.integers(0, grown.width - canvas.width + 1))
    y = int(rng.integers(0, grown.height - canvas.height + 1))
    cut = picture[y : y + canvas.height, x : x + canvas.width]
    return np.ascontiguousarray(cut[:, ::-1] if rng.random() < 0.5 else cut)


def _match_light(colors: Picture, alpha: Alpha8, behind: Picture, rng: np.random.Generator) -> Picture:
    """Move the person's mean color and contrast towards the background's, by a random part of the way."""
    part = rng.uniform(0, 0.6) if rng.random() < 0.6 else 0.0
    person = cv.threshold(alpha, 127)
    if part == 0.0 or not person.any():
        return colors
    mean, spread = cv.mean_and_spread(colors, person)
    target_mean, target_spread = cv.mean_and_spread(behind)
    gain = (1 - part) + part * min(max((target_spread + 1.0) / (spread + 1.0), 0.6), 1.6)
    levels = np.arange(256)[:, np.newaxis]
    moved = (levels - mean) * gain + mean + part * (target_mean - mean)
    return cv.look_up(colors, np.rint(np.clip(moved, 0, 255)).astype(np.uint8))


def _overlap(canvas: Size, size: Size, x: int, y: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Index of the canvas and index of the placed picture where they cover each other."""
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = max(x0, min(canvas.width, x + size.width)), max(y0, min(canvas.height, y + size.height))
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
