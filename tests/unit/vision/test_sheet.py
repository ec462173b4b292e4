import numpy as np
import pytest

from humanseg.vision.arrays import Size
from humanseg.vision.composite import solid
from humanseg.vision.sheet import (
    CAPTION_BAR_PX,
    GAP_PX,
    PAPER_RGB,
    captioned,
    contact_sheet,
    fit_height,
    mask_panel,
    side_by_side,
)

RED, GREEN = solid(Size(40, 30), (255, 0, 0)), solid(Size(20, 30), (0, 255, 0))


def test_panels_lie_in_a_row_with_a_gap() -> None:
    row = side_by_side([RED, GREEN])
    assert row.shape == (30, 40 + GAP_PX + 20, 3)
    assert (row[:, :40] == RED).all()
    assert (row[:, 40 : 40 + GAP_PX] == PAPER_RGB).all()
    assert (row[:, 40 + GAP_PX :] == GREEN).all()


@pytest.mark.parametrize("panels", [[], [RED, solid(Size(40, 31), (0, 0, 0))]])
def test_panels_of_different_heights_are_refused(panels: list[np.ndarray]) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="expected one height"):
        side_by_side(panels)


def test_a_caption_stands_above_its_share_of_the_picture() -> None:
    picture = solid(Size(300, 30), (1, 2, 3))
    seen = captioned(picture, ["", "mask"])
    assert (seen[CAPTION_BAR_PX:] == picture).all()
    inked = np.nonzero((seen[:CAPTION_BAR_PX] != PAPER_RGB).any(axis=(0, 2)))[0]
    assert 150 <= inked.min() < 160
    assert inked.max() < 220


def test_cells_fill_rows_from_the_left() -> None:
    sheet = contact_sheet([RED, GREEN, RED], columns=2)
    assert sheet.shape == (2 * (30 + GAP_PX) + GAP_PX, 2 * (40 + GAP_PX) + GAP_PX, 3)
    assert (sheet[GAP_PX : GAP_PX + 30, GAP_PX : GAP_PX + 40] == RED).all()
    assert (sheet[GAP_PX : GAP_PX + 30, 2 * GAP_PX + 40 : 2 * GAP_PX + 60] == GREEN).all()
    assert (sheet[2 * GAP_PX + 30 : 2 * GAP_PX + 60, GAP_PX : GAP_PX + 40] == RED).all()
    assert (sheet[2 * GAP_PX + 30 :, 2 * GAP_PX + 40 :] == PAPER_RGB).all()


def test_fewer_cells_than_columns_leave_no_empty_paper() -> None:
    assert contact_sheet([RED], columns=3).shape == (30 + 2 * GAP_PX, 40 + 2 * GAP_PX, 3)
    with pytest.raises(ValueError, match="0 cells"):
        contact_sheet([], columns=3)


def test_scaled_to_a_height_the_shape_stays() -> None:
    assert fit_height(RED, 60).shape == (60, 80, 3)
    assert fit_height(RED, 15).shape == (15, 20, 3)


def test_a_mask_is_shown_as_gray() -> None:
    alpha8 = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (mask_panel(alpha8) == alpha8[:, :, None]).all()
