"""The comparison to look at: plots of the figures, and videos with what changes from frame to frame amplified."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.temporal_footage import Footage
from benchmarks.temporal_report import Row
from humanseg.video import VideoWriter
from humanseg.vision.arrays import Alpha
from humanseg.vision.composite import compose
from humanseg.vision.letterbox import to_alpha8
from humanseg.vision.sheet import captioned, mask_panel, side_by_side
from humanseg.vision.temporal_alternatives import Alternative

# No window: plots go to files. To be said before pyplot is imported.
mpl.use("Agg")
from matplotlib import pyplot as plt

#: A change of a tenth of alpha is shown white.
AMPLIFIED = 10.0
GREEN_RGB = (30, 140, 60)
_COLORS = {
    Alternative.OFF: "#888888", Alternative.LOW: "#6baed6", Alternative.HIGH: "#08519c",
    Alternative.REFERENCE: "#e6550d", Alternative.UNCERTAINTY: "#31a354", Alternative.EMA: "#756bb1",
    Alternative.HYSTERESIS: "#bcbd22",
}  # fmt: skip
_DPI = 90


def plot_all(rows: Sequence[Row], steps: Mapping[Alternative, list[float]], out: Path) -> list[Path]:
    """Write the plots as PNGs; their paths."""
    paths = [out / "flicker.png", out / "tradeoff.png", out / "step.png"]
    _plot_flicker(rows, paths[0])
    _plot_tradeoff(rows, paths[1])
    _plot_steps(steps, paths[2])
    return paths


def _plot_flicker(rows: Sequence[Row], path: Path) -> None:
    groups = list(dict.fromkeys(row.group for row in rows))
    names = [name for name in Alternative if name is not Alternative.OFF]
    figure, axes = plt.subplots(figsize=(1.6 + 1.1 * len(groups), 3.6), layout="constrained")
    for index, name in enumerate(names):
        own = [row for row in rows if row.alternative is name]
        places = np.arange(len(own)) + (index - (len(names) - 1) / 2) * 0.13
        axes.bar(places, [row.flicker_change_percent or 0.0 for row in own], 0.12, label=name, color=_COLORS[name])
    axes.set_xticks(range(len(groups)), [group.replace(" ", "\n", 1) for group in groups], fontsize=8)
    # Hysteresis can multiply flicker, and would flatten the rest.
    axes.set_ylim(-100, 60)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("flicker along the motion,\nchange against OFF, %")
    axes.legend(ncols=3, fontsize=8)
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)


def _plot_tradeoff(rows: Sequence[Row], path: Path) -> None:
    """Flicker taken away costs nothing only on the right."""
    figure, axes = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    for name in Alternative:
        own = [row for row in rows if row.alternative is name and row.iou_change is not None]
        if name is not Alternative.OFF:
            axes.scatter(
                [row.iou_change or 0.0 for row in own], [row.flicker_change_percent or 0.0 for row in own],
                label=name, color=_COLORS[name], s=28,
            )  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axhline(0, color="black", linewidth=0.8)
    # Symmetric logarithm: EMA loses tens of points where people are fast.
    axes.set_xscale("symlog", linthresh=0.5)
    ticks = [-10, -3, -1, -0.3, 0, 0.3, 1]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(-100, 60)
    axes.set_xlabel("IoU against OFF, points (a dot a kind of clip)")
    axes.set_ylabel("flicker against OFF, %")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)


def _plot_steps(steps: Mapping[Alternative, list[float]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
    for name, shares in steps.items():
        axes.plot(range(1, 13), shares[:12], marker="o", markersize=3, label=name, color=_COLORS[name])
    axes.axhline(0.9, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("frames after a person appears in the mask")
    axes.set_ylabel("share of the step done")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)


def write_comparison(path: Path, footage: Footage, masks: Mapping[Alternative, Sequence[Alpha]], fps: Fraction) -> None:
    """A video of two rows: the cut-out before green, and the change of the mask since the last frame, amplified.

    ``masks`` are at picture size; the columns are its alternatives.

    Raises:
        VideoError: it cannot be written.
    """
    green = np.full_like(footage.pictures[0], GREEN_RGB)
    with VideoWriter(path, fps) as writer:
        for t, picture in enumerate(footage.pictures):
            cells = []
            for alphas in masks.values():
                change = np.abs(alphas[t] - alphas[max(0, t - 1)]) * np.float32(AMPLIFIED)
                shown = mask_panel(to_alpha8(np.minimum(change, np.float32(1))))
                cells.append(np.concatenate([compose(picture, to_alpha8(alphas[t]), green), shown]))
            writer.write(captioned(side_by_side(cells), [f"{name}: cut-out, change x{AMPLIFIED:g}" for name in masks]))
