"""``python -m train.upsampling``: how a network's mask is best brought to the picture's size.

The same masks of the same photos, by ways that differ in nothing but the step from the network's size to the photo's.
The service does `humanseg.vision.letterbox.restore`, bicubic; what beats it here, at a price that one would pay, should
take its place.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from tqdm import tqdm

from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import EngineError
from humanseg.vision import cv
from humanseg.vision.arrays import Alpha, Picture, Size
from humanseg.vision.letterbox import Placement, choose_canvas, letterbox, restore
from train.data import DataError, find_photos, split_photos
from train.evaluate import figures_of
from train.validation import PhotoScore, group_of, judge_photo, overall_iou, shows_people

#: Network-sized alpha with padding, the network's input, where the picture lies in it, the picture; to its size.
Upsampling = Callable[[Alpha, Picture, Placement, Picture], Alpha]

EXAMPLES = """examples:
  python -m train.upsampling --onnx engines/models/medium.onnx --data ../shared/data/train
  python -m train.upsampling --onnx engines/models/small.onnx --data DATA --json upsampling.json

IoU and bF as in train.evaluate, means over the sources; CPU is this thread's time for the step alone, mean over photos.
"""


def bicubic(alpha: Alpha, _input: Picture, placement: Placement, _picture: Picture) -> Alpha:
    """As the service does."""
    return restore(alpha, placement)


def bilinear(alpha: Alpha, _input: Picture, placement: Placement, picture: Picture) -> Alpha:
    """The simplest that is smooth."""
    inside = np.ascontiguousarray(placement.crop(alpha))
    size = Size.of(picture)
    shrinks = size.width <= placement.width and size.height <= placement.height
    return cv.resize_area_f32(inside, size) if shrinks else cv.resize_linear_f32(inside, size)


def guided(radius_px: int, eps: float = 1e-4, stretch: float = 0.0) -> Upsampling:
    """The fast guided filter on gray (He, Sun, Tang, TPAMI 2013; He, Sun, arXiv 1505.00996).

    Args:
        radius_px: of its boxes, at the network's size.
        eps: how much contrast counts as an edge, as a variance of gray in [0, 1].
        stretch: contrast of the alpha afterwards: 0.25 maps 0.25..0.75 to 0..1.
    """
    side = (2 * radius_px + 1, 2 * radius_px + 1)

    def box(array: Alpha) -> Alpha:
        return cast(Alpha, cv2.boxFilter(array, -1, side, borderType=cv2.BORDER_REFLECT))

    def upsample(alpha: Alpha, network_input: Picture, placement: Placement, picture: Picture) -> Alpha:
        mask = np.ascontiguousarray(placement.crop(alpha))
        guide = _gray(np.ascontiguousarray(placement.crop(network_input)))
        mean_guide, mean_mask = box(guide), box(mask)
        covariance = box(guide * mask) - mean_guide * mean_mask
        variance: Alpha = box(guide * guide) - mean_guide * mean_guide
        slope: Alpha = covariance / (variance + np.float32(eps))
        offset: Alpha = mean_mask - slope * mean_guide
        size, gray = Size.of(picture), _gray(picture)
        slope, offset = cv.resize_linear_f32(box(slope), size), cv.resize_linear_f32(box(offset), size)
        found = slope * gray + offset
        if stretch:
            found = (found - stretch) / (1 - 2 * stretch)
        return cast(Alpha, np.clip(found, np.float32(0), np.float32(1)))

    return upsample


def _gray(picture: Picture) -> Alpha:
    return (cv.rgb_to_gray(picture) / np.float32(255)).astype(np.float32)


WAYS: dict[str, Upsampling] = {
    "bicubic (the service)": bicubic,
    "bilinear": bilinear,
    "guided r 2": guided(2),
    "guided r 2, stretched": guided(2, stretch=0.25),
    "guided r 4": guided(4),
}


class Once:
    """A network's answer for the photo that is judged, kept while every way uses it."""

    def __init__(self, onnx: Path) -> None:
        """Raises EngineError: the file cannot be served."""
        self._runner = open_runner(DEFAULT_ENGINE, onnx, max_batch=1, concurrency=1)
        self._last: tuple[Picture, Alpha, Picture, Placement] | None = None

    def of(self, picture: Picture) -> tuple[Alpha, Picture, Placement]:
        """Alpha of the network's size, its input, and where the picture lies in both."""
        if self._last is None or self._last[0].shape != picture.shape or (self._last[0] != picture).any():
            model = self._runner.info.model
            canvas = choose_canvas(Size.of(picture), model.landscape, model.upright)
            network_input, placement = letterbox(picture, canvas)
            self._last = (picture, self._runner.run(network_input[np.newaxis])[0], network_input, placement)
        return self._last[1:]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.upsampling",
        description="Measure ways to bring masks to the size of their pictures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="a model with our metadata")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <source>/images and masks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    groups: dict[str, dict[str, list[PhotoScore]]] = {name: {} for name in WAYS}
    spent_ms = dict.fromkeys(WAYS, 0.0)
    try:
        once = Once(options.onnx)
        photos = split_photos(find_photos(options.data)).validation
        for photo in tqdm(photos, unit="photo", leave=False, mininterval=2.0):
            for name, way in WAYS.items():

                def segment(picture: Picture, name: str = name, way: Upsampling = way) -> Alpha:
                    found = once.of(picture)
                    began_ns = time.thread_time_ns()
                    alpha = way(*found, picture)
                    spent_ms[name] += (time.thread_time_ns() - began_ns) / 1e6
                    return alpha

                groups[name].setdefault(group_of(photo), []).append(judge_photo(photo, segment))
        rows = {name: row_of(groups[name], spent_ms[name] / max(1, len(photos))) for name in WAYS}
        print(f"{options.onnx} on {len(photos)} photos of {options.data}")
        print(f"{'':<24}{'IoU':>8}{'bF':>8}{'bIoU':>8}{'MAD':>8}{'CPU ms':>8}")
        for name, row in rows.items():
            cells = [f"{row[key]:8.4f}" for key in ("mean_iou", "boundary_f", "boundary_iou", "mad")]
            print(f"{name:<24}{''.join(cells)}{row['cpu_ms']:8.2f}")
        if options.json:
            options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    except (DataError, EngineError, OSError) as error:
        print(f"train.upsampling: {error}", file=sys.stderr)
        return 1
    return 0


def row_of(groups: dict[str, list[PhotoScore]], cpu_ms: float) -> dict[str, float]:
    """Means over the sources that show people."""
    figures = [figures_of(scores) for scores in groups.values() if shows_people(scores)]
    means = {key: float(np.mean([one[key] for one in figures])) for key in ("boundary_f", "boundary_iou", "mad")}
    return {"mean_iou": overall_iou(groups), **means, "cpu_ms": cpu_ms}


if __name__ == "__main__":
    sys.exit(main())
