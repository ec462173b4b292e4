"""Keys and plans to try the engine cache with; as a program, one process that wants a plan.

    python tests/support/plans.py FOLDER BUILDS

builds the plan unless it is there, which takes until its standard input ends, notes the build as a line in the file
BUILDS, and prints what it was told and got.
"""

import sys
from dataclasses import replace
from pathlib import Path

from engines.plan import BuiltPlan, Flavor, PlanKey, PlanTensor, Precision
from engines.plan_cache import PlanCache
from humanseg.vision.arrays import Size

KEY = PlanKey(
    model="medium",
    onnx_sha256="ab" * 32,
    flavor=Flavor.TENSORRT,
    version="11.4.0.106",
    compute_capability="8.9",
    driver="13.0",
    precision=Precision.FP16,
    buckets=(1, 2, 4),
    canvases=(Size(320, 192), Size(192, 320)),
)
BUILT = BuiltPlan(
    plan=bytes(range(256)) * 40,
    tensors=(
        PlanTensor("frames", "INPUT", "UINT8", (-1, -1, -1, 3)),
        PlanTensor("alpha", "OUTPUT", "FLOAT", (-1, -1, -1)),
    ),
    flags=("TF32",),
    build_s=1.25,
)


def stored(folder: Path, key: PlanKey = KEY, plan: bytes = BUILT.plan) -> PlanCache:
    """A cache that holds one plan."""
    cache = PlanCache(folder)
    cache.load_or_build(key, lambda: replace(BUILT, plan=plan), lambda line: None)
    return cache


def _main(folder: str, builds: str) -> None:
    def build() -> BuiltPlan:
        with Path(builds).open("a") as file:
            file.write("built\n")
        print("begun", flush=True)
        sys.stdin.read()
        return BUILT

    loaded = PlanCache(Path(folder)).load_or_build(KEY, build, lambda line: print(line, flush=True))
    print("built" if loaded.built_now else "found", loaded.plan == BUILT.plan, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
