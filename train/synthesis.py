"""Put annotated people on other backgrounds; no torch.

PP-HumanSeg names compositing as its way to more samples and publishes no recipe, so this one is ours. Two things it
must not teach: the rim of the old background round a cut-out (foreground colors are estimated where the edge is soft,
after Forte 2021, "Approximate Fast Foreground Colour Estimation"), and people who float (whoever is cut off by the
photo's border is cut off by the canvas at the same side).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import Picture, Size
from train.sample import Sample, fit_scale

#: Sides of the boxes of the two passes of the foreground estimate. The paper's are larger; on striped rooms at training
#: size these leave a fifth of the rim's color error, 61 and 9 a third.
_FAR_PX, _NEAR_PX = 31, 9
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


def foreground_colors(picture: Picture, alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """The color of the person alone, also where the background shines through; (H, W, 3) float32 in 0..255.

    ``alpha`` is (H, W) float32 in [0, 1]. Two passes of blur-fusion (Forte 2021, algorithm 1).
    """
    cover = alpha[:, :, np.newaxis]
    colors = picture.astype(np.float32)
    foreground, background = colors, colors
    for side_px in (_FAR_PX, _NEAR_PX):
        mean_cover = cv.box_f32(alpha, side_px)[:, :, np.newaxis]
        mean_foreground = cv.box_f32(foreground * cover, side_px) / (mean_cover + 1e-3)
        mean_background = cv.box_f32(background * (1 - cover), side_px) / (1 - mean_cover + 1e-3)
        residue = colors - cover * mean_foreground - (1 - cover) * mean_background
        foreground = np.clip(mean_foreground + cover * residue, 0, 255)
        background = np.clip(mean_background, 0, 255)
    return foreground


def composite(person: Sample, background: Picture, canvas: Size, rng: np.random.Generator) -> Sample:
    """A person on another background, on the canvas of a network; everything in it is known.

    ``person`` must satisfy `can_be_cut_out`; ``background`` is (h, w, 3) uint8 RGB of any size.
    """
    borders = Borders.of(person)
    scale, x, y = _choose_place(person, borders, canvas, rng)
    small = person.resized(Size(max(2, round(person.size.width * scale)), max(2, round(person.size.height * scale))))
    # Hard masks are a little generous: pull the edge in by up to one pixel, then soften it.
    alpha8 = cv.erode(small.alpha, 3) if rng.random() < 0.4 else small.alpha
    alpha = cv.gauss(alpha8, float(rng.uniform(0.4, 0.9))).astype(np.float32) * np.float32(1 / 255)
    colors = foreground_colors(small.picture, alpha)
    behind = fill_canvas_randomly(background, canvas, rng)
    if rng.random() < 0.4:
        behind = cv.gauss(behind, float(rng.uniform(0.5, 3.0)))
    colors = _match_light(colors, alpha, behind, rng)

    picture = behind.astype(np.float32)
    label = np.zeros(canvas.shape, np.float32)
    into, out_of = _overlap(canvas, small.size, x, y)
    cover = alpha[out_of][:, :, np.newaxis]
    picture[into] += cover * (colors[out_of] - picture[into])
    label[into] = alpha[out_of]
    return Sample(np.rint(picture).astype(np.uint8), cv.scale_to_u8(label, 255.0), np.full(canvas.shape, 255, np.uint8))


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


def _match_light(
    colors: NDArray[np.float32], alpha: NDArray[np.float32], behind: Picture, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Move the person's mean color and contrast towards the background's, by a random part of the way."""
    part = rng.uniform(0, 0.6) if rng.random() < 0.6 else 0.0
    if part == 0.0:
        return colors
    inside = colors[alpha > 0.5]
    if not len(inside):
        return colors
    mean, spread = inside.mean(axis=0), inside.std() + 1.0
    target_mean, target_spread = behind.reshape(-1, 3).mean(axis=0), behind.std() + 1.0
    gain = (1 - part) + part * min(max(target_spread / spread, 0.6), 1.6)
    moved: NDArray[np.float32] = (colors - mean) * gain + mean + part * (target_mean - mean)
    return np.clip(moved, 0, 255).astype(np.float32)


def _overlap(canvas: Size, size: Size, x: int, y: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Index of the canvas and index of the placed picture where they cover each other."""
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = max(x0, min(canvas.width, x + size.width)), max(y0, min(canvas.height, y + size.height))
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
