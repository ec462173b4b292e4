"""Drawn photos with masks: a person is a disc before a room of stripes."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

PERSON_RGB = (210, 60, 50)


def draw_room(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: stripes, nobody."""
    columns = np.mgrid[0:height, 0:width][1]
    stripes = 90 + 60 * np.sin(columns / 7 + np.random.default_rng(seed).uniform(0, 6))
    return np.stack([stripes * 0.4, stripes, stripes * 1.2], axis=2).clip(0, 255).astype(np.uint8)


def draw_disc(width: int, height: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture (H, W, 3) uint8 RGB and its mask (H, W) uint8, 0 or 255."""
    rng = np.random.default_rng((seed, 1))
    rows, columns = np.mgrid[0:height, 0:width]
    picture = draw_room(width, height, seed)
    x, y = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6)
    inside = (columns - x) ** 2 + (rows - y) ** 2 < (0.3 * min(width, height)) ** 2
    picture[inside] = PERSON_RGB
    return picture, np.where(inside, np.uint8(255), np.uint8(0))


def write_photo(
    root: Path,
    source: str,
    name: str,
    *,
    size: tuple[int, int] = (120, 90),
    person: bool = True,
    void_rows: int = 0,
    seed: int = 0,
) -> None:
    """``root/source/images/name.jpg``, and its mask where there is a person; else the empty room."""
    picture, mask = draw_disc(*size, seed=seed)
    if not person:
        picture = draw_room(*size, seed=seed)
    mask[:void_rows] = 128
    (root / source / "images").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / source / "images" / f"{name}.jpg"), picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    if person:
        (root / source / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(root / source / "masks" / f"{name}.png"), mask)


def write_boxes(
    root: Path,
    boxes: dict[str, list[tuple[int, int, int, int]]],
    *,
    size: tuple[int, int] = (64, 48),
    source: str = "weak",
) -> None:
    """Photos of a disc in the middle, and ``root/source/boxes.csv`` with boxes left, top, right, bottom by photo."""
    (root / source / "images").mkdir(parents=True)
    lines = ["id,width,height,x0,y0,x1,y1"]
    for name, found in boxes.items():
        picture, _ = draw_disc(*size)
        cv2.imwrite(str(root / source / "images" / f"{name}.jpg"), picture[:, :, ::-1])
        lines += [",".join(map(str, (name, *size, *box))) for box in found]
    (root / source / "boxes.csv").write_text("\n".join(lines) + "\n")
