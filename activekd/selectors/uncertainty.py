"""Random sampling and uncertainty sampling."""

import numpy as np
import torch
from jaxtyping import Int64

from activekd.pool import PoolView


def random(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """Rows drawn uniformly without replacement from the unlabeled rows."""
    return rng.choice(view.pool.unlabeled, size=query_size, replace=False)


def entropy(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """The rows whose predicted distribution has the largest entropy (Settles 2009, Section 3.1).

    Ties go to the lowest row; the generator is not used.
    """
    unlabeled = view.pool.unlabeled
    scores = torch.special.entr(view.student_probabilities[torch.from_numpy(unlabeled)]).sum(dim=1)
    order = torch.argsort(scores, descending=True, stable=True)[:query_size]
    return unlabeled[order.numpy()]
