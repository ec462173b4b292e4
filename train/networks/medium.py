"""*medium*: EfficientNet-Lite0 with a light decoder, 3.0 M parameters, for a server's CPU or any GPU.

Decoder after the U-Net idea (Ronneberger et al. 2015) in the depthwise-separable form of MobileNets: at each stride the
deeper map is doubled bilinearly, joined to a narrowed skip and mixed. Only convolutions, ReLU6, add, concat and
constant-scale Resize, so that TensorRT and ONNX Runtime fuse it well; no global pooling, so one set of weights serves
every input whose sides 32 divides.
"""

from typing import cast

from torch import Tensor, nn

from train.networks.blocks import ConvUnit, Join, Separable, initialize, normalize, upsample2
from train.networks.efficientnet_lite import EfficientNetLite


class Medium(nn.Module):
    """(N, H, W, 3) uint8 RGB to (N, H, W) float logits; H and W divisible by 32."""

    #: Decoder widths from stride 32 to stride 2.
    widths = (128, 96, 48, 32, 24)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = EfficientNetLite()
        w32, w16, w8, w4, w2 = self.widths
        c2, c4, c8, c16, c32 = self.encoder.channels
        self.bottom = nn.Sequential(ConvUnit(c32, w32), Separable(w32, w32))
        self.join16 = Join(w32, c16, 64, w16)
        self.join8 = Join(w16, c8, 32, w8)
        self.join4 = Join(w8, c4, 24, w4)
        self.join2 = Join(w4, c2, 16, w2)
        self.head = nn.Sequential(Separable(w2, w2), nn.Conv2d(w2, 1, 3, padding=1))
        for part in self.decoder_parts():
            initialize(part)
        head_bias = cast(nn.Conv2d, self.head[1]).bias
        assert head_bias is not None
        # A third of the pixels is person: start there, not at one half.
        nn.init.constant_(head_bias, -0.7)

    def decoder_parts(self) -> list[nn.Module]:
        """Everything that starts from random weights."""
        return [self.bottom, self.join16, self.join8, self.join4, self.join2, self.head]

    def forward(self, frames: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 to (N, H, W) logits, in float32 also under autocast."""
        f2, f4, f8, f16, f32 = self.encoder(normalize(frames))
        deep = self.join16(self.bottom(f32), f16)
        deep = self.join8(deep, f8)
        deep = self.join4(deep, f4)
        deep = self.join2(deep, f2)
        return upsample2(self.head(deep).float()).squeeze(1)
