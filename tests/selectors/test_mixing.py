"""DropQuery and ALFA-Mix: cases worked by hand, and equal picks of plain forms written from the papers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_clusters import plain_central, plain_unit
from torch import Tensor

from activekd.pool import Pool
from activekd.selectors import mixing, selector
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.mixing import caps_of, gradients
from activekd.selectors.query import select
from activekd.selectors.view import PoolView, StudentHead


def one_head(weight: Tensor, bias: Tensor) -> StudentHead:
    """A head without distillation, whose second head would predict otherwise."""
    return StudentHead(torch.stack([weight, -weight]), torch.stack([bias, bias]), 1.0, 1.0)


def view_of(features: Tensor, head: StudentHead, labels: dict[int, int]) -> PoolView:
    all_labels = np.full(len(features), -1)
    for row, label in labels.items():
        all_labels[row] = label
    return PoolView(
        Pool(len(features), tuple(labels)), all_labels, head.weights.shape[1], {"features": features}, head=head
    )


def random_view(seed: int, label_weight: float, labeled: int = 8, n: int = 70) -> PoolView:
    view = made_up_view(seed, n, 4, 6, labeled)
    assert view.head is not None
    return declared(replace(view, head=replace(view.head, label_weight=label_weight)), selector("alfamix"))


def test_dropquery_by_hand() -> None:
    # Class 0 has the logit x, class 1 the logit 1/2. The image at x = 1 flips where x is dropped, in 3 of 4 passes:
    # more than once with chance 27/32, once with 9/64, never with 1/64. Those at x = 0 stay in class 1.
    head = one_head(torch.tensor([[1.0], [0.0]]), torch.tensor([0.0, 0.5]))
    view = view_of(torch.tensor([[0.0], [1.0], [0.0], [0.0]]), head, {})
    picks = [select(selector("dropquery"), view, 1, rng=np.random.default_rng(seed)).item() for seed in range(300)]
    # One uniform draw of four in the cases where nothing flips.
    assert np.mean(np.array(picks) == 1) == pytest.approx(1 - 3 / 4 / 64, abs=0.02)


def test_dropout_keeps_a_quarter_of_the_features_and_scales_them() -> None:
    # x = 1/2 has the logit 1/2 against 3/4, so class 1; kept it is 2, so class 0. It flips in 1 of 4 passes: never in
    # 27 of 64 cases, once in 27, twice in 9.
    head = one_head(torch.tensor([[1.0], [0.0]]), torch.tensor([0.0, 0.75]))
    features = torch.full((20_000, 1), 0.5)
    flips = mixing.flips_of(head, features, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(flips) / 20_000, [27 / 64, 27 / 64, 9 / 64, 1 / 64], atol=0.012)


def test_dropquery_takes_images_that_flip_once_before_those_that_never_flip(monkeypatch: pytest.MonkeyPatch) -> None:
    flips = np.array([0, 1, 0, 2, 1, 0, 3, 0])
    monkeypatch.setattr(mixing, "flips_of", lambda head, features, rng: flips)
    features = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    view = view_of(features, one_head(torch.zeros(2, 3), torch.zeros(2)), {})
    ask = selector("dropquery")
    assert set(select(ask, view, 1, rng=np.random.default_rng(0))) <= {3, 6}
    assert set(select(ask, view, 2, rng=np.random.default_rng(0))) == {3, 6}
    assert len({3, 6} & set(rows := select(ask, view, 3, rng=np.random.default_rng(0)))) == 2
    assert set(rows) <= {1, 3, 4, 6}
    assert {1, 3, 4, 6} < set(select(ask, view, 5, rng=np.random.default_rng(0)))


def mixed64(head: StudentHead, features: Tensor) -> Tensor:
    weights, biases = head.weights.double(), head.biases.double()
    label, distill = (features @ weight.T + bias for weight, bias in zip(weights, biases, strict=True))
    distilled = (distill / head.distill_temperature).softmax(dim=1)
    return head.label_weight * label.softmax(dim=1) + (1 - head.label_weight) * distilled


def finish(view: PoolView, levels: list[list[int]], k: int, rng: np.random.Generator) -> list[int]:
    picks: list[int] = []
    for rows in levels:
        if len(rows) <= k - len(picks):
            picks += rows
        elif len(picks) < k:
            points = plain_unit(view.features[rows].numpy())
            picks += [rows[i] for i in plain_central(points, k - len(picks), rng)]
    rest = np.array([row for row in view.pool.unlabeled if row not in picks])
    return picks + rng.choice(rest, size=k - len(picks), replace=False).tolist()


def plain_dropquery(view: PoolView, k: int, rng: np.random.Generator) -> list[int]:
    counts = {}
    for row in view.pool.unlabeled.tolist():
        z = view.features[row].double()
        masks = rng.random((3, len(z)), dtype=np.float32) < 0.25
        plain = int(mixed64(view.student_head, z[None]).argmax())
        changed = [torch.where(torch.from_numpy(mask), 4 * z, torch.zeros_like(z)) for mask in masks]
        counts[row] = sum(int(mixed64(view.student_head, each[None]).argmax()) != plain for each in changed)
    levels = [[row for row, c in counts.items() if c > 1.5], [row for row, c in counts.items() if c == 1]]
    return finish(view, levels, k, rng)


@pytest.mark.parametrize("k", [3, 15, 40, 60])
@pytest.mark.parametrize("seed", range(3))
def test_dropquery_picks_what_the_plain_form_picks(seed: int, k: int) -> None:
    view = random_view(seed, 0.5)
    found = select(selector("dropquery"), view, k, rng=np.random.default_rng(seed))
    assert found.tolist() == plain_dropquery(view, k, np.random.default_rng(seed))


def test_dropquery_does_not_depend_on_the_size_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    view = random_view(0, 0.5)
    whole = select(selector("dropquery"), view, 9, rng=np.random.default_rng(0))
    monkeypatch.setattr(mixing, "CHUNK", 7)
    assert select(selector("dropquery"), view, 9, rng=np.random.default_rng(0)).tolist() == whole.tolist()


def test_alfamix_moves_by_a_fifth_of_the_distance_to_the_farthest_anchor_by_hand() -> None:
    # One feature, so e = 0.2; the class is the sign, and the gradient points to 0. The anchors are 4 and -6. From 1 the
    # farther one is at distance 7: 1 - 1.4 < 0 flips at once, where the nearer one gives 1 - 0.6 > 0. From 2: 2 - 1.6
    # > 0, then 2 - 3.2 < 0. From 5: 5 - 4.4 > 0, then 5 - 6.6 < 0. From 30: 30 - 28.8 > 0, then 30 - 36 < 0, although
    # the softmax of class 0 is 1 in float32.
    head = one_head(torch.tensor([[1.0], [-1.0]]), torch.zeros(2))
    anchors = torch.tensor([[4.0], [-6.0]])
    features = torch.tensor([[1.0], [2.0], [5.0], [30.0]])
    assert caps_of(head, features, anchors).tolist() == [1, 2, 3, 5]
    # With the far anchor alone at 8, an image at 7 never flips: 7 - 5 x 0.2 = 6.
    assert caps_of(head, torch.tensor([[7.0]]), torch.tensor([[8.0]])).tolist() == [6]


def test_alfamix_widens_the_step_until_there_are_more_candidates_than_picks() -> None:
    # Two features, so e = 0.14, the second without weight. Steps of 0.99, 1.13 and 1.4 from 1, 2 and 3.9.
    head = one_head(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.zeros(2))
    features = torch.tensor([[4.0, 0], [-6.0, 0], [1.0, 0], [2.0, 0], [3.9, 0], [90.0, 0], [95.0, 0], [99.0, 0]])
    view = view_of(features, head, {0: 0, 1: 1})
    caps = caps_of(head, features, torch.tensor([[4.0, 0], [-6.0, 0]]))
    assert caps[2:].tolist() == [2, 2, 3, 6, 6, 6]
    for seed in range(10):
        rows = select(selector("alfamix"), view, 1, rng=np.random.default_rng(seed))
        assert rows.item() in {2, 3}
        rows = select(selector("alfamix"), view, 4, rng=np.random.default_rng(seed))
        assert rows[:3].tolist() == [2, 3, 4]
        assert rows[3] in {5, 6, 7}


def plain_alfamix(view: PoolView, k: int, rng: np.random.Generator, *, farthest_only: bool) -> list[int]:
    labels, features = torch.from_numpy(view.labels), view.features.double()
    labeled = torch.tensor(view.pool.labeled, dtype=torch.int64)
    anchors = []
    for c in range(view.n_classes):
        of = labeled[labels[labeled] == c]
        anchors.append(features[of if len(of) else labeled].mean(dim=0))
    candidates: list[int] = []
    for cap in (0.2, 0.4, 0.6, 0.8, 1.0):
        for row in view.pool.unlabeled.tolist():
            z = features[row].clone().requires_grad_()
            probabilities = mixed64(view.student_head, z[None])[0]
            y = int(probabilities.argmax())
            (g,) = torch.autograd.grad(-probabilities[y].log(), z)
            z = z.detach()
            some = [max(anchors, key=lambda a: float((a - z).norm()))] if farthest_only else anchors
            for a in some:
                alpha = cap / len(z) ** 0.5 * (a - z).norm() / g.norm() * g / (a - z)
                if int(mixed64(view.student_head, ((1 - alpha) * z + alpha * a)[None]).argmax()) != y:
                    candidates.append(row)
                    break
        candidates = sorted(set(candidates))
        if len(candidates) > k:
            break
    return finish(view, [candidates], k, rng)


@pytest.mark.parametrize("labeled", [2, 8])
@pytest.mark.parametrize("k", [2, 20, 50])
@pytest.mark.parametrize("seed", range(2))
def test_alfamix_picks_what_the_plain_form_picks_with_every_anchor(seed: int, k: int, labeled: int) -> None:
    view = random_view(seed, 1.0, labeled)
    found = select(selector("alfamix"), view, k, rng=np.random.default_rng(seed))
    assert found.tolist() == plain_alfamix(view, k, np.random.default_rng(seed), farthest_only=False)


@pytest.mark.parametrize("seed", range(2))
def test_alfamix_on_a_mixture_picks_what_the_plain_form_picks_with_the_farthest_anchor(seed: int) -> None:
    view = random_view(seed, 0.4)
    view = replace(view, head=replace(view.student_head, distill_temperature=0.5))
    found = select(selector("alfamix"), view, 12, rng=np.random.default_rng(seed))
    assert found.tolist() == plain_alfamix(view, 12, np.random.default_rng(seed), farthest_only=True)


def test_the_gradient_is_that_of_the_mixture_but_for_its_length() -> None:
    head = replace(random_view(0, 0.3).student_head, distill_temperature=2.0)
    features = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    probabilities = head.probabilities(features)
    top = probabilities.max(dim=1)
    (expected,) = torch.autograd.grad(-top.values.sum(), features)
    logits = [features.detach() @ w.T + b for w, b in zip(head.weights, head.biases, strict=True)]
    torch.testing.assert_close(gradients(head, logits, top.indices), expected)


def test_alfamix_without_labels_draws_uniformly() -> None:
    view = random_view(0, 0.5, labeled=0, n=10)
    rows = [select(selector("alfamix"), view, 5, rng=np.random.default_rng(seed)) for seed in range(200)]
    np.testing.assert_allclose(np.bincount(np.concatenate(rows)) / 200, 0.5, atol=0.15)
