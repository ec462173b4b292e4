"""Stand-ins for the NVIDIA driver's library: real shared objects, to be put first on a child's LD_LIBRARY_PATH."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

#: A driver of CUDA 13.0 with one GPU; a test replaces what is to go wrong.
HEALTHY = {
    "cuDriverGetVersion": "(int *version) { *version = 13000; return 0; }",
    "cuInit": "(unsigned flags) { return 0; }",
    "cuDeviceGetCount": "(int *count) { *count = 1; return 0; }",
    "cuDeviceGet": "(int *device, int index) { *device = index; return 0; }",
    "cuDeviceGetName": '(char *name, int size, int device) { snprintf(name, size, "Drawn GPU"); return 0; }',
    "cuDeviceGetAttribute": "(int *value, int which, int device) { *value = which == 75 ? 8 : 9; return 0; }",
    "cuDevicePrimaryCtxRetain": "(void **context, int device) { *context = &marker; return 0; }",
    "cuDevicePrimaryCtxRelease_v2": "(int device) { return 0; }",
    "cuCtxPushCurrent_v2": "(void *context) { return context == &marker ? 0 : 201; }",
    "cuCtxPopCurrent_v2": "(void **context) { return 0; }",
    "cuMemGetInfo_v2": "(size_t *available, size_t *total) { *available = 3ul << 30; *total = 4ul << 30; return 0; }",
    "cuGetErrorName": '(int status, char **name) { *name = "CUDA_ERROR_DRAWN"; return 0; }',
}
PREAMBLE = "#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nstatic int marker;\n"


def build_driver(folder: Path, **bodies: str | None) -> dict[str, str]:
    """Compile a ``libcuda.so.1`` and return the environment that finds it; None as a body leaves a function out."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build a stand-in driver with")
    functions = {name: body for name, body in {**HEALTHY, **bodies}.items() if body is not None}
    source = folder / "driver.c"
    source.write_text(PREAMBLE + "".join(f"int {name}{body}\n" for name, body in functions.items()))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source)], check=True)
    return environment_with(folder)


def environment_with(folder: Path) -> dict[str, str]:
    """This process's environment with a folder first on the loader's path."""
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}
