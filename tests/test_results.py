"""The committed runs: whole, small, from a clean commit, and what README and their reports say of them is not stale."""

import re
from pathlib import Path

import pytest

from bench.report.__main__ import README_BLOCKS, write_report
from bench.stats import gain_summary
from bench.store.table import read_run

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
ROUNDS = {"demo": 1080, "caltech-real": 828, "caltech-recipes": 504, "caltech-selectors": 760}
BLOCKS = {
    "demo": ("report", "ranks"),
    "caltech-real": ("caltech", "ranks"),
    "caltech-selectors": ("selectors", "standing"),
}


@pytest.mark.parametrize("name", ROUNDS)
def test_committed_runs_are_whole_and_small(name: str) -> None:
    run = read_run(RESULTS / name)
    assert run.holes.empty
    assert len(run.rows) == len(run.plan) == ROUNDS[name]
    assert not run.rows["commit"].str.contains("dirty|unknown").any()
    assert sum(p.stat().st_size for p in (RESULTS / name).rglob("*")) < 8e6


@pytest.mark.parametrize("name", ROUNDS)
def test_reports_and_readme_are_those_of_the_rows(name: str, tmp_path: Path) -> None:
    report = write_report(read_run(RESULTS / name), tmp_path)
    tables = [f"tables/{path.name}" for path in (tmp_path / "tables").glob("*.csv")]
    for file in ("report.md", *tables):
        assert (tmp_path / file).read_bytes() == (RESULTS / name / file).read_bytes(), file
    made_from = re.search(r"<dc:source>(\w+)", (tmp_path / "figures" / "ranks.svg").read_text(encoding="utf-8"))
    assert made_from is not None
    for path in (tmp_path / "figures").glob("*.svg"):
        committed = (RESULTS / name / "figures" / path.name).read_text(encoding="utf-8")
        assert made_from[0] in committed, f"{path.name} is stale; make report makes it again"
    if name not in BLOCKS:
        return
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block, show = BLOCKS[name]
    shown = readme.partition(f"<!-- {block}:begin -->")[2].partition(f"<!-- {block}:end -->")[0]
    assert shown.strip() == README_BLOCKS[show](report).strip()


def test_distillation_wins_the_first_rounds_of_the_demo() -> None:
    gains = gain_summary(read_run(RESULTS / "demo").rows).query("teacher == 'glyphclip+zeroshot' and round <= 1")
    assert len(gains) == 2
    assert (gains["low"] > 0).all()


def test_the_first_screen_of_the_readme_has_table_and_figure_of_the_real_run() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = readme.splitlines()
    assert "<!-- caltech:begin -->" in lines[:30]
    figures = re.findall(r"!\[[^]]*\]\((results/[^)]+)\)", readme)
    assert figures[0].startswith("results/caltech-real/figures/curves_")
    for figure in figures:
        assert (ROOT / figure).is_file(), figure
