"""examples/node against a real server. `make examples-test` installs its packages."""

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.halves import FRAMES, assert_mask, make_clip
from support.server import ROOT, RunningServer
from support.timing import limit_s

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg: pip install -e '.[examples]'")
FFMPEG = str(imageio_ffmpeg.get_ffmpeg_exe())
FOLDER = ROOT / "examples" / "node"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules").is_dir(), reason="needs its packages: npm ci --prefix examples/node"
    ),
]


def run(folder: Path, *words: object, feed: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["node", FOLDER / "client.mjs", *map(str, words)],
        cwd=folder, input=feed, capture_output=True, timeout=limit_s(60), check=False,
    )  # fmt: skip


def assert_masks(folder: Path, *, width: int, height: int) -> None:
    paths = sorted(folder.iterdir())
    assert [path.name for path in paths] == [f"{number:04d}.png" for number in range(FRAMES)]
    for path in paths:
        mask = cv2.imread(os.fspath(path), cv2.IMREAD_UNCHANGED)
        assert_mask(np.asarray(mask, np.uint8), width=width, height=height)


def test_masks_of_a_file_and_of_a_pipe_with_odd_sides(server: RunningServer, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.mp4", FFMPEG)
    done = run(tmp_path, "--server", server.target, "--ffmpeg", FFMPEG, clip)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"10 masks of 320x180 in masks\n"
    assert_masks(tmp_path / "masks", width=320, height=180)
    odd = make_clip(tmp_path / "odd.y4m", FFMPEG, size="321x181")
    done = run(tmp_path, "--server", server.target, "--out", "odd", "-", feed=odd.read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert_masks(tmp_path / "odd", width=321, height=181)


def test_what_cannot_be_done_is_named(server: RunningServer, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.y4m", FFMPEG)
    (tmp_path / "cut.y4m").write_bytes(clip.read_bytes()[:-1])
    (tmp_path / "text.mp4").write_text("not a video")
    here = ("--server", server.target)
    for words, status, told in [
        (("--server", "127.0.0.1:1", clip), 1, "UNAVAILABLE"),
        ((*here, "--model", "huge", clip), 1, "NOT_FOUND"),
        ((*here, tmp_path / "cut.y4m"), 1, f"breaks off in frame {FRAMES - 1}"),
        ((*here, "--ffmpeg", FFMPEG, tmp_path / "text.mp4"), 1, "ffmpeg could not read it"),
        ((*here, "--ffmpeg", "no-ffmpeg", tmp_path / "text.mp4"), 1, "no-ffmpeg: spawn no-ffmpeg ENOENT"),
        ((*here, tmp_path / "none.y4m"), 1, "ENOENT"),
        ((*here,), 2, "one VIDEO is wanted, got 0"),
        ((*here, "--port", "1", clip), 2, "--port"),
    ]:
        done = run(tmp_path, *words)
        assert done.returncode == status, (words, done.stderr)
        assert told in done.stderr.decode(), (words, done.stderr)
        assert b"    at " not in done.stderr, done.stderr
