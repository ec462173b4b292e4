"""The service asked for a GPU that is not there: a line, a status, and no other engine in its place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.drivers import build_driver
from support.models import write_red_model
from support.timing import limit_s

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("engine", "cu_init", "reason"),
    [
        ("tensorrt", "(unsigned flags) { return 100; }", "sees no GPU"),
        ("tensorrt", "(unsigned flags) { *(volatile int *)0 = 1; return 0; }", "ended the probe in cuInit (SIGSEGV)"),
        ("onnxruntime-cuda", "(unsigned flags) { return 100; }", "cannot run here"),
    ],
)
def test_nothing_stands_in_for_a_gpu(tmp_path: Path, engine: str, cu_init: str, reason: str) -> None:
    write_red_model(tmp_path / "medium.onnx")
    environment = build_driver(tmp_path, cuInit=cu_init)
    command = [sys.executable, "-m", "service", "--engine", engine, "--models", str(tmp_path), "--port", "0"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=limit_s(60),
        check=False,
    )
    assert done.returncode == 1
    starting, failed = done.stderr.splitlines()
    assert "event=starting " in starting
    assert f"engine={engine} " in starting
    assert "level=error event=start_failed " in failed
    assert f"engine {engine} cannot run here" in failed
    assert reason in failed
