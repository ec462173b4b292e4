"""The command for machines with a GPU, on one without: what it says, its status, and what it would measure with."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.gpu_check import PART_NAMES, PartReport, Verdict, exit_status, table
from engines.gpu_measure import endure, parity, percentiles
from engines.gpu_parts import PARTS
from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import EngineFailedError, Runner
from support.drivers import build_driver
from support.models import LANDSCAPE, UPRIGHT, write_red_model
from support.timing import limit_s

ROOT = Path(__file__).resolve().parent.parent.parent.parent
HAS_BINDINGS = importlib.util.find_spec("cuda") is not None


def checked(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "engines.gpu_check", *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=limit_s(100)
    )


def test_without_a_gpu_one_line_and_a_status(tmp_path: Path) -> None:
    done = checked(build_driver(tmp_path, cuInit="(unsigned flags) { return 100; }"))
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("nothing could be checked: the NVIDIA driver (CUDA 13.0) sees no GPU")


@pytest.mark.skipif(HAS_BINDINGS, reason="cuda-bindings is installed, and would talk to the stand-in driver")
def test_a_part_that_cannot_run_says_why(tmp_path: Path) -> None:
    done = checked(build_driver(tmp_path), "--parts", "cuda", "--out", str(tmp_path / "gpu.json"))
    assert done.returncode == 3
    found, cuda = done.stderr.splitlines()
    assert found == "CUDA 13.0, 0 Drawn GPU (sm_89)"
    assert cuda.startswith("cuda: not run (engine gpu_check cannot run here: package cuda.bindings is not installed")
    answer = json.loads(done.stdout)
    assert answer == json.loads((tmp_path / "gpu.json").read_text())
    assert [part["verdict"] for part in answer["parts"]] == ["not run"]
    assert answer["devices"][0]["name"] == "Drawn GPU"


def test_wrong_usage(tmp_path: Path) -> None:
    done = checked({}, "--parts", "cuda,opencl")
    assert done.returncode == 2
    assert "unknown opencl; known are cuda, " in done.stderr


def test_every_part_has_a_name_and_engines_are_built_before_they_run() -> None:
    assert sorted(PART_NAMES) == sorted(PARTS)
    assert max(map(PART_NAMES.index, ("build-fp16", "build-fp32"))) < PART_NAMES.index("tensorrt")


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([Verdict.IN_ORDER, Verdict.IN_ORDER], 0),
        ([Verdict.IN_ORDER, Verdict.NOT_RUN], 3),
        ([Verdict.NOT_RUN, Verdict.FAILED, Verdict.IN_ORDER], 1),
    ],
)
def test_the_status_is_that_of_the_worst_part(verdicts: list[Verdict], status: int) -> None:
    assert exit_status([PartReport("x", verdict) for verdict in verdicts]) == status


def test_the_table_shows_what_was_measured() -> None:
    times = {"compute_ms": percentiles([1.0] * 9), "total_ms": percentiles([2.0]), "wall_ms": percentiles([3.0])}
    figures: dict[str, object] = {"device": "GPU 0", "CUDA graph": {"4": {**times, "frames_per_s_4_callers": 99.0}}}
    reports = [PartReport("cuda", Verdict.IN_ORDER, None, figures), PartReport("pycuda", Verdict.NOT_RUN, "no")]
    head, row = table(reports)
    assert head.split("  ")[0] == "part"
    assert " ".join(row.split()) == "cuda CUDA graph 4 1.000 / 1.000 2.000 / 2.000 3.000 / 3.000 99.0"


def runner_of(path: Path, divisor: float = 255.0) -> Runner:
    return open_runner(DEFAULT_ENGINE, write_red_model(path, divisor=divisor), max_batch=8, concurrency=1)


def test_parity_finds_an_engine_that_answers_something_else(tmp_path: Path) -> None:
    reference, other = runner_of(tmp_path / "a.onnx"), runner_of(tmp_path / "b.onnx", divisor=257.0)
    random = np.random.default_rng(0)
    frames = {canvas: random.integers(0, 256, (8, *canvas.shape, 3), dtype=np.uint8) for canvas in (LANDSCAPE, UPRIGHT)}
    assert parity(reference, reference, frames, (1, 4, 8), 1e-6) == {"to_cpu": 0, "other_order": 0, "equal_rows": 0}
    with pytest.raises(EngineFailedError, match=r"to_cpu: mean difference of alpha 0.003\d+ at batch 1 of 160x96"):
        parity(reference, other, frames, (1, 4, 8), 0.002)


def test_so_many_requests_are_made_as_asked_for() -> None:
    sizes: list[int] = []

    def run(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return batch

    endure(run, np.zeros((4, 2, 2, 3), np.uint8), (1, 2, 4), 90)
    assert sorted(sizes) == [1] * 30 + [2] * 30 + [4] * 30
