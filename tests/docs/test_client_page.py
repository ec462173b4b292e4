"""docs/client.md: every piece of code runs as it stands there, against a real server."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from humanseg.video import VideoWriter, read_rgb
from support.certificates import Authority
from support.models import write_red_model
from support.server import ROOT, RunningServer, running_server
from support.timing import limit_s

PAGE = (ROOT / "docs" / "client.md").read_text()
SNIPPETS = dict(re.findall(r"^<!-- run: (\w+) -->\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"
FRAMES = 40
MASKS = ["(360, 640, 3) (360, 640)"] * FRAMES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the code runs: a clip, a photo, a token, certificates."""
    folder = tmp_path_factory.mktemp("client")
    with VideoWriter(folder / "talk.mp4", Fraction(30)) as writer:
        for picture in islice(read_rgb(CLIP), FRAMES):
            writer.write(picture)
    assert cv2.imwrite(os.fspath(folder / "photo.jpg"), np.full((90, 200, 3), 128, np.uint8))
    (folder / "models").mkdir()
    write_red_model(folder / "models" / "medium.onnx")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with running_server(folder / "models", environment={"HUMANSEG_SHARED_MEMORY": "true"}) as server:
        yield server


def run(name: str, folder: Path, target: str) -> list[str]:
    """Lines that the snippet of this name prints."""
    assert "127.0.0.1:50051" in SNIPPETS[name]
    done = subprocess.run(
        [sys.executable, "-c", SNIPPETS[name].replace("127.0.0.1:50051", target)],
        cwd=folder,
        env={**os.environ, "GRPC_VERBOSITY": "ERROR", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=limit_s(60),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_no_code_of_the_page_is_left_out() -> None:
    assert PAGE.count("```python") == len(SNIPPETS) == 9


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("still", ["(90, 200) uint8 medium"]),
        ("file", [f"{line} float64" for line in MASKS]),
        ("blocking", [*MASKS, *map(str, range(1, FRAMES + 1))]),
        ("composite", ["(360, 640, 3)"] * FRAMES),
        ("shared", MASKS),
    ],
)
def test_a_snippet_prints_what_it_says(name: str, expected: list[str], folder: Path, server: RunningServer) -> None:
    assert run(name, folder, server.target) == expected


def test_live_answers_every_frame_once_in_order(folder: Path, server: RunningServer) -> None:
    lines = run("live", folder, server.target)
    assert [int(line.split()[0]) for line in lines] == list(range(1, FRAMES + 1))
    assert f"{FRAMES} mask (360, 640)" in lines, "the newest is never superseded"


def test_another_stream_goes_on_from_the_resume_point(folder: Path, server: RunningServer) -> None:
    outcome, *answers = run("resume", folder, server.target)
    assert outcome == "RESUMED"
    assert 0 < len(answers) < FRAMES
    assert all(line.endswith(" None") for line in answers), "nothing was reset"


def test_an_error_says_what_to_do(folder: Path, server: RunningServer) -> None:
    (line,) = run("errors", folder, server.target)
    assert line.startswith("mend the request: ")


def test_tls_and_a_token(folder: Path) -> None:
    authority = Authority(folder)
    certificate, key = authority.sign("server", 1)
    for path, name in zip(authority.sign("client", 2), ("client.pem", "client.key"), strict=True):
        path.rename(folder / name)
    token = "a-token-of-acme, long enough for a server"
    (folder / "token").write_text(f"{token}\n")
    (folder / "tokens").write_text(f"{hashlib.sha256(token.encode()).hexdigest()} acme 1\n")
    flags = [
        "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
        "--tls-client-ca-file", str(authority.certificate), "--auth-tokens-file", str(folder / "tokens"),
    ]  # fmt: skip
    with running_server(folder / "models", *flags) as server:
        assert run("tls", folder, server.target) == ["['medium']"]
