"""Cases of silent faults in query strategies, each with the right answer worked by hand."""

import re
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from activekd.errors import InputError
from activekd.pool import Pool
from activekd.selectors import Selector, check, own_code, selector
from activekd.selectors.balanced import classbalanced, quotas
from activekd.selectors.coverage import UNIT, error_bound, squared_norms
from activekd.selectors.kcenter import greedy_k_center
from activekd.selectors.query import select
from activekd.selectors.view import PoolView
from bench.checks import resolve
from bench.spec import read_spec

ROOT = Path(__file__).parents[2]
SHARES = [0.346, 0.346, 0.231, 0.077]
"""Shares of a query over classes with 1, 1, 2 and 8 labels: 1/2, 1/2, 1/3 and 1/9 of 13/9."""


def test_case_24_classbalanced_follows_the_released_rule() -> None:
    labels = [0, 1, 2, 2, *[3] * 8]
    for query_size in (10, 26, 100, 1000):
        counts = quotas(np.array([1, 1, 2, 8]), query_size)
        assert counts.sum() == query_size
        np.testing.assert_allclose(counts / query_size, SHARES, atol=1 / query_size + 5e-4)
    predicted = np.repeat(np.arange(4), 30)
    view = PoolView(
        Pool(len(labels) + 120, tuple(range(len(labels)))),
        np.array(labels + [-1] * 120),
        4,
        {"student_probabilities": torch.eye(4)[torch.from_numpy(np.concatenate([labels, predicted]))]},
    )
    rows = classbalanced(view, 10, rng=np.random.default_rng(0))
    # Shares of 10: 3.46, 3.46, 2.31, .77; whole parts 3, 3, 2, 0; the two left go to the two largest weights.
    assert np.bincount(predicted[rows - len(labels)], minlength=4).tolist() == [4, 4, 2, 0]


def test_case_27_maxherding_is_no_random_draw_where_the_query_is_large() -> None:
    # 40 images have a place of their own, the others share one: all 41 places must be covered, before any is repeated.
    place = np.maximum(np.random.default_rng(0).permutation(5000) - 4959, 0)
    view = PoolView(Pool(5000), np.full(5000, -1), 2, {"features": torch.eye(41)[torch.from_numpy(place)]})
    rows = select(selector("maxherding"), view, 4096, rng=np.random.default_rng(0))
    assert sorted(place[rows[:41]]) == list(range(41))


def adversarial(kind: str, dim: int) -> torch.Tensor:
    """Rows whose float32 distances lose much: biased sums, cancellation, underflow, few bits."""
    generator = torch.Generator().manual_seed(dim)
    noise = torch.randn(80, dim, generator=generator)
    match kind:
        case "equal":
            return (noise[:, :1].abs() + 0.5).expand(80, dim).contiguous()
        case "near":
            return torch.full((80, dim), 1 / 3) + 1e-7 * torch.arange(80)[:, None]
        case "offset":
            return noise + 1000
        case "subnormal":
            return noise * 1e-22
        case _:
            return noise.half().float()


@pytest.mark.parametrize("kind", ["equal", "near", "offset", "subnormal", "half"])
@pytest.mark.parametrize("dim", [1, 2, 3, 16, 191, 512, 1001, 4096])
def test_case_31_float32_distances_stay_within_their_bound(kind: str, dim: int) -> None:
    points = adversarial(kind, dim)
    squares = squared_norms(points)
    exact = (points.double()[:, None] - points[:20].double()).square().sum(dim=2)
    matrix = torch.addmm(squares[:20], points, points[:20].T, alpha=-2.0) + squares[:, None]
    vectors = torch.stack(
        [torch.mv(points, c).mul_(-2.0).add_(n) + squares for c, n in zip(points[:20], squares[:20], strict=True)], 1
    )
    bound = error_bound(dim, float(squares.max()))
    assert bound >= 2 * dim * UNIT * float(squares.max())
    for found in (matrix, vectors):
        assert float((found.double() - exact).abs().max()) < 0.3 * bound


@pytest.mark.parametrize("kind", ["equal", "near", "offset", "half"])
def test_case_31_picks_equal_those_of_float64(kind: str) -> None:
    points = adversarial(kind, 191)
    nearest = (points.double() - points[0].double()).square().sum(dim=1)
    picks = []
    for _ in range(30):
        nearest[[0, *picks]] = -1
        picks.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points.double() - points[picks[-1]].double()).square().sum(dim=1))
    assert greedy_k_center(points, np.array([0]), 30).tolist() == picks


def python_blocks() -> dict[str, str]:
    """The Python blocks of the README and the documentation, by file and number."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [
        (page.name, re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)) for page in pages
    ]
    return {f"{name}:{number}": block for name, blocks in found for number, block in enumerate(blocks)}


@pytest.mark.parametrize("where", python_blocks())
def test_case_40_the_selectors_that_the_pages_show_keep_the_contract(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whatever else they show runs."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(python_blocks()[where], where, "exec"), names)
    for found in (found for found in names.values() if isinstance(found, FunctionType) and hasattr(found, "needs")):
        check(found)


def test_case_40_the_readme_shows_a_selector() -> None:
    assert any(".needs = {" in block for where, block in python_blocks().items() if where.startswith("README"))


def test_case_40_a_breach_is_explained() -> None:
    def narrow(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        top = view.student_probabilities.topk(2, dim=1).values
        gaps = (top[:, 0] - top[:, 1]).numpy()
        return view.pool.unlabeled[gaps[view.pool.unlabeled].argsort(kind="stable")[:query_size]]

    strategy = Selector("narrow", narrow, frozenset({"student_probabilities"}))
    with pytest.raises(
        ValueError, match=r"a single class is handled: on a query of 9 of 80 unlabeled images"
    ) as caught:
        check(strategy)
    assert "1 classes: RuntimeError: selected index k out of range (line" in str(caught.value)
    assert "of test_cases_strategies.py: top = view.student_probabilities.topk(2, dim=1).values)" in str(caught.value)


def test_case_41_an_edit_elsewhere_in_the_file_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "case_41_selectors.py"
    used = "K = 3\n\n\ndef mine(view, query_size, *, rng):\n    return view.pool.unlabeled[K:][:query_size]\n"
    other = "\n\ndef other(view, query_size, *, rng):\n    return view.pool.unlabeled[:query_size]\n"
    monkeypatch.syspath_prepend(str(tmp_path))

    def codes(text: str) -> tuple[str | None, str | None]:
        path.write_text(text, encoding="utf-8")
        return own_code("case_41_selectors:mine"), own_code("case_41_selectors:other")

    mine, others = codes(used + other)
    edited = codes(used + other.replace("[:query", "[-query"))
    assert edited[0] == mine
    assert edited[1] != others
    changed = codes(used.replace("K = 3", "K = 4") + other)
    assert changed[0] != mine
    assert changed[1] == others


def test_case_53_badge_starts_at_random_and_the_released_one_at_the_largest_gradient() -> None:
    # Errors are (-1/2, 1/2) in each row, so gradients grow with the features 1, 2 and 5; at unit length 5 equals 1.
    arrays = {"student_probabilities": torch.full((3, 2), 0.5), "features": torch.tensor([[1.0], [5.0], [-2.0]])}
    view = PoolView(Pool(3), np.full(3, -1), 2, arrays)
    firsts = [select(selector("badge"), view, 1, rng=np.random.default_rng(seed))[0] for seed in range(60)]
    assert set(firsts) == {0, 1, 2}
    assert select(selector("badge_released"), view, 2, rng=np.random.default_rng(0)).tolist() == [1, 2]


def test_case_52_released_badge_after_its_first_pick() -> None:
    """Farthest first by cosine distance over written-out gradients of unit length, with the first pick given."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(200, 6, generator=generator).mul(2).softmax(dim=1)
    features = torch.randn(200, 8, generator=generator)
    view = PoolView(Pool(200), np.full(200, -1), 6, {"student_probabilities": probabilities, "features": features})
    rows = select(selector("badge_released"), view, 40, rng=np.random.default_rng(0)).tolist()
    errors = probabilities.double() - torch.eye(6)[probabilities.argmax(dim=1)]
    gradients = torch.einsum("nc,nd->ncd", errors, features.double()).flatten(1)
    unit = torch.nn.functional.normalize(gradients, dim=1)
    assert rows[0] == int(gradients.norm(dim=1).argmax())
    expected = rows[:1]
    while len(expected) < 40:
        nearest = (1 - unit @ unit[expected].T).amin(dim=1)
        nearest[expected] = -torch.inf
        expected.append(int(nearest.argmax()))
    assert rows == expected


def test_a_pool_buys_whole_rows_alone() -> None:
    assert Pool(10).buy([1, np.int64(3), np.uint8(2)]).labeled == (1, 3, 2)
    with pytest.raises((TypeError, TypeCheckError)):
        Pool(10).buy([3.7])  # pyright: ignore[reportArgumentType]


def test_a_query_that_a_score_alone_decides_is_refused_before_any_work(tiny_spec: Path, tmp_path: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8")
    tiny_spec.write_text(text.replace('"pcoreset"]', '"top:entropy:10|pcoreset"]'), encoding="utf-8")
    message = r"digits: selector 'top:entropy:10\|pcoreset': 'pcoreset' sees 10 images for a query of 10"
    with pytest.raises(InputError, match=message):
        resolve(read_spec(str(tiny_spec)).trials, tmp_path, lambda name, done, total: None)
