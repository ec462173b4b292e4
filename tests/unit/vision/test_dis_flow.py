"""The optical flow starts from nothing: what memory held before must not matter."""

import subprocess
import sys
from pathlib import Path

from support.timing import limit_s

ROOT = Path(__file__).resolve().parent.parent.parent.parent

#: Memory from `np.empty` may hold anything; here it holds NaN, as it does once in a while in a busy server. In a
#: process of its own, since OpenCV dies of a NaN in the flow that it starts from.
PROGRAM = """
import numpy as np

def dirty(shape, dtype=float, *arguments, **more):
    array = np.zeros(shape, dtype)
    if array.dtype.kind == "f":
        array[...] = np.nan
    return array

from humanseg.vision.cv import dis_flow, gauss

np.empty = dirty
noise = np.random.default_rng(3).integers(0, 256, (90, 160), np.uint8)
scene = gauss(noise, 3.0)
for _ in range(20):
    flow = dis_flow(np.roll(scene, 2, axis=1), scene, 2)
    assert np.isfinite(flow).all()
print(float(np.median(flow[..., 0])), float(np.median(flow[..., 1])))
"""


def test_a_shifted_picture_flows_back_by_its_shift_whatever_memory_held_before() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=limit_s(60), check=False
    )
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr}"
    x, y = (float(word) for word in done.stdout.split())
    assert abs(x + 2) < 0.2
    assert abs(y) < 0.2
