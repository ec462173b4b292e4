"""The demo's new background, drawn here, so that no picture is shipped: an office in the evening, out of focus."""

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.vision.arrays import Picture, Size

#: Drawn at this width and resized: the blur then looks the same at every size.
DRAWN_WIDTH_PX = 640
SEED = 11

Canvas = NDArray[np.float32]


def evening_office(size: Size) -> Picture:
    """(H, W, 3) uint8 RGB: a wall, a window onto city lights, a shelf and a lamp, as a fast lens would blur them."""
    width = DRAWN_WIDTH_PX
    height = max(1, round(width * size.height / size.width))
    rng = np.random.default_rng(SEED)
    canvas = _wall(width, height)
    _window(canvas, rng)
    _shelf(canvas, rng)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 9).astype(np.float32)
    _lights(canvas, rng)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 1.5).astype(np.float32)
    _lamp_glow(canvas)
    # Noise below one level: without it a smooth gradient shows bands after H.264.
    canvas += rng.normal(0, 0.8, (height, width, 1)).astype(np.float32)
    picture = np.clip(canvas, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(picture, (size.width, size.height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _wall(width: int, height: int) -> Canvas:
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    across = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    top, bottom = np.array([66, 74, 88], np.float32), np.array([40, 42, 52], np.float32)
    return np.asarray((top + (bottom - top) * down) * (0.82 + 0.28 * across), np.float32)


def _window(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.shape[:2]
    left, right, top, bottom = round(0.05 * width), round(0.52 * width), round(0.06 * height), round(0.66 * height)
    dusk = np.linspace(0, 1, bottom - top, dtype=np.float32)[:, None, None]
    above, below = np.array([58, 84, 128], np.float32), np.array([214, 150, 112], np.float32)
    canvas[top:bottom, left:right] = above * (1 - dusk) + below * dusk
    # A row of buildings against the dusk.
    x = left
    while x < right:
        wide = int(rng.integers(24, 60))
        tall = int(rng.integers((bottom - top) // 4, (bottom - top) * 2 // 3))
        cv2.rectangle(canvas, (x, bottom - tall), (min(x + wide, right), bottom), (48, 54, 76), -1)
        x += wide
    for bar in (left, (left + right) // 2, right):
        cv2.rectangle(canvas, (bar - 4, top), (bar + 4, bottom), (34, 36, 42), -1)


def _shelf(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.shape[:2]
    palette = ((150, 92, 70), (84, 116, 120), (190, 164, 120), (92, 84, 110), (120, 130, 96), (178, 120, 84))
    for row in (0.28, 0.50, 0.72):
        board = round(row * height)
        cv2.rectangle(canvas, (round(0.62 * width), board), (round(0.97 * width), board + 6), (92, 70, 54), -1)
        x = round(0.63 * width)
        while x < 0.94 * width:
            wide, tall = int(rng.integers(8, 20)), int(rng.integers(round(0.10 * height), round(0.17 * height)))
            if rng.random() < 0.85:
                color = palette[int(rng.integers(len(palette)))]
                cv2.rectangle(canvas, (x, board - tall), (x + wide, board), color, -1)
            x += wide + 2


def _lights(canvas: Canvas, rng: np.random.Generator) -> None:
    """Discs of confusion: lamps far away behind the window, brighter at the rim as real lenses draw them."""
    height, width = canvas.shape[:2]
    colors = ((255, 214, 150), (255, 178, 110), (240, 232, 214), (160, 196, 255), (255, 140, 120))
    for _ in range(26):
        x, y = rng.uniform(0.07, 0.50) * width, rng.uniform(0.30, 0.64) * height
        radius, strength = int(rng.integers(7, 17)), rng.uniform(0.10, 0.34)
        disc = np.zeros(canvas.shape[:2], np.float32)
        cv2.circle(disc, (round(x), round(y)), radius, float(strength), -1, cv2.LINE_AA)
        cv2.circle(disc, (round(x), round(y)), radius, float(strength * 1.35), 2, cv2.LINE_AA)
        canvas += disc[:, :, None] * (np.array(colors[int(rng.integers(len(colors)))], np.float32) - canvas)


def _lamp_glow(canvas: Canvas) -> None:
    """Warm light from a lamp beyond the right edge."""
    height, width = canvas.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot((columns - 0.98 * width) / width, (rows - 0.12 * height) / height)
    canvas += 78 * np.exp(-((distance / 0.42) ** 2))[:, :, None] * np.array([1.0, 0.78, 0.52], np.float32)
