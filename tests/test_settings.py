"""Settings: every environment variable is listed and documented; caches and devices."""

import re
from pathlib import Path

import pytest

from activekd.errors import InputError
from bench.settings import VARIABLES, cache_folder, default_spec, local_device
from bench.trials.run import provenance

ROOT = Path(__file__).parents[1]


def test_every_variable_of_the_code_is_listed_and_documented() -> None:
    named = set()
    for package in ("activekd", "bench"):
        for path in (ROOT / package).rglob("*.py"):
            named |= set(re.findall(r"\bACTIVEKD_[A-Z_]+\b", path.read_text(encoding="utf-8")))
    assert named == set(VARIABLES)
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    assert [name for name in VARIABLES if f"`{name}`" not in page] == []


def test_defaults_where_no_variable_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert default_spec() == "demo"
    assert cache_folder() == (Path.home() / ".cache" / "activekd").resolve()
    monkeypatch.setenv("ACTIVEKD_SPEC", "paper")
    monkeypatch.setenv("ACTIVEKD_CACHE", str(tmp_path))
    assert (default_spec(), cache_folder()) == ("paper", tmp_path.resolve())


def test_provenance_names_deterministic_algorithms_where_others_exist() -> None:
    plain = provenance("cpu")["device"]
    assert provenance("cpu", deterministic=True)["device"] == plain
    assert provenance("mps", 2, deterministic=True)["device"].endswith(" 2 threads deterministic")


def test_a_device_that_is_absent_is_refused() -> None:
    assert local_device("cpu") == "cpu"
    with pytest.raises(InputError, match=r"--device mps: .*; expected: .*cpu"):
        local_device("mps")
