"""Write type stubs of NVIDIA's own TensorRT bindings, without a GPU and without TensorRT: `make trt-types`.

    python tests/types/tensorrt_stubs.py OUT tensorrt_bindings BINDINGS_FOLDER 11
    python tests/types/tensorrt_stubs.py OUT tensorrt_rtx_bindings RTX_FOLDER

Full TensorRT's libraries cannot be had from the public index, but the bindings are real and import nine C functions of
them. With a major version as the last argument, libraries of these functions and nothing else are compiled and loaded
first: every class, signature and enum in the bindings is then NVIDIA's own, and nothing can be run. The stubs are made
anew each time and not kept here, since the bindings are under NVIDIA's licence.
"""

import ctypes
import importlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

#: Library -> functions that the bindings want of it.
FUNCTIONS = {
    "libnvinfer": (
        "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry", "getPluginRegistry",
    ),
    "libnvinfer_plugin": ("initLibNvInferPlugins",),
    "libnvonnxparser": (
        "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion",
    ),
}  # fmt: skip
#: What pybind11 prints in signatures that is not Python.
REPAIRS = (
    (re.compile(r"\bin: (?=collections)"), "in_: "),
    (re.compile(r"channel_axis: typing\.SupportsInt\)"), "channel_axis: typing.SupportsInt = ...)"),
    # The module has a data type named bool, which would make every annotation of that name unknown.
    (re.compile(r"(?<=: )bool\b|(?<=-> )bool\b"), "builtins.bool"),
    (
        re.compile(r"^from __future__ import annotations$", re.MULTILINE),
        "from __future__ import annotations\nimport builtins",
    ),
)


def load_hollow_libraries(major: str) -> None:
    """Put libraries into this process that the loader takes for TensorRT's when the bindings ask by name."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("tensorrt_stubs: no C compiler (cc, gcc); install one, for example `apt-get install gcc libc6-dev`")
    with tempfile.TemporaryDirectory() as folder:
        for library, functions in FUNCTIONS.items():
            source, target = Path(folder, f"{library}.c"), Path(folder, f"{library}.so.{major}")
            source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions))
            subprocess.run(
                [compiler, "-shared", "-fPIC", f"-Wl,-soname,{target.name}", "-o", target, source], check=True
            )
            ctypes.CDLL(str(target), mode=ctypes.RTLD_GLOBAL)


def main(out: Path, module: str, folder: Path, major: str | None) -> None:
    """Write ``out/MODULE`` and, under the name that programs import, ``out/tensorrt`` or ``out/tensorrt_rtx``."""
    sys.path.insert(0, str(folder))
    if major:
        load_hollow_libraries(major)
    version = importlib.import_module(module).__version__
    from pybind11_stubgen import main as write_stubs

    write_stubs(["--ignore-all-errors", "--output-dir", str(out), module])
    stubs = list((out / module).rglob("*.pyi"))
    for stub in stubs:
        text = stub.read_text()
        for pattern, better in REPAIRS:
            text = pattern.sub(better, text)
        stub.write_text(text)
    imported = out / module.removesuffix("_bindings")
    imported.mkdir(exist_ok=True)
    (imported / "__init__.pyi").write_text(f"from {module} import *\n")
    if not any("class ILogger" in stub.read_text() for stub in stubs):
        sys.exit(f"tensorrt_stubs: {module} {version} gave stubs without ILogger; nothing would be checked by them")
    print(f"{module} {version}: stubs in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
