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


def boundary_f_loss(logits: Tensor, alpha: Tensor, known: Tensor, tolerance_px: int) -> Tensor:
    """1 minus a soft F-score of the outline, mean over pictures whose label has one; a scalar, 0 where none has.

    Bokhovkin, Burnaev: Boundary Loss for Remote Sensing Imagery Semantic Segmentation, ISNN 2019: the outline is what
    a 3x3 maximum of the background adds, met within ``tolerance_px`` (of a square, by another maximum). It is the
    differentiable kin of `humanseg.vision.metrics.boundary_f`. Outlines within the tolerance of void do not count.
    """
    reach = 2 * tolerance_px + 1
    void = (~known).float().unsqueeze(1)
    counted = 1 - functional.max_pool2d(void, reach, stride=1, padding=tolerance_px)
    outlines = [_soft_outline(cover) for cover in (torch.sigmoid(logits.float()), (alpha > 0.5).float())]
    near = [functional.max_pool2d(one, reach, stride=1, padding=tolerance_px) for one in outlines]
    predicted, truth = (one * counted for one in outlines)
    precision = (predicted * near[1]).sum((1, 2, 3)) / predicted.sum((1, 2, 3)).clamp(min=1e-3)
    recall = (truth * near[0]).sum((1, 2, 3)) / truth.sum((1, 2, 3)).clamp(min=1e-3)
    score = 2 * precision * recall / (precision + recall).clamp(min=1e-3)
    has_outline = (truth.sum((1, 2, 3)) > 0).float()
    return ((1 - score) * has_outline).sum() / has_outline.sum().clamp(min=1.0)


def _soft_outline(cover: Tensor) -> Tensor:
    """(N, H, W) in [0, 1] to (N, 1, H, W): by how much a neighbor is less covered; the picture's border is none."""
    background = (1 - cover).unsqueeze(1)
    return functional.max_pool2d(background, 3, stride=1, padding=1) - background


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How the losses are added."""

    cross_entropy: float = 0.8
    lovasz: float = 0.2
    """0.8 and 0.2 as in PP-HumanSeg's configs."""
    boundary: float = 2.0
    """By how much a pixel near an edge counts more in the cross-entropy."""
    band_px: int = 3
    boundary_f: float = 0.0
    """Of the soft boundary F, which asks where the outline is and not how many pixels are wrong."""
    tolerance_px: int = 2
    """Within which that outline is met, as in the evaluation at a long side of 320."""


def segmentation_loss(logits: Tensor, alpha: Tensor, known: Tensor, weights: LossWeights) -> Tensor:
    """What the networks are trained on: cross-entropy with a heavier edge, Lovász hinge, boundary F; a scalar."""
    emphasis = 1 + weights.boundary * boundary_band(alpha, weights.band_px).float()
    entropy = cross_entropy(logits, alpha, known, emphasis)
    loss = weights.cross_entropy * entropy + weights.lovasz * lovasz_hinge(logits, alpha > 0.5, known)
    if weights.boundary_f:
        loss = loss + weights.boundary_f * boundary_f_loss(logits, alpha, known, weights.tolerance_px)
    return loss


def distillation_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Distance of a network from its teacher over all pixels, void ones included; a scalar, 0 where they agree.

    Kullback-Leibler divergence of the two Bernoulli distributions (Hinton et al. 2015 at temperature 1) and the
    absolute difference of alpha, which is what the edge looks like.
    """
    logits, soft = logits.float(), torch.sigmoid(teacher_logits.float())
    entropy = functional.binary_cross_entropy_with_logits(logits, soft)
    own = functional.binary_cross_entropy_with_logits(teacher_logits.float(), soft)
    return entropy - own + (torch.sigmoid(logits) - soft).abs().mean()
