"""The command line of ``python -m train.train``, and the preset that it asks for."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from train.presets import PRESETS, Preset
from train.scenes import BY_NAME

#: Options that replace the preset's field of the same name.
_FIELDS = ("epochs", "learning_rate", "small_share", "batch", "seed", "teacher", "teacher_weight")

EXAMPLES = r"""examples:
  python -m train.train --model medium --data ../shared/data/train --out runs/medium
  python -m train.train --model medium --data DATA --out runs/try --epochs 2     a short try
  python -m train.train --model large --data DATA --out runs/large --init train/weights/medium.pt
  python -m train.train --model small --data DATA --out runs/small --init runs/thin.pt --teacher train/weights/medium.pt
                                                                                 runs/thin.pt is from train.thin
  python -m train.train --model medium --data DATA --out runs/weak --boxes engines/models/medium.onnx
  the same command again                                                         goes on where it stopped
  python -m train.train --model medium --data DATA --out runs/more --init runs/medium/best.pt \
      --epochs 12 --learning-rate 8e-4 --small-share 0                           another cycle from those weights

writes into --out: last.pt and best.pt (checkpoints), log.csv (a row an epoch), epoch_NN.png (predictions to look at).
Then: python -m train.export, python -m train.evaluate.
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.train",
        description="Train a person segmentation network.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=sorted(PRESETS), default="medium", help="network and preset")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <source>/images and masks")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where checkpoints and logs go")
    parser.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="begin with the weights of a checkpoint: of the same network; large also with medium's",
    )
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--learning-rate", type=float, help="at its highest, instead of the preset's")
    parser.add_argument("--small-share", type=float, help="part of the run at the small input, instead of the preset's")
    parser.add_argument("--scenes", choices=sorted(BY_NAME), help="kinds of composites, instead of the preset's")
    parser.add_argument("--batch", type=int, help="instead of the preset's")
    parser.add_argument("--seed", type=int, help="instead of the preset's")
    parser.add_argument(
        "--backbone-weights", metavar="FILE|none", help="ImageNet weights (default: the installed package's)"
    )
    parser.add_argument("--teacher", metavar="FILE", help="checkpoint of a larger network to learn from as well")
    parser.add_argument("--teacher-weight", type=float, metavar="WEIGHT", help="of its masks, instead of the preset's")
    parser.add_argument(
        "--boxes",
        metavar="ONNX|DIR",
        help="learn from photos with boxes.csv, too: within the boxes from this model's masks, or from those of a"
        " folder of <source>_<id>.png that another segmenter made",
    )
    parser.add_argument(
        "--boundary-f", type=float, metavar="WEIGHT", help="weight of the outline's F-score in the loss (default 0)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="of torch on the CPU (default: all cores)")
    parser.add_argument("--loader-threads", type=int, default=2, help="that make batches (default 2)")
    return parser.parse_args(arguments)


def chosen_preset(options: argparse.Namespace) -> Preset:
    """The preset of ``--model`` with what the other options replace."""
    preset = PRESETS[options.model]
    changes: dict[str, Any] = {name: value for name in _FIELDS if (value := getattr(options, name)) is not None}
    if options.scenes:
        changes["scenes"] = BY_NAME[options.scenes]
    if options.boxes:
        changes["box_teacher"] = options.boxes
    if options.boundary_f is not None:
        changes["loss"] = replace(preset.loss, boundary_f=options.boundary_f)
    return replace(preset, **changes)
