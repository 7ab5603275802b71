"""Nearest neighbours of the images of a pool, by cosine, in blocks of rows and never as a square."""

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.bank.views import Views

BLOCK_NUMBERS, BLOCK_ROWS = 2**21, 4096
"""Most numbers and most rows of the features that are held at a time; two blocks give BLOCK_ROWS squared cosines."""

_GRAPHS: WeakKeyDictionary[Views, dict[tuple[int, str], Tensor]] = WeakKeyDictionary()
"""The graphs of the features that are in use, which all rounds and members of a cohort share."""


def neighbour_graph(views: Views, neighbours: int, device: str) -> Tensor:
    """The affinities of the rows of a split in view 0: (W + W^T) / (2 k), as a sparse matrix, (rows, rows).

    W_ij is the cosine of rows i and j, at least 0, if j is one of the k rows nearest to i, apart from i itself. Ties go
    as torch's ``topk`` breaks them. The matrix is computed once for features that stay in use.

    Args:
        views: image features of the split.
        neighbours: k; where there are not as many other rows, all of them.
        device: where the graph is computed and stays.
    """
    kept = _GRAPHS.setdefault(views, {})
    if (neighbours, device) not in kept:
        kept[neighbours, device] = _graph(views, neighbours, device)
    return kept[neighbours, device]


def unit_features(views: Views, rows: Int64[np.ndarray, " rows"], device: str) -> Float32[Tensor, "rows dim"]:
    """The features of rows in view 0, divided by their norms, in float32 on a device."""
    return F.normalize(views.gather(rows, np.zeros_like(rows)).to(device).float(), dim=1)


def blocks(views: Views) -> Iterator[slice]:
    """All rows in order, in blocks whose features are held at a time."""
    step = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // views.shape[0]))
    return (slice(start, min(start + step, views.n_rows)) for start in range(0, views.n_rows, step))


def _graph(views: Views, neighbours: int, device: str) -> Tensor:
    n, k = views.n_rows, min(neighbours, views.n_rows - 1)
    every = np.arange(n)
    nearest = [_nearest(views, every[some], k, device) for some in blocks(views)]
    i = torch.arange(n, device=device).repeat_interleave(k)
    j = torch.cat([where for _, where in nearest]).reshape(-1)
    w = torch.cat([cosines for cosines, _ in nearest]).reshape(-1).clamp(min=0) / (2 * neighbours)
    edges = torch.stack([torch.cat([i, j]), torch.cat([j, i])])
    with torch.sparse.check_sparse_tensor_invariants(enable=False):  # torch 2.11 warns where neither choice is made
        return torch.sparse_coo_tensor(edges, torch.cat([w, w]), (n, n)).coalesce()


def _nearest(
    views: Views, rows: Int64[np.ndarray, " rows"], k: int, device: str
) -> tuple[Float32[Tensor, "rows k"], Int64[Tensor, "rows k"]]:
    """Cosines and numbers of the k other rows nearest to each row."""
    images, own = unit_features(views, rows, device), torch.from_numpy(rows).to(device)
    every = np.arange(views.n_rows)
    cosines = torch.full((len(rows), 0), -torch.inf, device=device)
    where = torch.zeros(len(rows), 0, dtype=torch.int64, device=device)
    for some in blocks(views):
        found = images @ unit_features(views, every[some], device).mT
        others = torch.from_numpy(every[some]).to(device)
        found.masked_fill_(own[:, None] == others, -torch.inf)
        best = found.topk(min(k, len(others)), dim=1)
        cosines = torch.cat([cosines, best.values], dim=1)
        where = torch.cat([where, others[best.indices]], dim=1)
        kept = cosines.topk(min(k, cosines.shape[1]), dim=1)
        cosines, where = kept.values, where.gather(1, kept.indices)
    return cosines, where
