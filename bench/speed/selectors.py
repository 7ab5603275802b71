"""The cost of the strategies at full size, each against its plain form in the same run, with the picks compared."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from activekd.memory import forget_peak, peak_rss_bytes
from activekd.pool import UNLABELED, Pool
from activekd.selectors import select, selector
from activekd.selectors.view import PoolView
from activekd.streams import stream

IMAGENET = 1_281_167
BLOCK = 8192
TABLE_WIDTH = 140
PURPOSE = "speed"

GROWING = ("random", "entropy", "margin", "classbalanced", "pcoreset", "coreset", "badge", "typiclust", "maxherding")
BASE = {"n": 50_000, "classes": 250, "picks": 200}
"""Where the growth of the strategies is measured: once, twice and four times each of these."""

PAIR_SECONDS = 0.3
"""Repetitions of a growth point stop when they took this long."""


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        what: strategy and size.
        against: the plain form.
        seconds: of the strategy, the checks of its view and rows included.
        plain_seconds: of the plain form.
        bar: largest ratio that passes.
        same: whether float64 picks the same rows (for scores: rows of the largest scores); None where rows are drawn.
        extra_bytes: growth of the process's peak memory while the strategy ran.
        extra_bar: largest growth that passes; None without a bar.
    """

    what: str
    against: str
    seconds: float
    plain_seconds: float
    bar: float
    same: bool | None
    extra_bytes: int
    extra_bar: float | None = None

    @property
    def passes(self) -> bool:
        in_memory = self.extra_bar is None or self.extra_bytes <= self.extra_bar
        return self.seconds <= self.bar * self.plain_seconds and self.same is not False and in_memory


def made_up_probabilities(n: int, classes: int, *, peaked: bool) -> Tensor:
    """Softmax of noise; peaked ones lie around the class corners with a mean top probability of about 0.7."""
    generator = torch.Generator().manual_seed(0)
    out = torch.empty(n, classes)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        logits = torch.randn(m, classes, generator=generator)
        if peaked:
            top = torch.randint(classes, (m,), generator=generator)
            logits[torch.arange(m), top] += 9.0 + 2.5 * torch.randn(m, generator=generator)
        out[start : start + m] = logits.softmax(dim=1)
    return out


def one_hot(n: int, classes: int) -> Tensor:
    """Rows of a student that is certain of everything: all ties."""
    out = torch.zeros(n, classes)
    out[torch.arange(n), torch.randint(classes, (n,), generator=torch.Generator().manual_seed(0))] = 1.0
    return out


def made_up_features(n: int, dim: int) -> Tensor:
    """Noise around 200 centers."""
    generator = torch.Generator().manual_seed(1)
    centers = torch.randn(200, dim, generator=generator)
    out = torch.empty(n, dim)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        noise = torch.randn(m, dim, generator=generator)
        out[start : start + m] = centers[torch.randint(200, (m,), generator=generator)] + noise
    return out


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

    The distances are expanded ones; a pick whose distance is within 1e-12 of the largest is taken for the largest.
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
    """All distances to all centers, computed anew for every pick, as the released code does."""
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


def _timed(action: Callable[[], object]) -> tuple[object, float, int]:
    """What an action returned, its seconds and by how much the peak memory grew."""
    forget_peak()
    before = peak_rss_bytes()
    start = perf_counter()
    out = action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = perf_counter() - start
    return out, seconds, max(0, peak_rss_bytes() - before)


def _labeled(n: int, k: int) -> np.ndarray:
    return np.sort(stream(0, "speed labeled").choice(n, size=k, replace=False))


def _view(arrays: dict[str, Tensor], labeled: np.ndarray, classes: int) -> PoolView:
    n = len(next(iter(arrays.values())))
    labels = np.full(n, UNLABELED)
    labels[labeled] = np.arange(len(labeled)) % classes
    return PoolView(Pool(n, tuple(labeled.tolist())), labels, classes, arrays)


def _ask(name: str, view: PoolView, picks: int) -> tuple[list[int], float, int]:
    """What a strategy picks, with all checks, its seconds and by how much the peak memory grew."""
    found, seconds, extra = _timed(lambda: select(selector(name), view, picks, rng=stream(0, PURPOSE)))
    assert isinstance(found, np.ndarray)
    return found.tolist(), seconds, extra


def k_center_case(
    name: str,
    kind: str,
    points: Tensor,
    labeled: int,
    picks: int,
    bar: float,
    *,
    plain: Callable[..., list[int]] = plain_k_center,
    against: str = "plain incremental",
    plain_seconds: float | None = None,
    extra_bar: float | None = None,
) -> Case:
    """A k-center strategy against a plain form.

    Args:
        name: ``pcoreset`` or ``coreset``.
        kind: what the points are, for the table.
        plain_seconds: of the plain form, where it was measured in this run on as many numbers; its seconds do not
            depend on what they are.
        extra_bar: as in Case.
    """
    n, dim = points.shape
    rows = _labeled(n, labeled)
    array = "features" if name == "coreset" else "student_probabilities"
    view = _view({array: points}, rows, labeled if name == "coreset" else dim)
    found, seconds, extra = _ask(name, view, picks)
    if plain_seconds is None:
        _, plain_seconds, _ = _timed(lambda: plain(points, rows, picks))
    same = found == float64_picks(F.normalize(points, dim=1) if name == "coreset" else points, rows, found)
    what = f"{name} {n:,} x {dim:,}{kind}, {picks:,} picks"
    return Case(what, against, seconds, plain_seconds, bar, same, extra, extra_bar)


def badge_case(n: int, classes: int, dim: int, picks: int, device: str) -> Case:
    """BADGE against two matrix-vector products a pick; picks against the written-out factors in float64."""
    probabilities = made_up_probabilities(n, classes, peaked=True).to(device)
    features = made_up_features(n, dim).to(device)
    view = _view({"student_probabilities": probabilities, "features": features}, _labeled(n, classes), classes)
    found, seconds, extra = _ask("badge", view, picks)

    def products() -> None:
        for row in range(picks):
            torch.mv(probabilities, probabilities[row])
            torch.mv(features, features[row])

    _, plain_seconds, _ = _timed(products)
    what = f"badge {n:,} x {classes:,} x {dim}, {picks:,} picks"
    against = "two matrix-vector products a pick"
    same = found == plain_badge(view, picks)
    return Case(what, against, seconds, plain_seconds, 1.3, same, extra, 4.0 * n * (classes + dim))


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(dim=1)


def _margin(p: Tensor) -> Tensor:
    return p.topk(2, dim=1).values.diff(dim=1).squeeze(1)


def _argmax(p: Tensor) -> Tensor:
    return p.argmax(dim=1)


def score_case(name: str, probabilities: Tensor, picks: int, expression: Callable[[Tensor], Tensor]) -> Case:
    """A strategy by score against one torch expression of the score over the same array.

    The scores of its picks must be the largest of the expression; classbalanced has none, its score is the class.
    """
    n, classes = probabilities.shape
    view = _view({"student_probabilities": probabilities}, _labeled(n, classes), classes)
    found, seconds, extra = _ask(name, view, picks)
    plain, plain_seconds, _ = _timed(lambda: expression(probabilities))
    assert isinstance(plain, Tensor)
    same = None
    if plain.is_floating_point():
        largest = plain[view.at(view.pool.unlabeled)].topk(picks).values
        same = torch.allclose(plain[found], largest, rtol=1e-5, atol=1e-6)
    return Case(f"{name} {n:,} x {classes:,}", "one torch expression", seconds, plain_seconds, 1.5, same, extra)


def measure(rows: int, picks: int, device: str, out: Console) -> list[Case]:
    """Every case, told as it is done.

    Args:
        rows: of the large pools; IMAGENET for the claims.
        picks: of the large cases; 1,000 for the claims.
        device: ``cpu`` or ``cuda``.
    """
    cases = []

    def done(case: Case) -> None:
        cases.append(case)
        out.print(f"{case.what}: {case.seconds:.1f} s against {case.plain_seconds:.1f} s", highlight=False)

    small = made_up_probabilities(20_000, 100, peaked=True).to(device)
    anew = {"plain": recomputing_k_center, "against": "all distances anew at every pick"}
    done(k_center_case("pcoreset", "", small, 2000, 200, 1 / 150, **anew))
    points = made_up_probabilities(100_000, 1000, peaked=True).to(device)
    done(k_center_case("pcoreset", "", points, 1000, picks, 0.8))
    points = one_hot(100_000, 1000).to(device)
    done(k_center_case("pcoreset", " one-hot, all ties", points, 500, picks, 1.1))
    done(badge_case(100_000, 1000, 512, picks, device))
    plain_seconds = None
    for kind, bar in (("peaked", 0.5), ("flat", 1.1)):
        points = made_up_probabilities(rows, 1000, peaked=kind == "peaked").to(device)
        more = {"extra_bar": 2e9, "plain_seconds": plain_seconds}
        done(k_center_case("pcoreset", f" {kind}", points, 1000, picks, bar, **more))
        plain_seconds = cases[-1].plain_seconds
        if kind == "peaked":
            floor(points, out)
            done(score_case("entropy", points, picks, _entropy))
            done(score_case("margin", points, picks, _margin))
            done(score_case("classbalanced", points, picks, _argmax))
        del points
    features = made_up_features(rows, 512).to(device)
    done(k_center_case("coreset", "", features, 1000, picks, 1.05, plain=plain_coreset))
    return cases


def floor(array: Tensor, out: Console) -> None:
    """What the memory allows: the seconds of one read of an array, the least that a plain pick can take."""
    _, first, _ = _timed(array.sum)
    seconds = min(first, *(_timed(array.sum)[1] for _ in range(2)))
    out.print(
        f"one read of {array.nbytes / 1e9:.1f} GB: {seconds:.3f} s, {array.nbytes / seconds / 1e9:.0f} GB/s "
        f"({array.device})",
        highlight=False,
    )


def _best_seconds(name: str, device: str, *, n: int, classes: int, picks: int) -> float:
    arrays = {
        "student_probabilities": made_up_probabilities(n, classes, peaked=True).to(device),
        "features": made_up_features(n, 64).to(device),
    }
    view = _view(arrays, _labeled(n, 100), classes)
    times = []
    while not times or (sum(times) < PAIR_SECONDS and len(times) < 9):
        times.append(_ask(name, view, picks)[1])
    return min(times)


def growth(device: str, out: Console) -> None:
    """How the seconds of each strategy grow with pool, classes and picks: exponents of power laws fitted to 3 sizes."""
    columns = (f"{BASE[axis]:,} to {4 * BASE[axis]:,} {axis}" for axis in BASE)
    table = Table("seconds ~ x to the power of", *columns, f"s at {', '.join(f'{v:,} {k}' for k, v in BASE.items())}")
    for name in GROWING:
        at_base = _best_seconds(name, device, **BASE)
        exponents = []
        for axis in BASE:
            sizes = [BASE[axis] * factor for factor in (1, 2, 4)]
            times = [at_base, *(_best_seconds(name, device, **{**BASE, axis: size}) for size in sizes[1:])]
            exponents.append(f"{np.polyfit(np.log(sizes), np.log(times), 1)[0]:.2f}")
        table.add_row(name, *exponents, f"{at_base:.4f}")
    _print(table, out)


def _print(table: Table, out: Console) -> None:
    """A table in its full width, also where the terminal is narrower."""
    Console(file=out.file, width=max(TABLE_WIDTH, out.width)).print(table)


def print_cases(cases: list[Case], out: Console) -> None:
    """The table, with pass or miss a row."""
    table = Table()
    table.add_column("case, against its plain form", no_wrap=True)
    for column in ("s", "plain s", "ratio", "bar", "picks of float64", "extra GB", "bar", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for case in cases:
        table.add_row(
            f"{case.what}\n  {case.against}",
            f"{case.seconds:.2f}",
            f"{case.plain_seconds:.2f}",
            f"{case.seconds / case.plain_seconds:.4f}",
            f"{case.bar:.3g}",
            {True: "yes", False: "NO", None: ""}[case.same],
            f"{case.extra_bytes / 1e9:.1f}",
            "" if case.extra_bar is None else f"{case.extra_bar / 1e9:.1f}",
            "pass" if case.passes else "MISS",
        )
    _print(table, out)
