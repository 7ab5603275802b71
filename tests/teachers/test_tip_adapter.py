"""Tip-Adapter-F against autograd of its formula, and against a plain loop with torch's optimiser."""

import numpy as np
import torch
from small_recipe import CLAP
from torch.nn import functional as F

from activekd.aligned import LANES, pad
from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.recipes import ViewGeometry
from activekd.streams import stream
from activekd.teachers import fixed
from activekd.teachers.clap import draw_epochs
from activekd.teachers.text_heads import TextHead
from activekd.teachers.tip_adapter import KeyTraining, tip_adapter

CROPS = ViewGeometry(3, (0.5, 1.0), (0.75, 1.3333), 0.5)
N, DIM, CLASSES = 40, 21, 5


def world() -> tuple[TextHead, Views, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=N)
    text = rng.normal(size=(CLASSES, DIM)).astype(np.float32)
    features = tuple((text[labels] + 2 * rng.normal(size=(N, DIM))).astype(np.float16) for _ in range(3))
    zero_shot = text / np.linalg.norm(text, axis=1, keepdims=True)
    return TextHead(zero_shot, text, 20.0), Views(features), labels


def logits_of(images: torch.Tensor, text: torch.Tensor, keys: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The formula of the paper: s f . t + alpha exp(-beta (1 - f . k)) Y, with s = 20."""
    affinities = torch.exp(-fixed.TIP_SHARPNESS * (1 - images @ keys.T))
    values = F.one_hot(labels, CLASSES).to(images.dtype)
    return 20 * images @ text.T + fixed.TIP_RESIDUAL_RATIO * affinities @ values


def test_the_gradient_is_that_of_autograd() -> None:
    rng = np.random.default_rng(1)
    head, _, _ = world()
    images = F.normalize(torch.from_numpy(rng.normal(size=(2, 6, DIM)).astype(np.float32)), dim=-1)
    keys = F.normalize(torch.from_numpy(rng.normal(size=(2, 9, DIM)).astype(np.float32)), dim=-1)
    labels, classes = (torch.from_numpy(rng.integers(CLASSES, size=(2, n))) for n in (9, 6))
    text = torch.from_numpy(head.zero_shot)
    training = KeyTraining(text, keys, labels, 20.0)
    found = training.gradient(pad(images, -1, 2 * LANES), classes)
    for k in range(2):
        leaf = keys[k].double().requires_grad_()
        F.cross_entropy(logits_of(images[k].double(), text.double(), leaf, labels[k]), classes[k]).backward()
        assert leaf.grad is not None
        torch.testing.assert_close(found[k, :9, :DIM].double(), leaf.grad, rtol=1e-5, atol=1e-7)
        assert not found[k, 9:].any()
        assert not found[k, :, DIM:].any()


def test_a_fit_is_that_of_a_plain_loop() -> None:
    """AdamW of torch over the keys in float64, with a cosine schedule, batches of all views as drawn."""
    head, views, labels = world()
    labeled = Labeled(np.arange(0, N, 3), labels[::3])
    (found,) = tip_adapter(head, views, CROPS, [labeled], CLAP, [stream(0, "teacher", 0)]).members()

    crops = np.stack([array.astype(np.float64) for array in views.banked])
    mean = torch.from_numpy(crops[1:, labeled.rows].mean(axis=0))
    keys = F.normalize(mean, dim=1).requires_grad_()
    text, of_keys = torch.from_numpy(head.zero_shot).double(), torch.from_numpy(labeled.labels)
    optimiser = torch.optim.AdamW([keys], lr=1e-3, eps=1e-4, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, fixed.TIP_EPOCHS)
    orders, chosen = draw_epochs(len(labeled.rows), fixed.TIP_EPOCHS, CROPS, stream(0, "teacher", 0))
    for order, view in zip(orders, chosen, strict=True):
        images = F.normalize(torch.from_numpy(crops[view, labeled.rows[order]]), dim=1)
        optimiser.zero_grad()
        F.cross_entropy(logits_of(images, text, keys, of_keys), of_keys[order]).backward()
        optimiser.step()
        schedule.step()
    torch.testing.assert_close(found.tensors["keys"].double(), keys.detach(), rtol=0, atol=2e-5)
    assert (found.tensors["keys"].double() - F.normalize(mean, dim=1)).abs().max() > 5e-3
    images = torch.from_numpy(crops[0])
    wanted = logits_of(F.normalize(images, dim=1), text, keys.detach(), of_keys)
    torch.testing.assert_close(found.logits(images).double(), wanted, rtol=0, atol=2e-3)


def test_batches_of_an_epoch_hold_each_labeled_image_once() -> None:
    """With 300 labeled images an epoch has two steps, of 256 and of 44 images."""
    assert fixed.fit_steps("tip_adapter", 300, CLAP) == 2 * fixed.TIP_EPOCHS
    rng = np.random.default_rng(3)
    features = rng.normal(size=(300, 8)).astype(np.float16)
    text = np.eye(3, 8, dtype=np.float32)
    labeled = Labeled(np.arange(300), np.arange(300) % 3)
    single = ViewGeometry(1, (1.0, 1.0), (1.0, 1.0), 0.0)
    (found,) = tip_adapter(TextHead(text, text, 1.0), Views((features,)), single, [labeled], CLAP, [rng]).members()
    assert found.tensors["keys"].shape == (300, 8)
    before = torch.from_numpy(features).float()
    right = [
        (logits.argmax(dim=1) == torch.from_numpy(labeled.labels)).float().mean()
        for logits in (before @ torch.from_numpy(text).T, found.logits(before))
    ]
    assert right[1] > right[0]
