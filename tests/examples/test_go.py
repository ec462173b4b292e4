"""examples/go against a real server; its command generates the stubs and compiles."""

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
PROGRAMS = ("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(limit_s(900)),  # the first build compiles gRPC
    pytest.mark.skipif(
        None in map(shutil.which, PROGRAMS), reason="needs Debian's packages named in examples/go/run.sh"
    ),
]


def run(folder: Path, *words: object, feed: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["sh", ROOT / "examples" / "go" / "run.sh", *map(str, words)],
        cwd=folder, input=feed, capture_output=True, timeout=limit_s(600), check=False,
    )  # fmt: skip


def test_masks_of_a_file_and_of_a_pipe_with_odd_sides(server: RunningServer, tmp_path: Path) -> None:
    for size, (width, height), is_piped in [("320x180", (320, 180), False), ("321x181", (321, 181), True)]:
        clip = make_clip(tmp_path / f"{size}.y4m", FFMPEG, size=size)
        video, feed = ("-", clip.read_bytes()) if is_piped else (clip, None)
        done = run(tmp_path, "-server", server.target, "-out", size, video, feed=feed)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode() == f"{FRAMES} masks of {size} in {size}\n"
        paths = sorted((tmp_path / size).iterdir())
        assert [path.name for path in paths] == [f"{number:04d}.png" for number in range(FRAMES)]
        for path in paths:
            mask = cv2.imread(os.fspath(path), cv2.IMREAD_UNCHANGED)
            assert_mask(np.asarray(mask, np.uint8), width=width, height=height)


def test_what_cannot_be_done_is_named(server: RunningServer, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "talk.y4m", FFMPEG)
    (tmp_path / "cut.y4m").write_bytes(clip.read_bytes()[:-1])
    (tmp_path / "text.mp4").write_text("not a video")
    here = ("-server", server.target)
    for words, status, told in [
        (("-server", "127.0.0.1:1", clip), 1, "Unavailable: "),
        ((*here, "-model", "huge", clip), 1, "NotFound: "),
        ((*here, tmp_path / "cut.y4m"), 1, f"breaks off in frame {FRAMES - 1}"),
        ((*here, tmp_path / "text.mp4"), 1, "no y4m video"),
        ((*here, tmp_path / "none.y4m"), 1, "no such file"),
        ((*here,), 2, "one VIDEO is wanted, got 0"),
    ]:
        done = run(tmp_path, *words)
        assert done.returncode == status, (words, done.stderr)
        assert told in done.stderr.decode(), (words, done.stderr)
