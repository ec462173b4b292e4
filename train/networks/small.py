"""*small*: 0.17 M parameters for CPUs and browsers; it costs a quarter of *medium*.

On CPUs a network this small is bound by memory traffic, not by arithmetic. Hence few channels at stride 2 (16, where
PP-HumanSeg's ConnectNet has 36), skips that are added and not concatenated, ReLU6 and no other activation, 5x5
depthwise kernels only from stride 16 on, and no channel shuffle: of the four ideas of the published lite model it is
the one that measured badly outside Paddle Lite. Context comes from a gate on the pooled picture at stride 32.
"""

from typing import cast

from torch import Tensor, nn

from train.networks.blocks import ConvUnit, InvertedResidual, Separable, initialize, normalize, upsample2
from train.networks.efficientnet_lite import Stage

STAGES = (
    Stage(1, 3, 2, 1, 16),
    Stage(2, 3, 2, 4, 24),
    Stage(3, 5, 2, 4, 40),
    Stage(3, 5, 2, 4, 64),
)
STEM_CHANNELS = 16


class PooledGate(nn.Module):
    """Scale each channel by what the whole picture says of it (squeeze and excite, Hu et al. 2018, hard sigmoid)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        gate = self.weigh(features.mean((2, 3), keepdim=True))
        # Hard sigmoid spelt out: Clip is a node that every engine fuses.
        return cast(Tensor, features * (gate / 6 + 0.5).clamp(0, 1))


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


class Small(nn.Module):
    """(N, H, W, 3) uint8 RGB to (N, H, W) float logits; H and W divisible by 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvUnit(3, STEM_CHANNELS, 3, 2)
        self.stages = nn.ModuleList()
        inputs = STEM_CHANNELS
        for stage in STAGES:
            blocks = []
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(InvertedResidual(inputs, stage.outputs, stage.kernel, stride, stage.expansion))
                inputs = stage.outputs
            self.stages.append(nn.Sequential(*blocks))
        self.gate = PooledGate(inputs)
        self.add16 = Add(64, 40, 40)
        self.add8 = Add(40, 24, 24)
        self.add4 = Add(24, 16, 16)
        self.add2 = Add(16, STEM_CHANNELS, 16)
        self.head = nn.Conv2d(16, 1, 3, padding=1)
        initialize(self)
        assert self.head.bias is not None
        # A third of the pixels is person: start there, not at one half.
        nn.init.constant_(self.head.bias, -0.7)

    def forward(self, frames: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 to (N, H, W) logits, in float32 also under autocast."""
        f2 = self.stem(normalize(frames))
        f4, f8, f16, f32 = self._encode(f2)
        deep = self.add16(self.gate(f32), f16)
        deep = self.add8(deep, f8)
        deep = self.add4(deep, f4)
        deep = self.add2(deep, f2)
        return upsample2(self.head(deep).float()).squeeze(1)

    def _encode(self, features: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps
