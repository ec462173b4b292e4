"""Finding, checking and splitting photos; drawn ones, of a person who is a circle."""

from pathlib import Path

import numpy as np
import pytest

from humanseg.vision import cv
from support.photos import write_photo
from train.data import VOID, DataError, check_contents, find_photos, is_validation, read_mask, split_photos
from train.sample import Sample


def test_photos_backgrounds_and_folders_with_boxes_are_told_apart(tmp_path: Path) -> None:
    write_photo(tmp_path, "portraits", "1")
    write_photo(tmp_path, "rooms", "2", person=False)
    write_photo(tmp_path, "weak", "3", person=False)
    (tmp_path / "weak" / "boxes.csv").write_text("id\n")
    photos = find_photos(tmp_path)
    assert [(photo.name, photo.mask is None) for photo in photos] == [("portraits/1", False), ("rooms/2", True)]


def test_every_fault_is_named_before_training_starts(tmp_path: Path) -> None:
    write_photo(tmp_path, "portraits", "good")
    write_photo(tmp_path, "portraits", "maskless")
    (tmp_path / "portraits/masks/maskless.png").unlink()
    write_photo(tmp_path, "portraits", "other_size")
    (tmp_path / "portraits/masks/other_size.png").write_bytes(cv.encode_png(np.zeros((5, 4, 3), np.uint8)))
    with pytest.raises(DataError) as caught:
        find_photos(tmp_path)
    assert "portraits/maskless" in str(caught.value)
    assert "portraits/other_size: mask is 4x5, photo is" in str(caught.value)
    assert "good" not in str(caught.value)


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_photos_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="masks"):
        find_photos(tmp_path / folder)


def test_masks_of_other_values_are_refused(tmp_path: Path) -> None:
    write_photo(tmp_path, "portraits", "1")
    gray = np.full((90, 120), 77, np.uint8)
    (tmp_path / "portraits/masks/1.png").write_bytes(cv.encode_png(cv.merge(gray, gray, gray)))
    with pytest.raises(DataError, match="77"):
        read_mask(find_photos(tmp_path)[0])


def test_every_damaged_file_is_named_before_training_starts(tmp_path: Path) -> None:
    for name in ("good", "cut", "odd", "torn"):
        write_photo(tmp_path, "portraits", name)
    write_photo(tmp_path, "rooms", "wall", person=False)
    photos = find_photos(tmp_path)
    check_contents(photos)
    image, mask = tmp_path / "portraits/images/cut.jpg", tmp_path / "portraits/masks/torn.png"
    image.write_bytes(image.read_bytes()[:-600])
    mask.write_bytes(mask.read_bytes()[:-20])
    gray = np.full((90, 120), 77, np.uint8)
    (tmp_path / "portraits/masks/odd.png").write_bytes(cv.encode_png(gray))
    wall = tmp_path / "rooms/images/wall.jpg"
    wall.write_bytes(wall.read_bytes()[:-600])
    # Their headers are in order.
    photos = find_photos(tmp_path)
    with pytest.raises(DataError) as caught:
        check_contents(photos)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [
        "portraits/cut", "portraits/odd", "portraits/torn", "rooms/wall",
    ]  # fmt: skip
    assert "77" in lines[2]


def test_the_split_is_about_a_tenth_and_keeps_series_together(tmp_path: Path) -> None:
    for number in range(60):
        write_photo(tmp_path, "portraits", f"{number:03}", size=(16, 12))
        write_photo(tmp_path, "mixed", f"{number:03}", size=(16, 12))
    photos = find_photos(tmp_path)
    split = split_photos(photos)
    assert len(split.train) + len(split.validation) == 120
    assert 2 <= sum(photo.source == "portraits" for photo in split.validation) <= 14
    assert set(split.validation) == {photo for photo in photos if is_validation(photo)}
    tens = {photo.id[:-1]: is_validation(photo) for photo in photos if photo.source == "mixed"}
    assert all(is_validation(photo) == tens[photo.id[:-1]] for photo in photos if photo.source == "mixed")


def test_void_is_unknown_and_not_person(tmp_path: Path) -> None:
    write_photo(tmp_path, "portraits", "1", void_rows=10)
    sample = Sample.read(find_photos(tmp_path)[0])
    assert not sample.known[:10].any()
    assert not sample.alpha[:10].any()
    assert (sample.known[10:] == 255).all()
    assert VOID not in np.unique(sample.alpha)
