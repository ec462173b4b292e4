"""What a run is: one dataclass, a preset a model, and a reason beside each number that is not self-evident."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from humanseg.vision.arrays import Size
from train.losses import LossWeights
from train.scenes import PLAIN, RICH, Scenes

#: The shapes of webcam and phone; letterboxing 16:9 to 5:3 wastes 6 % of the pixels, to a square 44 %.
LANDSCAPE, UPRIGHT = Size(320, 192), Size(192, 320)
#: The first part of a run: about half of the pixels, twice the photos a second.
SMALL_LANDSCAPE, SMALL_UPRIGHT = Size(224, 128), Size(128, 224)
#: Two thirds of medium's pixels: at the same cost, more network looks at them.
THIN_LANDSCAPE, THIN_UPRIGHT = Size(256, 160), Size(160, 256)
#: 16:9 itself; strides of 32 divide both sides.
LARGE_LANDSCAPE, LARGE_UPRIGHT = Size(512, 288), Size(288, 512)


@dataclass(frozen=True, slots=True)
class Canvases:
    """The input sizes of a part of a run."""

    landscape: Size
    upright: Size

    def pick(self, *, upright: bool) -> Size:
        """One of the two."""
        return self.upright if upright else self.landscape


@dataclass(frozen=True, slots=True)
class Preset:
    """Everything that decides what a run computes."""

    model: str
    epochs: int = 20
    batch: int = 16
    learning_rate: float = 1.5e-3
    backbone_rate: float = 0.25
    """Of the learning rate: pretrained layers need less."""
    weight_decay: float = 0.02
    warmup_share: float = 0.03
    """Part of all steps over which the rate rises from 0, before it falls along a cosine."""
    ema_decay: float = 0.998
    """The averaged weights look back over some 500 steps; shorter at the start."""
    small_share: float = 0.45
    """Part of all steps on the small canvases (progressive resizing)."""
    composite_share: float = 0.4
    """Share of the people that are put on another background."""
    landscape_share: float = 0.35
    """Share of upright photos that are shown on a landscape canvas, mostly as composites: the webcam's view."""
    negative_share: float = 0.05
    """Backgrounds without anybody, as a share of the people's photos."""
    stretch: bool = False
    """Photos are stretched to the canvas, as by the published configs; only to measure what keeping the ratio gives:
    nothing serves such a network, and the validation of a run keeps the ratio."""
    scenes: Scenes = PLAIN
    """What composites and cameras show; plain as it was for the first models."""
    teacher: str = ""
    """Checkpoint of the network to learn from besides the labels; empty: none."""
    teacher_weight: float = 1.0
    """Of the distance from the teacher; the labels' loss keeps its own weight."""
    box_teacher: str = ""
    """ONNX file, or folder of soft masks, that fills the boxes of photos that have nothing else; empty: left out."""
    box_share: float = 0.3
    """Photos with boxes in an epoch, as a share of the people's photos."""
    loss: LossWeights = field(default_factory=LossWeights)
    canvases: Canvases = Canvases(LANDSCAPE, UPRIGHT)
    small_canvases: Canvases = Canvases(SMALL_LANDSCAPE, SMALL_UPRIGHT)
    validate_every: int = 2
    """Epochs between two looks at the validation photos, which cost half a minute on two cores."""
    seed: int = 1

    def to_plain(self) -> dict[str, Any]:
        """As values that JSON knows, for the checkpoint and the log."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def complete(plain: dict[str, Any]) -> dict[str, Any]:
    """The plain preset of an earlier release with what it lacks: new settings at the defaults, which ruled then."""
    return _fill(plain, Preset(plain["model"]).to_plain())


def _fill(plain: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    filled = {**defaults, **plain}
    for key, value in defaults.items():
        if isinstance(value, dict):
            filled[key] = _fill(filled[key], value)
    return filled


PRESETS: dict[str, Preset] = {
    "medium": Preset("medium"),
    # Begins with a thinned encoder (train.thin), which has more to learn anew than a whole one.
    "small": Preset(
        "small",
        epochs=40,
        learning_rate=2e-3,
        backbone_rate=0.5,
        weight_decay=0.01,
        validate_every=5,
        scenes=RICH,
        small_share=0.0,
        loss=LossWeights(boundary_f=0.3),
        canvases=Canvases(THIN_LANDSCAPE, THIN_UPRIGHT),
    ),
    # Grows out of medium (--init), so few epochs at a low rate. Its small canvases are medium's large ones.
    "large": Preset(
        "large",
        epochs=12,
        learning_rate=6e-4,
        scenes=RICH,
        small_share=0.0,
        loss=LossWeights(boundary_f=0.3),
        canvases=Canvases(LARGE_LANDSCAPE, LARGE_UPRIGHT),
        small_canvases=Canvases(LANDSCAPE, UPRIGHT),
    ),
}
