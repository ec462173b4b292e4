"""The rim of the old background goes, and what is remembered changes nothing but the time."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.photos import PERSON_RGB, draw_room, write_photo
from train.cutouts import Cutouts, colors_from_within, foreground_colors
from train.data import Photo, find_photos
from train.sample import Sample


def mixed_edge(width: int, height: int, blur_px: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A disc of one color before stripes, its edge as soft as the box of ``blur_px``, and its true alpha."""
    rows, columns = np.mgrid[0:height, 0:width]
    soft = ((rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (0.3 * height) ** 2).astype(np.float32)
    box = np.ones(blur_px) / blur_px
    for _ in range(2):
        soft = np.asarray([np.convolve(row, box, "same") for row in soft], np.float32).T
    cover = soft[:, :, np.newaxis]
    mixed = cover * np.float32(PERSON_RGB) + (1 - cover) * draw_room(width, height)
    return np.rint(mixed).astype(np.uint8), soft


def error(colors: NDArray[np.generic], where: NDArray[np.bool_]) -> float:
    return float(np.abs(colors[where].astype(np.float64) - PERSON_RGB).mean())


def test_the_color_of_the_person_alone_is_found_where_alpha_is_known() -> None:
    seen, soft = mixed_edge(200, 150, 5)
    edge = (soft > 0.2) & (soft < 0.8)
    assert error(foreground_colors(seen, soft), edge) < 0.35 * error(seen, edge)


@pytest.mark.parametrize("mask_ends_at", [0.25, 0.5, 0.75])
def test_the_rim_goes_where_only_a_hard_mask_is_known(photos: list[Photo], mask_ends_at: float) -> None:
    seen, soft = mixed_edge(200, 150, 3)
    # People draw masks too wide or too narrow.
    mask = np.where(soft > mask_ends_at, np.uint8(255), np.uint8(0))
    clean = Cutouts().without_rim(photos[0], Sample(seen, mask, np.full_like(mask, 255)))
    rim = (mask == 255) & (soft < 0.95)
    assert error(clean.picture, rim) < 0.1 * error(seen, rim)
    # Just outside, too: a small canvas blends those pixels in.
    outside = (mask == 0) & (soft > 0.01)
    assert error(clean.picture, outside) < 0.1 * error(seen, outside)
    assert error(clean.picture, soft > 0.99) < 0.1
    assert np.array_equal(clean.alpha, mask)


def test_a_person_as_thin_as_a_thread_keeps_its_colors() -> None:
    picture = np.full((60, 80, 3), 90, np.uint8)
    mask = np.zeros((60, 80), np.uint8)
    mask[:, 40:42] = 255
    picture[mask == 255] = PERSON_RGB
    assert np.array_equal(colors_from_within(picture, mask), picture)


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    for number in range(4):
        write_photo(tmp_path, "discs", f"{number}", seed=number)
    return find_photos(tmp_path)


def pictures(cutouts: Cutouts, photos: list[Photo]) -> list[bytes]:
    return [cutouts.without_rim(photo, Sample.read(photo)).picture.tobytes() for photo in photos]


def test_remembered_or_not_the_sample_is_the_same(photos: list[Photo]) -> None:
    cutouts, forgetful = Cutouts(), Cutouts(limit_bytes=0)
    first = pictures(cutouts, photos)
    assert pictures(cutouts, photos) == first
    assert pictures(forgetful, photos) == pictures(forgetful, photos) == first
    assert forgetful.held_bytes == 0 < cutouts.held_bytes


def test_what_was_used_longest_ago_is_forgotten(photos: list[Photo]) -> None:
    one_each = [Cutouts() for _ in photos]
    for cutouts, photo in zip(one_each, photos, strict=True):
        cutouts.without_rim(photo, Sample.read(photo))
    sizes = [cutouts.held_bytes for cutouts in one_each]
    room_for_two = Cutouts(limit_bytes=sizes[0] + max(sizes[1:]))
    pictures(room_for_two, [photos[0], photos[1], photos[0], photos[2]])
    assert room_for_two.held_bytes == sizes[0] + sizes[2]


def test_a_photo_that_was_replaced_is_looked_at_anew(photos: list[Photo]) -> None:
    photo, cutouts = photos[0], Cutouts()
    before = pictures(cutouts, [photo])
    seconds = photo.image.stat().st_mtime
    # The same disc before another room, and the same file name.
    write_photo(photo.image.parents[2], "discs", "other", seed=0)
    darker = photos[1].image.read_bytes()
    photo.image.write_bytes(darker)
    os.utime(photo.image, (seconds + 5, seconds + 5))
    after = pictures(cutouts, [photo])
    assert after != before
    assert after == pictures(Cutouts(), [photo])
