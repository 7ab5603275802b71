"""LP++ against cases worked by hand, autograd, and a plain loop of its block descent."""

import numpy as np
import pytest
import torch
from small_recipe import CLAP
from torch.nn import functional as F

from activekd.aligned import LANES, pad
from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.recipes import ViewGeometry
from activekd.streams import stream
from activekd.teachers.lp_plus_plus import BlockDescent, lp_plus_plus, step_sizes
from activekd.teachers.text_heads import TextHead

SINGLE = ViewGeometry(1, (1.0, 1.0), (1.0, 1.0), 0.0)
N, DIM, CLASSES = 30, 21, 5


def world(n_labels: int = CLASSES) -> tuple[TextHead, Views, Labeled]:
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(n_labels), rng.integers(n_labels, size=N - n_labels)])
    text = rng.normal(size=(CLASSES, DIM)).astype(np.float32)
    features = (text[labels] + 2 * rng.normal(size=(N, DIM))).astype(np.float16)
    zero_shot = text / np.linalg.norm(text, axis=1, keepdims=True)
    return TextHead(zero_shot, text, 20.0), Views((features,)), Labeled(np.arange(12), labels[:12])


def test_step_sizes_by_hand() -> None:
    """F^T F is diag(2, 1), of which 2 is the largest eigenvalue; the squared cosines add up to 2 and 1."""
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert step_sizes(images, images) == pytest.approx((4 * 3 / 2, 3 / (4 * 2)))
    wide = torch.cat([images, torch.zeros(3, 5)], dim=1)
    assert step_sizes(wide, images) == pytest.approx((6, 0.375))
    assert step_sizes(images, torch.zeros(3, 2)) == (6.0, 0.0)


def test_the_gradients_are_those_of_autograd() -> None:
    rng = np.random.default_rng(1)
    head, _, _ = world()
    images = F.normalize(torch.from_numpy(rng.normal(size=(2, 9, DIM)).astype(np.float32)), dim=-1)
    labels, text = torch.from_numpy(rng.integers(CLASSES, size=(2, 9))), torch.from_numpy(head.zero_shot)
    descent = BlockDescent(pad(images, -1, 2 * LANES), text, labels, 20.0)
    for _ in range(3):
        descent.step(blend=True)
    of_w, of_alpha = descent.gradients()
    for k in range(2):
        w = descent.w[k, :CLASSES, :DIM].double().requires_grad_()
        alpha = descent.alpha[k, 0, :CLASSES].double().requires_grad_()
        f = images[k].double()
        F.cross_entropy(f @ (w + alpha[:, None] * text.double()).T, labels[k]).backward()
        assert w.grad is not None
        assert alpha.grad is not None
        torch.testing.assert_close(of_w[k, :CLASSES, :DIM].double(), w.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(of_alpha[k, 0, :CLASSES].double(), alpha.grad, rtol=1e-4, atol=1e-6)
        assert not of_w[k, CLASSES:].any()
        assert not of_alpha[k, 0, CLASSES:].any()


@pytest.mark.parametrize("n_labels", [CLASSES, CLASSES - 2])
def test_a_fit_is_that_of_a_plain_loop(n_labels: int) -> None:
    """300 steps of torch's SGD on w, every tenth time one on alpha, in float64."""
    head, views, labeled = world(n_labels)
    (found,) = lp_plus_plus(head, views, SINGLE, [labeled], CLAP, [stream(0, "teacher", 0)]).members()

    f = F.normalize(torch.from_numpy(views.banked[0][labeled.rows].astype(np.float64)), dim=1)
    t, y = torch.from_numpy(head.zero_shot).double(), torch.from_numpy(labeled.labels)
    present = [c for c in range(CLASSES) if (y == c).any()]
    assert len(present) == n_labels
    w = torch.stack([f[y == c].sum(dim=0) for c in range(CLASSES)]).requires_grad_()
    cosines = [float((f[y == c] @ t[c]).mean()) for c in present]
    alpha = torch.full((CLASSES,), 2.5 * 20 * float(np.mean(cosines)), dtype=torch.float64, requires_grad=True)
    step_w = 4 * len(f) / float(torch.linalg.matrix_norm(f, 2) ** 2)
    step_alpha = len(f) / (4 * float((f @ t.T).square().sum(dim=0).max()))
    optimiser = torch.optim.SGD([w], lr=step_w, momentum=0.9)
    losses = []
    for step in range(300):
        alpha.grad = None
        optimiser.zero_grad()
        loss = F.cross_entropy(f @ w.T + alpha * (f @ t.T), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if step % 10 == 9:
            assert alpha.grad is not None
            alpha.data -= step_alpha * alpha.grad
    weights = (w + alpha[:, None] * t).detach()
    torch.testing.assert_close(found.tensors["weights"].double(), weights, rtol=1e-3, atol=1e-3)
    assert not found.tensors["bias"].any()
    assert losses[-1] < 0.2 * losses[0]
