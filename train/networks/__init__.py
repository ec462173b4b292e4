"""The networks by name."""

from collections.abc import Callable

from torch import nn

from train.networks.large import Large
from train.networks.medium import Medium
from train.networks.small import Small

NETWORKS: dict[str, Callable[[], nn.Module]] = {"large": Large, "medium": Medium, "small": Small}
