"""What `make demo` runs, with a small model and a short clip."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from benchmarks.machine import ROOT
from humanseg.video import VideoReader, VideoWriter
from humanseg.vision.arrays import Picture, Size
from humanseg.vision.sheet import CAPTION_BAR_PX, GAP_PX
from support.timing import limit_s

SIZE = Size(320, 180)
FRAMES = 12


def command(clip: Path, out: Path, models: Path) -> list[str]:
    paths = (os.fspath(clip), "--out", os.fspath(out), "--models", os.fspath(models))
    return [sys.executable, "-m", "benchmarks.demo", "--input", *paths]


def demo(clip: Path, out: Path, models: Path) -> "subprocess.CompletedProcess[str]":
    # A terminal's width, so that lines are not broken where the test looks for words.
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        command(clip, out, models),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=limit_s(110),
        check=False,
    )


def half_red(number: int) -> Picture:
    """Person on the left, as the red model sees it; a line that moves, so that frames differ."""
    picture = np.full((*SIZE.shape, 3), 40, np.uint8)
    picture[:, : SIZE.width // 2, 0] = 255
    picture[:, SIZE.width // 2 :, 0] = 0
    picture[5 * number : 5 * number + 4, :, 1] = 200
    return picture


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "clip.mp4", Fraction(25)) as writer:
        for number in range(FRAMES):
            writer.write(half_red(number))
    return tmp_path / "clip.mp4"


def children_of_the_demo(out: Path) -> list[psutil.Process]:
    """Servers whose log lies in that folder: they run in a session of their own, so the log tells whose they are."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and "service" in process.info["cmdline"]:
            try:
                files = [file.path for file in process.open_files()] + [
                    os.fspath(Path(f"/proc/{process.pid}/fd/2").readlink())
                ]
            except (psutil.Error, OSError):
                continue
            if os.fspath(out / "server.log") in files:
                found.append(process)
    return found


def test_the_demo_shows_and_measures(clip: Path, tmp_path: Path, models_folder: Path) -> None:
    out = tmp_path / "demo"
    done = demo(clip, out, models_folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert children_of_the_demo(out) == []

    with VideoReader(out / "demo.mp4") as reader:
        shown = [frame.picture.astype(int) for frame in reader]
    assert len(shown) == FRAMES
    assert shown[0].shape == (SIZE.height + CAPTION_BAR_PX, 3 * SIZE.width + 2 * GAP_PX, 3)
    for number, picture in enumerate(shown):
        source, mask, new = (
            picture[CAPTION_BAR_PX:, index * (SIZE.width + GAP_PX) :][:, : SIZE.width] for index in range(3)
        )
        person, room = (slice(None), slice(0, 140)), (slice(None), slice(180, None))
        assert np.abs(source - half_red(number)).mean() < 8
        assert mask[person].min() > 220
        assert mask[room].max() < 35
        assert np.abs(new[person] - half_red(number)[person]).mean() < 8
        # The drawn office has no pixel of the clip's room: dark red nowhere, and not one color.
        assert new[room].std() > 5

    sheet = cv2.imread(os.fspath(out / "contact_sheet.png"))
    assert sheet is not None
    assert min(sheet.shape[:2]) > 400

    report = json.loads((out / "report.json").read_text())
    assert report["frames"]["sent"] == report["frames"]["masks"] == FRAMES
    assert report["frames"]["dropped"] == {}
    assert report["served"]["model"] == "medium"
    assert report["served"]["engine"] == "onnxruntime-cpu"
    assert report["served"]["exit_status"] == 0
    assert report["stream"] == {
        "pixel_format": "i420",
        "mask_encoding": "alpha8",
        "frame_policy": "every",
        "temporal": "high",
        "frames_under_way": 1,
    }
    assert {"inference", "fusion", "preprocess", "postprocess", "total", "transport"} <= set(report["stages"])
    assert report["stages"]["total"]["n"] == FRAMES
    server = report["server"]
    by_stage = server["cpu_ms_per_mask_by_stage"]
    beyond = server["cpu_ms_per_mask"] - by_stage["inference"] - by_stage["fusion"]
    assert server["cpu_ms_per_mask_beyond_engine_and_fusion"] == pytest.approx(beyond, abs=0.002)
    assert server["masks_counted_by_server"] == FRAMES
    assert report["machine"]["packages"]["onnxruntime"]

    assert "p50" in done.stdout
    assert "beyond engine and fusion" in done.stdout
    for name in ("demo.mp4", "contact_sheet.png", "report.json"):
        assert os.fspath(out / name) in done.stdout


def test_a_clip_that_is_missing_or_broken_is_one_line(tmp_path: Path, models_folder: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    for clip, reason in ((tmp_path / "missing.mp4", "no such file"), (broken, "invalid data")):
        done = demo(clip, tmp_path / "demo", models_folder)
        assert done.returncode == 1
        assert done.stderr.startswith(f"demo: {clip}: {reason}")
        assert len(done.stderr.splitlines()) == 1


def test_a_service_that_does_not_start_shows_its_log(clip: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    done = demo(clip, tmp_path / "demo", nothing)
    assert done.returncode == 1
    first, *tail = done.stderr.splitlines()
    assert first.startswith("demo: the server ended with status 1")
    assert any("event=start_failed" in line for line in tail)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, models_folder: Path, how: signal.Signals) -> None:
    long = tmp_path / "long.mp4"
    with VideoWriter(long, Fraction(25)) as writer:
        for number in range(1500):
            writer.write(half_red(number % 30))
    out = tmp_path / "demo"
    with subprocess.Popen(
        command(long, out, models_folder), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + limit_s(60)
        while "event=session_opened" not in ((out / "server.log").read_text() if (out / "server.log").exists() else ""):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(children_of_the_demo(out)) == 1
        process.send_signal(how)
        _, errors = process.communicate(timeout=limit_s(40))
    assert process.returncode == 130
    assert errors.splitlines() == ["demo: interrupted; the service is stopped"]
    assert children_of_the_demo(out) == []
    assert not (out / "demo.mp4").exists()
