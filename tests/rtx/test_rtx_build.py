"""TensorRT-RTX builds the shipped models ahead of time, for GPUs that are not here: `make rtx-check`.

What is proved: NVIDIA's parser, types, shapes, profiles and builder take our files, through our own builder. Not that
an engine runs, how fast, or what it answers: that needs a GPU.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, TensorProto

from engines.half import to_half
from engines.onnx_checks import check_model_file
from engines.plan import ANY_DRIVER, Flavor, PlanKey, PlanTensor, Precision, buckets_for
from engines.plan_cache import PlanCache
from engines.runner import EngineUnavailableError
from engines.tensorrt_api import TensorRtApi, open_api
from engines.tensorrt_builder import BuildCancelled, BuildError, Watch, build_plan
from support.models import LANDSCAPE, UPRIGHT, write_red_model
from support.server import ROOT
from support.timing import limit_s

pytestmark = pytest.mark.timeout(limit_s(600))
pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed; `make rtx-check` has it")

SHIPPED = sorted((ROOT / "engines" / "models").glob("*.onnx"))
#: Not 7.5: its plan has 695 MB.
CAPABILITIES = ("8.6", "8.9")
RED = PlanKey(
    model="medium",
    onnx_sha256="ab" * 32,
    flavor=Flavor.TENSORRT_RTX,
    version="-",
    compute_capability="8.9",
    driver=ANY_DRIVER,
    precision=Precision.FP32,
    buckets=(1, 2),
    canvases=(LANDSCAPE, UPRIGHT),
)


@pytest.fixture(scope="module")
def api() -> TensorRtApi:
    return open_api(Flavor.TENSORRT_RTX)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "engines.build", "--flavor", "tensorrt-rtx", *arguments]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=limit_s(300), check=False
    )


def nothing_to_say() -> Watch:
    return Watch(lambda steps: None, lambda: True)


@pytest.mark.parametrize("model", [path.stem for path in SHIPPED])
def test_every_shipped_model_builds(model: str, tmp_path: Path) -> None:
    arguments = ("--model", model, "--max-batch", "32", "--compute-capability", ",".join(CAPABILITIES))
    done = run(*arguments, "--cache", str(tmp_path))
    checked = check_model_file(ROOT / "engines" / "models" / f"{model}.onnx")
    assert done.returncode == 0, done.stderr
    reports = {}
    for path in tmp_path.glob("*.report.json"):
        report = json.loads(path.read_text())
        reports[report["compute_capability"]] = report
    assert sorted(reports) == sorted(CAPABILITIES)
    for capability, report in reports.items():
        key = PlanKey(
            model=checked.metadata.name,
            onnx_sha256=checked.sha256,
            flavor=Flavor.TENSORRT_RTX,
            version=report["version"],
            compute_capability=capability,
            driver=ANY_DRIVER,
            precision=Precision.FP16,
            buckets=buckets_for(32),
            canvases=checked.metadata.canvases,
        )
        loaded = PlanCache(tmp_path).load(key)
        assert loaded.sidecar.tensors == (
            PlanTensor("frames", "INPUT", "UINT8", (-1, -1, -1, checked.metadata.channels)),
            PlanTensor("alpha", "OUTPUT", "FLOAT", (-1, -1, -1)),
        )
        assert len(key.profiles) == report["profiles"] == 6 * len(checked.metadata.canvases)
        assert "TF32" not in loaded.sidecar.flags
        assert report["plan_bytes"] == len(loaded.plan) > 1_000_000
        half = report["half_against_fp32_on_cpu"]
        # Of a file that holds half precision already there is nothing to compare.
        assert half is None if checked.precision is Precision.FP16 else half["mean"] < 0.01
    again = run(*arguments, "--cache", str(tmp_path))
    assert (again.returncode, again.stdout.count("was there")) == (0, 2), again.stdout


def test_a_gpu_that_rtx_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    done = run("--model", "medium", "--compute-capability", "9.0", "--cache", str(tmp_path))
    assert done.returncode == 2
    assert re.search(r"builds for no GPU of compute capability 9\.0, only for .*8\.6, 8\.9.*; take", done.stderr)
    assert not list(tmp_path.glob("*.plan*"))


@pytest.mark.parametrize("precision", list(Precision))
def test_both_precisions_and_every_profile(api: TensorRtApi, precision: Precision) -> None:
    checked = check_model_file(ROOT / "engines" / "models" / "medium.onnx")
    content = checked.content if precision is Precision.FP32 else to_half(checked.model).model.SerializeToString()
    steps = [0, 0]

    def begun(count: int) -> None:
        steps[0] += count

    def step() -> bool:
        steps[1] += 1
        return True

    key = replace(RED, buckets=(1, 3), canvases=checked.metadata.canvases, precision=precision)
    built = build_plan(api, content, key, checked.metadata.channels, Watch(begun, step), None)
    assert len(built.plan) > 1_000_000
    assert steps[0] >= steps[1] > 10


def red(tmp_path: Path, change: Callable[[ModelProto], object]) -> bytes:
    model = onnx.load(write_red_model(tmp_path / "red.onnx"))
    change(model)
    content: bytes = model.SerializeToString()
    return content


def nothing(model: ModelProto) -> None:
    pass


def unknown_operator(model: ModelProto) -> None:
    model.graph.node[2].op_type = "Divide"


def missing_edge(model: ModelProto) -> None:
    model.graph.node[2].input[0] = "nowhere"


def float_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def fixed_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


@pytest.mark.parametrize(
    ("change", "channels", "text"),
    [
        (unknown_operator, 3, "NVIDIA's parser refused the model: INVALID_NODE at node 2 Divide"),
        (missing_edge, 3, "NVIDIA's parser refused the model: INVALID_GRAPH"),
        (float_input, 3, "expected one UINT8 input"),
        (nothing, 4, r"expected one UINT8 input \(-1, -1, -1, 4\)"),
        (fixed_batch, 3, "did not build medium: .*Dimension mismatch for tensor frames and profile 0"),
    ],
)
def test_what_gets_past_our_checks_is_refused_with_the_reason(
    api: TensorRtApi, tmp_path: Path, change: Callable[[ModelProto], object], channels: int, text: str
) -> None:
    with pytest.raises(BuildError, match=text):
        build_plan(api, red(tmp_path, change), RED, channels, nothing_to_say(), None)


@pytest.mark.parametrize("content", [b"", b"plain text, no model\n" * 40])
def test_what_the_parser_takes_for_a_model_is_not_built(api: TensorRtApi, content: bytes) -> None:
    with pytest.raises(BuildError, match=r"found no layers|parser refused"):
        build_plan(api, content, RED, 3, nothing_to_say(), None)


def test_a_file_that_is_cut_off(api: TensorRtApi, tmp_path: Path) -> None:
    whole = red(tmp_path, nothing)
    with pytest.raises(BuildError, match="parser refused the model: MODEL_DESERIALIZE_FAILED"):
        build_plan(api, whole[: len(whole) // 2], RED, 3, nothing_to_say(), None)


def test_a_build_that_is_told_to_stop_says_so_once(
    api: TensorRtApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(BuildCancelled):
        build_plan(api, red(tmp_path, nothing), RED, 3, Watch(lambda steps: None, lambda: False), None)
    assert not caplog.records  # without a logging set up, they would be lines of their own on the terminal


def test_an_unknown_capability(api: TensorRtApi, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"builds for no GPU of compute capability 1\.0"):
        build_plan(api, red(tmp_path, nothing), replace(RED, compute_capability="1.0"), 3, nothing_to_say(), None)


def test_a_terminal_shows_the_steps(tmp_path: Path) -> None:
    arguments = ("--model", "medium", "--max-batch", "1", "--compute-capability", "8.9", "--cache", str(tmp_path))
    done = subprocess.run(
        ["script", "-qec", f"stty cols 160 rows 40; {shlex.join(command(*arguments))}", "/dev/null"],
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(300), check=False,
    )  # fmt: skip
    assert re.search(r"medium-fp16-tensorrt-rtx-sm89-\w+: +\d+%\|.*\| \d+/\d+ ", done.stdout), done.stdout


def test_ctrl_c_ends_it_with_one_line_and_nothing_written(tmp_path: Path) -> None:
    arguments = ("--model", "medium", "--max-batch", "32", "--compute-capability", "8.9", "--cache", str(tmp_path))
    with subprocess.Popen(
        command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert ": building medium" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=limit_s(120))
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "engines.build: interrupted; nothing was written\n")
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock"}


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda path: path.write_bytes(b""), "bad.onnx failed the check of its file: it has 0 bytes"),
        (lambda path: path.write_text("text\n" * 99), "bad.onnx failed the check of its form"),
        (lambda path: write_red_model(path, properties={}), "bad.onnx failed the check of its metadata"),
        (lambda path: write_red_model(path), "the model has none of Conv"),
    ],
)
def test_a_bad_model_ends_the_command_with_one_line(tmp_path: Path, write: Callable[[Path], object], text: str) -> None:
    write(tmp_path / "bad.onnx")
    cache = tmp_path / "engines"
    done = run("--model", "bad", "--models", str(tmp_path), "--compute-capability", "8.9", "--cache", str(cache))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert text in done.stderr
    assert not cache.exists()


def test_half_precision_cannot_be_served_as_float32(tmp_path: Path) -> None:
    half = to_half(check_model_file(ROOT / "engines" / "models" / "medium.onnx").model).model
    (tmp_path / "half.onnx").write_bytes(half.SerializeToString())
    arguments = ("--models", str(tmp_path), "--model", "half", "--max-batch", "1", "--compute-capability", "8.9")
    done = run(*arguments, "--precision", "fp32", "--cache", str(tmp_path / "engines"))
    assert done.returncode == 1
    assert "half.onnx holds half precision, float32 cannot be had from it; --precision fp16" in done.stderr
    done = run(*arguments, "--precision", "fp16", "--cache", str(tmp_path / "engines"))
    assert done.returncode == 0, done.stderr


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    done = run("--model", "medium", "--max-batch", "1", "--compute-capability", "8.9", "--cache", os.fspath(blocked))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert f"engine cache {blocked} cannot be written: File exists" in done.stderr
