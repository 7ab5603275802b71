"""The cost of the strategies at full size, each against its plain form in the same run, with the picks compared."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from activekd.selectors.view import PoolView
from activekd.streams import stream
from bench.speed.bars import Bar
from bench.speed.pools import (
    BLOCK,
    PURPOSE,
    Answer,
    ask,
    labeled_rows,
    one_hot,
    pool_view,
    synthetic_features,
    synthetic_probabilities,
    timed,
)


def _bar(what: str, answer: Answer, against: str, plain_seconds: float, limit: float) -> Bar:
    """The seconds of a strategy against its plain form."""
    figures = f"{answer.seconds:.2f} s against {plain_seconds:.2f} s, {answer.extra_bytes / 1e9:.1f} GB more memory"
    return Bar(f"{what}: seconds against {against}", answer.seconds / plain_seconds, limit, figures)


def _picks_bar(what: str, picks: list[int], expected: list[int]) -> Bar:
    """How many picks differ from those of float64; none may."""
    return Bar(f"{what}: picks unlike float64's", sum(p != e for p, e in zip(picks, expected, strict=True)), 0)


def _memory_bar(what: str, answer: Answer, limit_bytes: float) -> Bar:
    return Bar(f"{what}: more memory, GB", answer.extra_bytes / 1e9, limit_bytes / 1e9)


def plain_k_center(points: Tensor, labeled: np.ndarray, query_size: int) -> list[int]:
    """The textbook form: minimum distances kept, one matrix-vector product over the pool per pick."""
    norms = torch.linalg.vector_norm(points, dim=1).square_()
    centers = torch.from_numpy(labeled).to(points.device)
    nearest = torch.empty(len(points), dtype=points.dtype, device=points.device)
    for start in range(0, len(points), BLOCK):
        part = slice(start, start + BLOCK)
        products = points[part] @ points[centers].T
        nearest[part] = (norms[part, None] + norms[centers] - 2 * products).amin(dim=1)
    nearest[centers] = -1
    picks = []
    for _ in range(query_size):
        pick = int(nearest.argmax())
        picks.append(pick)
        torch.minimum(nearest, norms + norms[pick] - 2 * (points @ points[pick]), out=nearest)
        nearest[picks] = -1
    return picks


def float64_picks(points: Tensor, labeled: np.ndarray, picks: list[int]) -> list[int]:
    """What float64 picks after each prefix of the picks, in one pass over the points; ties to the lowest row.

    Distances are expanded; a pick whose distance is within 1e-12 of the largest counts as the largest.
    """
    centers = points[torch.tensor([*labeled.tolist(), *picks[:-1]], device=points.device)].double()
    squares, k = centers.square().sum(dim=1), len(picks)
    largest = torch.full((k,), -1.0, dtype=torch.float64, device=points.device)
    rows = torch.zeros(k, dtype=torch.int64, device=points.device)
    of_picks = torch.full((k,), -1.0, dtype=torch.float64, device=points.device)
    taken = torch.full((len(points),), k, dtype=torch.int64, device=points.device)
    taken[torch.tensor(picks, device=points.device)] = torch.arange(k, device=points.device)
    taken[torch.from_numpy(labeled).to(points.device)] = -1
    order = torch.arange(k, device=points.device)
    place = {row: at for at, row in enumerate(picks)}
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK].double()
        distances = torch.addmm(squares, block, centers.T, alpha=-2.0).add_(block.square().sum(dim=1)[:, None])
        first = distances[:, : len(labeled)].amin(dim=1, keepdim=True)
        nearest = torch.cat([first, distances[:, len(labeled) :]], dim=1).cummin(dim=1).values
        nearest[taken[start : start + BLOCK, None] < order] = -1.0
        for row in [row for row in picks if start <= row < start + BLOCK]:
            of_picks[place[row]] = nearest[row - start, place[row]]
        top = nearest.max(dim=0)
        better = top.values > largest
        rows[better], largest[better] = top.indices[better] + start, top.values[better]
    exact = of_picks >= largest - 1e-12
    return torch.where(exact, torch.tensor(picks, device=points.device), rows).tolist()


def recomputing_k_center(points: Tensor, labeled: np.ndarray, query_size: int) -> list[int]:
    """All distances to all centers, recomputed for every pick, as the released code does."""
    chosen = labeled.tolist()
    for _ in range(query_size):
        nearest = torch.cdist(points, points[chosen]).amin(dim=1)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen[len(labeled) :]


def plain_coreset(features: Tensor, labeled: np.ndarray, query_size: int) -> list[int]:
    """The textbook form on features of unit length."""
    return plain_k_center(F.normalize(features, dim=1), labeled, query_size)


def plain_badge(view: PoolView, query_size: int) -> list[int]:
    """BADGE with the factors of the gradients of the unlabeled images written out, in float64."""
    index = view.at(view.pool.unlabeled)
    errors, features = view.student_probabilities[index].double(), view.features[index].double()
    errors[torch.arange(len(errors), device=view.device), errors.argmax(dim=1)] -= 1.0
    norms = errors.square().sum(dim=1) * features.square().sum(dim=1)
    rng = stream(0, PURPOSE)
    picks = [int(rng.integers(len(index)))]
    nearest = np.full(len(index), np.inf)
    while len(picks) < query_size:
        inner = (errors @ errors[picks[-1]]) * (features @ features[picks[-1]])
        distances = (norms + norms[picks[-1]] - 2 * inner).clamp_(min=0)
        nearest = np.minimum(nearest, distances.cpu().numpy())
        nearest[picks] = 0
        picks.append(int(rng.choice(len(index), p=nearest / nearest.sum())))
    return view.pool.unlabeled[picks].tolist()


def k_center_bars(
    name: str,
    kind: str,
    points: Tensor,
    labeled: int,
    picks: int,
    limit: float,
    *,
    plain_seconds: float,
    against: str = "the plain incremental form",
    limit_bytes: float | None = None,
) -> list[Bar]:
    """A k-center strategy against a plain form.

    Args:
        name: ``pcoreset`` or ``coreset``.
        kind: of points, for the table.
        points: probabilities or features, one row an image.
        labeled: images with a label at the start.
        picks: the query size.
        limit: of the ratio.
        plain_seconds: of the plain form on an array of this shape; they do not depend on its values.
        against: the plain form in words.
        limit_bytes: of the growth of the peak memory; None for no bar.
    """
    n, dim = points.shape
    rows = labeled_rows(n, labeled)
    array = "features" if name == "coreset" else "student_probabilities"
    answer = ask(name, pool_view({array: points}, rows, labeled if name == "coreset" else dim), picks)
    exact = float64_picks(F.normalize(points, dim=1) if name == "coreset" else points, rows, answer.picks)
    what = f"{name} {n:,} x {dim:,}{kind}, {picks:,} picks"
    bars = [_bar(what, answer, against, plain_seconds, limit), _picks_bar(what, answer.picks, exact)]
    return bars if limit_bytes is None else [*bars, _memory_bar(what, answer, limit_bytes)]


def plain_seconds(plain: Callable[..., list[int]], points: Tensor, labeled: int, picks: int) -> float:
    """Seconds of a plain k-center."""
    return timed(lambda: plain(points, labeled_rows(len(points), labeled), picks))[1]


def badge_bars(n: int, classes: int, dim: int, picks: int, device: str) -> list[Bar]:
    """BADGE against two matrix-vector products a pick; picks against the written-out factors in float64."""
    probabilities = synthetic_probabilities(n, classes, peaked=True, device=device)
    features = synthetic_features(n, dim).to(device)
    view = pool_view({"student_probabilities": probabilities, "features": features}, labeled_rows(n, classes), classes)
    answer = ask("badge", view, picks)

    def products() -> None:
        for row in range(picks):
            torch.mv(probabilities, probabilities[row])
            torch.mv(features, features[row])

    _, plain_seconds, _ = timed(products)
    what = f"badge {n:,} x {classes:,} x {dim}, {picks:,} picks"
    return [
        _bar(what, answer, "two matrix-vector products a pick", plain_seconds, 1.3),
        _picks_bar(what, answer.picks, plain_badge(view, picks)),
        _memory_bar(what, answer, 4.0 * n * (classes + dim)),
    ]


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(dim=1)


def _margin(p: Tensor) -> Tensor:
    return p.topk(2, dim=1).values.diff(dim=1).squeeze(1)


def _argmax(p: Tensor) -> Tensor:
    return p.argmax(dim=1)


def score_bars(name: str, probabilities: Tensor, picks: int, expression: Callable[[Tensor], Tensor]) -> list[Bar]:
    """A strategy by score against one torch expression of the score over the same array.

    The scores of its picks must be the largest of the expression. The score of classbalanced is the class, which has no
    largest value.
    """
    n, classes = probabilities.shape
    answer = ask(name, pool_view({"student_probabilities": probabilities}, labeled_rows(n, classes), classes), picks)
    scores, plain_seconds, _ = timed(lambda: expression(probabilities))
    what = f"{name} {n:,} x {classes:,}, {picks:,} picks"
    bars = [_bar(what, answer, "one torch expression", plain_seconds, 1.5)]
    if scores.is_floating_point():
        unlabeled = np.setdiff1d(np.arange(n), labeled_rows(n, classes))
        largest = scores[torch.from_numpy(unlabeled).to(scores.device)].topk(picks).values
        lower = ~torch.isclose(scores[answer.picks], largest, rtol=1e-5, atol=1e-6)
        bars.append(Bar(f"{what}: scores below the largest", int(lower.sum()), 0))
    return bars


def selector_bars(rows: int, picks: int, device: str, out: Console) -> Iterator[Bar]:
    """Every bar, as it is measured.

    Args:
        rows: of the large pools.
        picks: of the large pools.
        device: ``cpu`` or ``cuda``.
        out: where the speed of the memory is printed.
    """
    small = synthetic_probabilities(20_000, 100, peaked=True, device=device)
    seconds = plain_seconds(recomputing_k_center, small, 2000, 200)
    against = "all distances recomputed at every pick"
    yield from k_center_bars("pcoreset", "", small, 2000, 200, 1 / 150, plain_seconds=seconds, against=against)
    points = synthetic_probabilities(100_000, 1000, peaked=True, device=device)
    seconds = plain_seconds(plain_k_center, points, 1000, picks)
    yield from k_center_bars("pcoreset", "", points, 1000, picks, 0.8, plain_seconds=seconds)
    points = one_hot(100_000, 1000).to(device)
    seconds = plain_seconds(plain_k_center, points, 500, picks)
    yield from k_center_bars("pcoreset", " one-hot, all ties", points, 500, picks, 1.1, plain_seconds=seconds)
    yield from badge_bars(100_000, 1000, 512, picks, device)
    points = synthetic_probabilities(rows, 1000, peaked=True, device=device)
    seconds = plain_seconds(plain_k_center, points, 1000, picks)
    yield from k_center_bars("pcoreset", " peaked", points, 1000, picks, 0.5, plain_seconds=seconds, limit_bytes=2e9)
    print_read(points, out)
    yield from score_bars("entropy", points, picks, _entropy)
    yield from score_bars("margin", points, picks, _margin)
    yield from score_bars("classbalanced", points, picks, _argmax)
    del points
    points = synthetic_probabilities(rows, 1000, peaked=False, device=device)
    yield from k_center_bars("pcoreset", " flat", points, 1000, picks, 1.1, plain_seconds=seconds, limit_bytes=2e9)
    del points
    features = synthetic_features(rows, 512).to(device)
    seconds = plain_seconds(plain_coreset, features, 1000, picks)
    yield from k_center_bars("coreset", "", features, 1000, picks, 1.05, plain_seconds=seconds)


def print_read(array: Tensor, out: Console) -> None:
    """Print the seconds of one read of an array: a lower bound on a plain pick."""
    _, first, _ = timed(array.sum)
    seconds = min(first, *(timed(array.sum)[1] for _ in range(2)))
    out.print(
        f"one read of {array.nbytes / 1e9:.1f} GB: {seconds:.3f} s, {array.nbytes / seconds / 1e9:.0f} GB/s "
        f"({array.device})",
        highlight=False,
    )
