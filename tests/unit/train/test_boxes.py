"""Photos with boxes: what is known where, and every fault named."""

from pathlib import Path

import numpy as np
import pytest

from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, Picture
from support.photos import write_boxes
from train.boxes import MOST_BOXES, find_boxed, label_boxes, masks_in, segmented_by
from train.data import Box, DataError, find_photos, known_of_boxes, read_mask
from train.sample import Sample

SIZE = (64, 48)


def half_everywhere(picture: Picture) -> Alpha:
    return np.full(picture.shape[:2], 0.6, np.float32)


def test_photos_with_boxes_are_found_and_crowds_left_out(tmp_path: Path) -> None:
    many = [(n, 0, n + 5, 9) for n in range(MOST_BOXES + 1)]
    write_boxes(tmp_path, {"007": [(1, 2, 30, 40), (20, 0, 64, 48)], "008": many, "009": many[:-1]})
    photos = find_boxed(tmp_path)
    assert [photo.id for photo in photos] == ["007", "009"]
    assert photos[0].boxes == (Box(1, 2, 30, 40), Box(20, 0, 64, 48))
    with pytest.raises(DataError, match="masks"):
        find_photos(tmp_path)  # they are nothing else


def test_every_fault_of_a_table_is_named(tmp_path: Path) -> None:
    write_boxes(tmp_path, {"good": [(0, 0, 9, 9)], "gone": [(0, 0, 9, 9)], "wide": [(0, 0, 65, 9)]})
    (tmp_path / "weak/images/gone.jpg").unlink()
    with (tmp_path / "weak/boxes.csv").open("a") as table:
        table.write("good,64,48,1,x,9,9\n")
    write_boxes(tmp_path, {"small": [(0, 0, 9, 9)]}, source="other")
    (tmp_path / "other/images/small.jpg").write_bytes((tmp_path / "weak/images/good.jpg").read_bytes())
    content = (tmp_path / "other/boxes.csv").read_text().replace("small,64", "small,63")
    (tmp_path / "other/boxes.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        find_boxed(tmp_path)
    message = str(caught.value)
    assert "other/small: photo is 64x48, its boxes were drawn on 63x48" in message
    assert "weak/gone" in message
    assert "line 4: box 0,0 to 65,9 in a photo of 64x48" in message
    assert "line 5: not whole numbers" in message
    assert "weak/good" not in message


@pytest.mark.parametrize("content", ["id,width,height,x0,y0,x1\n", "id,width,height,x0,y0,x1,y1\n"])
def test_tables_without_boxes_are_refused(tmp_path: Path, content: str) -> None:
    write_boxes(tmp_path, {"1": [(0, 0, 9, 9)]})
    (tmp_path / "weak/boxes.csv").write_text(content)
    with pytest.raises(DataError, match=r"y1|boxes\.csv"):
        find_boxed(tmp_path)


def test_the_teachers_mask_holds_within_the_boxes_only(tmp_path: Path) -> None:
    write_boxes(tmp_path, {"1": [(10, 10, 40, 30)]}, size=SIZE)
    (photo,) = label_boxes(find_boxed(tmp_path), segmented_by(half_everywhere), tmp_path / "masks")
    sample = Sample.read(photo)
    inside = np.zeros((48, 64), bool)
    inside[10:30, 10:40] = True
    band = np.zeros_like(inside)
    band[6:34, 6:44] = True
    # As soft as the teacher said, rounded to 8 bits: 0.6 of 255.
    assert (sample.alpha[inside] == 153).all()
    assert not sample.alpha[~inside].any()
    assert np.array_equal(sample.known == 255, inside | ~band)


def test_a_box_that_the_teacher_sees_nobody_in_counts_nowhere() -> None:
    alpha = np.zeros((48, 64), np.uint8)
    alpha[0:20, 0:20] = 255
    known = known_of_boxes((Box(0, 0, 20, 20), Box(30, 0, 60, 40)), alpha)
    assert (known[0:20, 0:20] == 255).all()
    assert not known[0:44, 26:64].any()
    assert (known[24:, :26] == 255).all()
    # Where the first box lies within the second, it is known.
    known = known_of_boxes((Box(0, 0, 20, 20), Box(0, 0, 64, 48)), alpha)
    assert np.array_equal(known == 255, alpha == 255)


def test_masks_that_are_there_are_kept(tmp_path: Path) -> None:
    write_boxes(tmp_path, {"1": [(10, 10, 40, 30)]})
    photos = find_boxed(tmp_path)
    (first,) = label_boxes(photos, segmented_by(half_everywhere), tmp_path / "masks")
    before = read_mask(first)
    (again,) = label_boxes(
        photos, segmented_by(lambda picture: np.zeros(picture.shape[:2], np.float32)), tmp_path / "masks"
    )
    assert np.array_equal(read_mask(again), before)
    assert before.max() == 153


def test_masks_of_another_program_fill_the_boxes(tmp_path: Path) -> None:
    write_boxes(tmp_path, {"1": [(10, 10, 40, 30)]}, size=SIZE)
    photos = find_boxed(tmp_path)
    given = tmp_path / "given"
    given.mkdir()
    (given / "weak_1.png").write_bytes(cv.encode_png(np.full((48, 64), 200, np.uint8)))
    (photo,) = label_boxes(photos, masks_in(given, photos), tmp_path / "masks")
    alpha = read_mask(photo)
    assert (alpha[10:30, 10:40] == 200).all()
    assert alpha.sum() == 200 * 20 * 30


def test_masks_that_are_missing_or_of_another_size_are_named(tmp_path: Path) -> None:
    write_boxes(tmp_path, {"1": [(10, 10, 40, 30)], "2": [(10, 10, 40, 30)]}, size=SIZE)
    given = tmp_path / "given"
    given.mkdir()
    (given / "weak_2.png").write_bytes(cv.encode_png(np.zeros((48, 63), np.uint8)))
    with pytest.raises(DataError) as caught:
        masks_in(given, find_boxed(tmp_path))
    assert "weak_1.png" in str(caught.value)
    assert "weak_2.png: mask is 63x48, photo is 64x48" in str(caught.value)
