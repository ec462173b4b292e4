"""Nobody's sessions are reported to anybody by a library, unless somebody asked for it."""

import os
import subprocess
import sys

import pytest

from support.server import ROOT
from support.timing import limit_s

PROGRAM = "import os, engines.onnxruntime_cpu; print(os.environ['ORT_DISABLE_TELEMETRY'])"


@pytest.mark.parametrize(("said", "holds"), [(None, "1"), ("0", "0")])
def test_onnx_runtime_keeps_to_itself(said: str | None, holds: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    if said is not None:
        environment["ORT_DISABLE_TELEMETRY"] = said
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=limit_s(30), check=True,
    )  # fmt: skip
    assert done.stdout.strip() == holds
