"""The OpenCV calls that turned out to read memory which is not theirs: held to a formula, whatever memory holds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from humanseg.vision.cv import remap_f32
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


def bilinear(array: NDArray[np.float32], sources: NDArray[np.float32]) -> NDArray[np.float64]:
    """The formula: four neighbors by their weights, the border repeated."""
    height, width = array.shape[:2]
    x, y = sources[..., 0].astype(np.float64), sources[..., 1].astype(np.float64)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right_ratio, down_ratio = (x - left)[..., None], (y - top)[..., None]

    def at(rows: NDArray[np.int_], columns: NDArray[np.int_]) -> NDArray[np.float64]:
        return array[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)].astype(np.float64)

    upper = at(top, left) * (1 - right_ratio) + at(top, left + 1) * right_ratio
    lower = at(top + 1, left) * (1 - right_ratio) + at(top + 1, left + 1) * right_ratio
    return upper * (1 - down_ratio) + lower * down_ratio


def test_remap_samples_bilinearly_everywhere_and_repeats_the_border() -> None:
    rng = np.random.default_rng(5)
    height, width = 90, 160
    array = rng.uniform(0, 255, (height + 2, width + 2, 4)).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    for spread_px in (0.4, 3.0, 60.0):
        sources = (grid + 1 + rng.normal(0, spread_px, grid.shape)).astype(np.float32)
        remapped = remap_f32(array, sources)
        assert np.isfinite(remapped).all()
        assert np.abs(remapped - bilinear(array, sources)).max() < 0.05, f"spread {spread_px} px"
