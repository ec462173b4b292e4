"""README.md: short, every command of it works, every file it names exists."""

import os
import re
import subprocess
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from humanseg.video import VideoWriter, read_rgb
from support.models import write_red_model
from support.server import running_server
from support.timing import limit_s

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
CLIP = ROOT / "benchmarks" / "clips" / "demo_signing_640x360.mp4"
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": PATH, "GRPC_VERBOSITY": "ERROR"},
        capture_output=True, text=True, timeout=limit_s(240), check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_it_is_short_and_begins_with_the_demo() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    assert any("make demo" in line for line in lines[:20])


def test_every_target_of_make_exists() -> None:
    named = {word for line in re.findall(r"make ((?:[a-z-]+\s?)+)`?", README) for word in line.split()[:1]}
    assert {"demo", "serve"} <= named
    assert {word for word in named if f"`make {word}" in README or f"\nmake {word}" in README} <= TARGETS


def test_every_file_named_exists() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    quoted = re.findall(r"`((?:proto|humanseg|service|engines|train|benchmarks|deploy|docs)/[\w./-]*)`", README)
    assert len(linked) > 8
    assert quoted
    for name in [*linked, *quoted]:
        assert (ROOT / name).exists(), name


def test_its_code_runs_against_a_server(tmp_path: Path) -> None:
    """The Python and the shell lines, word by word but for the port; a video shorter than ours takes the same way."""
    work = tmp_path / "work"
    work.mkdir()
    pictures = list(islice(read_rgb(CLIP), 12))
    with VideoWriter(work / "talk.mp4", Fraction(30)) as writer:
        for picture in pictures:
            writer.write(picture)
    assert cv2.imwrite(os.fspath(work / "photo.jpg"), np.ascontiguousarray(pictures[0][..., ::-1]))
    write_red_model(tmp_path / "medium.onnx")
    (python,) = blocks("python")
    shell = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("python ")]
    assert len(shell) >= 2
    with running_server(tmp_path) as server:
        printed = run([sys.executable, "-c", python.replace("127.0.0.1:50051", server.target)], work)
        assert len(printed.splitlines()) == 12
        assert re.fullmatch(r"\(360, 640, 3\) \(360, 640\) \d+% of the picture is person", printed.splitlines()[0])
        for line in shell:
            run(["bash", "-c", f"{line} --target {server.target}"], work)
    assert len(list((work / "masks" / "talk").glob("*.png"))) == 12
    assert (work / "masks" / "photo.png").exists()
    assert len(list(read_rgb(work / "done" / "talk.mp4"))) == 12
