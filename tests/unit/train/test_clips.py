"""Clips: alpha, picture and motion say the same; time is in seconds; equal dice give equal clips."""

import itertools
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.vision.arrays import Size
from humanseg.vision.temporal_metrics import carried, edge_band
from support.photos import PERSON_RGB, draw_room, write_photo
from train.clip_motion import MOVE_S, REST_S, Dash, Pose, Sway, Warp
from train.clips import ClipFrame, ClipKind, ClipPlan, main, make_clip, usable_people
from train.data import DataError, Photo, find_photos

SIZE = Size(320, 192)
MOVING = [kind for kind in ClipKind if kind is not ClipKind.STILL]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    root = tmp_path_factory.mktemp("data")
    for number in range(12):
        write_photo(root, "portraits", f"{number:03}", size=(320, 300), seed=number)
    (root / "backgrounds/images").mkdir(parents=True)
    for number in range(6):
        room = draw_room(200, 150, number)
        cv2.imwrite(str(root / f"backgrounds/images/{number}.jpg"), room[:, :, ::-1])
    return find_photos(root)


def clip(
    photos: list[Photo], kind: ClipKind, seed: int = 0, fps: float = 30.0, duration_s: float = 1.0
) -> list[ClipFrame]:
    backgrounds = [photo for photo in photos if photo.mask is None]
    return list(make_clip(ClipPlan(kind, seed, SIZE, fps, duration_s), usable_people(photos), backgrounds))


@pytest.mark.parametrize("kind", list(ClipKind))
@pytest.mark.parametrize("fps", [10.0, 30.0])
def test_the_motion_leads_from_alpha_to_alpha(photos: list[Photo], kind: ClipKind, fps: float) -> None:
    frames = clip(photos, kind, fps=fps)
    for before, now in itertools.pairwise(frames):
        if now.is_cut:
            continue
        band = edge_band(now.alpha, 6) & now.followed
        along = np.abs(now.alpha - carried(before.alpha, now.motion))[band]
        # Twice interpolated edges are softer; a motion wrong by half a pixel is off by 0.1 and more on average.
        assert along.mean() < 0.02
        assert np.percentile(along, 99) < 0.15


@pytest.mark.parametrize("kind", MOVING)
def test_what_should_move_moves(photos: list[Photo], kind: ClipKind) -> None:
    frames = clip(photos, kind)
    moved = [
        float(np.abs(now.alpha - before.alpha).mean()) for before, now in itertools.pairwise(frames) if not now.is_cut
    ]
    assert sum(moved) > 0.005


def test_a_wall_moves_with_the_camera_only(photos: list[Photo]) -> None:
    for kind, expected in ((ClipKind.TALK, False), (ClipKind.HANDHELD, True)):
        frame = clip(photos, kind)[1]
        assert frame.moving[frame.alpha > 0].all()
        assert frame.moving[:4, :4].all() == expected


@pytest.mark.parametrize("kind", list(ClipKind))
def test_the_person_is_where_alpha_says(photos: list[Photo], kind: ClipKind) -> None:
    """The disc is red, and nothing else is."""
    for frame in clip(photos, kind, fps=6):
        red = frame.picture[:, :, 0].astype(int) - frame.picture[:, :, 1]
        assert np.median(red[frame.alpha == 1]) > (PERSON_RGB[0] - PERSON_RGB[1]) / 2
        assert np.percentile(red[frame.alpha == 0], 99) < (PERSON_RGB[0] - PERSON_RGB[1]) / 2


def test_still_means_still(photos: list[Photo]) -> None:
    frames = clip(photos, ClipKind.STILL)
    assert all(np.array_equal(frame.alpha, frames[0].alpha) and not frame.motion.any() for frame in frames)
    assert not any(frame.moving.any() for frame in frames[1:])
    # But a camera looks on: noise and light change.
    assert all((now.picture != before.picture).any() for before, now in itertools.pairwise(frames))
    assert np.abs(frames[0].picture.astype(float) - frames[-1].picture).mean() < 12


@pytest.mark.parametrize("kind", list(ClipKind))
def test_the_same_plan_gives_the_same_clip(photos: list[Photo], kind: ClipKind) -> None:
    first, again, other = clip(photos, kind, fps=6), clip(photos, kind, fps=6), clip(photos, kind, seed=1, fps=6)
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one.picture, two.picture)
        assert np.array_equal(one.alpha, two.alpha)
        assert np.array_equal(one.motion, two.motion)
    assert any((one.picture != two.picture).any() for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("kind", list(ClipKind))
def test_a_third_of_the_frames_shows_every_third_moment(photos: list[Photo], kind: ClipKind) -> None:
    for slow, fast in zip(clip(photos, kind, fps=10), clip(photos, kind, fps=30)[::3], strict=True):
        assert slow.time_us == fast.time_us
        np.testing.assert_allclose(slow.alpha, fast.alpha, atol=1e-5)


def test_the_cut_is_at_half_time_and_another_scene(photos: list[Photo]) -> None:
    frames = clip(photos, ClipKind.CUT)
    assert [number for number, frame in enumerate(frames) if frame.is_cut] == [15]
    assert not frames[15].motion.any()
    assert not frames[15].followed.any()
    assert not frames[0].followed.any()
    assert frames[16].followed.mean() > 0.9
    change = np.abs(frames[15].picture.astype(float) - frames[14].picture).mean()
    assert change > 3 * np.abs(frames[14].picture.astype(float) - frames[13].picture).mean()


def test_the_occluder_takes_alpha_and_is_not_followed(photos: list[Photo]) -> None:
    frames = clip(photos, ClipKind.OCCLUDER)
    shares = [float(frame.alpha.sum()) for frame in frames]
    assert min(shares) < 0.9 * shares[0]
    hidden = frames[int(np.argmin(shares))]
    assert not hidden.followed.all()


def test_a_fast_person_needs_three_tenths_of_a_second() -> None:
    path = Dash(60.0, 0.0)
    assert [round(path.at(time_s).x_px, 3) for time_s in (0.0, MOVE_S / 2, MOVE_S, MOVE_S + REST_S)] == [0, 30, 60, 60]
    second = 2 * (MOVE_S + REST_S)
    assert path.at(second - REST_S).x_px == pytest.approx(0, abs=1e-9)
    assert path.at(second + MOVE_S).x_px == pytest.approx(-60)


@given(st.integers(0, 2**31), st.floats(0, 20))
@settings(max_examples=50, deadline=None)
def test_sway_keeps_within_its_bounds(seed: int, time_s: float) -> None:
    sway = Sway.draw(
        np.random.default_rng(seed), x_px=10, y_px=3, turn_degrees=2, zoom=0.02, shortest_s=0.5, longest_s=3
    )
    pose = sway.at(time_s)
    assert abs(pose.x_px) <= 10
    assert abs(pose.y_px) <= 3
    assert abs(pose.turn_rad) <= np.radians(2)
    assert abs(pose.zoom - 1) <= 0.02 + 1e-9


@given(st.integers(0, 2**31), st.floats(0, 20))
@settings(max_examples=30, deadline=None)
def test_a_warp_can_be_undone(seed: int, time_s: float) -> None:
    warp = Warp.draw(np.random.default_rng(seed), 2.5)
    x, y = np.meshgrid(np.arange(0, 640, 7, dtype=np.float32), np.arange(0, 360, 7, dtype=np.float32))
    shift_x, shift_y = warp.at(x, y, time_s)
    assert np.hypot(shift_x, shift_y).max() <= 2.5 + 1e-3
    from_x, from_y = warp.undone(x + shift_x, y + shift_y, time_s)
    assert np.abs(from_x - x).max() < 0.02
    assert np.abs(from_y - y).max() < 0.02


def test_a_pose_turns_about_its_pivot() -> None:
    matrix = Pose(3, -2, np.pi / 2, 2.0).matrix((10, 20))
    np.testing.assert_allclose(matrix @ (10, 20, 1), (13, 18, 1))
    # One to the right of the pivot becomes two below it: a turn by 90 degrees, y downward.
    np.testing.assert_allclose(matrix @ (11, 20, 1), (13, 20, 1), atol=1e-12)


@pytest.mark.parametrize("fps", [4.9, 61.0])
def test_other_frame_rates_are_refused(fps: float) -> None:
    with pytest.raises(ValueError, match="allowed are 5 to 60"):
        ClipPlan(ClipKind.TALK, 0, SIZE, fps)


def test_without_a_person_to_cut_out_it_says_so(photos: list[Photo]) -> None:
    backgrounds = [photo for photo in photos if photo.mask is None]
    with pytest.raises(DataError, match="shows a person of 150 px"):
        next(make_clip(ClipPlan(ClipKind.TALK, 0, SIZE), [], backgrounds))
    with pytest.raises(DataError, match="no photos without people"):
        next(make_clip(ClipPlan(ClipKind.TALK, 0, SIZE), usable_people(photos), []))


def test_only_well_annotated_people_are_used(tmp_path: Path) -> None:
    for source in ("coco_one", "portraits", "pedestrians"):
        write_photo(tmp_path, source, "1")
    write_photo(tmp_path, "backgrounds", "1", person=False)
    assert [photo.source for photo in usable_people(find_photos(tmp_path))] == ["portraits"]


def test_the_command_writes_clips_and_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    for number in range(40):  # a tenth is left aside, by a hash
        write_photo(root, "portraits", f"{number:03}", size=(320, 300), seed=number)
        write_photo(root, "backgrounds", f"{number:03}", person=False, seed=number)
    arguments = ["--data", str(root), "--out", str(out), "--size", "320x192", "--fps", "5", "--seconds", "1"]
    assert main([*arguments, "--kind", "cut", "still"]) == 0
    with av.open(out / "cut_0.mp4") as container:
        assert [frame.width for frame in container.decode(video=0)] == [640] * 5
    assert (out / "still_0.mp4").exists()
    assert (out / "sheet.png").stat().st_size > 1000
    assert main(["--data", str(tmp_path / "nowhere"), "--out", str(out)]) == 1
    assert "nowhere" in capsys.readouterr().err
