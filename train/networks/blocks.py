"""Pieces the networks share: TensorFlow "same" convolution, inverted residual, separable convolution, join."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

#: EfficientNet's; the ImageNet weights were made with it.
BN_EPSILON = 1e-3
#: PyTorch's own. EfficientNet's 0.01 lags a hundred steps behind: tried, after 280 steps the running statistics gave a
#: mean IoU of 0.37 where those of single pictures gave 0.67. The long memory comes from averaging the weights, which
#: averages these statistics with them.
BN_MOMENTUM = 0.1


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm with EfficientNet's epsilon and momentum."""
    return nn.BatchNorm2d(channels, eps=BN_EPSILON, momentum=BN_MOMENTUM)


class _LopsidedConv(torch.autograd.Function):
    """For export only: ONNX's Conv pads each side by its own amount, where PyTorch needs a Pad before it.

    With Pad nodes in the graph ONNX Runtime leaves its blocked layout at each of them and comes back.
    """

    @staticmethod
    def forward(
        ctx: object, features: Tensor, weight: Tensor, before: int, after: int, stride: int, groups: int
    ) -> Tensor:
        padded = functional.pad(features, (before, after, before, after))
        return functional.conv2d(padded, weight, stride=stride, groups=groups)

    @staticmethod
    def symbolic(g: Any, features: Any, weight: Any, before: int, after: int, stride: int, groups: int) -> Any:
        return g.op(
            "Conv", features, weight,
            pads_i=[before, before, after, after], strides_i=[stride, stride], dilations_i=[1, 1], group_i=groups,
        )  # fmt: skip


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding for inputs whose sides the stride divides.

    For stride 1 that is the usual symmetric padding. For stride 2 and an even input TensorFlow pads ``kernel - 2``
    pixels in all and puts the odd one at the bottom and right, so the padding is a constant of the graph and no shape
    is computed at run time. No bias, since a BatchNorm always follows.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1
    ) -> None:
        total = kernel - stride if stride > 1 else dilation * (kernel - 1)
        before, after = total // 2, total - total // 2
        symmetric = before == after
        super().__init__(
            inputs, outputs, kernel, stride=stride, padding=before if symmetric else 0, groups=groups,
            dilation=dilation, bias=False,
        )  # fmt: skip
        self.extra_padding = () if symmetric else (before, after, before, after)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        if self.extra_padding and torch.onnx.is_in_onnx_export():
            before, after = self.extra_padding[:2]
            convolve = cast(Callable[..., Tensor], _LopsidedConv.apply)
            return convolve(input, self.weight, before, after, self.stride[0], self.groups)
        if self.extra_padding:
            input = functional.pad(input, self.extra_padding)
        return super().forward(input)


class ConvUnit(nn.Sequential):
    """Convolution, BatchNorm, and ReLU6 unless ``linear``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, dilation: int = 1, *,
        linear: bool = False,
    ) -> None:  # fmt: skip
        layers: list[nn.Module] = [SameConv2d(inputs, outputs, kernel, stride, groups, dilation), batch_norm(outputs)]
        if not linear:
            layers.append(nn.ReLU6(inplace=True))
        super().__init__(*layers)


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al., CVPR 2018): expand 1x1, depthwise, project 1x1, add where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvUnit(inputs, wide))
        layers += [ConvUnit(wide, wide, kernel, stride, groups=wide), ConvUnit(wide, outputs, linear=True)]
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        out = cast(Tensor, self.layers(features))
        return features + out if self.adds else out


class Separable(nn.Sequential):
    """Depthwise 3x3 and pointwise 1x1, each with BatchNorm; ReLU6 after the pointwise one only (cheaper, no loss)."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        depthwise = ConvUnit(inputs, inputs, 3, groups=inputs, dilation=dilation, linear=True)
        super().__init__(depthwise, ConvUnit(inputs, outputs))


def upsample2(features: Tensor) -> Tensor:
    """Twice the size, bilinear, half-pixel centers, a constant scale (a Resize node without shape arithmetic)."""
    return functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


class Join(nn.Module):
    """Double a deep map, concatenate the skip narrowed to ``side`` channels, mix."""

    def __init__(self, deep: int, skip: int, side: int, outputs: int) -> None:
        super().__init__()
        self.side = ConvUnit(skip, side)
        self.mix = Separable(deep + side, outputs)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """(N, deep, H, W) and (N, skip, 2H, 2W) to (N, outputs, 2H, 2W)."""
        return cast(Tensor, self.mix(torch.cat((upsample2(deep), self.side(skip)), dim=1)))


def parameter_count(module: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def initialize(module: nn.Module) -> None:
    """He initialization (fan-out, He et al. 2015) of the convolutions, BatchNorm to identity; in place."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def normalize(frames: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 RGB to (N, 3, H, W) float32, (x - 127) / 128, as EfficientNet-Lite was trained.

    The cast comes first, so that in the exported graph the input stays uint8 and everything after it is float.
    """
    return ((frames.to(torch.float32) - 127.0) / 128.0).permute(0, 3, 1, 2)
