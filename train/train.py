"""``python -m train.train``: train a network on a folder of photos with person masks.

Everything is decided by the preset and its seed; interrupted by Ctrl-C, a kill or a power cut, the same command goes on
from the last checkpoint as if it had never stopped.
"""

import csv
import hashlib
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from engines.runner import EngineError
from humanseg.vision.arrays import AlphaBatch, Batch
from train.arguments import chosen_preset, parse_arguments
from train.boxes import find_boxed, label_boxes, masks_in, segmented_by
from train.checkpoint import (
    AveragedWeights,
    CheckpointError,
    RunState,
    load_network,
    load_weights,
    restore_run,
    save_checkpoint,
)
from train.contestants import open_model
from train.data import DataError, Photo, Split, check_contents, find_photos, split_photos
from train.loader import BatchStream, LabeledBatch, PlannedBatch, SampleMaker, plan_epoch
from train.losses import distillation_loss, segmentation_loss
from train.networks import NETWORKS
from train.networks.efficientnet_lite import EfficientNetLite, WeightsError, find_weights, load_imagenet
from train.presets import Canvases, Preset
from train.sheet import write_prediction_sheet
from train.validation import Predictor, judge_photos, letterboxed, mean_boundary_f, mean_iou, overall_iou

#: A checkpoint at least this often; a kill costs no more.
CHECKPOINT_INTERVAL_S = 300.0
LARGEST_GRADIENT = 5.0
#: Photos of the prediction sheet.
SHEET_PHOTOS = 12
LOG_COLUMNS = ("epoch", "step", "seconds", "loss", "learning_rate", "photos_per_s", "iou")


def learning_rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Linear warm-up from 0 to 1, then a cosine to 0 (Loshchilov, Hutter: SGDR, ICLR 2017, one cycle)."""
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def make_optimizer(model: nn.Module, preset: Preset) -> torch.optim.Optimizer:
    """AdamW (Loshchilov, Hutter, ICLR 2019): a lower rate for the encoder, no decay for norms and biases."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((name.startswith("encoder."), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": preset.learning_rate * (preset.backbone_rate if in_encoder else 1.0),
                "base_lr": preset.learning_rate * (preset.backbone_rate if in_encoder else 1.0),
                "weight_decay": preset.weight_decay if decays else 0.0,
            }
            for (in_encoder, decays), parameters in sorted(groups.items())
        ]
    )


def make_model(preset: Preset, backbone_weights: str | None, device: torch.device) -> nn.Module:
    """The network of a preset, its encoder with ImageNet weights if there are any and they are not ``"none"``.

    Raises:
        WeightsError: there are none, or they do not fit.
    """
    model = NETWORKS[preset.model]()
    encoder = getattr(model, "encoder", None)
    has_weights = isinstance(encoder, EfficientNetLite) and bool(encoder.variant.package)
    if backbone_weights not in (None, "none") and not has_weights:
        raise WeightsError(
            f"{preset.model} has no encoder that {backbone_weights} could fit; leave --backbone-weights out and begin"
            " with --init and what `python -m train.thin` makes"
        )
    if isinstance(encoder, EfficientNetLite) and has_weights and backbone_weights != "none":
        load_imagenet(encoder, find_weights(Path(backbone_weights) if backbone_weights else None, encoder.variant))
    # torch's stubs do not know that Module.to takes a memory format.
    return cast(nn.Module, model.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]


@contextmanager
def averaged_weights_in(model: nn.Module, averaged: AveragedWeights) -> Iterator[None]:
    """For the duration, the model holds the averaged weights and is in evaluation mode."""
    own = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(averaged.state)
    model.eval()
    try:
        yield
    finally:
        model.load_state_dict(own)
        model.train()


def predictor(model: nn.Module, device: torch.device) -> Predictor:
    """The model as a function from uint8 batches to float32 alphas; takes the weights that it holds when called."""

    @torch.no_grad()
    def predict(batch: Batch) -> AlphaBatch:
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(torch.from_numpy(batch).to(device))
        alpha: AlphaBatch = torch.sigmoid(logits.float()).cpu().numpy()
        return alpha

    return predict


def load_teacher(preset: Preset, device: torch.device) -> nn.Module | None:
    """The network that the preset names as teacher, frozen; None if it names none.

    Raises:
        CheckpointError: it cannot be read.
    """
    if not preset.teacher:
        return None
    teacher, _ = load_network(Path(preset.teacher))
    return cast(nn.Module, teacher.requires_grad_(False).to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]


def with_boxes(split: Split, data: Path, preset: Preset, out: Path) -> Split:
    """The split with the photos of which only boxes are known, if the preset names a model or masks to fill them.

    Raises:
        DataError: there are none, or they cannot be used.
        EngineError: the model cannot be run.
    """
    if not preset.box_teacher:
        return split
    teacher = Path(preset.box_teacher)
    if teacher.is_dir():
        boxed = find_boxed(data)
        label, key = masks_in(teacher, boxed), b"".join(file.read_bytes() for file in sorted(teacher.glob("*.png")))
    else:
        label, key = segmented_by(open_model(teacher).segment), teacher.read_bytes()
        boxed = find_boxed(data)
    folder = out / "boxes" / hashlib.sha256(key).hexdigest()[:12]
    return replace(split, train_boxed=tuple(label_boxes(boxed, label, folder)))


def train_step(run: "Run", batch: LabeledBatch) -> Tensor:
    """One step; returns the loss, detached."""
    frames, alpha, known = (part.to(run.device) for part in (batch.frames, batch.alpha, batch.known))
    model, optimizer = run.state.model, run.state.optimizer
    with torch.autocast(run.device.type, torch.bfloat16):
        logits = model(frames)
        taught = None if run.teacher is None else run.teacher(frames)
    loss = segmentation_loss(logits, alpha, known, run.preset.loss)
    if taught is not None:
        loss = loss + run.preset.teacher_weight * distillation_loss(logits, taught)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
    optimizer.step()
    return loss.detach()


class Run:
    """A run from its first step to its last."""

    def __init__(
        self,
        preset: Preset,
        split: Split,
        out: Path,
        device: torch.device,
        backbone: str | None,
        loader_threads: int,
        init: Path | None = None,
    ) -> None:
        torch.manual_seed(preset.seed)
        self.preset = preset
        self.split = split
        self.maker = SampleMaker(split, preset)
        self.out = out
        self.device = device
        self.loader_threads = loader_threads
        model = make_model(preset, "none" if init else backbone, device)
        if init:
            load_weights(model, preset.model, init)
        self.teacher = load_teacher(preset, device)
        self.state = RunState(model, make_optimizer(model, preset), AveragedWeights(model, preset.ema_decay))
        # How many batches an epoch has depends a little on its shuffle.
        self.epoch_starts = [0]
        for epoch in range(preset.epochs):
            self.epoch_starts.append(self.epoch_starts[-1] + len(plan_epoch(split, preset, epoch)))

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epoch_starts[-1]

    @property
    def last_path(self) -> Path:
        """Where the run resumes from."""
        return self.out / "last.pt"

    def canvases_at(self, step: int) -> Canvases:
        """Small canvases in the first part of the run."""
        small = step < self.preset.small_share * self.steps
        return self.preset.small_canvases if small else self.preset.canvases

    def save(self, name: str) -> None:
        """Write a checkpoint."""
        save_checkpoint(self.out / name, self.state, self.preset.to_plain())

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        if self.last_path.exists():
            restore_run(self.last_path, self.state, self.preset.to_plain())

    def run(self) -> None:
        """Train to the end."""
        self.state.model.train()
        for epoch in range(self.preset.epochs):
            first, end = self.epoch_starts[epoch], self.epoch_starts[epoch + 1]
            if self.state.step >= end:
                continue
            planned = plan_epoch(self.split, self.preset, epoch)[self.state.step - first :]
            self._run_epoch(epoch, planned, end)

    def _run_epoch(self, epoch: int, planned: list[PlannedBatch], end: int) -> None:
        state, preset = self.state, self.preset
        canvases = [self.canvases_at(state.step + offset) for offset in range(len(planned))]
        started, saved, losses = time.monotonic(), time.monotonic(), 0.0
        rate = preset.learning_rate
        label = f"epoch {epoch + 1}/{preset.epochs} at {canvases[0].landscape}"
        with (
            BatchStream(planned, self.maker, canvases, self.loader_threads) as batches,
            tqdm(batches, desc=label, total=len(planned), unit="step", mininterval=2.0) as bar,
        ):
            for done, batch in enumerate(bar, start=1):
                rate = self._set_rate()
                losses += float(train_step(self, batch))
                state.averaged.update(state.model)
                state.step += 1
                left_s = (time.monotonic() - started) / done * (self.steps - state.step)
                bar.set_postfix(
                    loss=f"{losses / done:.4f}", best_iou=f"{state.best_iou:.4f}", run_left=_minutes(left_s)
                )
                if time.monotonic() - saved > CHECKPOINT_INTERVAL_S:
                    self.save("last.pt")
                    saved = time.monotonic()
        seconds = time.monotonic() - started
        last = epoch + 1 == preset.epochs
        iou = self._judge(epoch) if last or (epoch + 1) % preset.validate_every == 0 else None
        row = (epoch + 1, state.step, round(seconds, 1), round(losses / len(planned), 5), f"{rate:.3g}",
               round(len(planned) * preset.batch / seconds, 2), "" if iou is None else round(iou, 5))  # fmt: skip
        _append_row(self.out / "log.csv", row)
        if iou is not None and iou > state.best_iou:
            state.best_iou = iou
            self.save("best.pt")
        self.save("last.pt")

    def _set_rate(self) -> float:
        factor = learning_rate_factor(self.state.step, self.steps, self.preset.warmup_share)
        for group in self.state.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        return self.preset.learning_rate * factor

    def _judge(self, epoch: int) -> float:
        """Validate the averaged weights, print a line a source, write the sheet; returns the mean over sources."""
        preset = self.preset
        predict = predictor(self.state.model, self.device)
        with averaged_weights_in(self.state.model, self.state.averaged):
            by_source = judge_photos(
                tqdm(self.split.validation, desc="validation", unit="photo", leave=False, mininterval=2.0),
                letterboxed(predict, preset.canvases.landscape, preset.canvases.upright),
            )
            shown = _spread(self.split.validation, SHEET_PHOTOS)
            write_prediction_sheet(
                self.out / f"epoch_{epoch + 1:02}.png",
                shown,
                predict,
                preset.canvases.landscape,
                preset.canvases.upright,
            )
        overall = overall_iou(by_source)
        parts = ", ".join(
            f"{source} {mean_iou(scores):.4f} / {mean_boundary_f(scores):.3f}" for source, scores in by_source.items()
        )
        print(f"epoch {epoch + 1}: mean IoU {overall:.4f} (IoU / boundary F: {parts})", flush=True)
        return overall


def _spread(photos: Sequence[Photo], count: int) -> list[Photo]:
    """So many photos, evenly spread."""
    return [photos[index * len(photos) // count] for index in range(min(count, len(photos)))]


def _append_row(path: Path, row: Sequence[object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(LOG_COLUMNS)
        writer.writerow(row)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}h"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    preset = chosen_preset(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        photos = find_photos(options.data)
        check_contents(tqdm(photos, desc="checking the photos", unit="photo", leave=False, mininterval=2.0))
        split = with_boxes(split_photos(photos), options.data, preset, options.out)
        run = Run(
            preset, split, options.out, torch.device(options.device), options.backbone_weights, options.loader_threads,
            options.init,
        )  # fmt: skip
        run.resume()
    except (DataError, WeightsError, CheckpointError, EngineError, OSError) as error:
        print(f"train.train: {error}", file=sys.stderr)
        return 1
    if preset.model == "small" and not options.init:
        print("small begins with nothing, which costs it accuracy; `python -m train.thin` makes an --init for it")
    print(
        f"{preset.model}: {len(split.train)} photos to learn from, {len(split.validation)} to judge by,"
        f" {len(split.train_backgrounds)} backgrounds, {len(split.train_boxed)} with boxes; {preset.epochs} epochs,"
        f" {run.steps} steps, {run.state.step} done"
    )
    try:
        run.run()
    except KeyboardInterrupt:
        run.save("last.pt")
        print(f"\nstopped at step {run.state.step}; the same command goes on from there", file=sys.stderr)
        return 130
    print(f"best mean IoU {run.state.best_iou:.4f}: {options.out / 'best.pt'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
