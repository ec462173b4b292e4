"""Pictures for people to look at: panels side by side, and sheets of them, with small captions."""

from collections.abc import Sequence

import numpy as np

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha8, Picture, Size
from humanseg.vision.letterbox import shrink_or_grow

GAP_PX = 8
PAPER_RGB = (24, 24, 28)
INK_RGB = (235, 235, 235)
#: Capitals of 11 px: legible where a sheet is shown at its own size.
CAPTION_SCALE = 0.5
CAPTION_BAR_PX = 24


def mask_panel(alpha8: Alpha8) -> Picture:
    """A mask as a gray (H, W, 3) picture: white is person."""
    return cv.merge(alpha8, alpha8, alpha8)


def side_by_side(panels: Sequence[Picture], gap_px: int = GAP_PX) -> Picture:
    """Pictures of one height in a row, (H, W, 3) uint8.

    Raises:
        ValueError: none, or of different heights.
    """
    heights = {panel.shape[0] for panel in panels}
    if len(heights) != 1:
        raise ValueError(f"panels of heights {sorted(heights)}, expected one height")
    gap = _paper(Size(gap_px, heights.pop()))
    parts = [part for panel in panels for part in (gap, panel)][1:]
    return np.concatenate(parts, axis=1)


def captioned(picture: Picture, captions: Sequence[str]) -> Picture:
    """The picture under a bar with ASCII captions, each at the left of its equal share of the width."""
    bar = _paper(Size(picture.shape[1], CAPTION_BAR_PX))
    share = picture.shape[1] / max(1, len(captions))
    for index, caption in enumerate(captions):
        left = round(index * share) + 4
        cv.draw_text(bar, caption, left, CAPTION_BAR_PX - 7, CAPTION_SCALE, INK_RGB)
    return np.concatenate([bar, picture], axis=0)


def fit_height(picture: Picture, height_px: int) -> Picture:
    """Scaled to a height, the shape kept."""
    width = max(1, round(picture.shape[1] * height_px / picture.shape[0]))
    return shrink_or_grow(picture, Size(width, height_px))


def contact_sheet(cells: Sequence[Picture], columns: int) -> Picture:
    """Cells in rows from left to right on dark paper, each at the top left of a box that holds the largest.

    Raises:
        ValueError: no cell, or no column.
    """
    if not cells or columns < 1:
        raise ValueError(f"{len(cells)} cells in {columns} columns make no sheet")
    columns = min(columns, len(cells))
    box = Size(max(cell.shape[1] for cell in cells), max(cell.shape[0] for cell in cells))
    rows = -(-len(cells) // columns)
    sheet = _paper(Size(columns * (box.width + GAP_PX) + GAP_PX, rows * (box.height + GAP_PX) + GAP_PX))
    for index, cell in enumerate(cells):
        top = GAP_PX + index // columns * (box.height + GAP_PX)
        left = GAP_PX + index % columns * (box.width + GAP_PX)
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return sheet


def _paper(size: Size) -> Picture:
    return np.full((*size.shape, 3), PAPER_RGB, np.uint8)
