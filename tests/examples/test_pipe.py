"""examples/pipe.py as people run it: against a real server, with a real ffmpeg at both ends."""

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from humanseg.video import read_rgb
from support.halves import BLUE, FRAMES, RED, assert_halves, make_clip, source
from support.server import ROOT, RunningServer
from support.timing import limit_s

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg: pip install -e '.[examples]'")
FFMPEG = str(imageio_ffmpeg.get_ffmpeg_exe())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(*words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "examples.pipe", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(90), check=False,
    )  # fmt: skip


def test_a_file_gets_another_background_and_keeps_its_sound(server: RunningServer, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.mp4", FFMPEG)
    done = run("--server", server.target, "--background", "#0000ff", clip, tmp_path / "done.mp4")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.startswith(f"{FRAMES} frames written")
    pictures = list(read_rgb(tmp_path / "done.mp4"))
    assert len(pictures) == FRAMES
    for picture in pictures:
        assert_halves(picture, RED, BLUE)
    streams = subprocess.run(
        [FFMPEG, "-i", tmp_path / "done.mp4"], capture_output=True, text=True, timeout=limit_s(30), check=False
    ).stderr
    assert "Audio:" in streams
    assert names_in(tmp_path) == ["done.mp4", "talk.mp4"]


def test_pipes_at_both_ends_and_odd_sides(server: RunningServer, tmp_path: Path) -> None:
    """The line of --help: ffmpeg before, ffmpeg behind, sizes that are not even."""
    odd = source("322x182")
    before = f"{shlex.quote(FFMPEG)} -v error -f lavfi -i {shlex.quote(odd)} -vf format=yuv444p,crop=321:181:0:0"
    command = f"{sys.executable} -m examples.pipe --server {server.target} --background '#0000ff' - -"
    after = f"{shlex.quote(FFMPEG)} -v error -f yuv4mpegpipe -i - -f rawvideo -pix_fmt rgb24 -"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c",
         f"{before} -pix_fmt yuv420p -color_range tv -f yuv4mpegpipe - | {command} | {after}"],
        cwd=ROOT, capture_output=True, timeout=limit_s(90), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, 181, 321, 3)
    assert len(pictures) == FRAMES
    for picture in pictures:
        assert_halves(picture, RED, BLUE)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"RIFF....", "no y4m video"),
        (b"YUV4MPEG2 W32 H32 F25:1 C444\n", "C444, allowed is 8-bit C420"),
        (b"YUV4MPEG2 W32 H32 F25:1 XCOLORRANGE=FULL\n", "full range"),
        (b"YUV4MPEG2 W32 H0 F25:1\n", "lacks width W, height H"),
        (b"YUV4MPEG2 W32 H32 F25:1 C420\n", "holds no picture"),
        (b"YUV4MPEG2 W32 H32 F25:1 C420\nFRAME\n" + bytes(1535), "breaks off in frame 0: 1535 of 1536 bytes"),
    ],
)
def test_a_pipe_that_brings_something_else_is_told_so(server: RunningServer, header: bytes, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.pipe", "--server", server.target, "-", "-"],
        cwd=ROOT, input=header, capture_output=True, timeout=limit_s(90), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, b"")
    assert told in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_what_cannot_be_done_is_named_and_leaves_no_file(server: RunningServer, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.mp4", FFMPEG)
    (tmp_path / "text.mp4").write_text("not a video")
    no_server = ("--server", "127.0.0.1:1", clip, tmp_path / "a.mp4")
    no_video = ("--server", server.target, tmp_path / "text.mp4", tmp_path / "a.mp4")
    no_model = ("--server", server.target, "--model", "huge", clip, tmp_path / "a.mp4")
    no_format = ("--server", server.target, clip, tmp_path / "a.unknown")
    for words, status, told in [
        (no_server, 1, "no answer from 127.0.0.1:1"),
        (no_video, 1, f"reading {tmp_path / 'text.mp4'}: "),
        (no_model, 1, "huge"),
        (no_format, 1, "writing "),
        ((tmp_path / "none.mp4", "a.mp4"), 2, "none.mp4: no such file"),
        ((clip, tmp_path / "none" / "a.mp4"), 2, "no such folder"),
        (("--background", "pink", clip, tmp_path / "a.mp4"), 2, "neither blur, nor #rrggbb"),
    ]:
        done = run(*words)
        assert done.returncode == status, (words, done.stderr)
        assert told in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
    assert names_in(tmp_path) == ["talk.mp4", "text.mp4"]
