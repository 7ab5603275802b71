"""Terms on unlabeled images against their equations written out in numpy, with gradients; thresholds by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_recipe import RECIPE
from torch import Tensor

from activekd.objectives.unlabeled import (
    Running,
    fairness,
    fixmatch,
    freematch,
    freematch_thresholds,
    softmatch,
    softmatch_weights,
    uda,
    unlabeled_loss,
)

B, C = 6, 4


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def logits(seed: int, scale: float = 2.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=(B, C))


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(C)[labels]


def with_gradients(loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, np.ndarray]:
    """The loss of fixed logits in float64, and its gradient by the strong logits; that by the weak ones is checked."""
    weak, strong = (torch.from_numpy(logits(seed)).requires_grad_() for seed in (0, 1))
    value = loss(weak, strong)
    value.backward()
    assert weak.grad is None, "a gradient flows into the weak view"
    assert strong.grad is not None
    return value.item(), strong.grad.numpy()


def weighted_cross_entropy(targets: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over the batch of w H(target, p), and its gradient w (p - target) / B."""
    p = softmax(logits(1))
    value = -(weights * (targets * np.log(p)).sum(axis=1)).mean()
    return value, weights[:, None] * (p - targets) / B


def running_of(seed: int) -> Running:
    rng = np.random.default_rng(seed)
    probabilities, histogram = (torch.from_numpy(rng.dirichlet(np.ones(C))) for _ in range(2))
    return Running(torch.tensor(0.5).double(), torch.tensor(0.02).double(), probabilities, histogram)


def test_fixmatch_learns_confident_classes() -> None:
    q = softmax(logits(0))
    chosen = q.max(axis=1) >= 0.7
    assert 0 < chosen.sum() < B
    value, gradient = weighted_cross_entropy(one_hot(q.argmax(axis=1)), chosen.astype(float))
    found = with_gradients(lambda weak, strong: fixmatch(weak, strong, confidence=0.7))
    assert found[0] == pytest.approx(value)
    np.testing.assert_allclose(found[1], gradient, atol=1e-9)


def test_uda_learns_sharpened_predictions() -> None:
    chosen = (softmax(logits(0)).max(axis=1) >= 0.7).astype(float)
    value, gradient = weighted_cross_entropy(softmax(logits(0) / 0.4), chosen)
    found = with_gradients(lambda weak, strong: uda(weak, strong, confidence=0.7, sharpening=0.4))
    assert found[0] == pytest.approx(value)
    np.testing.assert_allclose(found[1], gradient, atol=1e-9)


def test_a_pseudo_label_is_learned_on_its_own_view() -> None:
    recipe = replace(RECIPE, objective="pseudo_label", confidence=0.7, weight_consistency=3.0)
    both = torch.from_numpy(logits(1)).requires_grad_()
    running = Running.start((), C, "cpu")
    loss, after = unlabeled_loss(both, None, running, recipe, ema=recipe.ema)
    loss.backward()
    q = softmax(logits(1))
    value, gradient = weighted_cross_entropy(one_hot(q.argmax(axis=1)), 1.0 * (q.max(axis=1) >= 0.7))
    assert loss.item() == pytest.approx(3 * value)
    assert both.grad is not None
    np.testing.assert_allclose(both.grad.numpy(), 3 * gradient, atol=1e-9)
    assert after is running


def test_thresholds_of_freematch_by_hand() -> None:
    """Two images of probabilities (0.9, 0.1) and (0.4, 0.6), momentum 1/2, from the uniform start of two classes."""
    q = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    thresholds, after = freematch_thresholds(q, Running.start((), 2, "cpu"), ema=0.5)
    # Global: (0.5 + (0.9 + 0.6) / 2) / 2 = 0.625. Classes: (0.5 + 0.65) / 2 = 0.575 and 0.425. Histogram: 1/2, 1/2.
    assert after.confidence.item() == pytest.approx(0.625)
    assert after.probabilities.tolist() == pytest.approx([0.575, 0.425])
    assert after.histogram.tolist() == pytest.approx([0.5, 0.5])
    assert after.variance.item() == 1.0
    assert thresholds.tolist() == pytest.approx([0.625, 0.625 * 0.425 / 0.575])


def test_weights_of_softmatch_by_hand() -> None:
    """The images of the case above: aligned by (0.575, 0.425), largest probabilities, their mean and variance."""
    q = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    weights, after = softmatch_weights(q, Running.start((), 2, "cpu"), ema=0.5, n_sigma=2.0)
    first = (0.9 / 0.575) / (0.9 / 0.575 + 0.1 / 0.425)
    second = (0.6 / 0.425) / (0.4 / 0.575 + 0.6 / 0.425)
    mean = (first + second) / 2
    variance = (first - mean) ** 2 + (second - mean) ** 2
    mu, sigma2 = (0.5 + mean) / 2, (1 + variance) / 2
    assert mu < second < first
    assert after.probabilities.tolist() == pytest.approx([0.575, 0.425])
    assert after.confidence.item() == pytest.approx(mu)
    assert after.variance.item() == pytest.approx(sigma2)
    assert weights.tolist() == [1.0, 1.0]
    sure = replace(after, confidence=torch.tensor(0.95))
    weights, later = softmatch_weights(q, sure, ema=0.9, n_sigma=2.0)
    p = [0.9 * old + 0.1 * new for old, new in zip([0.575, 0.425], [0.65, 0.35], strict=True)]
    tops = [(0.9 / p[0]) / (0.9 / p[0] + 0.1 / p[1]), (0.6 / p[1]) / (0.4 / p[0] + 0.6 / p[1])]
    mu = 0.9 * 0.95 + 0.1 * sum(tops) / 2
    expected = [math.exp(-(min(0.0, top - mu) ** 2) / (2 * later.variance.item() / 4)) for top in tops]
    assert weights.tolist() == pytest.approx(expected)
    assert expected[1] < expected[0] <= 1


def test_a_batch_of_one_has_no_spread() -> None:
    weights, after = softmatch_weights(torch.tensor([[0.9, 0.1]]), Running.start((), 2, "cpu"), ema=0.0, n_sigma=2.0)
    assert after.variance.item() == 0.0
    assert weights.tolist() == [1.0]


def fairness_written_out(strong: np.ndarray, chosen: np.ndarray, after: Running) -> tuple[float, np.ndarray]:
    """Sum of a log b over the predicted classes, and its gradient by the strong logits."""
    p = softmax(strong)
    mean = (chosen[:, None] * p).mean(axis=0)
    shares = (chosen[:, None] * one_hot(p.argmax(axis=1))).mean(axis=0)
    there = shares > 0
    ratio = np.divide(mean, shares, out=np.zeros(C), where=there)
    a = after.probabilities.numpy() / np.maximum(after.histogram.numpy(), 1 / B)
    a = a / a.sum()
    value = (a[there] * np.log(ratio[there] / ratio.sum())).sum()
    by_ratio = np.divide(a, ratio, out=np.zeros(C), where=there) - a[there].sum() / ratio.sum()
    by_mean = np.divide(by_ratio, shares, out=np.zeros(C), where=there)
    by_p = chosen[:, None] * by_mean / B
    return value, p * (by_p - (by_p * p).sum(axis=1, keepdims=True))


def test_freematch_is_fixmatch_above_its_thresholds_and_fairness() -> None:
    before, q = replace(running_of(3), confidence=torch.tensor(0.9).double()), softmax(logits(0))
    thresholds, after = freematch_thresholds(torch.from_numpy(q), before, ema=0.9)
    chosen = q.max(axis=1) >= thresholds.numpy()[q.argmax(axis=1)]
    assert 1 < chosen.sum() < B
    value, gradient = weighted_cross_entropy(one_hot(q.argmax(axis=1)), chosen.astype(float))
    fair, fair_gradient = fairness_written_out(logits(1), chosen, after)
    states = []

    def loss(weak: Tensor, strong: Tensor) -> Tensor:
        out, state = freematch(weak, strong, before, ema=0.9, weights=(2.0, 0.3))
        states.append(state)
        return out

    found = with_gradients(loss)
    assert found[0] == pytest.approx(2 * value + 0.3 * fair)
    np.testing.assert_allclose(found[1], 2 * gradient + 0.3 * fair_gradient, atol=1e-9)
    torch.testing.assert_close(states[0].probabilities, after.probabilities)


def test_fairness_falls_as_predictions_spread_and_is_0_where_nothing_is_chosen() -> None:
    running, nobody = running_of(3), torch.zeros(B, dtype=torch.bool)
    strong = torch.from_numpy(logits(1)).requires_grad_()
    loss = fairness(strong, nobody, running)
    loss.backward()
    assert loss.item() == 0.0
    assert strong.grad is not None
    assert strong.grad.abs().max().item() == 0.0
    # All predicted as one class: b is 1 there, so the term is its largest, 0; two classes give a negative one.
    one, two = (torch.tensor(rows) for rows in ([[4.0, 0, 0, 0]] * 2, [[4.0, 0, 0, 0], [0, 4.0, 0, 0]]))
    everybody, flat = torch.ones(2, dtype=torch.bool), Running.start((), C, "cpu")
    assert fairness(one, everybody, flat).item() == pytest.approx(0.0, abs=1e-6)
    assert fairness(two, everybody, flat).item() == pytest.approx(0.5 * math.log(0.5))


def test_softmatch_weighs_every_image() -> None:
    before, q = running_of(3), softmax(logits(0))
    weights, _ = softmatch_weights(torch.from_numpy(q), before, ema=0.9, n_sigma=2.0)
    assert 0 < weights.min() < 1
    value, gradient = weighted_cross_entropy(one_hot(q.argmax(axis=1)), weights.numpy())
    found = with_gradients(lambda weak, strong: softmatch(weak, strong, before, ema=0.9, n_sigma=2.0)[0])
    assert found[0] == pytest.approx(value)
    np.testing.assert_allclose(found[1], gradient, atol=1e-9)


@pytest.mark.parametrize("objective", ["pseudo_label", "uda", "fixmatch", "freematch", "softmatch"])
def test_a_member_has_the_gradient_and_the_state_that_it_has_alone(objective: str) -> None:
    """Three steps of members on other logits, bit for bit, with classes that fill no whole register."""
    recipe = replace(RECIPE, objective=objective, confidence=0.3, ema=0.5, weight_fairness=0.5)  # pyright: ignore[reportArgumentType]
    for members, batch, classes in ((3, 9, 7), (5, 16, 37), (2, 1, 3)):
        values = np.random.default_rng(0).normal(size=(3, 2, members, batch, classes)).astype(np.float32)

        def steps(some: list[int], values: np.ndarray = values) -> tuple[list[Tensor], Running]:
            running, out = Running.start((len(some),), values.shape[-1], "cpu"), []
            for step in values[:, :, some]:
                weak, strong = (torch.from_numpy(each.copy()).requires_grad_() for each in step)
                seen = weak if objective == "pseudo_label" else strong
                loss, running = unlabeled_loss(weak, strong, running, recipe, ema=recipe.ema)
                loss.backward()
                assert seen.grad is not None
                out.append(seen.grad)
            return out, running

        together, state = steps([*range(members)])
        for member in range(members):
            alone, own = steps([member])
            for one, other in zip(alone, together, strict=True):
                assert torch.equal(one[0], other[member])
            for name in ("confidence", "variance", "probabilities", "histogram"):
                assert torch.equal(getattr(own, name)[0], getattr(state, name)[member])


def test_an_objective_of_two_views_needs_both() -> None:
    weak = torch.zeros(2, 3)
    recipe, running = replace(RECIPE, objective="fixmatch"), Running.start((), 3, "cpu")
    with pytest.raises(ValueError, match=r"objective 'fixmatch' without strong views; expected: logits of strong"):
        unlabeled_loss(weak, None, running, recipe, ema=0.9)
    with pytest.raises(ValueError, match=r"objective 'dual_head' on unlabeled images; expected: a semi-supervised"):
        unlabeled_loss(weak, weak, running, replace(RECIPE), ema=0.9)
