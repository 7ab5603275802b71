"""The zero-shot teacher: the text embeddings are the class prototypes."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.recipes import ClapRecipe, ViewGeometry
from activekd.teachers.text_heads import TextHead


def zeroshot(
    head: TextHead,
    views: Views,
    geometry: ViewGeometry,
    labeled: Sequence[Labeled],
    recipe: ClapRecipe,
    rngs: Sequence[np.random.Generator],
    device: str = "cpu",
) -> Float32[Tensor, "members classes dim"]:
    """The zero-shot teacher (Radford et al. 2021): ``head.zero_shot`` as class prototypes of each member."""
    return torch.from_numpy(head.zero_shot).expand(len(labeled), -1, -1)
