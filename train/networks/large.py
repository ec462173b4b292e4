"""*large*: EfficientNet-Lite2 with ASPP and a fine decoder at 512x288, for a server's GPU, or a CPU with time.

After DeepLabV3+ (Chen et al., ECCV 2018): what the encoder knows at stride 16 is looked at over several ranges at once
(ASPP), then brought back to the outlines step by step. Two things differ. The encoder keeps its stride of 32, whose map
joins that of stride 16 before the ASPP: with the last stages dilated the network takes 4.1 GMACs instead of 2.8, too
much for a served frame on a CPU. And the rates are 1, 3, 6 and 9: the original's 12, 24 and 36 reach beyond a map of
32x18. Nothing is pooled over the whole picture.
"""

from typing import cast

import torch
from torch import Tensor, nn

from train.networks.blocks import ConvUnit, Join, Separable, initialize, normalize, upsample2
from train.networks.efficientnet_lite import LITE2, EfficientNetLite

RATES = (3, 6, 9)


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 convolution and dilated separable ones side by side, then a 1x1."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.ranges = nn.ModuleList([ConvUnit(inputs, width), *(Separable(inputs, width, rate) for rate in RATES)])
        self.mix = ConvUnit(width * (1 + len(RATES)), outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        return cast(Tensor, self.mix(torch.cat([one(features) for one in self.ranges], dim=1)))


class Large(nn.Module):
    """(N, H, W, 3) uint8 RGB to (N, H, W) float logits; H and W divisible by 32."""

    #: Decoder widths from stride 32 to stride 2.
    widths = (192, 160, 80, 56, 40)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = EfficientNetLite(LITE2)
        w32, w16, w8, w4, w2 = self.widths
        c2, c4, c8, c16, c32 = self.encoder.channels
        self.bottom = ConvUnit(c32, w32)
        self.join16 = Join(w32, c16, 96, w16)
        self.aspp = Aspp(w16, 96, w16)
        self.join8 = Join(w16, c8, 48, w8)
        self.join4 = Join(w8, c4, 32, w4)
        self.refine4 = ConvUnit(w4, w4, 3)
        self.join2 = Join(w4, c2, 24, w2)
        self.refine2 = ConvUnit(w2, w2, 3)
        self.head = nn.Conv2d(w2, 1, 3, padding=1)
        for name, part in self.named_children():
            if name != "encoder":
                initialize(part)
        assert self.head.bias is not None
        # A third of the pixels is person: start there, not at one half.
        nn.init.constant_(self.head.bias, -0.7)

    def forward(self, frames: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 to (N, H, W) logits, in float32 also under autocast."""
        f2, f4, f8, f16, f32 = self.encoder(normalize(frames))
        deep = self.aspp(self.join16(self.bottom(f32), f16))
        deep = self.join8(deep, f8)
        deep = self.refine4(self.join4(deep, f4))
        deep = self.refine2(self.join2(deep, f2))
        return upsample2(self.head(deep).float()).squeeze(1)
