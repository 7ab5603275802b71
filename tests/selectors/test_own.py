"""Selectors of the user's own: resolved, checked, run by the grid, and refused when their code changes."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from activekd.errors import InputError
from activekd.selectors import check, own_code, selector
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.own import UNDECLARED
from activekd.selectors.query import select
from activekd.streams import stream
from bench.store.table import read_run

OWN = """
from activekd.selectors import Selector

def first(view, query_size, *, rng):
    return view.pool.unlabeled[:query_size]

def draw(view, query_size, *, rng):
    return rng.choice(view.pool.unlabeled, query_size, replace=False)

draw.needs = set()
mine = Selector("whatever", draw, frozenset())

def strange(view, query_size, *, rng):
    return first(view, query_size, rng=rng)

strange.needs = {"pixels"}

class Kind:
    pass

number = 3
"""

FAILING = """
def late(view, query_size, *, rng):
    return view.pool.unlabeled[:query_size - (len(view.pool.labeled) > 10)]
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "own_selectors.py"
    path.write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_selectors", raising=False)
    selector.cache_clear()
    yield path
    selector.cache_clear()


@pytest.mark.usefixtures("own_module")
def test_a_selector_of_ones_own_goes_by_its_place() -> None:
    own = selector("own_selectors:mine")
    assert own.name == "own_selectors:mine"
    assert select(own, declared(made_up_view(), own), 2, rng=stream(0, "test")).shape == (2,)
    assert selector("parts:2|own_selectors:mine").needs == frozenset()


@pytest.mark.usefixtures("own_module")
def test_a_function_declares_its_needs_or_is_given_what_every_trial_has() -> None:
    assert selector("own_selectors:draw").needs == frozenset()
    assert selector("own_selectors:first").needs == UNDECLARED
    check(selector("own_selectors:draw").function)
    with pytest.raises(ValueError, match=r"selector 'first' breaks its contract:\n  - the order of the rows"):
        check(selector("own_selectors:first").function)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_selectors:yours", "has no attribute 'yours'; expected: MODULE:OBJECT"),
        (
            "own_selectors:number",
            r"is int; expected: a function \(view, query_size, \*, rng\) or an activekd.selectors",
        ),
        ("own_selectors:Kind", "is Kind; expected: a function"),
        ("own_selectors:strange", "needs pixels; expected: student_probabilities"),
        ("no_such_module:mine", "No module named 'no_such_module'"),
        ("top:entropi:5|pcoreset", "unknown score in 'top:entropi:5' 'entropi'; did you mean 'entropy'"),
        ("top:entropy:0|pcoreset", "number '0'; expected: a whole number, at least 1"),
        ("tip:entropy|pcoreset", r"expected: top:SCORE:M\|NAME, parts:K\|NAME, switch:R\|A\|B, refine:LEVELS:A"),
        ("parts:2|pcorset", "unknown selector 'pcorset'; did you mean 'pcoreset'"),
    ],
)
@pytest.mark.usefixtures("own_module")
def test_names_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        selector(name)


def test_an_entry_point_gives_a_name(own_module: Path) -> None:
    metadata = own_module.parent / "own_selectors-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-selectors\nVersion: 1.0\n", encoding="utf-8")
    points = "[activekd.selectors]\nlottery = own_selectors:draw\nbroken = own_selectors:absent\n"
    (metadata / "entry_points.txt").write_text(points, encoding="utf-8")
    found = selector("lottery")
    assert found.name == "lottery"
    assert select(found, declared(made_up_view(), found), 4, rng=stream(0, "test")).shape == (4,)
    assert own_code("lottery") == own_code("own_selectors:draw")
    with pytest.raises(InputError, match=r"selector 'broken': .*absent.*; expected: an entry point of the group"):
        selector("broken")
    with pytest.raises(InputError, match="unknown selector 'lotteri'; did you mean 'lottery'"):
        selector("lotteri")


def test_code_is_told_apart(own_module: Path) -> None:
    before = own_code("top:entropy:9|own_selectors:draw")
    assert before == own_code("own_selectors:draw")
    own_module.write_text(OWN + "\n# a comment\n\ndef another():\n    return 1\n", encoding="utf-8")
    assert own_code("own_selectors:draw") == before
    own_module.write_text(OWN.replace("replace=False", "replace=False, shuffle=False"), encoding="utf-8")
    assert own_code("own_selectors:draw") != before
    assert own_code("pcoreset") is None
    assert own_code("parts:3|pcoreset") is None


OWN_INSIDE = [
    "switch:2|own_selectors:draw|pcoreset",
    "switch:2|pcoreset|own_selectors:draw",
    "switch:2|random|parts:2|own_selectors:draw",
    "refine:1:own_selectors:draw+margin|badge",
    "refine:1:margin+badge|top:margin:9|own_selectors:draw",
]


@pytest.mark.parametrize("name", OWN_INSIDE)
def test_code_inside_every_wrapper_counts(own_module: Path, name: str) -> None:
    before = own_code(name)
    assert before == own_code("own_selectors:draw")
    own_module.write_text(OWN.replace("replace=False", "replace=False, shuffle=False"), encoding="utf-8")
    assert own_code(name) != before


def test_code_of_several_selectors_in_one_name_counts(own_module: Path) -> None:
    name = "switch:2|own_selectors:draw|own_selectors:first"
    before = own_code(name)
    assert before not in {None, own_code("own_selectors:draw")}
    assert own_code("refine:1:own_selectors:draw+own_selectors:draw|own_selectors:draw") == own_code(
        "own_selectors:draw"
    )
    for old, new in (("replace=False", "replace=False, shuffle=False"), ("query_size]", "query_size ]\n    # more")):
        own_module.write_text(OWN.replace(old, new), encoding="utf-8")
        assert (own_code(name) != before) == (old == "replace=False")
    own_module.write_text(OWN.replace("[:query_size]", "[-query_size:]"), encoding="utf-8")
    assert own_code(name) != before


def grid(folder: Path, spec: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The grid, started where the user's file is."""
    return subprocess.run(
        [sys.executable, "-m", "bench.grid", str(spec), "--out", str(folder / "run"), *arguments],
        env={**os.environ, "ACTIVEKD_CACHE": str(cache), "RAY_worker_niceness": "0"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def with_selector(spec: Path, name: str) -> Path:
    text = spec.read_text(encoding="utf-8").replace('["random", "pcoreset"]', f'["random", "{name}"]')
    spec.write_text(text.replace('["none", "glyphclip+clap"]', '["none"]'), encoding="utf-8")
    return spec


@pytest.mark.parametrize("how", [["--serial"], pytest.param(["--max-concurrent", "2"], marks=pytest.mark.soak)])
def test_the_selector_that_readme_shows_runs(how: list[str], cache: Path, tiny_spec: Path, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    block = readme.partition("```python\n# my_selectors.py\n")[2].partition("```")[0]
    assert "needs" in block
    assert len([line for line in block.splitlines() if line]) <= 10
    (tmp_path / "my_selectors.py").write_text(block, encoding="utf-8")
    spec = with_selector(tiny_spec, "my_selectors:narrow")
    result = grid(tmp_path, spec, cache, *how)
    assert result.returncode == 0, result.stderr
    assert set(read_run(tmp_path / "run").rows["selector"]) == {"random", "my_selectors:narrow"}

    (tmp_path / "my_selectors.py").write_text(block.replace("stable", "quicksort"), encoding="utf-8")
    refused = grid(tmp_path, spec, cache, *how)
    assert refused.returncode == 2
    assert "the code of my_selectors:narrow changed since its rows were computed" in refused.stderr


@pytest.mark.soak
def test_a_selector_that_breaks_its_contract_is_named_with_the_round(
    cache: Path, tiny_spec: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_selectors.py").write_text(textwrap.dedent(FAILING), encoding="utf-8")
    result = grid(tmp_path, with_selector(tiny_spec, "my_selectors:late"), cache, "--max-concurrent", "1")
    assert result.returncode == 1
    (failure,) = (tmp_path / "run" / "failures").glob("*.txt")
    message = "round 1: selector 'my_selectors:late' returned an array of shape (9,)"
    assert message in failure.read_text(encoding="utf-8")
