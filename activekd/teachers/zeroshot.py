"""The zero-shot teacher: the text embeddings are the class prototypes."""

from collections.abc import Sequence

import numpy as np
import torch

from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.recipes import ClapRecipe, ViewGeometry
from activekd.teachers.classifier import Classifier, from_prototypes
from activekd.teachers.text_heads import TextHead


def zeroshot(
    head: TextHead,
    views: Views,
    geometry: ViewGeometry,
    labeled: Sequence[Labeled],
    recipe: ClapRecipe,
    rngs: Sequence[np.random.Generator],
    device: str = "cpu",
) -> Classifier:
    """The zero-shot teacher (Radford et al. 2021): ``head.zero_shot`` as class prototypes of each member."""
    return from_prototypes(torch.from_numpy(head.zero_shot).expand(len(labeled), -1, -1), head.logit_scale)
