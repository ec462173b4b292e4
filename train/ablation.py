"""``python -m train.ablation``: what each part of the method gives, measured under one small budget.

Every variant is the same network, trained on the same photos for the same number of steps with the same seed, and
differs from another one in a single thing. All are judged like `train.evaluate` judges, on the photos left aside.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from train.checkpoint import CheckpointError, load_network
from train.data import DataError, Split, check_contents, find_photos, split_photos
from train.evaluate import figures_of
from train.losses import LossWeights
from train.networks.efficientnet_lite import WeightsError
from train.presets import PRESETS, Preset
from train.train import Run, predictor
from train.validation import judge_photos, letterboxed, overall_iou, stretched

EXAMPLES = """examples:
  python -m train.ablation --data ../shared/data/train --out runs/ablation --teacher train/weights/medium.pt
  python -m train.ablation --data DATA --out runs/ablation --epochs 6 --seeds 1 2 3     less noise, nine times as long
  python -m train.ablation --data DATA --out runs/ablation --only base "no pretraining"

writes into --out: a folder a variant (checkpoints, log.csv, pictures), report.json, report.md. Stopped in whatever way,
the same command goes on. Two seeds of the base say how much of a difference is chance.
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the trainings.

    Attributes:
        name: what it is called in the table and on the command line.
        preset: with seed and teacher still to be put in.
        beside: the variant that it differs from in one thing; empty for the one that all begin with.
        question: what that thing is.
        has_teacher: whether it learns from ``--teacher``.
        has_backbone: whether its encoder begins with ImageNet weights.
    """

    name: str
    preset: Preset
    beside: str = ""
    question: str = ""
    has_teacher: bool = False
    has_backbone: bool = True


def variants(epochs: int) -> list[Variant]:
    """All of them, each after the one that it is compared with."""
    preset = PRESETS["medium"]
    # Small canvases all the way: half of the time for the same number of photos.
    base = replace(
        preset, epochs=epochs, small_share=1.0, canvases=preset.small_canvases, validate_every=epochs,
        loss=LossWeights(),
    )  # fmt: skip
    plain = replace(base, composite_share=0.0, landscape_share=0.0)
    return [
        Variant("base", base),
        Variant("no synthesis", plain, "base", "composites on other backgrounds, and upright photos on landscape"),
        Variant("stretched", replace(plain, stretch=True), "no synthesis", "the ratio kept by the letterbox"),
        Variant(
            "cross-entropy alone",
            replace(base, loss=replace(base.loss, cross_entropy=1.0, lovasz=0.0)),
            "base",
            "Lovász hinge as a fifth of the loss",
        ),
        Variant(
            "boundary F", replace(base, loss=replace(base.loss, boundary_f=0.3)), "base", "no boundary F in the loss"
        ),
        Variant("distilled", base, "base", "no teacher", has_teacher=True),
        Variant("no pretraining", base, "base", "ImageNet weights in the encoder", has_backbone=False),
    ]


def train_and_judge(
    variant: Variant, split: Split, out: Path, seed: int, teacher: Path | None, backbone: str | None, threads: int
) -> dict[str, Any]:
    """Train one variant, or go on with it, and judge its averaged weights; figures by source.

    Raises:
        CheckpointError, WeightsError, DataError, OSError: it cannot be done.
    """
    preset = replace(variant.preset, seed=seed, teacher=str(teacher) if variant.has_teacher and teacher else "")
    out.mkdir(parents=True, exist_ok=True)
    done = out / "scores.json"
    key = json.loads(json.dumps({**preset.to_plain(), "backbone": variant.has_backbone}))
    if done.exists() and (known := json.loads(done.read_text(encoding="utf-8")))["preset"] == key:
        return dict(known["scores"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(preset, split, out, device, backbone if variant.has_backbone else "none", threads)
    run.resume()
    run.run()
    network, _ = load_network(out / "last.pt")
    see = stretched if preset.stretch else letterboxed
    photos = [*split.validation, *split.validation_backgrounds]
    groups = judge_photos(
        tqdm(photos, desc=f"judging {variant.name}", unit="photo", leave=False, mininterval=2.0),
        see(predictor(network.to(device), device), preset.canvases.landscape, preset.canvases.upright),
    )
    scores: dict[str, Any] = {name: figures_of(group) for name, group in groups.items()}
    scores["mean over sources"] = {
        "mean_iou": overall_iou(groups),
        "boundary_f": _mean([row["boundary_f"] for row in scores.values() if "boundary_f" in row]),
        "alarm_share": _mean([row["alarm_share"] for row in scores.values() if "alarm_share" in row]),
    }
    done.write_text(json.dumps({"preset": key, "scores": scores}, indent=2) + "\n", encoding="utf-8")
    return scores


def table(rows: Sequence[tuple[Variant, int, dict[str, Any]]]) -> str:
    """A Markdown table: a line a training, and by how much it lies above the one it is compared with."""
    found = {(variant.name, seed): scores for variant, seed, scores in rows}
    lines = [
        "| training | seed | differs from | in | IoU | bF | alarms | IoU by that | bF by that |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for variant, seed, scores in rows:
        mean, other = scores["mean over sources"], found.get((variant.beside, seed))
        cells = [variant.name, str(seed), variant.beside, variant.question]
        cells += [f"{mean['mean_iou']:.4f}", f"{mean['boundary_f']:.3f}", f"{mean['alarm_share']:.0%}"]
        if other:
            beside = other["mean over sources"]
            cells += [f"{mean[key] - beside[key]:+.{digits}f}" for key, digits in (("mean_iou", 4), ("boundary_f", 3))]
        else:
            cells += ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    names = [variant.name for variant in variants(1)]
    parser = argparse.ArgumentParser(
        prog="python -m train.ablation",
        description="Measure what each part of the method gives under one small budget.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <source>/images and masks")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where runs and report go")
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="of every variant (default 3)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="N", help="default 1")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--teacher", type=Path, metavar="FILE", help="checkpoint for `distilled`; without it left out")
    parser.add_argument("--backbone-weights", metavar="FILE", help="ImageNet weights (default: the package's)")
    parser.add_argument("--loader-threads", type=int, default=2, help="that make batches (default 2)")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if options.epochs < 1:
        parser.error(f"--epochs {options.epochs} must be 1 or more")
    chosen = [one for one in variants(options.epochs) if one.name in options.only]
    if not options.teacher and any(one.has_teacher for one in chosen):
        print("train.ablation: `distilled` is left out: it needs --teacher", file=sys.stderr)
        chosen = [one for one in chosen if not one.has_teacher]
    rows: list[tuple[Variant, int, dict[str, Any]]] = []
    try:
        photos = find_photos(options.data)
        check_contents(tqdm(photos, desc="checking the photos", unit="photo", leave=False, mininterval=2.0))
        split = split_photos(photos)
        for variant in chosen:
            for seed in options.seeds:
                print(f"{variant.name}, seed {seed}", flush=True)
                folder = options.out / f"{variant.name.replace(' ', '-')}-{seed}"
                scores = train_and_judge(
                    variant, split, folder, seed, options.teacher, options.backbone_weights, options.loader_threads
                )
                rows.append((variant, seed, scores))
                _write(rows, options.out)
    except (DataError, WeightsError, CheckpointError, OSError) as error:
        print(f"train.ablation: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    print(table(rows), end="")
    print(f"report: {options.out / 'report.md'}, {options.out / 'report.json'}")
    return 0


def _write(rows: Sequence[tuple[Variant, int, dict[str, Any]]], out: Path) -> None:
    """After every training, so that a run that is stopped leaves what it has."""
    (out / "report.md").write_text(table(rows), encoding="utf-8")
    plain = [{"name": variant.name, "seed": seed, "beside": variant.beside, "scores": s} for variant, seed, s in rows]
    (out / "report.json").write_text(json.dumps({"trainings": plain}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
