"""A real promtool, Prometheus's own judge of rules: `make monitoring-check` fetches it."""

import os
import subprocess
from pathlib import Path

from support.timing import limit_s

#: Asked for by name: a Prometheus that happens to be installed may be of any age.
HOME = Path(os.environ["PROMETHEUS_HOME"]) if "PROMETHEUS_HOME" in os.environ else None


def why_no_prometheus() -> str | None:
    """Why there is none here; None: there is."""
    if HOME is None:
        return "PROMETHEUS_HOME names no Prometheus; `make monitoring-check` fetches and tries one"
    return None if (HOME / "bin" / "promtool").exists() else f"no promtool in PROMETHEUS_HOME={HOME}/bin"


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """What it says; its exit status is for the caller."""
    assert HOME is not None, why_no_prometheus()
    command = [HOME / "bin" / "promtool", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit_s(100), check=False)
