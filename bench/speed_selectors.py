"""The cost of the strategies at full size, each against its plain form in the same run, with the picks compared."""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from activekd.pool import UNLABELED, Pool, PoolView
from activekd.selectors import select, selector
from activekd.selectors.badge import gradient_factors
from activekd.selectors.kcenter import greedy_k_center
from activekd.streams import stream

IMAGENET = 1_281_167
BLOCK = 8192
TABLE_WIDTH = 120


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        what: strategy and size.
        against: the plain form.
        seconds: of the strategy.
        plain_seconds: of the plain form.
        bar: largest ratio that passes.
        same: whether both picked the same rows; None where they do not pick.
        extra_bytes: growth of the process's peak memory while the strategy ran.
    """

    what: str
    against: str
    seconds: float
    plain_seconds: float
    bar: float
    same: bool | None
    extra_bytes: int

    @property
    def passes(self) -> bool:
        return self.seconds <= self.bar * self.plain_seconds and self.same is not False


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
    centers = torch.from_numpy(labeled)
    nearest = torch.empty(len(points), dtype=points.dtype)
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


def recomputing_k_center(points: Tensor, labeled: np.ndarray, query_size: int) -> list[int]:
    """All distances to all centers, computed anew for every pick, as the released code does."""
    chosen = labeled.tolist()
    for _ in range(query_size):
        nearest = torch.cdist(points, points[chosen]).amin(dim=1)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen[len(labeled) :]


def _timed(action: Callable[[], object]) -> tuple[object, float, int]:
    before = _peak()
    start = perf_counter()
    out = action()
    return out, perf_counter() - start, _peak() - before


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _labeled(n: int, k: int) -> np.ndarray:
    return np.sort(stream(0, "speed labeled").choice(n, size=k, replace=False))


def _view(arrays: dict[str, Tensor], labeled: np.ndarray, classes: int) -> PoolView:
    n = len(next(iter(arrays.values())))
    labels = np.full(n, UNLABELED)
    labels[labeled] = np.arange(len(labeled)) % classes
    return PoolView(Pool(n, tuple(labeled.tolist())), labels, classes, arrays)


def k_center_case(
    what: str, points: Tensor, labeled: int, picks: int, bar: float, plain: Callable[..., list[int]], against: str
) -> Case:
    """Greedy k-center against a plain form."""
    rows = _labeled(len(points), labeled)
    found, seconds, extra = _timed(lambda: greedy_k_center(points, rows, picks))
    wanted, plain_seconds, _ = _timed(lambda: plain(points, rows, picks))
    assert isinstance(found, np.ndarray)
    return Case(what, against, seconds, plain_seconds, bar, found.tolist() == wanted, extra)


def float64_case(points: Tensor, labeled: int, picks: int) -> Case:
    """Greedy k-center against float64, for the picks; against the plain form in float32, for the time."""
    rows = _labeled(len(points), labeled)
    found, seconds, extra = _timed(lambda: greedy_k_center(points, rows, picks))
    _, plain_seconds, _ = _timed(lambda: plain_k_center(points, rows, picks))
    exact = plain_k_center(points.double(), rows, picks)
    assert isinstance(found, np.ndarray)
    what = f"pcoreset {len(points):,} x {points.shape[1]:,}, {picks:,} picks"
    return Case(
        what, "plain incremental, picks of float64", seconds, plain_seconds, 0.8, found.tolist() == exact, extra
    )


def badge_case(n: int, classes: int, dim: int, picks: int) -> Case:
    """BADGE against two matrix-vector products a pick."""
    arrays = {
        "student_probabilities": made_up_probabilities(n, classes, peaked=True),
        "features": made_up_features(n, dim),
    }
    view = _view(arrays, _labeled(n, classes), classes)
    _, seconds, extra = _timed(lambda: select(selector("badge"), view, picks, rng=stream(0, "speed badge")))
    errors, features = gradient_factors(arrays["student_probabilities"], arrays["features"])

    def products() -> None:
        for row in range(picks):
            torch.mv(errors, errors[row])
            torch.mv(features, features[row])

    _, plain_seconds, _ = _timed(products)
    what = f"badge {n:,} x {classes:,} x {dim}, {picks:,} picks"
    return Case(what, "two matrix-vector products a pick", seconds, plain_seconds, 1.3, None, extra)


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(dim=1)


def _margin(p: Tensor) -> Tensor:
    return p.topk(2, dim=1).values.diff(dim=1)


def _argmax(p: Tensor) -> Tensor:
    return p.argmax(dim=1)


def score_case(name: str, probabilities: Tensor, picks: int, expression: Callable[[Tensor], Tensor]) -> Case:
    """A strategy by score against one torch expression of the score over the same array."""
    n, classes = probabilities.shape
    view = _view({"student_probabilities": probabilities}, _labeled(n, classes), classes)
    query = selector(name).query
    _, seconds, extra = _timed(lambda: query(view, picks, rng=stream(0, "speed score")))
    _, plain_seconds, _ = _timed(lambda: expression(probabilities))
    return Case(f"{name} {n:,} x {classes:,}", "one torch expression", seconds, plain_seconds, 1.5, None, extra)


def measure(rows: int, picks: int, out: Console) -> list[Case]:
    """Every case, told as it is done.

    Args:
        rows: of the large pools; IMAGENET for the claims.
        picks: of the large cases; 1,000 for the claims.
    """
    cases = []

    def done(case: Case) -> None:
        cases.append(case)
        out.print(f"{case.what}: {case.seconds:.1f} s against {case.plain_seconds:.1f} s", highlight=False)

    small = made_up_probabilities(20_000, 100, peaked=True)
    against = "all distances anew at every pick"
    done(k_center_case("pcoreset 20,000 x 100, 200 picks", small, 2000, 200, 1 / 150, recomputing_k_center, against))
    done(float64_case(made_up_probabilities(100_000, 1000, peaked=True), 1000, picks))
    done(badge_case(100_000, 1000, 512, picks))
    for name, peaked, bar in (("peaked", True, 0.5), ("flat", False, 1.1)):
        points = made_up_probabilities(rows, 1000, peaked=peaked)
        what = f"pcoreset {rows:,} x 1,000 {name}, {picks:,} picks"
        done(k_center_case(what, points, 1000, picks, bar, plain_k_center, "plain incremental"))
        if peaked:
            done(score_case("entropy", points, picks, _entropy))
            done(score_case("margin", points, picks, _margin))
            done(score_case("classbalanced", points, picks, _argmax))
        del points
    features = F.normalize(made_up_features(rows, 512), dim=1)
    what = f"coreset {rows:,} x 512, {picks:,} picks"
    done(k_center_case(what, features, 1000, picks, 1.05, plain_k_center, "plain incremental"))
    return cases


def growth(out: Console) -> None:
    """How the seconds of pcoreset grow with pool, classes and picks: exponents of power laws fitted to three sizes."""
    base = {"n": 40_000, "classes": 200, "picks": 200}
    table = Table("seconds ~ x to the power of", "exponent", title="growth of pcoreset")
    for axis in base:
        sizes, times = [], []
        for factor in (1, 2, 4):
            at = {**base, axis: base[axis] * factor}
            points = made_up_probabilities(at["n"], at["classes"], peaked=True)
            rows = _labeled(at["n"], 200)
            sizes.append(at[axis])
            times.append(min(_timed(lambda: greedy_k_center(points, rows, at["picks"]))[1] for _ in range(3)))  # noqa: B023
        slope = np.polyfit(np.log(sizes), np.log(times), 1)[0]
        table.add_row(axis, f"{slope:.2f}")
    out.print(table)


def print_cases(cases: list[Case], out: Console) -> None:
    """The table, with pass or miss a row."""
    table = Table()
    table.add_column("case, against its plain form", no_wrap=True)
    for column in ("s", "plain s", "ratio", "bar", "picks", "extra GB", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for case in cases:
        table.add_row(
            f"{case.what}\n  {case.against}",
            f"{case.seconds:.2f}",
            f"{case.plain_seconds:.2f}",
            f"{case.seconds / case.plain_seconds:.3f}",
            f"{case.bar:.3g}",
            {True: "same", False: "DIFFER", None: ""}[case.same],
            f"{case.extra_bytes / 1e9:.1f}",
            "pass" if case.passes else "MISS",
        )
    out.print(table, width=TABLE_WIDTH, crop=False)
