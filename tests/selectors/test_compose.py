"""Wrappers that combine strategies: cases worked by hand, plain references, and names that are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from activekd.errors import InputError
from activekd.pool import Pool
from activekd.selectors import compose, plain_names, query_faults, selector
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.query import select
from activekd.selectors.view import PoolView, narrowed
from activekd.streams import stream

PROBABILITIES = [
    [1.0, 0.0, 0.0],
    [0.45, 0.45, 0.10],
    [0.40, 0.30, 0.30],
    [0.60, 0.40, 0.00],
    [0.90, 0.05, 0.05],
]
"""Row 0 is labeled. Row 1 has the smallest margin, 0; row 2 the largest entropy and the smallest largest probability;
row 4 is the most certain one."""


def small_view(index: int = 0) -> PoolView:
    arrays = {"student_probabilities": torch.tensor(PROBABILITIES)}
    return PoolView(Pool(5, (0,)), np.array([0, -1, -1, -1, -1]), 3, arrays, index=index)


def picks(name: str, view: PoolView, k: int) -> list[int]:
    return select(selector(name), view, k, rng=stream(0, "test")).tolist()


@pytest.mark.parametrize(("index", "row"), [(0, 1), (1, 1), (2, 2), (7, 2)])
def test_a_switch_asks_the_first_strategy_in_rounds_below_its_number(index: int, row: int) -> None:
    assert picks("switch:2|margin|entropy", small_view(index), 1) == [row]


def test_a_switch_reads_what_both_strategies_read() -> None:
    name = "switch:3|typiclust|top:disagreement:9|teacher_entropy"
    assert selector(name).needs == {"features", "student_probabilities", "teacher_probabilities"}
    view = made_up_view()
    for index, alone in ((0, "coreset"), (3, "pcoreset")):
        here = replace(view, index=index)
        strategy = selector("switch:3|coreset|pcoreset")
        assert picks(strategy.name, declared(here, strategy), 9) == picks(alone, declared(here, selector(alone)), 9)


def test_refine_picks_inside_the_union_of_what_its_strategies_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "REFINE_SHARE", 1.0)
    # Whole pools instead of random subsets: margin proposes row 1 and entropy row 2, so that the union is rows 1 and 2.
    # pcoreset alone picks row 2 of all rows but row 1 within {1, 3}: squared distances from row 0 are .515, .54, .32,
    # .015 in rows 1 to 4.
    assert picks("pcoreset", small_view(), 1) == [2]
    assert picks("pcoreset_nearest", small_view(), 1) == [4]
    for levels in (1, 3):
        assert picks(f"refine:{levels}:margin+entropy|pcoreset", small_view(), 1) == [2]
        assert picks(f"refine:{levels}:margin+entropy|pcoreset_nearest", small_view(), 1) == [1]
        assert picks(f"refine:{levels}:entropy|margin", small_view(), 1) == [2]


def reference_refine(view: PoolView, strategies: list[str], last: str, levels: int, k: int, seed: int) -> list[int]:
    """Refine with the same draws, a level at a time; sets and lists alone."""
    rng = stream(seed, "test")
    pool = sorted(set(range(view.pool.n)) - set(view.pool.labeled))
    for _ in range(levels):
        union: set[int] = set()
        for name in strategies:
            for _ in range(10):
                size = min(len(pool), max(k, min(5000, int(0.4 * len(pool)))))
                drawn = sorted(rng.choice(pool, size=size, replace=False).tolist())
                rows = sorted([*view.pool.labeled, *drawn])
                part = narrowed(view, np.array(drawn))[1]
                union |= {rows[row] for row in selector(name).function(part, k, rng=rng)}
        pool = sorted(union)
    rows = sorted([*view.pool.labeled, *pool])
    return [rows[row] for row in selector(last).function(narrowed(view, np.array(pool))[1], k, rng=rng)]


@pytest.mark.parametrize("seed", range(3))
def test_refine_is_its_plain_reference(seed: int) -> None:
    view = made_up_view(seed)
    name = "refine:2:margin+badge|maxherding"
    found = select(selector(name), declared(view, selector(name)), 4, rng=stream(seed, "test")).tolist()
    assert found == reference_refine(view, ["margin", "badge"], "maxherding", 2, 4, seed)
    rows = set(picks("refine:1:margin|random", declared(view, selector("margin")), 4))
    assert rows <= set(view.pool.unlabeled.tolist())


def test_a_narrowed_view_has_all_labeled_rows_and_some_others() -> None:
    view = replace(small_view(), pool=Pool(5, (3, 0)), labels=np.array([0, -1, -1, 2, -1]), truth=np.arange(5))
    seen, part = narrowed(view, np.array([1, 4]))
    assert seen.tolist() == [0, 1, 3, 4]
    assert part.pool == Pool(4, (2, 0))
    assert part.labels.tolist() == [0, -1, 2, -1]
    assert part.student_probabilities.tolist() == view.student_probabilities[[0, 1, 3, 4]].tolist()
    assert part.true_labels.tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("badge", ["badge"]),
        ("mine:own", ["mine:own"]),
        ("parts:2|mine:own", ["mine:own"]),
        ("switch:3|mine:own|parts:2|badge", ["mine:own", "badge"]),
        ("refine:2:margin+mine:own|switch:1|random|parts:3", ["margin", "mine:own", "random", "parts:3"]),
    ],
)
def test_the_strategies_inside_a_name(name: str, plain: list[str]) -> None:
    assert plain_names(name) == plain


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("switch:3|margin", r"lacks a name; expected: switch:R\|A\|B"),
        ("switch:3||margin", r"lacks a name; expected: switch:R\|A\|B"),
        ("switch:3|margin|", r"lacks a name; expected: switch:R\|A\|B"),
        ("switch:0|margin|badge", "number '0'; expected: a whole number, at least 1"),
        ("switch:x|margin|badge", "number 'x'; expected: a whole number, at least 1"),
        ("switch|margin|badge", "wrapper 'switch'; expected: .* as in .*switch:3"),
        ("switch:3|parts:2|margin|badge", r"'parts:2' is a wrapper; expected: .* as in switch:R\|A\|B"),
        ("switch:3|margn|bagde", r"2 faults:\n.*did you mean 'margin'.*\n.*did you mean 'badge'"),
        ("refine:2|margin", "lacks a name; expected: refine:LEVELS"),
        ("refine:2:|margin", "lacks a name; expected: refine:LEVELS"),
        ("refine:2:margin++badge|coreset", "lacks a name; expected: refine:LEVELS"),
        ("refine:0:margin|badge", "number '0'; expected: a whole number, at least 1"),
        ("refine:2:margin+top:margin:9|badge", "'top:margin:9' is a wrapper; expected: the name of a strategy, as in"),
        ("refine:2:margn+badge|corset", r"2 faults:\n.*did you mean 'margin'.*\n.*did you mean 'coreset'"),
        ("parts:2|boss", "wraps boss, which reads true labels; expected: strategies that do not"),
        ("switch:2|boss|margin", "wraps boss, which reads true labels"),
        ("switch:2|margin|boss", "wraps boss, which reads true labels"),
        ("refine:2:margin+boss|badge", "wraps boss, which reads true labels"),
        ("refine:2:margin+badge|boss", "wraps boss, which reads true labels"),
        ("top:entropy:99|boss", "wraps boss, which reads true labels"),
    ],
)
def test_names_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        selector(name)


def test_limits_of_inner_wrappers_are_those_of_the_whole() -> None:
    fault = "'pcoreset' sees 20 images for a query of 20"
    for name in ("switch:2|random|top:margin:20|pcoreset", "refine:1:margin|top:margin:20|pcoreset"):
        assert query_faults(selector(name), 19, 80) == []
        assert fault in query_faults(selector(name), 20, 80)[0]
