"""Save a run so that it goes on as if it had never stopped: weights, averaged weights, optimizer, position.

A file of averaged weights alone, in half precision, is small enough for git; it can be exported, taught from and begun
with, and only not be resumed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from train.networks import NETWORKS
from train.presets import complete

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""


class AveragedWeights:
    """Exponential moving average of parameters and buffers (Polyak averaging), kept in float32."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self.updates = 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model; faster at first, when the average has nothing to say yet."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for name, value in model.state_dict().items():
            kept = self.state[name]
            if kept.is_floating_point():
                kept.lerp_(value, 1 - decay)
            else:
                kept.copy_(value)


@dataclass(slots=True)
class RunState:
    """Where a run stands: ``step`` steps are done."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    averaged: AveragedWeights
    step: int = 0
    best_iou: float = 0.0


def save_checkpoint(path: Path, state: RunState, preset: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    content = {
        "format": FORMAT,
        "preset": preset,
        "step": state.step,
        "best_iou": state.best_iou,
        "model": state.model.state_dict(),
        "averaged": state.averaged.state,
        "averaged_updates": state.averaged.updates,
        "optimizer": state.optimizer.state_dict(),
    }
    _write(path, content)


def save_weights(checkpoint: Path, path: Path) -> int:
    """Write the averaged weights of a checkpoint alone, in half precision; returns the file's bytes.

    Raises:
        CheckpointError: it cannot be read, or a weight is too large for half precision.
    """
    content = read_checkpoint(checkpoint)
    halved = {}
    for name, value in content["averaged"].items():
        halved[name] = value.half() if value.is_floating_point() else value
        if not torch.isfinite(halved[name]).all():
            raise CheckpointError(f"{checkpoint}: {name} holds values beyond {torch.finfo(torch.half).max:g}")
    kept = ("format", "preset", "step", "best_iou")
    _write(path, {**{key: content[key] for key in kept}, "averaged": halved})
    return path.stat().st_size


def save_start(path: Path, network: nn.Module, preset: dict[str, Any]) -> None:
    """Write weights that no step has been made with, for runs to begin with."""
    _write(path, {"format": FORMAT, "preset": preset, "step": 0, "best_iou": 0.0, "averaged": network.state_dict()})


def _write(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".tmp")
    torch.save(content, unfinished)
    unfinished.replace(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint.

    Raises:
        CheckpointError: missing, damaged, or of another release.
    """
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint {path}; `python -m train.train` writes last.pt and best.pt into its --out"
        )
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise what they like on damaged files
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {content.get('format')!r}, this release reads {FORMAT}")
    content["preset"] = complete(content["preset"])
    return content


def load_network(checkpoint: Path) -> tuple[nn.Module, dict[str, object]]:
    """The averaged weights of a checkpoint in evaluation mode, and the preset of their run.

    Raises:
        CheckpointError: it cannot be read, or is of a network unknown here.
    """
    content = read_checkpoint(checkpoint)
    preset = content["preset"]
    if preset["model"] not in NETWORKS:
        raise CheckpointError(f"{checkpoint} is of model {preset['model']!r}, known are {', '.join(sorted(NETWORKS))}")
    network = NETWORKS[preset["model"]]()
    _fill(network, content["averaged"], preset["model"], checkpoint)
    return network.eval(), {**preset, "steps_done": content["step"], "best_iou": content["best_iou"]}


def load_weights(network: nn.Module, model: str, checkpoint: Path) -> None:
    """Put the averaged weights of a checkpoint into a network; nothing else of that run lives on.

    The checkpoint is of the same network, or of the one that this one has grown out of (``grown_from``): what is new
    then stays as it begins.

    Raises:
        CheckpointError: it cannot be read, or is of another network.
    """
    content = read_checkpoint(checkpoint)
    found, grown_from = content["preset"]["model"], getattr(network, "grown_from", model)
    if found not in (model, grown_from):
        allowed = f"{model!r}" if grown_from == model else f"{model!r} or {grown_from!r}"
        raise CheckpointError(f"{checkpoint} is of model {found!r}; --init takes one of {allowed} here")
    known = {} if found == model else network.state_dict()
    _fill(network, {**known, **content["averaged"]}, model, checkpoint)


def _fill(network: nn.Module, weights: dict[str, Any], model: str, checkpoint: Path) -> None:
    own = network.state_dict()
    odd = sorted(set(weights) ^ set(own)) or [name for name in own if own[name].shape != weights[name].shape]
    if odd:
        where = f"{len(odd)} of its tensors differ, for example {odd[0]}"
        raise CheckpointError(f"{checkpoint} does not fit {model!r} as it is in this release: {where}")
    network.load_state_dict(weights)


def restore_run(path: Path, state: RunState, preset: dict[str, Any]) -> None:
    """Continue from a checkpoint.

    Raises:
        CheckpointError: it belongs to a run with other settings, or holds nothing but weights.
    """
    content = read_checkpoint(path)
    if "optimizer" not in content:
        raise CheckpointError(f"{path} holds weights only, nothing to resume from; begin a run with --init {path}")
    if content["preset"] != preset:
        odd = sorted(key for key in preset if content["preset"].get(key) != preset[key])
        raise CheckpointError(f"{path} was made with other settings ({', '.join(odd)}); use the same, or another --out")
    state.model.load_state_dict(content["model"])
    state.averaged.state = content["averaged"]
    state.averaged.updates = content["averaged_updates"]
    state.optimizer.load_state_dict(content["optimizer"])
    state.step = content["step"]
    state.best_iou = content["best_iou"]
