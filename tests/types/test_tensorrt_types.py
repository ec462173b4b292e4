"""Our use of TensorRT against NVIDIA's own names and signatures, of 11 and of 10: `make trt-types`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.server import ROOT
from support.timing import limit_s

VERSIONS = ("11", "10")
STUBS = {version: ROOT / "build" / f"stubs-{version}" for version in VERSIONS}

pytestmark = pytest.mark.skipif(
    not all((STUBS[version] / "tensorrt").is_dir() for version in VERSIONS),
    reason="no stubs of NVIDIA's bindings; `make trt-types` makes them",
)

#: What the check is there to find: gone since 10, gone since 8, wrong type, misspelt; the last two lines are right.
MISTAKES = """
import tensorrt as trt
import tensorrt_rtx as rtx

def use(config: trt.IBuilderConfig, context: trt.IExecutionContext, target: rtx.IBuilderConfig) -> None:
    config.set_flag(trt.BuilderFlag.FP16)
    context.execute_async_v2([1], 2)
    context.set_tensor_address("frames", "address")
    config.add_optimisation_profile(None)
    context.set_tensor_address("frames", 1)
    target.num_compute_capabilities = 1
"""


def errors(version: str, cache: Path, *arguments: str) -> list[str]:
    """What mypy finds in files of ours; the stubs have oddities of their own, which are nobody's here to mend."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), *arguments],
        cwd=ROOT, env={**os.environ, "MYPYPATH": str(STUBS[version])},
        capture_output=True, text=True, timeout=limit_s(600), check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if ": error:" in line and not line.startswith("build/")]


@pytest.mark.timeout(limit_s(600))
@pytest.mark.parametrize("version", VERSIONS)
def test_the_engines_are_right_and_mistakes_are_found(version: str, tmp_path: Path) -> None:
    assert errors(version, tmp_path / "cache", "--package", "engines") == []
    wrong = tmp_path / "wrong.py"
    wrong.write_text(MISTAKES)
    found = errors(version, tmp_path / "cache", str(wrong))
    lines = {int(line.split(":")[1]) for line in found}
    assert lines == ({6, 7, 8, 9} if version == "11" else {7, 8, 9}), found
