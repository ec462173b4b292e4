"""Losses on one logit a pixel. Void pixels count in none of them.

Shapes: logits and alpha (N, H, W) float, known (N, H, W) bool. Everything is computed in float32.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


def lovasz_hinge(logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Lovász hinge over all known pixels of the batch together; a scalar, 0 where nothing is known.

    Berman, Triki, Blaschko: The Lovász-Softmax loss, CVPR 2018, algorithm 1 with the hinge of section 3. ``labels``
    is bool. The batch form is the steadier one: per image, a picture without people makes one false pixel cost
    as much as a whole missed person.
    """
    logits, labels = logits.float()[known], labels[known]
    if logits.numel() == 0:
        # Connected to the graph, so that the sum with other losses has a gradient.
        return logits.sum()
    signs = labels.float() * 2 - 1
    errors, order = torch.sort(1 - logits * signs, descending=True)
    return functional.relu(errors) @ lovasz_gradient(labels[order])


def lovasz_gradient(sorted_labels: Tensor) -> Tensor:
    """Growth of the Jaccard loss from pixel to pixel; (P,) bool, worst pixel first, to (P,) float32 that sums to 1."""
    labels = sorted_labels.float()
    total = labels.sum()
    jaccard = 1 - (total - labels.cumsum(0)) / (total + (1 - labels).cumsum(0))
    jaccard[1:] = jaccard[1:] - jaccard[:-1]
    return jaccard.detach()


def cross_entropy(logits: Tensor, alpha: Tensor, known: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy against soft labels, weighted mean over the known pixels; 0 where nothing is known."""
    losses = functional.binary_cross_entropy_with_logits(logits.float(), alpha.float(), reduction="none")
    counted = known.float() if weights is None else known.float() * weights
    return (losses * counted).sum() / counted.sum().clamp(min=1.0)


def boundary_band(alpha: Tensor, width_px: int) -> Tensor:
    """(N, H, W) bool: pixels within about ``width_px`` of an edge of the label, or soft themselves."""
    hard = (alpha > 0.5).float().unsqueeze(1)
    side = 2 * width_px + 1
    grown = functional.max_pool2d(hard, side, stride=1, padding=width_px)
    shrunk = -functional.max_pool2d(-hard, side, stride=1, padding=width_px)
    return (grown != shrunk).squeeze(1)


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How the losses are added."""

    cross_entropy: float = 0.8
    lovasz: float = 0.2
    """0.8 and 0.2 as in PP-HumanSeg's configs."""
    boundary: float = 2.0
    """By how much a pixel near an edge counts more in the cross-entropy."""
    band_px: int = 3


def segmentation_loss(logits: Tensor, alpha: Tensor, known: Tensor, weights: LossWeights) -> Tensor:
    """What the networks are trained on: cross-entropy with a heavier edge, and the Lovász hinge; a scalar."""
    emphasis = 1 + weights.boundary * boundary_band(alpha, weights.band_px).float()
    entropy = cross_entropy(logits, alpha, known, emphasis)
    return weights.cross_entropy * entropy + weights.lovasz * lovasz_hinge(logits, alpha > 0.5, known)


def distillation_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Distance of a network from its teacher over all pixels, void ones included; a scalar, 0 where they agree.

    Kullback-Leibler divergence of the two Bernoulli distributions (Hinton et al. 2015 at temperature 1) and the
    absolute difference of alpha, which is what the edge looks like.
    """
    logits, soft = logits.float(), torch.sigmoid(teacher_logits.float())
    entropy = functional.binary_cross_entropy_with_logits(logits, soft)
    own = functional.binary_cross_entropy_with_logits(teacher_logits.float(), soft)
    return entropy - own + (torch.sigmoid(logits) - soft).abs().mean()
