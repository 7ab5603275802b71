"""CEC: cases worked by hand, and equal picks of a plain form."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_clusters import plain_central, plain_unit

from activekd.selectors import clusters, neighbours, selector
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.neighbours import calibrated_entropies, contextual_prior, of_neighbours
from activekd.selectors.query import select
from activekd.selectors.view import PoolView


def cec_view(seed: int, n: int = 60, classes: int = 4) -> PoolView:
    return declared(made_up_view(seed, n, classes, 5, 6), selector("cec"))


def test_the_prior_is_the_mean_over_the_images_of_largest_probability_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "SUPPORT", 1)
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.0, 1.0]])
    # Row 3 is labeled. Of rows 0 to 2, row 0 is first for class 0 and row 1 for class 1.
    torch.testing.assert_close(contextual_prior(p, np.array([0, 1, 2])), torch.tensor([0.75, 0.25]))
    monkeypatch.setattr(neighbours, "CHUNK", 1)
    torch.testing.assert_close(contextual_prior(p, np.array([0, 1, 2])), torch.tensor([0.75, 0.25]))


def test_calibration_makes_the_prior_the_most_uncertain_prediction_by_hand() -> None:
    # 0.75 / 0.75 = 0.25 / 0.25, so even; 0.5 / 0.75 : 0.5 / 0.25 = 1 : 3.
    found = calibrated_entropies(torch.tensor([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]]), torch.tensor([0.75, 0.25]))
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    torch.testing.assert_close(found, torch.tensor([np.log(2), quarter, 0.0], dtype=torch.float32))


def test_neighbours_count_by_their_cosine_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "NEIGHBOURS", 2)
    angles = torch.tensor([0.0, 60.0, 90.0, 180.0]).deg2rad()
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    found = of_neighbours(features, torch.tensor([1.0, 2.0, 4.0, 8.0]))
    # Row 0: cosines 1/2 and 0 with rows 1 and 2, so the value of row 1. Row 1: rows 2 (0.866) and 0 (0.5).
    assert found[0] == pytest.approx(2.0)
    assert found[1] == pytest.approx((0.8660254 * 4 + 0.5 * 1) / 1.3660254)
    # Row 3 has row 2 at cosine 0 and row 1 at -1/2: both count the least, alike.
    assert found[3] == pytest.approx(3.0)
    assert of_neighbours(features[:1], torch.ones(1)).tolist() == [0.0]


def plain_cec(view: PoolView, k: int, rng: np.random.Generator) -> list[int]:
    rows = view.pool.unlabeled.tolist()
    p = view.teacher_probabilities.double().numpy()
    support = set()
    for c in range(p.shape[1]):
        support |= set(sorted(rows, key=lambda i: -p[i, c])[:10])
    prior = np.mean([p[i] for i in sorted(support)], axis=0)
    entropy = {}
    for i in rows:
        q = p[i] / prior
        q = q / q.sum()
        entropy[i] = -(q * np.log(q)).sum()
    x = plain_unit(view.teacher_features.numpy())
    weights = []
    for i in rows:
        near = sorted((j for j in rows if j != i), key=lambda j: -float(x[i] @ x[j]))[:10]
        cosines = np.array([max(float(x[i] @ x[j]), 1e-12) for j in near])
        weights.append(entropy[i] + float((cosines * [entropy[j] for j in near]).sum() / cosines.sum()))
    return [rows[i] for i in plain_central(x[rows], k, rng, np.array(weights))]


@pytest.mark.parametrize("k", [1, 7, 25])
@pytest.mark.parametrize("seed", range(3))
def test_cec_picks_what_the_plain_form_picks(seed: int, k: int) -> None:
    view = cec_view(seed)
    found = select(selector("cec"), view, k, rng=np.random.default_rng(seed))
    assert found.tolist() == plain_cec(view, k, np.random.default_rng(seed))


def test_cec_follows_the_teacher() -> None:
    # One cluster: its centre lies near the only uncertain images, which share a direction.
    view = cec_view(0, n=80)
    sure = torch.eye(4)[torch.arange(80) % 4]
    unsure = view.pool.unlabeled[:5]
    sure[unsure] = 0.25
    features = torch.eye(6)[torch.arange(80) % 5]
    features[unsure] = torch.eye(6)[5]
    view = replace(view, arrays={"teacher_probabilities": sure, "teacher_features": features})
    assert select(selector("cec"), view, 1, rng=np.random.default_rng(0)).item() in set(unsure.tolist())


def test_cec_of_a_large_pool_clusters_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "SAMPLED_ROWS", 20)
    view = cec_view(1, n=300)
    rows = select(selector("cec"), view, 1, rng=np.random.default_rng(0))
    some = np.sort(np.random.default_rng(0).choice(view.pool.unlabeled, size=20, replace=False))
    assert rows.item() in some
