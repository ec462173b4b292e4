"""Put annotated people on other backgrounds; no torch.

PP-HumanSeg names compositing as its way to more samples and publishes no recipe, so this one is ours. Two things it
must not teach: the rim of the old background round a cut-out (`train.cutouts` takes it away), and people who float
(whoever is cut off by the photo's border is cut off by the canvas at the same side).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

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


@dataclass(frozen=True, slots=True)
class Place:
    """How a photo lies on the canvas: its scale, and where its top left corner comes to lie."""

    scale: float
    x: int
    y: int


class Placer(Protocol):
    """A way to choose a place for a cut-out person."""

    def __call__(self, person: Sample, canvas: Size, rng: np.random.Generator) -> Place:
        """Choose with the dice."""
        ...


def composite(
    people: Sequence[tuple[Sample, Placer]], background: Picture, canvas: Size, rng: np.random.Generator
) -> Sample:
    """People on another background, on the canvas of a network; everything in it is known.

    All of ``people`` must satisfy `can_be_cut_out` and come without their rim (`train.cutouts`); who is larger stands
    before who is smaller. ``background`` is (h, w, 3) uint8 RGB of any size.
    """
    layers = sorted(
        (_Layer.of(person, place(person, canvas, rng), rng) for person, place in people), key=lambda one: one.size_px
    )
    picture = fill_canvas_randomly(background, canvas, rng)
    if rng.random() < 0.4:
        picture = cv.gauss(picture, float(rng.uniform(0.5, 3.0)))
    label = np.zeros(canvas.shape, np.uint8)
    for layer in layers:
        layer.lay_over(picture, label, _match_light(layer.picture, layer.alpha, picture, rng))
    return Sample(picture, label, np.full(canvas.shape, 255, np.uint8))


@dataclass(frozen=True, slots=True)
class _Layer:
    """A cut-out person at the size of the canvas, with a soft edge."""

    picture: Picture
    alpha: Alpha8
    place: Place
    size_px: float
    """Height of the person, also of what lies outside the canvas."""

    @classmethod
    def of(cls, person: Sample, place: Place, rng: np.random.Generator) -> "_Layer":
        size, scale = person.size, place.scale
        small = person.resized(Size(max(2, round(size.width * scale)), max(2, round(size.height * scale))))
        # Hard masks are a little generous: pull the edge in by up to one pixel, then soften it.
        alpha = cv.erode(small.alpha, 3) if rng.random() < 0.4 else small.alpha
        alpha = cv.gauss(alpha, float(rng.uniform(0.4, 0.9)))
        return cls(small.picture, alpha, place, np.ptp(np.flatnonzero(person.alpha.max(axis=1) > 127)) * scale)

    def lay_over(self, picture: Picture, label: Alpha8, colors: Picture) -> None:
        """Put it with these colors onto a picture and into its label, in place."""
        into, out_of = _overlap(Size.of(picture), Size.of(colors), self.place.x, self.place.y)
        if not label[into].size:
            return
        front, alpha = np.ascontiguousarray(colors[out_of]), np.ascontiguousarray(self.alpha[out_of])
        picture[into] = cv.blend(front, np.ascontiguousarray(picture[into]), alpha)
        seen_through = (255 - label[into]) * (255 - alpha.astype(np.uint16))
        label[into] = 255 - (seen_through + 127) // 255


def place_anywhere(person: Sample, canvas: Size, rng: np.random.Generator) -> Place:
    """Near or far, whole or partly outside the canvas; cut off where the photo cuts it off."""
    borders, extent = Borders.of(person), _Extent.of(person)
    if borders.bottom:
        # Head and shoulders before a webcam: the head stays in the picture in most samples.
        share = rng.uniform(0.45, 1.15)
    else:
        share = rng.uniform(0.4, 1.1) if rng.random() < 0.7 else rng.uniform(0.15, 0.5)
    scale = _bearable_scale(share * canvas.height / extent.tall, person.size, borders, canvas)
    x = _choose_x(person.size, extent, borders, scale, canvas, rng)
    height = person.size.height * scale
    if borders.bottom:
        y = canvas.height - height + rng.uniform(0, 0.25) * extent.tall * scale
    elif borders.top:
        y = -rng.uniform(0, 0.2) * extent.tall * scale
    else:
        y = -extent.top * scale + (canvas.height - extent.tall * scale) * rng.uniform(0.3, 1.1)
    return Place(scale, math.floor(x), math.floor(y))


def place_close_up(person: Sample, canvas: Size, rng: np.random.Generator) -> Place:
    """As a webcam sees who sits before it: the head in the picture, the body cut off by the lower edge."""
    borders, extent = Borders.of(person), _Extent.of(person)
    # Of a portrait most is head and shoulders; of a whole person the upper third to two thirds.
    share = rng.uniform(0.7, 1.25) if borders.bottom else rng.uniform(1.5, 3.0)
    # Whoever is cut off above by the photo is cut off by the canvas, too.
    head = 0.0 if borders.top else rng.uniform(0.02, 0.25) * canvas.height
    scale = share * canvas.height / extent.tall
    if extent.whole >= 0.5 * extent.tall:
        # The canvas ends above the shoulders that the photo cuts off at its sides, so the person may be anywhere.
        borders = replace(borders, left=False, right=False)
        scale = max(scale, (canvas.height - head) / extent.whole)
    scale = _bearable_scale(scale, person.size, borders, canvas)
    x = _choose_x(person.size, extent, borders, scale, canvas, rng)
    y = head - extent.top * scale
    if borders.bottom:
        y = max(y, canvas.height - person.size.height * scale)
    return Place(scale, math.floor(x), math.floor(y))


@dataclass(frozen=True, slots=True)
class _Extent:
    """Where on the photo the person is, in its pixels."""

    left: int
    top: int
    right: int
    tall: int
    whole: int
    """So many rows from the top row on, down to the first that the photo cuts off at its left or right."""

    @classmethod
    def of(cls, person: Sample) -> "_Extent":
        there = person.alpha > 127
        rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
        tall = int(np.ptp(rows)) + 1
        cut = np.flatnonzero(there[rows[0] :, 0] | there[rows[0] :, -1])
        return cls(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, tall, int(cut[0]) if len(cut) else tall)


def _bearable_scale(scale: float, size: Size, borders: Borders, canvas: Size) -> float:
    """Large enough that who is cut off left and right is cut off by the canvas, not beyond what the pixels bear."""
    if borders.left and borders.right:
        scale = max(scale, canvas.width / size.width)
    return min(scale, 3.0 * fit_scale(size, canvas))


def _choose_x(
    size: Size, extent: _Extent, borders: Borders, scale: float, canvas: Size, rng: np.random.Generator
) -> float:
    width = size.width * scale
    slack = canvas.width - (extent.right - extent.left) * scale
    x = -extent.left * scale + slack * rng.uniform(-0.1, 1.1)
    if borders.left and borders.right:
        x = (canvas.width - width) * rng.uniform(0, 1)
    elif borders.left:
        x = -rng.uniform(0, 0.15) * width
    elif borders.right:
        x = canvas.width - width * rng.uniform(0.85, 1.0)
    return float(x)


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
