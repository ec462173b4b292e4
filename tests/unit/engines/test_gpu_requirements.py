"""GPU engines on machines that cannot run them: one line, which names everything that is missing."""

import importlib.util
from pathlib import Path

import onnxruntime as ort
import pytest

from engines.gpu_requirements import require_gpu
from engines.registry import open_runner
from engines.runner import EngineUnavailableError
from support.drivers import build_driver, environment_with
from support.models import write_red_model

no_provider = pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this ONNX Runtime has the CUDA provider"
)


def opened_with_driver(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], engine: str, path: Path
) -> EngineUnavailableError:
    monkeypatch.setenv("LD_LIBRARY_PATH", environment["LD_LIBRARY_PATH"])
    with pytest.raises(EngineUnavailableError) as caught:
        open_runner(engine, path, max_batch=8, concurrency=1)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("engine", ["tensorrt", "tensorrt-fp32"])
def test_a_broken_driver_is_named_with_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    (tmp_path / "libcuda.so.1").write_text("no library")
    environment = environment_with(tmp_path)
    error = opened_with_driver(monkeypatch, environment, engine, write_red_model(tmp_path / "m.onnx"))
    assert str(error).startswith(f"engine {engine} cannot run here: the NVIDIA driver's library cannot be used")
    for package in ("tensorrt", "cuda"):
        if importlib.util.find_spec(package) is None:
            assert f"package {package}" in str(error)


def test_a_driver_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = build_driver(tmp_path, cuInit="(unsigned flags) { return 100; }")
    error = opened_with_driver(monkeypatch, environment, "tensorrt", write_red_model(tmp_path / "m.onnx"))
    assert "sees no GPU; look at `nvidia-smi`" in str(error)


def test_a_driver_that_crashes_leaves_the_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = build_driver(tmp_path, cuInit="(unsigned flags) { abort(); }")
    error = opened_with_driver(monkeypatch, environment, "tensorrt", write_red_model(tmp_path / "m.onnx"))
    assert "ended the probe in cuInit (SIGABRT)" in str(error)


def test_with_a_gpu_only_the_packages_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", build_driver(tmp_path)["LD_LIBRARY_PATH"])
    with pytest.raises(EngineUnavailableError) as caught:
        require_gpu("x", {"json": "never", "no_such_package.part": "take it from there"})
    assert str(caught.value) == (
        "engine x cannot run here: package no_such_package.part is not installed (take it from there)"
    )
    assert require_gpu("x", {"json": "never"}).usable[0].described == "GPU 0 Drawn GPU (compute capability 8.9)"


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_tensorrt_without_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NVIDIA's bindings do without the package of libraries that belongs to them."""
    (tmp_path / "tensorrt.py").write_text("import ctypes\nctypes.CDLL('libnvinfer.so.11')\n")
    (tmp_path / "cuda" / "bindings").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    error = opened_with_driver(monkeypatch, build_driver(tmp_path), "tensorrt", write_red_model(tmp_path / "m.onnx"))
    assert "TensorRT is installed, but cannot be loaded (libnvinfer.so.11: cannot open shared object file" in str(error)


@no_provider
def test_onnx_runtime_without_cuda_is_no_cuda(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"has \[.*CPUExecutionProvider.*\], not CUDAExecutionProvider"):
        open_runner("onnxruntime-cuda", write_red_model(tmp_path / "m.onnx"), max_batch=8, concurrency=1)
