"""Terms on unlabeled images of the semi-supervised objectives, on logits of the label head.

Logits of a cohort have one more dimension in front, that of the members. A loss is the sum of the members' losses, and
each member has its own running statistics, so a member's gradient is the same alone and in company. Weak logits give
targets, thresholds and weights, and no gradient flows into them. No function waits for the device.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.aligned import pad
from activekd.recipes import Recipe

TINY = 1e-12
"""Smallest number of which a logarithm or a quotient is taken."""


@dataclass(frozen=True)
class Running:
    """Exponential moving averages over the steps of a fit: the state of FreeMatch and of SoftMatch.

    Attributes:
        confidence: largest probability of a weak view: FreeMatch's global threshold, SoftMatch's mean.
        variance: of the largest probability: SoftMatch.
        probabilities: of the classes, over weak views.
        histogram: shares of the predicted classes of weak views: FreeMatch.
    """

    confidence: Float[Tensor, "*members"]
    variance: Float[Tensor, "*members"]
    probabilities: Float[Tensor, "*members classes"]
    histogram: Float[Tensor, "*members classes"]

    @classmethod
    def start(cls, members: tuple[int, ...], n_classes: int, device: str) -> "Running":
        """The state before the first step: uniform predictions and variance 1, as in both papers.

        Departure: SoftMatch's released code starts the probabilities from the first batch.

        Args:
            members: (number of members,) for a cohort, else ().
            n_classes: number of classes.
            device: of the fit.
        """
        flat = torch.full((*members, n_classes), 1 / n_classes, device=device)
        return cls(flat[..., 0], torch.ones(members, device=device), flat, flat)


def _soft_cross_entropy(
    logits: Float[Tensor, "*members batch classes"],
    targets: Float[Tensor, "*members batch classes"],
    weights: Float[Tensor, "*members batch"],
) -> Float[Tensor, ""]:
    """Mean over the batch of weight x cross-entropy, summed over members; images of weight 0 count in the mean."""
    each = -(targets * F.log_softmax(logits, dim=-1)).sum(dim=-1)
    return (weights * each).sum() / logits.shape[-2]


def _hard_cross_entropy(
    logits: Float[Tensor, "*members batch classes"],
    labels: Int64[Tensor, "*members batch"],
    weights: Float[Tensor, "*members batch"],
) -> Float[Tensor, ""]:
    """As ``_soft_cross_entropy``, with a class for a target."""
    each = -F.log_softmax(logits, dim=-1).gather(-1, labels[..., None]).squeeze(-1)
    return (weights * each).sum() / logits.shape[-2]


def fixmatch(
    weak: Float[Tensor, "*members batch classes"],
    strong: Float[Tensor, "*members batch classes"],
    *,
    confidence: float,
) -> Float[Tensor, ""]:
    """FixMatch (Sohn et al. 2020, Equation 4): mean of 1(max q >= tau) H(argmax q, strong), q the weak probabilities.

    Pseudo-labels (Lee 2013) are the case of one view: ``strong`` are then the same logits. Departures from Lee: only
    predictions of at least ``confidence`` count, as in FixMatch.

    Args:
        weak: logits of the weak views.
        strong: logits of the strong views of the same images.
        confidence: tau, in [0, 1].
    """
    top = weak.detach().softmax(dim=-1).max(dim=-1)
    return _hard_cross_entropy(strong, top.indices, (top.values >= confidence).float())


def uda(
    weak: Float[Tensor, "*members batch classes"],
    strong: Float[Tensor, "*members batch classes"],
    *,
    confidence: float,
    sharpening: float,
) -> Float[Tensor, ""]:
    """UDA (Xie et al. 2020, Section 2): mean of 1(max q >= tau) H(softmax(weak / T), strong).

    Departures: without the annealing of the labeled term and without the filter of images outside of the classes,
    which are for larger unlabeled sets.

    Args:
        weak: logits of the weak views.
        strong: logits of the strong views of the same images.
        confidence: tau, in [0, 1], of the weak probabilities q before sharpening.
        sharpening: T, more than 0.
    """
    logits = weak.detach()
    chosen = logits.softmax(dim=-1).amax(dim=-1) >= confidence
    return _soft_cross_entropy(strong, (logits / sharpening).softmax(dim=-1), chosen.float())


def freematch_thresholds(
    probabilities: Float[Tensor, "*members batch classes"], running: Running, *, ema: float
) -> tuple[Float[Tensor, "*members classes"], Running]:
    """FreeMatch's threshold of each class (Wang et al. 2023, Equations 5 to 7), after an update by the batch.

    tau_t = m tau_(t-1) + (1 - m) mean of max q; p_t likewise from mean q; the histogram from that of argmax q; the
    threshold of class c is p_t(c) / max p_t x tau_t.

    Args:
        probabilities: q, of the weak views.
        running: before the step.
        ema: m, in [0, 1).

    Returns:
        The thresholds, and the state after the step.
    """
    top = probabilities.max(dim=-1)
    predicted = F.one_hot(top.indices, probabilities.shape[-1]).float()
    after = replace(
        running,
        confidence=_moved(running.confidence, top.values.mean(dim=-1), ema),
        probabilities=_moved(running.probabilities, probabilities.mean(dim=-2), ema),
        histogram=_moved(running.histogram, predicted.mean(dim=-2), ema),
    )
    relative = after.probabilities / after.probabilities.amax(dim=-1, keepdim=True)
    return relative * after.confidence[..., None], after


def _moved(before: Tensor, batch: Tensor, ema: float) -> Tensor:
    return ema * before + (1 - ema) * batch


def fairness(
    strong: Float[Tensor, "*members batch classes"], chosen: Bool[Tensor, "*members batch"], running: Running
) -> Float[Tensor, ""]:
    """FreeMatch's fairness term (Wang et al. 2023, Equations 9 to 11): the sum over classes of a log b.

    a is p_t / h_t, normalised to sum 1, of the running probabilities and histogram; b is the same of the batch: mean
    probabilities of the strong views of the chosen images, divided by the shares of their predicted classes. The
    equations write the term as minus a cross-entropy; where it falls, predictions become more diverse.

    A class that no chosen strong view is predicted as has no term, since the student has no part in it; in the released
    code it adds a constant. Departure: a share of the running histogram counts as at least one image of the batch. A
    class that is not predicted for some steps of a short memory would else have nearly all of a, and no term.

    Args:
        strong: logits of the strong views.
        chosen: images whose pseudo-label is learned.
        running: after the update of the step.
    """
    probabilities = strong.softmax(dim=-1)
    counted = chosen[..., None].float()
    mean = (counted * probabilities).mean(dim=-2)
    shares = (counted * F.one_hot(probabilities.argmax(dim=-1), strong.shape[-1])).mean(dim=-2)
    there = shares > 0
    batch = _normalised(torch.where(there, mean / shares.clamp(min=TINY), 0.0))
    long_run = _normalised(running.probabilities / running.histogram.clamp(min=1 / strong.shape[-2]))
    logs = pad(batch, -1).clamp(min=TINY).log()[..., : strong.shape[-1]]
    return torch.where(there, long_run * logs, 0.0).sum()


def _normalised(values: Float[Tensor, "*members classes"]) -> Float[Tensor, "*members classes"]:
    return values / values.sum(dim=-1, keepdim=True).clamp(min=TINY)


def freematch(
    weak: Float[Tensor, "*members batch classes"],
    strong: Float[Tensor, "*members batch classes"],
    running: Running,
    *,
    ema: float,
    weights: tuple[float, float],
) -> tuple[Float[Tensor, ""], Running]:
    """FreeMatch (Wang et al. 2023): FixMatch with thresholds of each class that follow the student, and fairness.

    w_u mean of 1(max q >= tau_t(argmax q)) H(argmax q, strong) + w_f fairness (Equations 8 to 12).

    Args:
        weak: logits of the weak views; q are their probabilities.
        strong: logits of the strong views of the same images.
        running: before the step.
        ema: momentum of the running statistics, in [0, 1).
        weights: (w_u, w_f).

    Returns:
        The loss, and the state after the step.
    """
    probabilities = weak.detach().softmax(dim=-1)
    thresholds, after = freematch_thresholds(probabilities, running, ema=ema)
    top = probabilities.max(dim=-1)
    chosen = top.values >= thresholds.gather(-1, top.indices)
    consistency = _hard_cross_entropy(strong, top.indices, chosen.float())
    return weights[0] * consistency + weights[1] * fairness(strong, chosen, after), after


def softmatch_weights(
    probabilities: Float[Tensor, "*members batch classes"], running: Running, *, ema: float, n_sigma: float
) -> tuple[Float[Tensor, "*members batch"], Running]:
    """SoftMatch's weight of each image (Chen et al. 2023, Section 3), after an update by the batch.

    Probabilities q are aligned to uniform classes: q / p_t, normalised, with the running mean p_t of q. Of their
    largest, mean mu_t and variance s_t^2 (unbiased) run likewise; the weight is 1 from mu_t on, and
    exp(-(max - mu_t)^2 / (2 s_t^2 / n^2)) below.

    Args:
        probabilities: q, of the weak views.
        running: before the step.
        ema: momentum of the running statistics, in [0, 1).
        n_sigma: n, more than 0.

    Returns:
        The weights, in [0, 1], and the state after the step.
    """
    classes = _moved(running.probabilities, probabilities.mean(dim=-2), ema)
    aligned = probabilities / classes.clamp(min=TINY)[..., None, :]
    top = (aligned / aligned.sum(dim=-1, keepdim=True)).amax(dim=-1)
    mean = top.mean(dim=-1)
    spread = ((top - mean[..., None]) ** 2).sum(dim=-1) / max(1, top.shape[-1] - 1)
    after = replace(
        running,
        probabilities=classes,
        confidence=_moved(running.confidence, mean, ema),
        variance=_moved(running.variance, spread, ema),
    )
    below = (top - after.confidence[..., None]).clamp(max=0)
    width = (2 * after.variance / n_sigma**2).clamp(min=TINY)
    exponents = -(below**2) / width[..., None]
    return pad(exponents, -1).exp()[..., : top.shape[-1]], after


def softmatch(
    weak: Float[Tensor, "*members batch classes"],
    strong: Float[Tensor, "*members batch classes"],
    running: Running,
    *,
    ema: float,
    n_sigma: float,
) -> tuple[Float[Tensor, ""], Running]:
    """SoftMatch (Chen et al. 2023): mean of weight x H(argmax q, strong), with a truncated Gaussian weight.

    Pseudo-labels are those of the probabilities q before the alignment, which decides the weights alone.

    Args:
        weak: logits of the weak views; q are their probabilities.
        strong: logits of the strong views of the same images.
        running: before the step.
        ema: momentum of the running statistics, in [0, 1).
        n_sigma: divides the standard deviation of the Gaussian, more than 0.

    Returns:
        The loss, and the state after the step.
    """
    probabilities = weak.detach().softmax(dim=-1)
    weights, after = softmatch_weights(probabilities, running, ema=ema, n_sigma=n_sigma)
    return _hard_cross_entropy(strong, probabilities.argmax(dim=-1), weights), after


def unlabeled_loss(
    weak: Float[Tensor, "*members batch classes"],
    strong: Float[Tensor, "*members batch classes"] | None,
    running: Running,
    recipe: Recipe,
    *,
    ema: float,
) -> tuple[Float[Tensor, ""], Running]:
    """The weighted term of a recipe's objective on unlabeled images, before ``ramp_up``.

    Args:
        weak: logits of the weak views, which are the drawn training views.
        strong: logits of the strong views of the same images; None for an objective of one view.
        running: before the step.
        recipe: with a semi-supervised objective, and its numbers.
        ema: momentum, that of the recipe or of a part of a step.

    Returns:
        The loss, and the state after the step, which is that before for an objective without state.

    Raises:
        ValueError: the objective has two views and ``strong`` is None, or it is not semi-supervised.
    """
    if recipe.objective == "pseudo_label":
        return recipe.weight_consistency * fixmatch(weak, weak, confidence=recipe.confidence), running
    if strong is None:
        raise ValueError(f"objective '{recipe.objective}' without strong views; expected: logits of strong views")
    match recipe.objective:
        case "uda":
            loss = uda(weak, strong, confidence=recipe.confidence, sharpening=recipe.sharpening)
        case "fixmatch":
            loss = fixmatch(weak, strong, confidence=recipe.confidence)
        case "freematch":
            weights = recipe.weight_consistency, recipe.weight_fairness
            return freematch(weak, strong, running, ema=ema, weights=weights)
        case "softmatch":
            loss, running = softmatch(weak, strong, running, ema=ema, n_sigma=recipe.n_sigma)
        case _:
            raise ValueError(f"objective '{recipe.objective}' on unlabeled images; expected: a semi-supervised one")
    return recipe.weight_consistency * loss, running
