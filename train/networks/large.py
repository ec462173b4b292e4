"""*large*: *medium* with ASPP and a finer decoder at 512x288, for a server's GPU, or a CPU with time.

It grows out of *medium*: encoder and decoder are the same and begin with its weights, and what is new adds nothing at
first. Before its first step it has thus learned all that the medium network has, which is what training on CPUs can
afford; a wider encoder would have to begin at ImageNet again. It sees two and a half times the pixels.

The new parts are after DeepLabV3+ (Chen et al., ECCV 2018): what the encoder knows at stride 16 is looked at over
several ranges at once (ASPP), and outlines are refined where the skips of strides 4 and 2 come in. The encoder keeps
its stride of 32 instead of dilating its last stages, and the rates are 1, 3, 6 and 9: the original's 12, 24 and 36
reach beyond a map of 32x18. Nothing is pooled over the whole picture.
"""

from typing import cast

import torch
from torch import Tensor, nn

from train.networks.blocks import ConvUnit, Separable, initialize, normalize, upsample2
from train.networks.medium import Medium

RATES = (3, 6, 9)


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 convolution and dilated separable ones side by side."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.ranges = nn.ModuleList([ConvUnit(inputs, width), *(Separable(inputs, width, rate) for rate in RATES)])
        self.outputs = width * (1 + len(RATES))

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        return torch.cat([one(features) for one in self.ranges], dim=1)


class Correction(nn.Module):
    """What a linear unit adds to the features it sees: nothing at first, so that it can join a trained network.

    The last BatchNorm's weights begin at 0 (Goyal et al.: Accurate, Large Minibatch SGD, 2017).
    """

    def __init__(self, layers: ConvUnit | nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def start_from_nothing(self) -> None:
        """After `initialize`, which sets every BatchNorm to the identity."""
        norms = [layer for layer in self.layers.modules() if isinstance(layer, nn.BatchNorm2d)]
        nn.init.zeros_(norms[-1].weight)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return features + cast(Tensor, self.layers(features))


class Large(Medium):
    """(N, H, W, 3) uint8 RGB to (N, H, W) float logits; H and W divisible by 32."""

    #: Whose weights a run may begin with, besides its own.
    grown_from = "medium"

    def __init__(self) -> None:
        super().__init__()
        _, w16, _, w4, w2 = self.widths
        aspp = Aspp(w16, 96)
        self.ranges16 = Correction(nn.Sequential(aspp, ConvUnit(aspp.outputs, w16, linear=True)))
        self.refine4 = Correction(nn.Sequential(ConvUnit(w4, w4, 3), ConvUnit(w4, w4, 3, linear=True)))
        self.refine2 = Correction(nn.Sequential(ConvUnit(w2, w2, 3), ConvUnit(w2, w2, 3, linear=True)))
        for part in (self.ranges16, self.refine4, self.refine2):
            initialize(part)
            part.start_from_nothing()

    def forward(self, frames: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 to (N, H, W) logits, in float32 also under autocast."""
        f2, f4, f8, f16, f32 = self.encoder(normalize(frames))
        deep = self.ranges16(self.join16(self.bottom(f32), f16))
        deep = self.join8(deep, f8)
        deep = self.refine4(self.join4(deep, f4))
        deep = self.refine2(self.join2(deep, f2))
        return upsample2(self.head(deep).float()).squeeze(1)
