"""The committed demo run: whole, small, from a clean commit, and what README and its report say of it is not stale."""

from pathlib import Path

from bench.report import README_BEGIN, README_END, readme_block, write_report
from bench.stats import gain_summary
from bench.store import read_run

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "results" / "demo"


def test_committed_demo_run_is_whole_and_small() -> None:
    run = read_run(DEMO)
    assert run.holes.empty
    assert len(run.rows) == len(run.plan) == 1080
    assert not run.rows["commit"].str.contains("dirty|unknown").any()
    assert sum(p.stat().st_size for p in DEMO.rglob("*")) < 5e6


def test_report_and_readme_are_those_of_the_rows(tmp_path: Path) -> None:
    report = write_report(read_run(DEMO), tmp_path)
    for name in ("report.md", "tables/rank_table.csv", "tables/gain_summary.csv"):
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes(), name
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition(README_BEGIN)[2].partition(README_END)[0]
    assert shown.strip() == readme_block(report).strip()


def test_distillation_wins_the_first_rounds_of_the_demo() -> None:
    gains = gain_summary(read_run(DEMO).rows).query("teacher == 'glyphclip+zeroshot' and round <= 1")
    assert len(gains) == 2
    assert (gains["low"] > 0).all()
