"""*small*: *medium* made thin, for CPUs and browsers: 0.7 M parameters at 256x160; it costs a quarter of *medium*.

The encoder is EfficientNet-Lite0's with a third of the channels inside of each block and without the last stage;
`train.thin` chooses them so that a trained encoder loses little. Features learned from ImageNet and from all the photos
are thus where the training begins. A network of the same cost that began with nothing (0.17 M parameters, inverted
residuals at 320x192, sixty epochs) had a mean IoU of 0.82 where MediaPipe's general selfie model has 0.85.

On CPUs a network this small is bound by memory traffic, not by arithmetic. Hence few channels at stride 2 and in the
decoder, deep maps that are narrowed before they grow, skips that are added and not concatenated, ReLU6 and no other
activation, and no channel shuffle: of the four ideas of PP-HumanSeg's lite model it is the one that measured badly
outside Paddle Lite.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from train.networks.blocks import ConvUnit, Separable, initialize, normalize, upsample2
from train.networks.efficientnet_lite import LITE0_THIN, EfficientNetLite


class Add(nn.Module):
    """Double a deep map, add the skip brought to its channels, mix."""

    def __init__(self, deep: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.narrow = ConvUnit(deep, outputs, linear=True)
        self.side = ConvUnit(skip, outputs, linear=True)
        self.mix = Separable(outputs, outputs)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """(N, deep, H, W) and (N, skip, 2H, 2W) to (N, outputs, 2H, 2W)."""
        # Narrowed before it grows: a quarter of the pixels.
        return cast(Tensor, self.mix(upsample2(self.narrow(deep)) + self.side(skip)))


def smooth(logits: Tensor) -> Tensor:
    """(N, 1, H, W) weighted by 1, 2, 1 in both directions: takes a pattern of period 2 out.

    Four pixels that come of one place otherwise differ at every uncertain edge in the same way: a grid that one sees.
    Two poolings of 2x2 cost a tenth of a convolution with that kernel. At the border only what is there counts.
    """
    once = functional.avg_pool2d(logits, 2, stride=1)
    return functional.avg_pool2d(once, 2, stride=1, padding=1, count_include_pad=False)


class Small(nn.Module):
    """(N, H, W, 3) uint8 RGB to (N, H, W) float logits; H and W divisible by 32."""

    #: Decoder widths from stride 32 to stride 2.
    widths = (96, 64, 40, 24, 16)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = EfficientNetLite(LITE0_THIN)
        w32, w16, w8, w4, w2 = self.widths
        c2, c4, c8, c16, c32 = self.encoder.channels
        self.bottom = nn.Sequential(ConvUnit(c32, w32), Separable(w32, w32))
        self.add16 = Add(w32, c16, w16)
        self.add8 = Add(w16, c8, w8)
        self.add4 = Add(w8, c4, w4)
        self.add2 = Add(w4, c2, w2)
        # The four pixels under each place of stride 2. One logit of a 3x3 convolution, doubled bilinearly, takes 0.6 ms
        # of 3.9: engines compute channels in blocks of 16, and resize a single one slowly.
        self.head = nn.Conv2d(w2, 4, 1)
        for name, part in self.named_children():
            if name != "encoder":
                initialize(part)
        assert self.head.bias is not None
        # A third of the pixels is person: start there, not at one half.
        nn.init.constant_(self.head.bias, -0.7)

    def forward(self, frames: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 to (N, H, W) logits, in float32 also under autocast."""
        f2, f4, f8, f16, f32 = self.encoder(normalize(frames))
        deep = self.add16(self.bottom(f32), f16)
        deep = self.add8(deep, f8)
        deep = self.add4(deep, f4)
        deep = self.add2(deep, f2)
        return smooth(functional.pixel_shuffle(self.head(deep).float(), 2)).squeeze(1)
