"""``python -m train.preview``: a contact sheet of what the network will see, to look at before hours go into it."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from train.data import DataError, find_photos, split_photos
from train.loader import SampleMaker, plan_epoch
from train.presets import PRESETS
from train.scenes import BY_NAME
from train.sheet import write_sample_sheet

EXAMPLES = """examples:
  python -m train.preview --data ../shared/data/train --out out/samples.png
  python -m train.preview --data DATA --out out/samples.png --epoch 3 --count 64
  python -m train.preview --data DATA --out out/rich.png --scenes rich

Pairs of picture and label: white person, black background, red void, which counts in neither loss nor metric.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.preview",
        description="Write samples as training makes them: composites, changes of light, noise, void.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <source>/images and masks")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the PNG to write")
    parser.add_argument("--model", choices=sorted(PRESETS), default="medium", help="whose preset")
    parser.add_argument("--scenes", choices=sorted(BY_NAME), help="kinds of composites, instead of the preset's")
    parser.add_argument("--epoch", type=int, default=0, help="of the run, from 0 (default 0)")
    parser.add_argument("--count", type=int, default=32, help="samples to show (default 32)")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    # Batches of one: landscape and upright samples side by side, in the order of the shuffle.
    preset = replace(PRESETS[options.model], batch=1)
    if options.scenes:
        preset = replace(preset, scenes=BY_NAME[options.scenes])
    try:
        split = split_photos(find_photos(options.data))
        planned = plan_epoch(split, preset, options.epoch)[: options.count]
        maker = SampleMaker(split, preset)
        samples = [sample for one in planned for sample in maker.samples(one, preset.canvases)]
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_sample_sheet(options.out, samples)
    except (DataError, OSError) as error:
        print(f"train.preview: {error}", file=sys.stderr)
        return 1
    print(f"{len(samples)} samples: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
