"""Terms on features against their equations written out, with gradients; centres and projections."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_recipe import RECIPE
from torch import Tensor

from activekd.objectives.features import (
    TeacherFeatures,
    class_centres,
    feature_cosine,
    feature_direction,
    feature_loss,
    projection,
)

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 5, 3))
TEACHER[3] *= 5


def gradient_of(loss: Tensor, features: Tensor) -> np.ndarray:
    loss.backward()
    assert features.grad is not None
    return features.grad.numpy()


def test_the_cosine_distance_and_its_gradient() -> None:
    features = torch.from_numpy(STUDENT).requires_grad_()
    loss = feature_cosine(features, torch.from_numpy(TEACHER))
    s, t = (np.linalg.norm(each, axis=1, keepdims=True) for each in (STUDENT, TEACHER))
    cosines = (STUDENT * TEACHER).sum(axis=1, keepdims=True) / (s * t)
    assert loss.item() == pytest.approx((1 - cosines).mean())
    expected = -(TEACHER / (s * t) - cosines * STUDENT / s**2) / 5
    np.testing.assert_allclose(gradient_of(loss, features), expected, atol=1e-12)


def test_centres_are_directions_of_means_and_0_without_a_label() -> None:
    features = np.array([[3.0, 0.0], [0.0, 4.0], [3.0, 0.0], [1.0, 1.0]], dtype=np.float16)
    centres = class_centres(features, np.array([0, 0, 0, 2]), 3)
    root = np.sqrt(0.5)
    assert centres.numpy().tolist() == [
        pytest.approx(row) for row in ([6 / 52**0.5, 4 / 52**0.5], [0, 0], [root, root])
    ]


def test_norm_and_direction_by_its_equation() -> None:
    """Image 3 has the longer teacher feature; image 4 is of a class without a label."""
    centres = np.array([[1.0, 0, 0], [0, 0.6, 0.8], [0, 0, 0]])
    classes = np.array([0, 1, 0, 1, 2])
    features = torch.from_numpy(STUDENT).requires_grad_()
    of_teacher = TeacherFeatures(torch.from_numpy(TEACHER), torch.from_numpy(classes), torch.from_numpy(centres))
    loss = feature_direction(features, of_teacher)
    values, gradients = [], []
    for s, t, e in zip(STUDENT, TEACHER, centres[classes], strict=True):
        short, long = np.linalg.norm(s), np.linalg.norm(t)
        if not e.any():
            values.append(0.0)
            gradients.append(np.zeros(3))
        elif short < long:
            values.append(1 - s @ e / long)
            gradients.append(-e / long)
        else:
            values.append(1 - s @ e / short)
            gradients.append(-e / short + (s @ e) * s / short**3)
    assert np.linalg.norm(STUDENT[3]) < np.linalg.norm(TEACHER[3])
    assert any(np.linalg.norm(s) > np.linalg.norm(t) for s, t in zip(STUDENT[:4], TEACHER[:4], strict=True))
    assert loss.item() == pytest.approx(np.mean(values))
    np.testing.assert_allclose(gradient_of(loss, features), np.array(gradients) / 5, atol=1e-12)


def test_terms_are_weighted_and_summed_over_members() -> None:
    centres = torch.eye(3)
    of_teacher = TeacherFeatures(torch.from_numpy(TEACHER).half(), torch.tensor([0, 1, 2, 0, 1]), centres)
    features = torch.from_numpy(STUDENT).float()
    recipe = replace(RECIPE, weight_feature=0.5, weight_feature_direction=0.25)
    alone = feature_loss(features, of_teacher, recipe)
    full = of_teacher._replace(features=of_teacher.features.float())
    expected = 0.5 * feature_cosine(features, full.features) + 0.25 * feature_direction(features, full)
    assert alone.item() == pytest.approx(expected.item())
    stacked = TeacherFeatures(*(torch.stack([each, each]) for each in of_teacher))
    assert feature_loss(torch.stack([features] * 2), stacked, recipe).item() == pytest.approx(2 * alone.item())
    assert feature_loss(features, of_teacher, RECIPE).item() == 0.0


def test_a_projection_follows_from_its_seed_alone() -> None:
    state = torch.get_rng_state()
    one, other, third = projection(4, 3, 7), projection(4, 3, 7), projection(4, 3, 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.weight, other.weight)
    assert not torch.equal(one.weight, third.weight)
    assert (one.in_features, one.out_features) == (4, 3)
