"""Losses against cases worked by hand."""

import math

import pytest
import torch

from activekd.losses import clap_multipliers, distillation_loss, dual_head_loss, mixture

LOG2, LOG3 = math.log(2), math.log(3)


def test_distillation_loss_by_hand() -> None:
    # Teacher logits (2 log 3, 0) at T = 2 are (log 3, 0): probabilities (3/4, 1/4). Student: (1/2, 1/2).
    teacher = torch.tensor([[2 * LOG3, 0.0]])
    student = torch.zeros(1, 2)
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert distillation_loss(student, teacher, 2.0).item() == pytest.approx(4 * kl, rel=1e-6)


def test_distillation_loss_is_a_mean_over_the_batch_and_zero_where_equal() -> None:
    teacher = torch.tensor([[2 * LOG3, 0.0], [0.0, 0.0]])
    student = torch.zeros(2, 2)
    alone = distillation_loss(student[:1], teacher[:1], 2.0)
    assert distillation_loss(student, teacher, 2.0).item() == pytest.approx(alone.item() / 2)
    assert distillation_loss(teacher, teacher, 2.0).item() == pytest.approx(0.0, abs=1e-7)


def test_no_gradient_flows_into_the_teacher() -> None:
    teacher = torch.randn(3, 4, requires_grad=True)
    student = torch.randn(3, 4, requires_grad=True)
    distillation_loss(student, teacher, 2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_dual_head_loss_adds_three_weighted_terms() -> None:
    label_logits, labels = torch.tensor([[LOG3, 0.0]]), torch.tensor([0])
    distill, teacher = torch.zeros(1, 2), torch.tensor([[2 * LOG3, 0.0]])
    kd = distillation_loss(distill, teacher, 2.0).item()
    ce = -math.log(0.75)

    def loss(on_labeled: bool, on_unlabeled: bool) -> float:
        pair = (distill, teacher)
        first = pair if on_labeled else (None, None)
        second = pair if on_unlabeled else (None, None)
        weights = (0.5, 0.25, 2.0)
        return dual_head_loss(label_logits, labels, *first, *second, weights=weights, temperature=2.0).item()

    assert loss(False, False) == pytest.approx(0.5 * ce)
    assert loss(True, False) == pytest.approx(0.5 * ce + 0.25 * kd)
    assert loss(False, True) == pytest.approx(0.5 * ce + 2.0 * kd)
    assert loss(True, True) == pytest.approx(0.5 * ce + 2.25 * kd)


def test_mixture_by_hand() -> None:
    label, distill = torch.tensor([[LOG3, 0.0]]), torch.tensor([[0.0, LOG2]])
    # softmax(label) = (3/4, 1/4); distill at T = 0.5 is (0, 2 log 2): (1/5, 4/5).
    mixed = mixture(label, distill, label_weight=0.4, distill_temperature=0.5)
    assert mixed.tolist()[0] == pytest.approx([0.4 * 0.75 + 0.6 * 0.2, 0.4 * 0.25 + 0.6 * 0.8])
    alone = mixture(label, distill, label_weight=1.0, distill_temperature=0.5)
    assert alone.tolist()[0] == pytest.approx([0.75, 0.25])


def test_clap_multipliers_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4]])
    labels = torch.tensor([0, 0, 1])
    assert clap_multipliers(probabilities, labels).tolist() == pytest.approx([0.7, 0.4])


def test_clap_multiplier_of_a_class_without_images_is_zero() -> None:
    assert clap_multipliers(torch.tensor([[0.2, 0.3, 0.5]]), torch.tensor([2])).tolist() == pytest.approx([0, 0, 0.5])
