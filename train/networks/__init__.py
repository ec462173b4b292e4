"""The networks by name."""

from collections.abc import Callable

from torch import nn

from train.networks.medium import Medium

NETWORKS: dict[str, Callable[[], nn.Module]] = {"medium": Medium}
