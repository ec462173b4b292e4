"""Lovász against values made by an independent implementation in float64 (Berman's definition), and its properties."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.losses import (
    LossWeights,
    boundary_band,
    boundary_f_loss,
    cross_entropy,
    distillation_loss,
    lovasz_hinge,
    segmentation_loss,
)

VOID = 255

#: (logits, labels, value): hinge, worked out by hand or by the integral of the Jaccard loss over thresholds.
VECTORS = {
    "ordinary": ([2, -1.5, 0.5, -0.3], [1, 0, 1, 0], 0.4),
    "perfect": ([3, -2, 1, -1], [1, 0, 1, 0], 0.0),
    "inverted": ([-2, 2, -1, 1], [1, 0, 1, 0], 2.6666666667),
    "ties": ([0, 0, 0, 0], [1, 0, 1, 0], 1.0),
    "void pixel": ([2, -1.5, 0.5, -0.3, 7], [1, 0, 1, 0, VOID], 0.4),
    "all void": ([1, -1], [VOID, VOID], 0.0),
    "nobody there": ([-2, 0.5, -0.2], [0, 0, 0], 1.5),
    "only person": ([2, 0.5, -0.2], [1, 1, 1], 0.5666666667),
    "one pixel": ([-0.7], [1], 1.7),
    "small person missed": ([-1] + [-3] * 7, [1] + [0] * 7, 2.0),
    "one false pixel": ([1] + [-3] * 6 + [2], [0] * 7 + [1], 1.0),
}


def hinge(logits: list[float], labels: list[int]) -> torch.Tensor:
    label = torch.tensor(labels)
    return lovasz_hinge(torch.tensor(logits, dtype=torch.float32), label == 1, label != VOID)


@pytest.mark.parametrize("name", VECTORS)
def test_the_lovasz_hinge_has_the_published_value(name: str) -> None:
    logits, labels, value = VECTORS[name]
    loss = hinge(logits, labels)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(value, abs=1e-6)


def test_the_large_vector() -> None:
    logits = [((7919 * i) % 1000) / 250 - 2 for i in range(64)]
    labels = [VOID if i % 11 == 0 else int((104729 * i) % 10 < 3) for i in range(64)]
    assert float(hinge(logits, labels)) == pytest.approx(1.9036751610, abs=1e-6)


def test_the_gradient_of_the_ordinary_case() -> None:
    logits = torch.tensor([2, -1.5, 0.5, -0.3], requires_grad=True)
    lovasz_hinge(logits, torch.tensor([True, False, True, False]), torch.ones(4, dtype=torch.bool)).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([0, 0, -1 / 3, 1 / 3], abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-4, 4, width=32), st.booleans()), min_size=1, max_size=24))
def test_it_is_the_integral_of_the_jaccard_loss_over_thresholds(pixels: list[tuple[float, bool]]) -> None:
    logits, labels = [z for z, _ in pixels], [int(g) for _, g in pixels]
    errors = [max(0.0, 1 - z * (1 if g else -1)) for z, g in zip(logits, labels, strict=True)]
    thresholds = sorted({0.0, *errors})
    integral = 0.0
    for low, high in pairwise(thresholds):
        wrong = [e >= high for e in errors]
        person = sum(labels)
        both = sum(g and not w for g, w in zip(labels, wrong, strict=True))
        union = person + sum(w and not g for g, w in zip(labels, wrong, strict=True))
        integral += (high - low) * (1 - both / union if union else 0.0)
    assert float(hinge(logits, labels)) == pytest.approx(integral, abs=2e-4)


def test_void_pixels_count_in_no_loss() -> None:
    logits = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    alpha = (torch.arange(16) > 7).float().expand(2, 16, 16).clone()
    known = torch.ones(2, 16, 16, dtype=torch.bool)
    known[:, 12:] = False
    loss = segmentation_loss(logits, alpha, known, LossWeights())
    changed_logits, changed_alpha = logits.clone(), alpha.clone()
    changed_logits[:, 12:] = 100.0
    # Far below the border of the known part, so that not even the edge band sees it.
    changed_alpha[:, 15:] = 1 - changed_alpha[:, 15:]
    weights = LossWeights(band_px=2)
    assert float(segmentation_loss(changed_logits, changed_alpha, known, LossWeights(band_px=2))) == pytest.approx(
        float(segmentation_loss(logits, alpha, known, weights))
    )
    assert float(loss) > 0


def test_everything_void_gives_zero_and_a_gradient() -> None:
    logits = torch.randn(1, 8, 8, requires_grad=True)
    loss = segmentation_loss(logits, torch.zeros(1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool), LossWeights())
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_cross_entropy_is_least_at_the_soft_label() -> None:
    alpha, known = torch.tensor([[[0.25]]]), torch.ones(1, 1, 1, dtype=torch.bool)
    values = [float(cross_entropy(torch.logit(torch.tensor([[[p]]])), alpha, known)) for p in (0.15, 0.25, 0.35)]
    assert values[1] == min(values)


def test_the_band_lies_round_the_edge() -> None:
    alpha = (torch.arange(20) >= 10).float().expand(1, 20, 20)
    band = boundary_band(alpha, 3)[0]
    assert band[10].nonzero().flatten().tolist() == [7, 8, 9, 10, 11, 12]


def test_a_pupil_that_agrees_with_its_teacher_costs_nothing() -> None:
    teacher = torch.tensor([[[-3.0, 0.5, 2.0]]])
    assert float(distillation_loss(teacher.clone(), teacher)) == pytest.approx(0, abs=1e-6)
    worse = [float(distillation_loss(teacher + shift, teacher)) for shift in (0.5, 1.0, 2.0)]
    assert worse == sorted(worse)
    # Bernoulli(0.5) against Bernoulli(sigmoid(2)), by hand: KL + |difference|.
    p = 1 / (1 + math.exp(-2))
    expected = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5) + (p - 0.5)
    assert float(distillation_loss(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 2.0))) == pytest.approx(
        expected, abs=1e-6
    )


def box(top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    alpha = torch.zeros(1, 24, 32)
    alpha[:, top:bottom, left:right] = 1
    return alpha


def boundary_loss(predicted: torch.Tensor, truth: torch.Tensor, known: torch.Tensor | None = None) -> float:
    all_known = torch.ones_like(truth, dtype=torch.bool)
    sure = (predicted * 2 - 1) * 40
    return float(boundary_f_loss(sure, truth, all_known if known is None else known, 2))


def test_the_boundary_term_is_one_minus_the_f_score_of_hard_masks() -> None:
    truth = box(0, 24, 0, 10)
    assert boundary_loss(truth, truth) == pytest.approx(0, abs=1e-5)
    assert boundary_loss(box(0, 24, 0, 12), truth) == pytest.approx(0, abs=1e-5)
    assert boundary_loss(box(0, 24, 0, 13), truth) == pytest.approx(1, abs=1e-5)
    # Half of the rows 5 px away, and a step between; a pixel is outline if one of its eight neighbors is background.
    half = torch.maximum(box(0, 12, 0, 10), box(12, 24, 0, 15))
    found = {(y, 9) for y in range(12)} | {(12, x) for x in range(9, 15)} | {(y, 14) for y in range(12, 24)}
    wanted = {(y, 9) for y in range(24)}

    def share(pixels: set[tuple[int, int]], goal: set[tuple[int, int]]) -> float:
        return sum(any(max(abs(y - v), abs(x - u)) <= 2 for v, u in goal) for y, x in pixels) / len(pixels)

    precision, recall = share(found, wanted), share(wanted, found)
    assert 0.3 < precision < 0.8
    assert boundary_loss(half, truth) == pytest.approx(1 - 2 * precision * recall / (precision + recall), abs=1e-5)


def test_the_boundary_term_leaves_void_and_empty_pictures_out() -> None:
    truth, shifted = box(6, 18, 6, 18), box(6, 18, 6, 24)
    known = torch.ones_like(truth, dtype=torch.bool)
    known[:, :, 14:] = False
    assert boundary_loss(shifted, truth) > 0.2
    assert boundary_loss(shifted, truth, known) == pytest.approx(0, abs=1e-5)
    nobody = torch.zeros_like(truth)
    assert boundary_loss(shifted, nobody) == 0
    # Beside an empty picture, the other counts as if alone.
    both = boundary_loss(torch.cat((shifted, nobody)), torch.cat((truth, nobody)))
    assert both == pytest.approx(boundary_loss(shifted, truth))


def test_descending_the_boundary_term_moves_the_outline_to_its_place() -> None:
    truth = box(6, 18, 6, 18)
    known = torch.ones_like(truth, dtype=torch.bool)
    # Everything a little unsure, the outline 3 px off on one side.
    logits = ((box(6, 18, 6, 21) * 2 - 1) * 2.0).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.2)
    before = float(boundary_f_loss(logits.detach(), truth, known, 2))
    for _ in range(60):
        optimizer.zero_grad()
        boundary_f_loss(logits, truth, known, 2).backward()
        optimizer.step()
    assert float(boundary_f_loss(logits.detach(), truth, known, 2)) < 0.3 * before
    assert before > 0.2


def test_the_boundary_term_is_off_unless_asked_for() -> None:
    truth = box(6, 18, 6, 18)
    logits, known = box(6, 18, 8, 21) * 4 - 2, torch.ones_like(truth, dtype=torch.bool)
    without = float(segmentation_loss(logits, truth, known, LossWeights()))
    assert without == float(segmentation_loss(logits, truth, known, LossWeights(tolerance_px=1)))
    more = float(segmentation_loss(logits, truth, known, LossWeights(boundary_f=0.5)))
    assert more == pytest.approx(without + 0.5 * float(boundary_f_loss(logits, truth, known, 2)))
