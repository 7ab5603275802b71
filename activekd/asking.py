"""The query of a round: what the selector sees of the fits, and the stream from which it draws."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from activekd.fitted import Fitted, naming
from activekd.fitting import Wanted
from activekd.pool import Pool
from activekd.selectors.query import select
from activekd.selectors.selector import Selector
from activekd.selectors.view import PoolView
from activekd.streams import stream

PREDICTED = frozenset({"student_probabilities", "features"})
"""What a selector may need that the student must predict on the train split."""


def ask(
    selector: Selector,
    want: Wanted,
    fitted: Fitted,
    pool: Pool,
    n_classes: int,
    query_size: int,
    *,
    copied: bool = False,
    truth: Callable[[], Int64[np.ndarray, " n"]] | None = None,
) -> Sequence[int]:
    """The rows that a selector picks after a fit, in order of preference.

    Args:
        selector: the query strategy.
        want: the fit: its round, seed and labels.
        fitted: its networks.
        pool: at the start of the round; the selector's own.
        n_classes: number of classes.
        query_size: number of rows.
        copied: whether the selector gets copies of predictions that others read.
        truth: the true labels of the train rows, which are read for an oracle alone; None where they are not known.

    Raises:
        InputError: the selector broke its contract, or predictions are not finite; the message gives the round.
    """
    with naming(want.index):
        needs, taught = selector.needs, fitted.taught
        prototypes = None if taught is None else torch.from_numpy(taught.views.head.zero_shot.copy()).to(taught.kept_on)
        view = PoolView(
            pool,
            want.labeled.spread(pool.n),
            n_classes,
            _arrays(selector, fitted, copied),
            index=want.index,
            head=fitted.head if "student_head" in needs else None,
            prototypes=prototypes if "text_prototypes" in needs else None,
            truth=truth() if truth is not None and "true_labels" in needs else None,
        )
        rng = stream(want.seed, "select", want.index, selector.name)
        return select(selector, view, query_size, rng=rng).tolist()


def _arrays(selector: Selector, fitted: Fitted, copied: bool) -> dict[str, Tensor]:
    """The arrays that a selector declares."""
    arrays: dict[str, Tensor] = {}
    if "student_probabilities" in selector.needs:
        arrays["student_probabilities"] = fitted.pool.probabilities
    if "features" in selector.needs and fitted.pool.features is not None:
        arrays["features"] = fitted.pool.features
    if copied:
        arrays = {name: array.clone() for name, array in arrays.items()}
    if fitted.taught is not None:
        taught = fitted.taught
        if "teacher_probabilities" in selector.needs:
            arrays["teacher_probabilities"] = taught.probabilities(taught.views.train.arrays[0])
        if "teacher_features" in selector.needs:
            features = np.array(taught.views.train.arrays[0], dtype=np.float32)
            arrays["teacher_features"] = torch.from_numpy(features).to(taught.kept_on)
    return arrays
