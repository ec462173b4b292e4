"""What a figure was measured on; a figure without this is worth nothing."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
#: Packages whose version moves the figures.
PACKAGES = ("grpcio", "protobuf", "numpy", "opencv-python-headless", "onnxruntime", "openvino", "av", "hdrhistogram")


def describe() -> dict[str, object]:
    """CPU, memory, load, versions and git commit, plain types only."""
    load_1min, load_5min, _ = psutil.getloadavg()
    return {
        "cpu_model": _cpu_model(),
        "cpu_cores_logical": psutil.cpu_count(logical=True),
        "cpu_cores_usable": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average_1min": round(load_1min, 2),
        "load_average_5min": round(load_5min, 2),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git_commit": _git_commit(),
    }


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    # sched_getaffinity is not there on macOS
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str:
    """Commit of the working tree, ``-dirty`` if tracked files differ from it; "unknown" outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
