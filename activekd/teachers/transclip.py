"""The TransCLIP teacher: Gaussians of the classes, fitted to labeled and unlabeled images of the pool at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.devices import one_thread, results_device
from activekd.recipes import ClapRecipe, ViewGeometry
from activekd.teachers.classifier import Classifier
from activekd.teachers.fixed import (
    TRANSCLIP_CONFIDENT,
    TRANSCLIP_INNER,
    TRANSCLIP_LIKELIHOOD,
    TRANSCLIP_NEIGHBOURS,
    TRANSCLIP_OUTER,
    TRANSCLIP_TEXT,
)
from activekd.teachers.graph import blocks, neighbour_graph, unit_features
from activekd.teachers.text_heads import TextHead

LEAST_NORM = 1e-12
"""Norm of the sum of a class's weighted images below which its mean stays as it is."""

LEAST_VARIANCE = 1e-12
"""Lower clip of a variance, as of a feature that is 0 for all images."""


@one_thread()
@torch.no_grad()
def transclip(
    head: TextHead,
    views: Views,
    geometry: ViewGeometry,
    labeled: Sequence[Labeled],
    recipe: ClapRecipe,
    rngs: Sequence[np.random.Generator],
    device: str = "cpu",
) -> Classifier:
    """The TransCLIP-FS teacher (Zanella et al. 2024): Gaussians of the classes, fitted to all images of the pool.

    Let f_i be the unit features of the train rows in view 0, and y_i the softmax of s f_i . t, where t are the text
    embeddings of the zero-shot classifier. Unlabeled rows have assignments z_i, which start at y_i; those of labeled
    rows are their labels. The classes have means mu_c and a shared diagonal covariance Sigma, and log p_ic is
    -(f_i - mu_c)^T Sigma^-1 (f_i - mu_c) / 2. In turns,

    z_i is proportional to y_i^lambda exp(a log p_i + sum_j w_ij z_j), for unlabeled i, all at once and repeated,
    mu_c = the direction of sum_i z_ic f_i, over all rows i,
    Sigma = the mean over i of sum_c z_ic (f_i - mu_c)^2.

    w_ij are the affinities of ``neighbour_graph``. ``activekd.teachers.fixed`` has lambda, a and the numbers of turns.
    Every round fits anew, without randomness. The fitted teacher is inductive: the logits of any image are
    a log p_c + lambda s f . t_c, which is linear in f up to a number that all classes share. So test images, other
    views and pool images are classified alike, and no feature of a test image is read in the fit.

    Departures: the paper reads the assignments z of the images to which it was fitted, with the votes of their
    neighbours; here these votes act in the fit alone. It adapts to the test images, this to the pool. Each labeled row
    counts as much in mu and Sigma as an unlabeled one (gamma = |S| / |Q| in the paper's terms, where S and Q are the
    labeled and the unlabeled images); the paper searches the weight on validation images. Neighbours are those among
    all train rows; in the released code those among the unlabeled ones, and its rows of S and Q are in another order in
    the graph than in z. A class without labels starts at its most confident images, as in TransCLIP-ZS. The factor s is
    the network's own, not 100.

    The members of a cohort share the graph and are fitted one after the other, each as if alone: the largest arrays of
    a fit have a number for each row and class. Unlabeled rows are all train rows that are not labeled. Arguments as of
    ``activekd.teachers.clap.clap``, whose recipe is not read.

    Returns:
        A stack of the teachers of the members, on the CPU: class weights and biases.
    """
    place = results_device(device)
    text = torch.from_numpy(head.zero_shot).to(place)
    graph = neighbour_graph(views, TRANSCLIP_NEIGHBOURS, place)
    weights, biases = [], []
    for some in labeled:
        gaussians = fit_gaussians(views, graph, text, head.logit_scale, some)
        of_density, bias = gaussians.linear()
        weights.append(TRANSCLIP_LIKELIHOOD * of_density + TRANSCLIP_TEXT * head.logit_scale * text)
        biases.append(TRANSCLIP_LIKELIHOOD * bias)
    tensors = {"weights": torch.stack(weights).cpu(), "bias": torch.stack(biases).cpu()}
    return Classifier("linear", head.logit_scale, tensors)


@dataclass(frozen=True)
class Gaussians:
    """Gaussians of the classes with a shared diagonal covariance.

    Attributes:
        means: of the classes, of unit norm.
        variances: diagonal of the covariance.
    """

    means: Float32[Tensor, "classes dim"]
    variances: Float32[Tensor, " dim"]

    def linear(self) -> tuple[Float32[Tensor, "classes dim"], Float32[Tensor, " classes"]]:
        """Weights and biases of log p_c as a function of the features, without the term that all classes share.

        -(f - mu)^T Sigma^-1 (f - mu) / 2 is f . Sigma^-1 mu - mu^T Sigma^-1 mu / 2 less f^T Sigma^-1 f / 2.
        """
        weights = self.means / self.variances
        return weights, -0.5 * (weights * self.means).sum(dim=1)


def fit_gaussians(
    views: Views, graph: Tensor, text: Float32[Tensor, "classes dim"], logit_scale: float, labeled: Labeled
) -> Gaussians:
    """The fit of one member, as ``transclip`` describes it.

    Args:
        views: image features of the train split.
        graph: affinities of its rows, (rows, rows), sparse, on the device of the fit.
        text: unit text embeddings, on the same device.
        logit_scale: factor of the text prior.
        labeled: labeled rows and their labels.
    """
    n_classes, dim = text.shape
    rows, labels = (torch.from_numpy(some).to(text.device) for some in (labeled.rows, labeled.labels))
    one_hot = F.one_hot(labels, n_classes).float()
    prior = _on_rows(views, logit_scale * text, torch.zeros(n_classes, device=text.device)).log_softmax(dim=1)
    z = prior.exp()
    z[rows] = one_hot
    gaussians = Gaussians(_first_means(views, z, rows, labels), torch.full((dim,), 1 / dim, device=text.device))
    prior *= TRANSCLIP_TEXT
    for _ in range(TRANSCLIP_OUTER):
        slope, bias = gaussians.linear()
        known = _on_rows(views, TRANSCLIP_LIKELIHOOD * slope, TRANSCLIP_LIKELIHOOD * bias).add_(prior)
        for _ in range(TRANSCLIP_INNER):
            z = torch.sparse.mm(graph, z).add_(known).softmax(dim=1)
            z[rows] = one_hot
        gaussians = _updated(views, gaussians, z)
    return gaussians


def _on_rows(
    views: Views, weights: Float32[Tensor, "classes dim"], bias: Float32[Tensor, " classes"]
) -> Float32[Tensor, "rows classes"]:
    """f . w_c + b_c of every row, in blocks."""
    out = torch.empty(views.n_rows, len(weights), device=weights.device)
    every = np.arange(views.n_rows)
    for some in blocks(views):
        images = unit_features(views, every[some], weights.device.type)
        torch.addmm(bias, images, weights.mT, out=out[some])
    return out


def _first_means(
    views: Views, z: Float32[Tensor, "rows classes"], rows: Int64[Tensor, " labeled"], labels: Int64[Tensor, " labeled"]
) -> Float32[Tensor, "classes dim"]:
    """The direction of the sum of each class's labeled images, or of its most confident ones if it has no label."""
    has_label = F.one_hot(labels, z.shape[1]).sum(dim=0) > 0
    unlabeled = torch.ones(len(z), dtype=torch.bool, device=z.device).index_fill_(0, rows, False)
    means = torch.empty(z.shape[1], *views.shape, device=z.device)
    for c in range(z.shape[1]):
        if has_label[c]:
            chosen = rows[labels == c]
            confidence = torch.ones(len(chosen), device=z.device)
        else:
            scores = z[:, c].masked_fill(~unlabeled, -1)
            confidence, chosen = scores.topk(min(TRANSCLIP_CONFIDENT, int(unlabeled.sum())))
        images = unit_features(views, chosen.cpu().numpy(), z.device.type)
        means[c] = (confidence[:, None] * images).sum(dim=0)
    return F.normalize(means, dim=1)


def _updated(views: Views, before: Gaussians, z: Float32[Tensor, "rows classes"]) -> Gaussians:
    """The means and variances at these assignments; a class without any image keeps its mean."""
    sums = torch.zeros(before.means.shape, dtype=torch.float64, device=z.device)
    squares = torch.zeros(before.variances.shape, dtype=torch.float64, device=z.device)
    every = np.arange(views.n_rows)
    for block in blocks(views):
        images, some = unit_features(views, every[block], z.device.type), z[block]
        sums += (some.mT @ images).double()
        squares += (some.sum(dim=1) @ images.square()).double()
    norms = sums.norm(dim=1, keepdim=True)
    means = torch.where(norms > LEAST_NORM, sums / norms.clamp(min=LEAST_NORM), before.means.double())
    total = z.sum(dim=0).double()
    spread = squares - 2 * (means * sums).sum(dim=0) + (total[:, None] * means.square()).sum(dim=0)
    variances = (spread / total.sum()).clamp(min=LEAST_VARIANCE)
    return Gaussians(means.float(), variances.float())
