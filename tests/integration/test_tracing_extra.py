"""A service whose Python has no OpenTelemetry: it runs without traces, and does not start where they are asked for."""

import subprocess
import sys
from pathlib import Path

from support.server import ROOT, running_server
from support.timing import limit_s

#: Python then says at every import of it that there is no such package.
WITHOUT_OPENTELEMETRY = (
    "import sys; sys.modules['opentelemetry'] = None; from service.__main__ import main; sys.exit(main())"
)


def test_without_the_extra_the_start_fails_and_says_what_to_install(models_folder: Path) -> None:
    flags = ["--port", "0", "--metrics-port", "0", "--models", str(models_folder)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_OPENTELEMETRY, *flags, "--trace-endpoint", "http://127.0.0.1:4317"],
        cwd=ROOT, capture_output=True, text=True, timeout=limit_s(60), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    starting, failed = done.stderr.splitlines()
    assert "event=starting " in starting
    assert "level=error event=start_failed " in failed
    assert "http://127.0.0.1:4317 needs a package that is not installed: opentelemetry" in failed
    assert "install `humanseg[otel]`" in failed


def test_traces_are_off_by_default_and_need_nothing(models_folder: Path) -> None:
    with running_server(models_folder, program=("-c", WITHOUT_OPENTELEMETRY)) as server:
        assert server.metric("humanseg_ready") == 1
