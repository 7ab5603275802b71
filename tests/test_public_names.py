"""The public names of the library: light to import, documented, with examples that run."""

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import activekd as ak

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "numpy", "pandas", "timm", "open_clip", "ray", "scipy", "sklearn"}


def test_import_activekd_loads_no_large_library() -> None:
    code = "import sys, activekd; activekd.zeroshot; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split()
    code = "import sys, activekd; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & HEAVY == set()


def test_every_public_name_is_there_and_no_other() -> None:
    assert ak.__all__ == sorted(ak.__all__, key=lambda name: (not name.isupper(), name.islower(), name))
    for name in ak.__all__:
        assert getattr(ak, name) is not None
    assert set(ak.__all__) <= set(dir(ak))
    with pytest.raises(AttributeError, match="module 'activekd' has no attribute 'runn'"):
        ak.runn  # noqa: B018  # type: ignore[reportAttributeAccessIssue]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "activekd" / "py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["arguments", "defaults", "errors", "given", "learner", "running"])
def test_examples_of_docstrings_run(module: str) -> None:
    found = doctest.testmod(import_module(f"activekd.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
