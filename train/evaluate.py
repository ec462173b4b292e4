"""``python -m train.evaluate``: how good a model file is on photos it has not learned from.

The file is run by the engine that serves it, through the service's letterbox, and judged at each photo's own size.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engines.registry import DEFAULT_ENGINE, open_runner
from engines.runner import EngineError
from humanseg.vision.metrics import IouCounts
from train.data import DataError, find_photos, split_photos
from train.validation import judge_photos, mean_iou, overall_iou

EXAMPLES = """examples:
  python -m train.evaluate --onnx engines/models/medium.onnx --data ../shared/data/train
  python -m train.evaluate --onnx medium.onnx --data my_photos --all --json report.json

IoU is the mean over photos of (foreground IoU + background IoU) / 2; false is the share of background pixels taken for
person, which for pictures without people is the only figure.
"""


def print_table(by_source: dict[str, list[IouCounts]]) -> None:
    """A row a source on standard output."""
    print(f"{'source':<14}{'photos':>7}{'IoU':>8}{'person':>8}{'10th %':>8}{'false':>9}")
    for source, counts in by_source.items():
        nobody = source == "backgrounds"
        ious = [one.mean_iou for one in counts]
        person = float(np.mean([one.foreground_iou for one in counts]))
        low = float(np.percentile(ious, 10))
        false = float(np.mean([one.false_share for one in counts]))
        figures = f"{'-':>8}{'-':>8}{'-':>8}" if nobody else f"{mean_iou(counts):8.4f}{person:8.4f}{low:8.4f}"
        print(f"{source:<14}{len(counts):>7}{figures}{false:9.4%}")
    print(f"{'mean':<14}{'':>7}{overall_iou(by_source):8.4f}")


def to_plain(by_source: dict[str, list[IouCounts]]) -> dict[str, object]:
    """The same for programs."""
    return {
        "mean_iou": overall_iou(by_source),
        "sources": {
            source: {
                "photos": len(counts),
                "mean_iou": None if source == "backgrounds" else mean_iou(counts),
                "false_share": float(np.mean([one.false_share for one in counts])),
            }
            for source, counts in by_source.items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description="Measure a model on the photos left aside for validation.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="the model")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <source>/images and masks")
    parser.add_argument("--all", action="store_true", help="judge by every photo, for data that was not learned from")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        photos = find_photos(options.data)
        split = split_photos(photos)
        judged = photos if options.all else [*split.validation, *split.validation_backgrounds]
        runner = open_runner(DEFAULT_ENGINE, options.onnx, max_batch=1, concurrency=1)
        model = runner.info.model
        by_source = judge_photos(tqdm(judged, unit="photo"), runner.run, model.landscape, model.upright)
    except (DataError, EngineError) as error:
        print(f"train.evaluate: {error}", file=sys.stderr)
        return 1
    print(f"{model.name} {model.version} on {options.data}")
    print_table(by_source)
    if options.json:
        options.json.write_text(json.dumps(to_plain(by_source), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
