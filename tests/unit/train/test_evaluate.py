"""Scores of photos by segmenters whose faults are known, slices of drawn photos, and the report."""

import json
from pathlib import Path

import numpy as np
import pytest

from humanseg.vision.arrays import Alpha, Picture, Size
from support.photos import PERSON_RGB, draw_room, write_photo
from train import evaluate
from train.contestants import Contestant
from train.data import Photo, find_photos
from train.evaluate import figures_of, judge
from train.validation import Slice, group_of, letterboxed, slices_of


def sees_red(picture: Picture) -> Alpha:
    """The disc is the only red thing in the drawn photos."""
    return ((picture[:, :, 0] > 150) & (picture[:, :, 2] < 120)).astype(np.float32)


def sees_everything(picture: Picture) -> Alpha:
    return np.ones(picture.shape[:2], np.float32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    root = tmp_path_factory.mktemp("data")
    for number in range(3):
        write_photo(root, "discs", f"{number}", size=(320, 240), seed=number)
        write_photo(root, "rooms", f"house_{number}", person=False, seed=number)
        write_photo(root, "rooms", f"street_{number}", person=False, seed=number)
    return find_photos(root)


def test_a_perfect_segmenter_is_perfect_everywhere(photos: list[Photo]) -> None:
    report = judge(Contestant("red", sees_red), photos)
    figures = figures_of(report.groups["discs"])
    # JPEG moves edge pixels, by less than the tolerance of 2 px.
    assert figures["mean_iou"] > 0.98
    assert figures["boundary_f"] > 0.999
    assert figures["boundary_iou"] > 0.85
    assert figures["mad"] < 0.01
    assert figures_of(report.groups["rooms house"]) == {"photos": 3, "alarm_share": 0, "mad": 0, "false_share": 0}


def test_false_alarms_are_counted_by_area_and_by_picture(photos: list[Photo]) -> None:
    def corner(picture: Picture) -> Alpha:
        """Five of a hundred pixels."""
        alpha = np.zeros(picture.shape[:2], np.float32)
        alpha[: alpha.shape[0] // 2, : alpha.shape[1] // 10] = 0.5
        return alpha

    figures = figures_of(judge(Contestant("corner", corner), photos).groups["rooms street"])
    assert figures == {
        "photos": 3, "alarm_share": 1.0, "mad": pytest.approx(0.025), "false_share": pytest.approx(0.05),
    }  # fmt: skip


def test_everything_person_has_the_iou_of_the_share_and_no_outline(photos: list[Photo]) -> None:
    figures = figures_of(judge(Contestant("all", sees_everything), photos).groups["discs"])
    # A circle with a radius of 0.3 of the shorter side.
    share = np.pi * 72**2 / (320 * 240)
    assert figures["person_iou"] == pytest.approx(share, rel=0.01)
    assert figures["mean_iou"] == pytest.approx(share / 2, rel=0.01)
    assert figures["mad"] == pytest.approx(1 - share, rel=0.01)
    assert figures["false_share"] == 1.0
    assert figures["boundary_f"] == 0.0


def test_the_letterbox_gives_back_masks_of_the_photos_size() -> None:
    segment = letterboxed(lambda batch: np.stack([sees_red(one) for one in batch]), Size(160, 96), Size(96, 160))
    for width, height in ((120, 90), (90, 120)):
        picture = draw_room(width, height)
        picture[20:60, 20:60] = PERSON_RGB
        alpha = segment(picture)
        assert alpha.shape == (height, width)
        assert (alpha[22:58, 22:58] >= 0.5).all()
        assert not (alpha[:17] >= 0.5).any()


def test_pictures_of_nobody_are_grouped_by_what_they_show(photos: list[Photo]) -> None:
    assert {group_of(photo) for photo in photos} == {"discs", "rooms house", "rooms street"}


def gray_photo(person: int, background: int, *boxes: tuple[int, int, int, int]) -> tuple[Slice, ...]:
    picture = np.full((100, 100, 3), background, np.uint8)
    mask = np.zeros((100, 100), np.uint8)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = 255
    picture[mask == 255] = person
    return slices_of(picture, mask)


def test_slices_come_from_photo_and_mask() -> None:
    assert gray_photo(120, 120, (0, 50, 0, 50)) == ()
    assert gray_photo(120, 120, (0, 22, 0, 22)) == (Slice.SMALL,)
    assert gray_photo(120, 120, (0, 50, 0, 50), (80, 90, 80, 90)) == (Slice.SEVERAL,)
    # A speck, smaller than a hundredth of the picture, is no second person.
    assert gray_photo(120, 120, (0, 50, 0, 50), (80, 89, 80, 90)) == ()
    assert gray_photo(60, 60, (0, 50, 0, 50)) == (Slice.DARK,)
    assert gray_photo(90, 150, (0, 50, 0, 50)) == (Slice.BACKLIGHT,)
    assert gray_photo(150, 90, (0, 50, 0, 50)) == ()


def test_slices_gather_over_sources(tmp_path: Path) -> None:
    for source, size in (("a", (60, 40)), ("b", (400, 60))):
        write_photo(tmp_path, source, "1", size=size)
    report = judge(Contestant("red", sees_red), find_photos(tmp_path))
    # The disc fills 4 % of the wide picture.
    assert [score.photo.source for score in report.slices[Slice.SMALL]] == ["b"]
    assert report.slices[Slice.SMALL][0] is report.groups["b"][0]


def test_the_report_for_programs_has_every_group(photos: list[Photo]) -> None:
    reports = [judge(Contestant(name, segment), photos) for name, segment in (("x", sees_red), ("y", sees_everything))]
    plain = json.loads(json.dumps([evaluate.to_plain(report) for report in reports]))
    assert [model["name"] for model in plain] == ["x", "y"]
    assert plain[0]["mean_iou"] == plain[0]["sources"]["discs"]["mean_iou"] > plain[1]["mean_iou"]
    assert set(plain[0]["sources"]) == {"discs", "rooms house", "rooms street"}
    assert plain[0]["cpu_ms"] > 0


def test_a_model_that_is_not_there_is_named(
    photos: list[Photo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = photos[0].image.parents[2]
    assert evaluate.main(["--onnx", str(tmp_path / "none.onnx"), "--data", str(data)]) == 1
    assert "none.onnx" in capsys.readouterr().err
