"""The fingerprint of a selector's code: it changes with what the selector uses, and with nothing else."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from activekd.errors import InputError
from activekd.selectors import own_code, selector
from activekd.selectors.fingerprint import code_fingerprint

MINE = """
\"\"\"Selectors of my own.\"\"\"
import importlib
from functools import partial
import numpy as np
from activekd.selectors import Selector
from helper import gap, WIDTH
from toolbox import *
from pack import part

K = 3
TABLE = {"a": 1}
TABLE["b"] = 2
LIMIT: int = 4
for name in ("c", "d"):
    TABLE[name] = 5


def other(view, query_size, *, rng):
    return view.pool.unlabeled[-query_size:]


def rank(values):
    \"\"\"Their order.\"\"\"
    return values.argsort()[: K * 100]


def logged(function):
    return function


class Kind:
    size = LIMIT

    def __call__(self, view, query_size, *, rng):
        return rank(TABLE["a"] * view.pool.unlabeled)


def made(k):
    def query(view, query_size, *, rng):
        return rank(view.pool.unlabeled) * k

    return query


@logged
def narrow(view, query_size, *, rng):
    # the smallest
    import late

    return late.f(rank(gap(view)))[:query_size]


def dynamic(view, query_size, *, rng):
    return importlib.import_module("late").f(view.pool.unlabeled)


narrow.needs = {"student_probabilities"}
alone = lambda view, query_size, *, rng: view.pool.unlabeled[:K]
fixed = partial(narrow, rng=None)
kind = Kind()
closure = made(2)
named = Selector("named", "late:g", frozenset())
wide = Selector("wide", other, frozenset())


def parts(view, query_size, *, rng):
    return part.cut(view.pool.unlabeled)


def starred(view, query_size, *, rng):
    return tool(view.pool.unlabeled)


if __name__ == "__main__":
    print(narrow)
"""
FILES = {
    "mine.py": MINE,
    "helper.py": "import deeper\n\nWIDTH = 2\n\n\ndef gap(view):\n    return deeper.f(view)\n",
    "deeper.py": "def f(x):\n    return x\n",
    "late.py": "def f(x):\n    return x\n\n\ndef g(view, query_size, *, rng):\n    return f(view)[:query_size]\n",
    "toolbox.py": "def tool(x):\n    return x\n",
    "pack/__init__.py": "SIZE = 1\n",
    "pack/part.py": "from . import sibling\n\n\ndef cut(x):\n    return sibling.f(x)\n",
    "pack/sibling.py": "def f(x):\n    return x\n",
}
ALL = ["narrow", "alone", "fixed", "kind", "closure", "named", "wide", "parts", "starred", "other", "dynamic"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    selector.cache_clear()
    yield tmp_path
    selector.cache_clear()
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {path.partition("/")[0].removesuffix(".py") for path in FILES}:
            del sys.modules[name]


@pytest.fixture
def changed_by(folder: Path) -> Callable[[str, str, str], set[str]]:
    """The selectors whose fingerprint changes with one replacement in one file."""
    before = {name: own_code(f"mine:{name}") for name in ALL}

    def edit(file: str, old: str, new: str) -> set[str]:
        text = (folder / file).read_text(encoding="utf-8")
        assert text.count(old) == 1
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")
        return {name for name in ALL if own_code(f"mine:{name}") != before[name]}

    return edit


EVERY = set(ALL)
RANKED = {"narrow", "fixed", "kind", "closure"}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("mine.py", "    # the smallest\n", "", set()),
        ("mine.py", '    """Their order."""\n', "", set()),
        ("mine.py", '"""Selectors of my own."""', "", set()),
        ("mine.py", "values.argsort()[: K * 100]", "(values.argsort()[:K*100])", set()),
        ("mine.py", "    print(narrow)", "    print(narrow, kind)", set()),
        ("mine.py", "[-query_size:]", "[:query_size]", {"wide", "other"}),
        ("mine.py", "K = 3", "K = 4", RANKED | {"alone"}),
        ("mine.py", "K * 100", "K * 200", RANKED),
        ("mine.py", "K = 3", "K = 3\n\n\ndef f():\n    global K\n    K = 5\n\n\nf()", RANKED | {"alone"}),
        ("mine.py", 'TABLE["b"] = 2', 'TABLE["b"] = 3', {"kind"}),
        ("mine.py", "TABLE[name] = 5", "TABLE[name] = 6", {"kind"}),
        ("mine.py", "LIMIT: int = 4", "LIMIT: int = 5", {"kind"}),
        ("mine.py", "    return function", "    return lambda *a, **k: function(*a, **k)", {"narrow", "fixed"}),
        ("mine.py", 'needs = {"student_probabilities"}', 'needs = {"features"}', {"narrow", "fixed"}),
        ("mine.py", "rng=None", "rng=1", {"fixed"}),
        ("mine.py", "made(2)", "made(3)", {"closure"}),
        ("mine.py", "unlabeled) * k", "unlabeled) * k * 2", {"closure"}),
        ("mine.py", "[:K]\n", "[: 2 * K]\n", {"alone"}),
        ("mine.py", '"late:g"', '"late:f"', {"named"}),
        ("mine.py", 'Selector("wide", other', 'Selector("wide", narrow', {"wide"}),
        ("helper.py", "WIDTH = 2", "WIDTH = 3", {"narrow", "fixed"}),
        ("helper.py", "WIDTH = 2", "# a word\nWIDTH = 2", set()),
        ("deeper.py", "return x", "return 2 * x", {"narrow", "fixed"}),
        ("late.py", "return x", "return 2 * x", {"narrow", "fixed", "dynamic", "named"}),
        ("late.py", "[:query_size]", "[-query_size:]", {"narrow", "fixed", "dynamic", "named"}),
        ("pack/__init__.py", "SIZE = 1", "SIZE = 2", {"parts"}),
        ("pack/sibling.py", "return x", "return 2 * x", {"parts"}),
    ],
)
def test_it_changes_with_what_is_used_alone(
    changed_by: Callable[[str, str, str], set[str]], file: str, old: str, new: str, expected: set[str]
) -> None:
    assert changed_by(file, old, new) == expected


def test_a_star_import_counts_for_every_selector(changed_by: Callable[[str, str, str], set[str]]) -> None:
    assert changed_by("toolbox.py", "return x", "return 2 * x") == EVERY


def test_a_name_from_a_star_import_takes_the_whole_module(folder: Path) -> None:
    (folder / "mine.py").write_text("from toolbox import *\n", encoding="utf-8")
    before = code_fingerprint(("mine", "tool"))
    (folder / "toolbox.py").write_text("def tool(x):\n    return 2 * x\n", encoding="utf-8")
    assert code_fingerprint(("mine", "tool")) != before


def test_a_module_without_a_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"module 'nowhere' of a selector has no file; expected: a file of Python"):
        code_fingerprint(("nowhere", "f"))
    with pytest.raises(InputError, match="module 'sys' of a selector has no file"):
        code_fingerprint(("sys", "f"))
