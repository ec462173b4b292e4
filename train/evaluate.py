"""``python -m train.evaluate``: how good model files are on photos they have not learned from.

Each file is run by the engine that serves it, through the service's letterbox, and judged at each photo's own size;
all of them in one run, on the same photos.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engines.runner import EngineError
from humanseg.vision.arrays import Alpha, Picture
from train.contestants import Contestant, open_model
from train.data import DataError, Photo, find_photos, split_photos
from train.peers import PeerError, open_tflite
from train.validation import (
    PhotoScore,
    by_slice,
    judge_photos,
    mean_boundary_f,
    mean_false_share,
    mean_iou,
    overall_iou,
    shows_people,
)

#: A picture of nobody counts as alarm if more than this share of it is taken for person.
ALARM_SHARE = 0.01

#: Title, name of the figure, width and format of the table's columns.
COLUMNS = (
    ("IoU", "mean_iou", 8, ".4f"),
    ("person", "person_iou", 8, ".4f"),
    ("10th %", "mean_iou_10th_percentile", 8, ".4f"),
    ("bF", "boundary_f", 7, ".3f"),
    ("bIoU", "boundary_iou", 7, ".3f"),
    ("MAD", "mad", 8, ".4f"),
    ("false", "false_share", 9, ".3%"),
    ("alarms", "alarm_share", 8, ".1%"),
)

EXAMPLES = """examples:
  python -m train.evaluate --onnx engines/models/medium.onnx --data ../shared/data/train
  python -m train.evaluate --onnx engines/models/*.onnx --data ../shared/data/train      compares on the same photos
  python -m train.evaluate --onnx medium.onnx --tflite selfie_segmentation.tflite --data DATA       beside a peer
  python -m train.evaluate --onnx medium.onnx --data my_photos --all --json report.json

columns: IoU, mean over photos of (person IoU + background IoU) / 2; person, the first of the two; 10th %, the IoU that
a tenth of the photos stays below; bF, boundary F-score at 2 px of a long side of 320; bIoU, boundary IoU at 2 % of the
diagonal; MAD, mean absolute difference of alpha; false, share of the background taken for person; alarms, share of the
pictures without people in which that is more than 1 %. Photos are put into slices by photo and mask alone.
CPU is the process's time a photo from picture to mask: compare it within one run only.
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What came out of one contestant.

    Attributes:
        name: its name.
        groups: scores by source.
        slices: scores by slice.
        cpu_ms: CPU time of the process, mean over photos.
    """

    name: str
    groups: dict[str, list[PhotoScore]]
    slices: dict[str, list[PhotoScore]]
    cpu_ms: float


def judge(contestant: Contestant, photos: Sequence[Photo]) -> Report:
    """Run a contestant on photos.

    Raises:
        DataError: a photo cannot be read.
        EngineError: the contestant's engine failed.
    """
    spent_ns = 0

    def timed(picture: Picture) -> Alpha:
        nonlocal spent_ns
        before_ns = time.process_time_ns()
        alpha = contestant.segment(picture)
        spent_ns += time.process_time_ns() - before_ns
        return alpha

    groups = judge_photos(tqdm(photos, unit="photo", leave=False, mininterval=2.0), timed)
    return Report(contestant.name, groups, by_slice(groups), spent_ns / 1e6 / max(1, len(photos)))


def figures_of(scores: Sequence[PhotoScore]) -> dict[str, float | int]:
    """All figures of a group of photos, by name; those that need people only where there are some."""
    figures: dict[str, float | int] = {"photos": len(scores)}
    if shows_people(scores):
        ious = [one.counts.mean_iou for one in scores]
        figures |= {
            "mean_iou": mean_iou(scores),
            "person_iou": float(np.mean([one.counts.foreground_iou for one in scores])),
            "mean_iou_10th_percentile": float(np.percentile(ious, 10)),
            "boundary_f": mean_boundary_f(scores),
            "boundary_iou": float(np.mean([one.boundary_iou for one in scores])),
        }
    else:
        figures["alarm_share"] = float(np.mean([one.counts.false_share > ALARM_SHARE for one in scores]))
    return figures | {
        "mad": float(np.mean([one.mad for one in scores])),
        "false_share": mean_false_share(scores),
    }


def print_table(report: Report) -> None:
    """A row a source and a row a slice on standard output."""
    print(f"{'':<18}{'photos':>7}" + "".join(f"{title:>{width}}" for title, _, width, _ in COLUMNS))
    for name, scores in {**report.groups, **report.slices}.items():
        row = figures_of(scores)
        cells = [f"{row[key]:{width}{form}}" if key in row else f"{'-':>{width}}" for _, key, width, form in COLUMNS]
        print(f"{name:<18}{len(scores):>7}{''.join(cells)}")
    print(f"{'mean over sources':<18}{'':>7}{overall_iou(report.groups):8.4f}   CPU {report.cpu_ms:.1f} ms a photo\n")


def to_plain(report: Report) -> dict[str, object]:
    """The same for programs."""
    return {
        "name": report.name,
        "mean_iou": overall_iou(report.groups),
        "cpu_ms": report.cpu_ms,
        "sources": {name: figures_of(scores) for name, scores in report.groups.items()},
        "slices": {name: figures_of(scores) for name, scores in report.slices.items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description="Measure models on the photos left aside for validation.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--onnx", type=Path, default=[], nargs="+", metavar="FILE", help="models with our metadata")
    parser.add_argument("--tflite", type=Path, default=[], nargs="+", metavar="FILE", help="peers (train/peers.py)")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <source>/images and masks")
    parser.add_argument("--all", action="store_true", help="judge by every photo, for data that was not learned from")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if not (options.onnx or options.tflite):
        parser.error("nothing to judge: give --onnx, --tflite or both")
    reports = []
    try:
        contestants = [*map(open_model, options.onnx), *map(open_tflite, options.tflite)]
        photos = find_photos(options.data)
        split = split_photos(photos)
        judged = photos if options.all else [*split.validation, *split.validation_backgrounds]
        for contestant in contestants:
            reports.append(judge(contestant, judged))
            print(f"{contestant.name} on {options.data}")
            print_table(reports[-1])
        if options.json:
            options.json.write_text(json.dumps({"models": [to_plain(report) for report in reports]}, indent=2) + "\n")
    except (DataError, EngineError, PeerError, OSError) as error:
        print(f"train.evaluate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
