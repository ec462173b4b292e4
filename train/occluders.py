"""Things that stand before people and are none: desks, screens, mugs, chairs, poles; no torch.

Drawn shapes with the texture of a photo without people. What they cover is background: a cut-out person who holds a
mug has a hole where the mug is.
"""

import enum
import math

import numpy as np
from numpy.typing import NDArray

from humanseg.vision import cv
from humanseg.vision.arrays import BoolMask, Field, Picture, Size
from humanseg.vision.metrics import outline
from train.sample import Sample


class _Shape(enum.Enum):
    DESK = enum.auto()
    """A slightly sloping edge across the whole picture; everything below is desk."""
    SCREEN = enum.auto()
    """A turned rectangle that rises from the lower edge."""
    HELD = enum.auto()
    """A small ellipse or rectangle at the outline below the head: within it, it would teach holes in printed shirts."""
    POLE = enum.auto()
    """A narrow bar through the whole height."""


#: How often each is drawn.
_SHARES = {_Shape.DESK: 0.25, _Shape.SCREEN: 0.25, _Shape.HELD: 0.4, _Shape.POLE: 0.1}


def occlude(scene: Sample, texture: Picture, rng: np.random.Generator) -> Sample:
    """One thing before the scene; ``texture`` is a photo's cut of the scene's size. Nothing where nobody is seen."""
    person = scene.alpha > 127
    if not person.any():
        return scene
    shape = list(_SHARES)[int(rng.choice(len(_SHARES), p=list(_SHARES.values())))]
    rows, columns = np.nonzero(_below_head(outline(person)) if shape is _Shape.HELD else person)
    if not len(rows):
        return scene
    spot = int(rng.integers(len(rows)))
    covered = _draw(shape, scene.size, (float(columns[spot]), float(rows[spot])), rng)
    # A plain color, nearly: most desks, mugs and laptops have little texture.
    plain = cv.gauss(texture, 25.0) if rng.random() < 0.5 else texture
    cover8 = cv.scale_to_u8(cv.gauss_f32(covered, float(rng.uniform(0.4, 1.0))), 255.0)
    kept = (scene.alpha * ((255 - cover8) * np.float32(1 / 255)) + np.float32(0.5)).astype(np.uint8)
    return Sample(cv.blend(plain, scene.picture, cover8), kept, scene.known)


def _below_head(spots: BoolMask) -> BoolMask:
    """The spots (H, W) without those in the upper 40 % of the rows that hold any."""
    below = spots.copy()
    rows = np.flatnonzero(spots.any(axis=1))
    if len(rows):
        below[: rows[0] + round(0.4 * (rows[-1] - rows[0]))] = False
    return below


def _draw(shape: _Shape, size: Size, spot: tuple[float, float], rng: np.random.Generator) -> Field:
    """How much of each pixel is covered, (H, W) float32 in [0, 1]; ``spot`` is x and y of a pixel of the person."""
    x = np.arange(size.width, dtype=np.float32)[np.newaxis]
    y = np.arange(size.height, dtype=np.float32)[:, np.newaxis]
    match shape:
        case _Shape.DESK:
            edge = size.height * (1 - rng.uniform(0.06, 0.25))
            slope = rng.uniform(-0.08, 0.08)
            return _inside(y - np.float32(edge) - np.float32(slope) * (x - np.float32(size.width / 2)))
        case _Shape.SCREEN:
            half = rng.uniform(0.08, 0.22) * size.width
            top = size.height * (1 - rng.uniform(0.12, 0.35))
            across, down = _turned(x - np.float32(spot[0]), y - np.float32(top), rng.uniform(-8, 8))
            return _inside(np.minimum(np.float32(half) - np.abs(across), down))
        case _Shape.HELD:
            short = min(size)
            half_width, half_height = rng.uniform(0.03, 0.13) * short, rng.uniform(0.04, 0.16) * short
            across, down = _turned(x - np.float32(spot[0]), y - np.float32(spot[1]), rng.uniform(-40, 40))
            if rng.random() < 0.5:
                reach = np.hypot(across / np.float32(half_width), down / np.float32(half_height))
                return _inside((1 - reach) * np.float32(min(half_width, half_height)))
            return _inside(np.minimum(np.float32(half_width) - np.abs(across), np.float32(half_height) - np.abs(down)))
        case _Shape.POLE:
            half = rng.uniform(0.008, 0.04) * size.width
            across, _ = _turned(x - np.float32(spot[0]), y - np.float32(spot[1]), rng.uniform(-12, 12))
            return _inside(np.float32(half) - np.abs(across))


def _turned(x: Field, y: Field, degrees: float) -> tuple[Field, Field]:
    cosine, sine = np.float32(math.cos(math.radians(degrees))), np.float32(math.sin(math.radians(degrees)))
    return x * cosine + y * sine, y * cosine - x * sine


def _inside(distance_px: NDArray[np.float32]) -> Field:
    """Cover from the signed distance to the edge, positive inside; the edge is one pixel wide."""
    covered: Field = np.clip(distance_px + np.float32(0.5), 0, 1)
    return covered
