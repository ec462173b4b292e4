"""docs/protocol.md: its code runs as it stands there, and the limits it states are the service's."""

import os
import re
import subprocess
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from humanseg.planes import CUTOUT_BYTES
from humanseg.stream import SegmentationStream
from humanseg.video import VideoWriter, read_rgb
from humanseg.vision.composite_edge import LARGEST_SPREAD_RATIO
from humanseg.vision.composite_planes import LARGEST_BLUR_RATIO, LEAST_BLUR_RATIO
from humanseg.vision.main_person import PATIENCE_FRAMES
from service.compositing import IMAGES_LIMIT
from support.models import write_red_model
from support.server import ROOT, running_server
from support.timing import limit_s

PAGE = (ROOT / "docs" / "protocol.md").read_text()
FLAT = " ".join(PAGE.split())
NUMBERS = {9: "nine", 10: "ten"}
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"


def printed_by(name: str, tmp_path: Path) -> list[str]:
    """The lines that a snippet prints in a folder with a video of six frames and an image, beside a real server."""
    with VideoWriter(tmp_path / "talk.mp4", Fraction(30)) as writer:
        for picture in islice(read_rgb(CLIP), 6):
            writer.write(picture)
    assert cv2.imwrite(os.fspath(tmp_path / "beach.jpg"), np.full((90, 200, 3), 128, np.uint8))
    return run_snippet(name, tmp_path)


def test_the_snippet_of_a_still_runs(tmp_path: Path) -> None:
    for name, level in (("beach.jpg", 128), ("portrait.jpg", 0)):
        assert cv2.imwrite(os.fspath(tmp_path / name), np.full((90, 200, 3), level, np.uint8))
    assert run_snippet("compose", tmp_path) == ["JPEG 200x90"]
    written = cv2.imread(os.fspath(tmp_path / "on-the-beach.jpg"))
    assert written is not None
    assert np.abs(written.astype(int) - 128).max() <= 2, "nobody is in the portrait"


def run_snippet(name: str, folder: Path) -> list[str]:
    """What the page's snippet of that name prints, line by line; it runs in ``folder``, against the red model."""
    models = folder / "models"
    models.mkdir()
    write_red_model(models / "medium.onnx")
    (snippet,) = re.findall(rf"^<!-- run: {name} -->\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    with running_server(models) as server:
        done = subprocess.run(
            [sys.executable, "-c", snippet.replace("127.0.0.1:50051", server.target)],
            cwd=folder,
            env={**os.environ, "GRPC_VERBOSITY": "ERROR", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=limit_s(60),
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_snippet_of_finished_pictures_runs(tmp_path: Path) -> None:
    assert printed_by("composite", tmp_path) == ["(360, 640, 3)"] * 6


def test_the_snippet_of_planes_runs(tmp_path: Path) -> None:
    assert printed_by("planes", tmp_path) == ["(360, 640)", *["(360, 640) BT709 LIMITED"] * 5]


def test_the_limits_stated_hold() -> None:
    assert f"is {100 * LEAST_BLUR_RATIO:g} to {100 * LARGEST_BLUR_RATIO:g} % of the height" in FLAT
    assert f"at most {IMAGES_LIMIT} in a stream" in FLAT
    assert f"where the padding is longer than {CUTOUT_BYTES - 1} bytes" in FLAT
    assert f"up to {CUTOUT_BYTES - 1} bytes a row" in " ".join((SegmentationStream.send.__doc__ or "").split())
    assert f"`spread_percent` (0 to {100 * LARGEST_SPREAD_RATIO:g}, default 0)" in FLAT
    assert f"gets it after {NUMBERS[PATIENCE_FRAMES]} frames in a row" in FLAT
    assert f"nobody is shown for {NUMBERS[PATIENCE_FRAMES - 1]} frames" in FLAT
