"""docs/kserve.md: its code runs as it stands there, its commands are understood, and its limits are the service's."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import perf_analyzer
from humanseg.video import VideoWriter, read_rgb
from service.kserve_memory import REGIONS_LIMIT
from service.kserve_models import JPEG_SUFFIX
from support.models import write_red_model
from support.server import ROOT, RunningServer, running_server
from support.timing import limit_s

PAGE = (ROOT / "docs" / "kserve.md").read_text()
FLAT = " ".join(PAGE.split())
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"
FRAMES = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    models = tmp_path_factory.mktemp("models")
    write_red_model(models / "medium.onnx")
    with running_server(models, "--kserve") as running:
        yield running


@pytest.mark.parametrize(
    ("name", "wanted"), [("picture", ["mask.png"]), ("sequence", [f"mask{number}.png" for number in range(FRAMES)])]
)
def test_the_snippets_run(server: RunningServer, tmp_path: Path, name: str, wanted: list[str]) -> None:
    pictures = list(islice(read_rgb(CLIP), FRAMES))
    with VideoWriter(tmp_path / "talk.mp4", Fraction(30)) as writer:
        for picture in pictures:
            writer.write(picture)
    assert cv2.imwrite(os.fspath(tmp_path / "photo.jpg"), pictures[0][..., ::-1])
    (snippet,) = re.findall(rf"^<!-- run: {name} -->\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", snippet.replace("127.0.0.1:50051", server.target)],
        cwd=tmp_path, env={**os.environ, "GRPC_VERBOSITY": "ERROR"}, capture_output=True, text=True,
        timeout=limit_s(60), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("mask*.png")) == wanted
    for number, file in enumerate(wanted):
        mask = cv2.imread(os.fspath(tmp_path / file), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert mask.shape == (360, 640)
        # The model answers the red channel: so it is the mask of this picture, and its colours were not mixed up.
        assert np.abs(mask.astype(int) - pictures[number][..., 0]).mean() < 6


def test_the_limits_stated_hold() -> None:
    assert f"At most {REGIONS_LIMIT} regions are registered" in FLAT
    assert f"`NAME` and `NAME{JPEG_SUFFIX}`, in version `1`" in FLAT


def test_the_command_that_compares_is_understood() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    lines = re.findall(r"^python -m benchmarks\.perf_analyzer.*$", page, re.MULTILINE)
    assert lines
    for line in lines:
        options = perf_analyzer.parse_arguments(shlex.split(line)[3:])
        assert (options.rounds, options.requests) == (6, 600)
    assert "each run's 600 frames" in page
