"""Terms that train the student's pooled features towards the teacher's, through a learned linear projection.

Features of a cohort have one more dimension in front, that of the members; losses are summed over members.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from activekd.recipes import Recipe

TINY = 1e-12
"""Smallest norm that a feature is divided by."""


class TeacherFeatures(NamedTuple):
    """What the terms read of the teacher, on the images that a step distils on.

    Attributes:
        features: of the images, in any scale.
        classes: of the images: the label where the step has it, else the class that the teacher predicts.
        centres: unit direction of each class, 0 for a class without one.
    """

    features: Float[Tensor, "*members batch dim"]
    classes: Int64[Tensor, "*members batch"]
    centres: Float[Tensor, "*members classes dim"]


def projection(width: int, dim: int, seed: int) -> nn.Linear:
    """The linear map from a student's pooled features to the teacher's width, at the start of a fit.

    It is trained with the student and left behind after the fit: predictions do not read it.

    Args:
        width: of the student's pooled features.
        dim: of the teacher's features.
        seed: of its random weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(width, dim)


def class_centres(
    features: Float[np.ndarray, "labeled dim"], labels: Int64[np.ndarray, " labeled"], n_classes: int
) -> Float[Tensor, "classes dim"]:
    """The unit direction of the mean teacher feature of each class; 0 for a class that has no label, or mean 0.

    Args:
        features: the teacher's, of view 0 of the labeled images.
        labels: their classes.
        n_classes: number of classes.
    """
    sums = np.zeros((n_classes, features.shape[1]))
    np.add.at(sums, labels, features.astype(np.float64))
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return torch.from_numpy(np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)).float()


def feature_cosine(
    projected: Float[Tensor, "*members batch dim"], teacher: Float[Tensor, "*members batch dim"]
) -> Float[Tensor, ""]:
    """Mean cosine distance 1 - cos(P f, g) of projected student features and the teacher's features.

    Distillation of features through a linear map (Romero et al. 2015, FitNets). Departures: the pooled feature instead
    of a hidden layer, the cosine distance instead of the squared one, and one fit with all terms instead of two stages.

    Args:
        projected: P f.
        teacher: g, in any scale.
    """
    cosines = (F.normalize(projected, dim=-1) * F.normalize(teacher, dim=-1)).sum(dim=-1)
    return (1 - cosines).sum() / projected.shape[-2]


def feature_direction(projected: Float[Tensor, "*members batch dim"], teacher: TeacherFeatures) -> Float[Tensor, ""]:
    """Norm-and-direction loss (Wang et al. 2023, arXiv 2305.17007): mean of 1 - (P f . e_k) / max(|P f|, |g|).

    e_k is the unit direction of the mean teacher feature of the image's class k. While the student's feature is shorter
    than the teacher's, the loss asks it to grow along e_k; then only its direction counts.

    Departures: e_k is the mean over the labeled images of the round, where the paper has the labels of all images; an
    unlabeled image has the class that the teacher predicts; an image of a class without a label has loss 0 and counts
    in the mean. The mean is over images, as in the released code; the equation of the paper averages classes first.

    Args:
        projected: P f.
        teacher: features g, classes k and directions e.
    """
    index = teacher.classes[..., None].expand(*teacher.classes.shape, teacher.centres.shape[-1])
    directions = teacher.centres.gather(-2, index)
    known = directions.abs().amax(dim=-1) > 0
    norms = torch.maximum(projected.norm(dim=-1), teacher.features.norm(dim=-1))
    along = (projected * directions).sum(dim=-1) / norms.clamp(min=TINY)
    return torch.where(known, 1 - along, 0.0).sum() / projected.shape[-2]


def feature_loss(
    projected: Float[Tensor, "*members batch dim"], teacher: TeacherFeatures, recipe: Recipe
) -> Float[Tensor, ""]:
    """The weighted terms of a recipe on features: ``feature_cosine`` and ``feature_direction``.

    Args:
        projected: projected features of the images that a step distils on.
        teacher: of the same images.
        recipe: its weights.
    """
    teacher = teacher._replace(features=teacher.features.float())
    loss = projected.new_zeros(())
    if recipe.weight_feature > 0:
        loss = loss + recipe.weight_feature * feature_cosine(projected, teacher.features)
    if recipe.weight_feature_direction > 0:
        loss = loss + recipe.weight_feature_direction * feature_direction(projected, teacher)
    return loss
