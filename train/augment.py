"""Random changes of picture and label together; no torch.

Geometry never changes the aspect ratio by more than a lens would: the service letterboxes and does not stretch.
"""

import math

import numpy as np

from humanseg.vision import cv
from humanseg.vision.arrays import Field, Picture, Size
from humanseg.vision.letterbox import shrink_or_grow
from train.codec import LEAST_CRF, MOST_CRF, video_round_trip
from train.sample import Sample, fit_scale
from train.scenes import Scenes


def place_randomly(sample: Sample, canvas: Size, rng: np.random.Generator) -> Sample:
    """Scale 0.7 to 1.6 of the letterbox's, turn by up to 15 degrees in half of the samples, shift, flip."""
    scale = fit_scale(sample.size, canvas) * math.exp(rng.uniform(math.log(0.7), math.log(1.6)))
    squeeze = math.exp(rng.uniform(-0.06, 0.06))
    wanted = Size(
        max(8, round(sample.size.width * scale * squeeze)), max(8, round(sample.size.height * scale / squeeze))
    )
    # Shrunk by area first, as the service shrinks; the warp that follows keeps the scale.
    small = sample.resized(wanted)
    angle = rng.uniform(-15, 15) if rng.random() < 0.5 else 0.0
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    shift_x = _shift(wanted.width, canvas.width, rng)
    shift_y = _shift(wanted.height, canvas.height, rng)
    center_x, center_y = (wanted.width - 1) / 2, (wanted.height - 1) / 2
    to_x, to_y = (canvas.width - 1) / 2 + shift_x, (canvas.height - 1) / 2 + shift_y
    matrix = np.array(
        [
            [cosine, -sine, to_x - cosine * center_x + sine * center_y],
            [sine, cosine, to_y - sine * center_x - cosine * center_y],
        ]
    )
    placed = small.warped(matrix, canvas)
    return placed.flipped() if rng.random() < 0.5 else placed


def _shift(length: int, room: int, rng: np.random.Generator) -> float:
    """Within the slack or the overhang, and a tenth of the canvas beyond it."""
    return float(rng.uniform(-0.5, 0.5) * (abs(room - length) + 0.2 * room))


def degrade(picture: Picture, scenes: Scenes, rng: np.random.Generator) -> Picture:
    """Light, color, blur, noise and codec marks, as cheap cameras and video calls have them; (H, W, 3) uint8 RGB."""
    picture = _light(picture, rng)
    if happens(scenes.dark_share, rng):
        picture = _darken(picture, rng)
    if rng.random() < 0.2:
        picture = _blur(picture, rng)
    if rng.random() < 0.12:
        picture = _low_resolution(picture, rng)
    if rng.random() < 0.35:
        noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(1.5, 9.0))
        if rng.random() < 0.4:
            noise = cv.box_f32(noise, 3) * 1.8
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    if happens(scenes.video_share, rng):
        # The frame before shows the same, a little aside.
        aside = (int(rng.integers(-4, 5)), int(rng.integers(-8, 9)))
        return video_round_trip(np.roll(picture, aside, (0, 1)), picture, int(rng.integers(LEAST_CRF, MOST_CRF + 1)))
    if rng.random() < 0.4:
        picture = cv.jpeg_round_trip(picture, int(rng.integers(25, 85)))
    return picture


def happens(share: float, rng: np.random.Generator) -> bool:
    """Whether it happens this time; a share of 0 throws no dice, so that new kinds of scene change no old run."""
    return share > 0 and rng.random() < share


def backlight(scene: Sample, rng: np.random.Generator) -> Sample:
    """A window behind: people dark, the background bright and shining over their edge. The label must be exact."""
    cover = scene.alpha.astype(np.float32)[:, :, np.newaxis] * np.float32(1 / 255)
    bright = scene.picture * np.float32(rng.uniform(1.1, 1.7)) + np.float32(rng.uniform(10, 60))
    behind = np.minimum(bright, np.float32(255)) * (1 - cover)
    shine = cv.gauss_f32(behind, float(rng.uniform(3, 9))) * np.float32(rng.uniform(0.05, 0.3))
    people = (scene.picture * np.float32(rng.uniform(0.25, 0.65)) + shine) * cover
    lit = np.clip(np.rint(people + behind), 0, 255).astype(np.uint8)
    return Sample(lit, scene.alpha, scene.known)


def _darken(picture: Picture, rng: np.random.Generator) -> Picture:
    """An evening's room: mean values of 25 to 70, pale colors, coarse noise, perhaps smoothed away again."""
    darker = min(1.0, float(rng.uniform(25, 70)) / max(1.0, float(picture.mean())))
    values = picture.astype(np.float32) * np.float32(darker)
    mixing = np.full((3, 3), 1 / 3, np.float32)
    pale = np.float32(rng.uniform(0.1, 0.7))
    values = cv.mix_channels_f32(values, mixing * pale + np.eye(3, dtype=np.float32) * (1 - pale))
    noise = rng.standard_normal(picture.shape, np.float32)
    values += cv.box_f32(noise, 3) * np.float32(rng.uniform(3, 15))
    dark = np.clip(values, 0, 255).astype(np.uint8)
    return cv.gauss(dark, float(rng.uniform(0.5, 1.3))) if rng.random() < 0.4 else dark


def _light(picture: Picture, rng: np.random.Generator) -> Picture:
    if rng.random() < 0.06:
        gray = cv.rgb_to_gray(picture)
        picture = cv.merge(gray, gray, gray)
    # What is done to each value by itself is done to a table of all of them.
    table = np.repeat(np.arange(256, dtype=np.float32)[:, np.newaxis] * np.float32(1 / 255), 3, axis=1)
    if rng.random() < 0.8:
        gamma = math.exp(rng.uniform(-0.5, 0.5))
        table = np.power(table, np.float32(gamma))
        gain = np.exp(rng.uniform(-0.3, 0.3) + rng.uniform(-0.08, 0.08, 3)).astype(np.float32)
        table = (table - np.float32(0.5)) * np.float32(rng.uniform(0.6, 1.3)) + np.float32(0.5)
        table *= gain
    saturation = float(rng.uniform(0.2, 1.6)) if rng.random() < 0.4 else 1.0
    slope = _side_light(Size.of(picture), rng) if rng.random() < 0.15 else None
    if saturation == 1.0 and slope is None:
        return cv.look_up(picture, np.clip(table * 255, 0, 255).astype(np.uint8))
    values = cv.look_up_f32(picture, table * 255)
    if saturation != 1.0:
        mixing = np.full((3, 3), (1 - saturation) / 3, np.float32) + np.eye(3, dtype=np.float32) * saturation
        values = cv.mix_channels_f32(values, mixing.astype(np.float32))
    if slope is not None:
        values *= slope[:, :, np.newaxis]
    lit: Picture = np.clip(values, 0, 255).astype(np.uint8)
    return lit


def _side_light(size: Size, rng: np.random.Generator) -> Field:
    """Light from one side, or a window behind: factors (H, W) about 1."""
    angle = rng.uniform(0, 2 * math.pi)
    across = np.linspace(-1, 1, size.width, dtype=np.float32)[np.newaxis] * np.float32(math.cos(angle))
    down = np.linspace(-1, 1, size.height, dtype=np.float32)[:, np.newaxis] * np.float32(math.sin(angle))
    slope: Field = 1 + np.float32(rng.uniform(0.2, 0.5)) * (across + down)
    return slope


def _blur(picture: Picture, rng: np.random.Generator) -> Picture:
    if rng.random() < 0.5:
        return cv.gauss(picture, float(rng.uniform(0.5, 1.8)))
    # Motion: a line through the middle of the kernel.
    side = int(rng.choice((5, 7, 9)))
    angle = rng.uniform(0, math.pi)
    steps = np.linspace(-(side // 2), side // 2, 4 * side)
    kernel = np.zeros((side, side), np.float32)
    rows = np.rint(side // 2 + steps * math.sin(angle)).astype(int)
    columns = np.rint(side // 2 + steps * math.cos(angle)).astype(int)
    kernel[rows, columns] = 1
    return cv.filter2d(picture, kernel / kernel.sum())


def _low_resolution(picture: Picture, rng: np.random.Generator) -> Picture:
    size = Size.of(picture)
    share = rng.uniform(0.35, 0.8)
    small = shrink_or_grow(picture, Size(round(size.width * share), round(size.height * share)))
    return cv.resize_linear(small, size)
