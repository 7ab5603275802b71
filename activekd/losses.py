"""Equations on logits: teacher logits, distillation loss, dual-head loss, predicted mixture, CLAP's multipliers.

Losses of a cohort take one more dimension in front, that of the members, and return the sum of the members' losses. A
member's gradient is therefore the same alone and in company.
"""

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.aligned import pad


def teacher_logits(
    features: Tensor, prototypes: Float32[Tensor, "*members classes dim"], logit_scale: float
) -> Float32[Tensor, "*members batch classes"]:
    """``logit_scale`` x cosine of image features and class prototypes; logits before softmax at T = 1.

    They are computed in float32, also inside a block of autocast. PCoreSet's released code has the factor 100 for its
    only network, CLIP RN50, whose trained factor is 100. SigLIP also trains a bias; it shifts all logits of an image
    alike, which a softmax over classes ignores, and is left out.

    Args:
        features: image features of any norm and dtype, (*members, batch, dim).
        prototypes: class prototypes of any norm.
        logit_scale: the network's factor from the cosine of image and text to a logit (Radford et al. 2021, Section
            2.3: exp(t)).
    """
    with torch.autocast(features.device.type, enabled=False):
        images, classes = features.float(), prototypes.float()
        if prototypes.dim() == 2:
            return logit_scale * F.normalize(images, dim=-1) @ F.normalize(classes, dim=-1).mT
        images, classes = pad(images, -1), pad(pad(classes, -1), -2)
        cosines = F.normalize(images, dim=-1) @ F.normalize(classes, dim=-1).mT
        return logit_scale * cosines[..., : prototypes.shape[-2]]


def _cross_entropy(
    logits: Float[Tensor, "*members batch classes"], labels: Int64[Tensor, "*members batch"]
) -> Float[Tensor, ""]:
    total = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="sum")
    return total / labels.shape[-1]


def distillation_loss(
    student: Float[Tensor, "*members batch classes"],
    teacher: Float[Tensor, "*members batch classes"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Mean KL(teacher || student) over the batch at a temperature T, times T^2 (Hinton et al. 2015).

    Args:
        student: logits of the student's distill head.
        teacher: logits of the teacher before softmax, at T = 1; no gradient flows into them.
        temperature: T, more than 0.

    Returns:
        The loss in nats.
    """
    target = F.log_softmax(teacher.detach() / temperature, dim=-1)
    log_probabilities = F.log_softmax(student / temperature, dim=-1)
    total = F.kl_div(log_probabilities, target, log_target=True, reduction="sum")
    return temperature**2 * (total / student.shape[-2])


def dual_head_loss(
    label_logits: Float[Tensor, "*members labeled classes"],
    labels: Int64[Tensor, "*members labeled"],
    distill_labeled: Float[Tensor, "*members labeled classes"] | None,
    teacher_labeled: Float[Tensor, "*members labeled classes"] | None,
    distill_unlabeled: Float[Tensor, "*members unlabeled classes"] | None,
    teacher_unlabeled: Float[Tensor, "*members unlabeled classes"] | None,
    *,
    weights: tuple[float, float, float],
    temperature: float,
) -> Float[Tensor, ""]:
    """The dual-head objective (DHO, Kang et al. 2025; PCoreSet, Kang et al. 2025, Section 3).

    w_ce CE(label head) + w_l KL(teacher || distill head) on labeled + w_u KL(teacher || distill head) on unlabeled
    images. Each head is trained by its terms alone; both share the backbone. A pair of distillation arguments that is
    None drops its term.

    Args:
        label_logits: logits of the label head on labeled images.
        labels: classes of the labeled images.
        distill_labeled: logits of the distill head on labeled images.
        teacher_labeled: teacher logits of labeled images, at T = 1.
        distill_unlabeled: logits of the distill head on unlabeled images.
        teacher_unlabeled: teacher logits of unlabeled images, at T = 1.
        weights: (w_ce, w_l, w_u).
        temperature: T of both distillation terms, more than 0.

    Returns:
        The loss in nats.
    """
    weight_ce, weight_labeled, weight_unlabeled = weights
    loss = weight_ce * _cross_entropy(label_logits, labels)
    if distill_labeled is not None and teacher_labeled is not None:
        loss = loss + weight_labeled * distillation_loss(distill_labeled, teacher_labeled, temperature)
    if distill_unlabeled is not None and teacher_unlabeled is not None:
        loss = loss + weight_unlabeled * distillation_loss(distill_unlabeled, teacher_unlabeled, temperature)
    return loss


def mixture(
    label_logits: Float[Tensor, "batch classes"],
    distill_logits: Float[Tensor, "batch classes"],
    *,
    label_weight: float,
    distill_temperature: float,
) -> Float[Tensor, "batch classes"]:
    """The predicted probabilities: a softmax(label head) + (1 - a) softmax(distill head / T) (DHO, Kang et al. 2025).

    Args:
        label_logits: logits of the label head.
        distill_logits: logits of the distill head.
        label_weight: a, in [0, 1]; 1 predicts from the label head alone.
        distill_temperature: T of the distill head, more than 0.
    """
    if label_weight == 1:
        return label_logits.softmax(dim=1)
    distilled = (distill_logits / distill_temperature).softmax(dim=1)
    return label_weight * label_logits.softmax(dim=1) + (1 - label_weight) * distilled


def clap_multipliers(
    probabilities: Float[Tensor, "labeled classes"], labels: Int64[Tensor, " labeled"]
) -> Float[Tensor, " classes"]:
    """CLAP's lambda_c: mean zero-shot probability of class c over its labeled images; 0 without labeled images.

    Source: Silva-Rodriguez et al. 2024.

    Args:
        probabilities: zero-shot probabilities of the labeled images.
        labels: classes of the labeled images.
    """
    n_classes = probabilities.shape[1]
    true_class = probabilities.gather(1, labels[:, None]).squeeze(1)
    total = torch.zeros(n_classes).index_add_(0, labels, true_class)
    count = torch.zeros(n_classes).index_add_(0, labels, torch.ones_like(true_class))
    return total / count.clamp(min=1)
