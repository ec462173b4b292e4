"""The command line as people run it: a process of its own against a real server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from humanseg.video import VideoReader, VideoWriter, read_rgb
from humanseg.vision.arrays import Alpha8, Picture, Size
from support.server import ROOT, RunningServer, running_server
from support.stream import red_gradient
from support.timing import limit_s

SIZE = Size(320, 180)


def command(target: str, out: Path, *arguments: object) -> list[str]:
    words = [sys.executable, "-m", "humanseg.segment", "--target", target, "--out", out, *arguments]
    return [os.fspath(word) if isinstance(word, Path) else str(word) for word in words]


def segment(target: str, out: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(target, out, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=limit_s(90), check=False
    )


def write_photo(path: Path, picture: Picture, *flags: int) -> Path:
    assert cv2.imwrite(os.fspath(path), np.ascontiguousarray(picture[..., ::-1]), list(flags))
    return path


def write_video(path: Path, pictures: list[Picture]) -> Path:
    with VideoWriter(path, Fraction(25)) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


def read_mask(path: Path) -> Alpha8:
    mask = cv2.imread(os.fspath(path), cv2.IMREAD_UNCHANGED)
    assert mask is not None, path
    assert mask.dtype == np.uint8
    assert mask.ndim == 2
    return np.asarray(mask, np.uint8)


def assert_near(seen: Picture | Alpha8, wanted: Picture | Alpha8, tolerance: float) -> None:
    assert seen.shape == wanted.shape
    assert float(np.abs(seen.astype(int) - wanted.astype(int)).mean()) <= tolerance


def plain(level: int, size: Size = SIZE) -> Picture:
    picture = np.full((*size.shape, 3), 60, np.uint8)
    picture[..., 0] = level
    return picture


def names(folder: Path) -> list[str]:
    return sorted(os.fspath(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# --- photos


def test_photos_become_masks_of_their_own_size(server: RunningServer, tmp_path: Path, out: Path) -> None:
    gradient = red_gradient(203, 151)
    photos = [
        write_photo(tmp_path / "a.jpg", gradient, cv2.IMWRITE_JPEG_QUALITY, 95),
        write_photo(tmp_path / "b.png", gradient),
        write_photo(tmp_path / "c.webp", gradient, cv2.IMWRITE_WEBP_QUALITY, 101),
    ]
    done = segment(server.target, out, "--model", "medium", "--still", *photos)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 of 3 done")
    assert names(out) == ["a.png", "b.png", "c.png"]
    for name in names(out):
        assert_near(read_mask(out / name), gradient[..., 0], 4)


def test_a_photo_over_the_limits_is_sent_smaller_and_its_mask_enlarged(
    server: RunningServer, tmp_path: Path, out: Path
) -> None:
    gradient = red_gradient(4032, 3024)
    done = segment(server.target, out, write_photo(tmp_path / "phone.jpg", gradient))
    assert (done.returncode, done.stderr) == (0, "")
    assert_near(read_mask(out / "phone.png"), gradient[..., 0], 4)


@pytest.mark.parametrize("size", [Size(200, 120), Size(4000, 3000)])
def test_the_mask_lies_as_viewers_show_the_photo(server: RunningServer, tmp_path: Path, out: Path, size: Size) -> None:
    upright = red_gradient(*size)
    photo = write_photo(tmp_path / "turned.jpg", np.ascontiguousarray(np.rot90(upright)))
    photo.write_bytes(with_orientation_6(photo.read_bytes()))
    done = segment(server.target, out, photo)
    assert (done.returncode, done.stderr) == (0, "")
    assert_near(read_mask(out / "turned.png"), upright[..., 0], 5)


def with_orientation_6(file: bytes) -> bytes:
    """The JPEG with an EXIF block that says: turn it a quarter clockwise."""
    tiff = bytes.fromhex("49492a0008000000 0100 1201 0300 01000000 06000000 00000000")
    payload = b"Exif\0\0" + tiff
    return file[:2] + b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload + file[2:]


def test_what_cannot_be_read_is_named_and_the_others_are_done(server: RunningServer, tmp_path: Path, out: Path) -> None:
    good = write_photo(tmp_path / "good.png", plain(77))
    cut = write_photo(tmp_path / "cut.jpg", red_gradient(400, 300))
    cut.write_bytes(cut.read_bytes()[:-100])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nand nothing else")
    text = tmp_path / "text.txt"
    text.write_text("no picture")
    empty = tmp_path / "empty"
    empty.mkdir()
    missing = tmp_path / "missing.jpg"
    done = segment(server.target, out, missing, cut, broken, text, empty, good)
    assert done.returncode == 1
    assert done.stdout.startswith("1 of 6 done")
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    for path, reason in (
        (missing, "no such file"),
        (cut, "truncated"),
        (broken, "PNG"),
        (text, "invalid data"),
        (empty, "no photo or video"),
    ):
        assert any(line.startswith(f"{path}: ") and reason in line for line in lines), (path, lines)
    assert names(out) == ["good.png"]


def test_results_of_one_name_do_not_overwrite_each_other(server: RunningServer, tmp_path: Path, out: Path) -> None:
    first = write_photo(tmp_path / "same.png", plain(10))
    second = write_photo(tmp_path / "same.jpg", plain(200))
    done = segment(server.target, out, first, second, first)
    assert done.returncode == 1
    assert f"{second}: its result {out / 'same.png'} is that of {first}" in done.stderr
    assert done.stdout.startswith("1 of 2 done")
    assert_near(read_mask(out / "same.png"), plain(10)[..., 0], 1)
    before = first.read_bytes()
    onto_itself = segment(server.target, tmp_path, first)
    assert onto_itself.returncode == 1
    assert "would overwrite it" in onto_itself.stderr
    assert first.read_bytes() == before


# --- videos and folders


def test_a_video_becomes_numbered_masks(server: RunningServer, tmp_path: Path, out: Path) -> None:
    video = write_video(tmp_path / "talk.mp4", [plain(level) for level in range(40, 160, 10)])
    # What an earlier, longer run left, and what is not ours.
    (out / "talk").mkdir(parents=True)
    (out / "talk" / "0099.png").write_bytes(b"old")
    (out / "talk" / "notes.txt").write_bytes(b"mine")
    done = segment(server.target, out, "--temporal", "off", video)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(out) == [*(f"talk/{number:04d}.png" for number in range(12)), "talk/notes.txt"]
    for number, picture in enumerate(read_rgb(video)):
        assert_near(read_mask(out / "talk" / f"{number:04d}.png"), picture[..., 0], 1.5)


def test_a_folder_holds_photos_and_videos(server: RunningServer, tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    write_photo(folder / "one.png", plain(50))
    write_video(folder / "two.mp4", [plain(60), plain(70)])
    (folder / "readme.txt").write_text("not for us")
    done = segment(server.target, out, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(out) == ["one.png", "two/0000.png", "two/0001.png"]
    still = segment(server.target, tmp_path / "still", "--still", folder)
    assert still.returncode == 0
    assert names(tmp_path / "still") == ["one.png"]


def test_still_refuses_a_video(server: RunningServer, tmp_path: Path, out: Path) -> None:
    video = write_video(tmp_path / "talk.mp4", [plain(40)])
    done = segment(server.target, out, "--still", video)
    assert done.returncode == 1
    assert "not a photo, which --still is for" in done.stderr


def test_a_folder_of_numbered_frames_is_a_video(server: RunningServer, tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    levels = [20 * number for number in range(12)]
    for number, level in enumerate(levels):
        # Not padded: 10 must come after 9.
        write_photo(folder / f"{number}.png", plain(level))
    done = segment(server.target, out, "--as-video", "--temporal", "off", folder)
    assert (done.returncode, done.stderr) == (0, "")
    for number, level in enumerate(levels):
        assert_near(read_mask(out / "frames" / f"{number:04d}.png"), plain(level)[..., 0], 1)
    onto_itself = segment(server.target, tmp_path, "--as-video", folder)
    assert onto_itself.returncode == 1
    assert "would overwrite it" in onto_itself.stderr


def test_fusion_over_time_is_chosen(server: RunningServer, tmp_path: Path, out: Path) -> None:
    """Camera noise in the masks is smoothed by high, and left alone by off."""
    rng = np.random.default_rng(5)
    wall = red_gradient(*SIZE)
    noisy = [np.clip(wall + rng.normal(0, 6, wall.shape), 0, 255).astype(np.uint8) for _ in range(8)]
    folder = tmp_path / "noisy"
    folder.mkdir()
    for number, picture in enumerate(noisy):
        write_photo(folder / f"{number}.png", picture)
    flicker = {}
    for temporal in ("off", "high"):
        assert segment(server.target, out / temporal, "--as-video", "--temporal", temporal, folder).returncode == 0
        last, one_before = (read_mask(out / temporal / "noisy" / f"000{number}.png").astype(int) for number in (7, 6))
        flicker[temporal] = float(np.abs(last - one_before).mean())
    assert flicker["high"] < 0.7 * flicker["off"]


def test_a_video_cut_short_leaves_nothing_behind(server: RunningServer, tmp_path: Path, out: Path) -> None:
    rng = np.random.default_rng(1)
    video = write_video(tmp_path / "cut.mp4", [rng.integers(0, 255, (*SIZE.shape, 3), np.uint8) for _ in range(20)])
    video.write_bytes(video.read_bytes()[:-200_000])
    good = write_video(tmp_path / "good.mp4", [plain(9)])
    done = segment(server.target, out, video, good)
    assert done.returncode == 1
    assert f"{video}: breaks off after" in done.stderr
    assert names(out) == ["good/0000.png"]
    assert sorted(path.name for path in out.iterdir()) == ["good"]


# --- finished pictures


def test_a_photo_before_a_color(server: RunningServer, tmp_path: Path, out: Path) -> None:
    photo = write_photo(tmp_path / "half.png", np.concatenate([plain(255), plain(0)], axis=1))
    done = segment(server.target, out, "--composite", "#0a64c8", photo)
    assert (done.returncode, done.stderr) == (0, "")
    seen = cv2.imread(os.fspath(out / "half.png"), cv2.IMREAD_COLOR)
    assert seen is not None
    left, right = seen[20:-20, 20:280, ::-1], seen[20:-20, 360:-20, ::-1]
    assert np.abs(left.astype(int) - plain(255)[0, 0]).max() <= 2
    assert np.abs(right.astype(int) - (0x0A, 0x64, 0xC8)).max() <= 2


def test_a_video_before_a_picture_is_an_mp4_with_its_times(server: RunningServer, tmp_path: Path, out: Path) -> None:
    times_us = [0, 40_000, 120_000, 160_000]
    with VideoWriter(tmp_path / "talk.mp4", Fraction(25)) as writer:
        for time_us in times_us:
            writer.write(plain(0), time_us)
    beach = write_photo(tmp_path / "beach.png", np.full((50, 400, 3), (30, 200, 90), np.uint8))
    done = segment(server.target, out, "--composite", beach, tmp_path / "talk.mp4")
    assert (done.returncode, done.stderr) == (0, "")
    assert names(out) == ["talk.mp4"]
    with VideoReader(out / "talk.mp4") as reader:
        frames = list(reader)
    assert [round(frame.capture_time_us, -3) for frame in frames] == times_us
    assert_near(frames[0].picture, np.full((*SIZE.shape, 3), (30, 200, 90), np.uint8), 4)


# --- usage, servers, interruption


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--composite", "#12", "x.jpg"], "not #rrggbb"),
        (["--composite", "nothing.jpg", "x.jpg"], "neither blur"),
        (["--still", "--as-video", "x.jpg"], "not allowed with"),
        (["--target", "nowhere", "x.jpg"], "not HOST:PORT"),
        (["--temporal", "much", "x.jpg"], "invalid choice"),
        (["--fps", "0", "x.jpg"], "out of range"),
        ([], "required: FILE"),
    ],
)
def test_wrong_usage_has_a_status_of_its_own(out: Path, arguments: list[str], complaint: str) -> None:
    done = segment("127.0.0.1:1", out, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[-1]


def test_no_server_is_one_clear_line(tmp_path: Path, out: Path) -> None:
    done = segment("127.0.0.1:1", out, write_photo(tmp_path / "a.png", plain(1)))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("no answer from 127.0.0.1:1: ")


def test_an_unknown_model_is_one_clear_line(server: RunningServer, tmp_path: Path, out: Path) -> None:
    done = segment(server.target, out, "--model", "huge", write_photo(tmp_path / "a.png", plain(1)))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"{server.target} has no model 'huge'; it has medium, faulty"]


@pytest.fixture
def long_video(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    return write_video(tmp_path / "long.mp4", [rng.integers(0, 255, (360, 640, 3), np.uint8) for _ in range(150)])


def wait_for_frames(out: Path, process: "subprocess.Popen[str]") -> None:
    """Return once some frames are written under a name that is not theirs yet."""
    deadline = time.monotonic() + limit_s(30)
    while len(list(out.glob(".*.part/*.png"))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def running(server: RunningServer, out: Path, long_video: Path) -> Iterator["subprocess.Popen[str]"]:
    words = command(server.target, out, long_video)
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_for_frames(out, process)
            yield process
        finally:
            process.kill()


def test_ctrl_c_leaves_no_half_written_files(running: "subprocess.Popen[str]", out: Path) -> None:
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=limit_s(30))
    assert running.returncode == 130
    assert errors.splitlines() == ["interrupted; what was finished is in its place, nothing else was written"]
    assert list(out.iterdir()) == []


def test_a_server_that_dies_ends_the_run_with_one_line(
    models_folder: Path, tmp_path: Path, out: Path, long_video: Path
) -> None:
    photo = write_photo(tmp_path / "a.png", plain(1))
    with running_server(models_folder) as server:
        words = command(server.target, out, "--reconnect-s", "3", photo, long_video)
        with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            wait_for_frames(out, process)
            server.process.kill()
            output, errors = process.communicate(timeout=limit_s(60))
    assert process.returncode == 1
    assert len(errors.splitlines()) == 1
    assert errors.startswith(f"no answer from {server.target}: ")
    assert output.startswith("1 of 2 done")
    assert names(out) == ["a.png"]
