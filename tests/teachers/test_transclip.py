"""TransCLIP against a plain form in float64 with a dense affinity matrix, and its graph against all cosines."""

import numpy as np
import pytest
import torch
from small_recipe import CLAP

from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.recipes import ViewGeometry
from activekd.streams import stream
from activekd.teachers import graph
from activekd.teachers.graph import neighbour_graph
from activekd.teachers.text_heads import TextHead
from activekd.teachers.transclip import Gaussians, transclip

SINGLE = ViewGeometry(1, (1.0, 1.0), (1.0, 1.0), 0.0)
N, DIM, CLASSES, SCALE = 60, 9, 4, 10.0


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def world(seed: int = 0) -> tuple[TextHead, Views, np.ndarray]:
    """Classes around directions that are turned away from their text."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % CLASSES
    text = unit(rng.normal(size=(CLASSES, DIM))).astype(np.float32)
    centres = unit(text + 0.7 * rng.normal(size=(CLASSES, DIM)) / 3)
    features = (3 * centres[labels] + rng.normal(size=(N, DIM)) / 2).astype(np.float16)
    return TextHead(text, text, SCALE), Views((features,)), labels


def fit(head: TextHead, views: Views, labeled: Labeled) -> dict[str, torch.Tensor]:
    (found,) = transclip(head, views, SINGLE, [labeled], CLAP, [stream(0, "teacher", 0)]).members()
    return {name: tensor.double() for name, tensor in found.tensors.items()}


def dense_affinities(f: np.ndarray, k: int) -> np.ndarray:
    cosines = f @ f.T
    np.fill_diagonal(cosines, -np.inf)
    w = np.zeros_like(cosines)
    for i, row in enumerate(cosines):
        for j in np.argsort(-row)[:k]:
            w[i, j] = max(0.0, row[j])
    return (w + w.T) / (2 * k)


def plain(head: TextHead, views: Views, labeled: Labeled) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of the fit as the docstring of ``transclip`` has it."""
    f, t = unit(views.banked[0].astype(np.float64)), head.zero_shot.astype(np.float64)
    w, y = dense_affinities(f, 3), softmax(SCALE * f @ t.T)
    is_labeled = np.isin(np.arange(N), labeled.rows)
    one_hot = np.zeros((N, CLASSES))
    one_hot[labeled.rows, labeled.labels] = 1
    z = np.where(is_labeled[:, None], one_hot, y)
    mu = np.zeros((CLASSES, DIM))
    for c in range(CLASSES):
        some = labeled.rows[labeled.labels == c]
        if len(some):
            mu[c] = f[some].sum(axis=0)
        else:
            sure = sorted(np.flatnonzero(~is_labeled), key=lambda i: -y[i, c])[:8]
            mu[c] = sum(y[i, c] * f[i] for i in sure)
    mu, variance = unit(mu), np.full(DIM, 1 / DIM)
    for _ in range(10):
        density = np.array([[-0.5 * ((x - m) ** 2 / variance).sum() for m in mu] for x in f])
        for _ in range(5):
            z = softmax(0.5 * np.log(y) + density / 50 + w @ z)
            z[is_labeled] = one_hot[is_labeled]
        mu = unit(z.T @ f)
        variance = sum((z[:, [c]] * (f - mu[c]) ** 2).sum(axis=0) for c in range(CLASSES)) / N
    return mu / variance / 50 + 0.5 * SCALE * t, -0.5 * (mu**2 / variance).sum(axis=1) / 50


@pytest.mark.parametrize("rows", [(0, 1, 2, 3, 8), (1, 5, 2)], ids=["every class", "two of four classes"])
def test_a_fit_is_that_of_the_plain_form(rows: tuple[int, ...]) -> None:
    head, views, labels = world()
    labeled = Labeled(np.array(rows), labels[list(rows)])
    found, (weights, bias) = fit(head, views, labeled), plain(head, views, labeled)
    np.testing.assert_allclose(found["weights"].numpy(), weights, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["bias"].numpy(), bias, rtol=1e-4, atol=1e-4)


def test_the_linear_form_of_the_density_by_hand() -> None:
    """At f = (1, 0): -(0 / 2 + 0 / 4) / 2 for the mean (1, 0), and -(1 / 2 + 1 / 4) / 2 for (0, 1)."""
    weights, bias = Gaussians(torch.eye(2), torch.tensor([2.0, 4.0])).linear()
    values = weights @ torch.tensor([1.0, 0.0]) + bias
    assert (values[0] - values[1]).item() == pytest.approx(0.375)


def test_unlabeled_rows_change_the_fit_and_their_labels_cannot() -> None:
    head, views, labels = world()
    labeled = Labeled(np.arange(4), labels[:4])
    other = Views((np.concatenate([views.banked[0][:4], views.banked[0][4:] + np.float16(0.5)]),))
    assert not torch.equal(fit(head, views, labeled)["weights"], fit(head, other, labeled)["weights"])


def test_pools_without_unlabeled_rows_and_of_few_rows_are_fitted() -> None:
    head, views, labels = world()
    whole = fit(head, views, Labeled(np.arange(N), labels))
    assert all(tensor.isfinite().all() for tensor in whole.values())
    for n in (1, 2, 3):
        few = fit(head, Views((views.banked[0][:n],)), Labeled(np.arange(1), labels[:1]))
        assert all(tensor.isfinite().all() for tensor in few.values())


def test_a_feature_that_is_zero_everywhere_is_borne() -> None:
    head, views, labels = world()
    features = views.banked[0].copy()
    features[:, 2] = 0
    found = fit(head, Views((features,)), Labeled(np.arange(4), labels[:4]))
    assert all(tensor.isfinite().all() for tensor in found.values())


@pytest.mark.parametrize("at_a_time", [1, 7, 1000])
@pytest.mark.parametrize(("bound", "of_a_row"), [("BLOCK_NUMBERS", DIM), ("BLOCK_ROWS", 1)])
def test_the_graph_in_blocks_is_that_of_all_cosines(
    at_a_time: int, bound: str, of_a_row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, bound, at_a_time * of_a_row)
    _, views, _ = world(3)
    assert max(some.stop - some.start for some in graph.blocks(views)) == min(at_a_time, N)
    found = neighbour_graph(views, 3, "cpu")
    assert found.layout == torch.sparse_coo
    assert found.values().numel() <= 2 * 3 * N
    wanted = dense_affinities(unit(views.banked[0].astype(np.float64)), 3)
    np.testing.assert_allclose(found.to_dense().numpy(), wanted, atol=1e-6)


def test_the_graph_by_hand() -> None:
    """Each of three rows has two others: cosines 0.6 of rows 0 and 1, 0 of 0 and 2, 0.8 of 1 and 2; k is 3."""
    found = neighbour_graph(Views((np.array([[2, 0], [3, 4], [0, 1]], dtype=np.float32),)), 3, "cpu").to_dense()
    wanted = [[0, 0.2, 0], [0.2, 0, 0.8 / 3], [0, 0.8 / 3, 0]]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_the_graph_is_computed_once_for_features_in_use() -> None:
    _, views, _ = world()
    first = neighbour_graph(views, 3, "cpu")
    assert neighbour_graph(views, 3, "cpu") is first
    assert neighbour_graph(views, 2, "cpu") is not first
    assert neighbour_graph(Views(views.banked), 3, "cpu") is not first
