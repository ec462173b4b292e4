"""Model files that cannot be served: the service ends with status 1 and one line that names file, fault and mend."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from support.models import write_red_model
from support.server import ROOT
from support.timing import limit_s

ENGINE = pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-f32"])
MEDIUM = ROOT / "engines" / "models" / "medium.onnx"


def start(models: Path, *flags: str) -> tuple[int, list[str]]:
    """Exit status and standard error of a service that cannot start."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HUMANSEG_")}
    ended = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0", "--metrics-port", "0", "--models", str(models), *flags],
        cwd=ROOT, env=clean, capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip
    assert ended.stdout == ""
    return ended.returncode, ended.stderr.splitlines()


def cut_off(path: Path) -> None:
    path.write_bytes(MEDIUM.read_bytes()[:6_000_000])


def another_network(path: Path) -> None:
    """A sound ONNX file of somebody else."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 192, 320]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def unknown_operator(path: Path) -> None:
    model = onnx.load(write_red_model(path))
    model.graph.node[0].op_type = "Nonsense"
    onnx.save(model, path)


def without_metadata(path: Path) -> None:
    write_red_model(path, properties={})


def weights_elsewhere(path: Path) -> None:
    onnx.save(onnx.load(MEDIUM), path, save_as_external_data=True, location="weights.bin")
    path.with_name("weights.bin").unlink()


def damaged_text(path: Path) -> None:
    """One byte of the version, and it is no longer UTF-8."""
    path.write_bytes(write_red_model(path).read_bytes().replace(b"test", b"te\xfft"))


def unreadable(path: Path) -> None:
    """Opens, and fails to read, for root too."""
    path.symlink_to("/proc/self/mem")


def a_folder(path: Path) -> None:
    path.mkdir()


def nowhere(path: Path) -> None:
    path.symlink_to("gone.onnx")


@ENGINE
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (cut_off, "is not a model that"),
        (another_network, "the ONNX metadata lacks humanseg.channels"),
        (unknown_operator, "Nonsense"),
        (without_metadata, "python -m train.export"),
        (weights_elsewhere, "weights.bin"),
        (damaged_text, "is not a model that"),
        (unreadable, "cannot be read: Input/output error"),
        (a_folder, "cannot be read: Is a directory"),
        (nowhere, "no model file"),
    ],
)
def test_one_line_and_exit_status_1(tmp_path: Path, engine: str, spoil: Callable[[Path], None], text: str) -> None:
    path = tmp_path / "medium.onnx"
    spoil(path)
    status, lines = start(tmp_path, "--engine", engine)
    assert status == 1
    starting, failed = lines
    assert " event=starting " in starting
    assert " event=start_failed reason=" in failed
    assert str(path) in failed
    assert text in failed
    assert len(failed) < 900


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    write_red_model(tmp_path / "medium.onnx")
    (tmp_path / "file").touch()
    status, lines = start(tmp_path, "--engine", "openvino-f32", "--engine-cache", str(tmp_path / "file"))
    assert status == 1
    assert f"engine cache {tmp_path / 'file'} cannot be written: File exists" in lines[-1]
    assert len(lines) == 2
