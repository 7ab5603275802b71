"""The committed runs: whole, small, from a clean commit; their reports and generated blocks are not stale."""

import re
import subprocess
from pathlib import Path

import pytest
from real import REAL, needs_real_data
from typer.testing import CliRunner

from bench.columns import COSTS, PROVENANCE
from bench.grid import app
from bench.report.blocks import BLOCKS
from bench.report.pages import contents_of, digest_of
from bench.report.rendering import run_html, run_markdown
from bench.spec import PROTOCOL
from bench.store.rows import stored_rows
from bench.store.table import read_run

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
ROUNDS = {
    "demo": 1080,
    "caltech-real": 3024,
    "caltech-recipes": 1344,
    "field": 32400,
    "baselines": 3900,
    "stress": 9600,
}
PACKED = {"field", "baselines", "stress"}
BLOCKS_OF = {
    "demo": ("docs/results.md", "report", "ranks"),
    "caltech-real": ("README.md", "caltech", "table"),
    "field": ("README.md", "field", "field"),
    "baselines": ("README.md", "baselines", "baselines"),
    "stress": ("README.md", "stress", "stress"),
}


@pytest.mark.parametrize("name", ROUNDS)
def test_committed_runs_are_whole_and_small(name: str) -> None:
    run = read_run(RESULTS / name)
    assert run.holes.empty
    assert len(run.rows) == len(run.plan) == ROUNDS[name]
    assert not run.rows["commit"].str.contains("dirty|unknown").any()
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: the committed files are unknown")
    listed = subprocess.run(
        ["git", "ls-files", f"results/{name}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = {Path(file).relative_to(f"results/{name}").as_posix() for file in listed.stdout.splitlines()}
    others = {
        "plan.json",
        "report.html",
        "report.md",
        "rounds/rounds.jsonl.gz" if name in PACKED else "rounds/rounds.jsonl",
    }
    assert others <= files
    assert all(re.fullmatch(r"figures/\w[\w-]*\.svg", file) for file in files - others)
    assert sum((RESULTS / name / file).stat().st_size for file in files) < (24e6 if name in PACKED else 8e6)


@pytest.mark.parametrize("name", ROUNDS)
def test_reports_and_pages_are_those_of_the_rows(name: str) -> None:
    """The pages byte for byte, the figures by the digest of the tables in their metadata."""
    contents, folder = contents_of(read_run(RESULTS / name)), RESULTS / name
    assert {path.stem for path in (folder / "figures").glob("*.svg")} == {d.stem for d in contents.drawings}
    digest = digest_of(contents.frames)
    for path in (folder / "figures").glob("*.svg"):
        assert f"<dc:source>{digest}</dc:source>" in path.read_text(encoding="utf-8"), f"{path} is stale; make report"
    assert run_markdown(contents.page, contents.parts) == (folder / "report.md").read_text(encoding="utf-8")
    html = run_html(contents.page, contents.parts, folder / "figures")
    assert html == (folder / "report.html").read_text(encoding="utf-8")
    if name in BLOCKS_OF:
        page, block, show = BLOCKS_OF[name]
        text = (ROOT / page).read_text(encoding="utf-8")
        shown = text.partition(f"<!-- {block}:begin -->")[2].partition(f"<!-- {block}:end -->")[0]
        assert shown.strip() == BLOCKS[show](contents.frames).strip()
    if name == "demo":
        gains = contents.frames["gain_summary"].query("teacher == 'glyphclip+zeroshot' and round <= 1")
        assert len(gains) == 2
        assert (gains["low"] > 0).all(), "distillation wins the first rounds of the demo"


def test_the_first_screen_of_the_readme_has_table_and_figure_of_the_real_run() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = readme.splitlines()
    assert "<!-- caltech:begin -->" in lines[:30]
    figures = re.findall(r"!\[[^]]*\]\((results/[^)]+)\)", readme)
    assert figures[0].startswith("results/caltech-real/figures/curves_")
    for figure in figures:
        assert (ROOT / figure).is_file(), figure


def compared(name: str, found: Path) -> int:
    """The number of rows of a folder that equal those of a committed run, in every column but costs and provenance.

    A student trained end to end is compared on the same kind of CPU only.
    """
    committed = {(row["trial_id"], row["round"]): row for row in stored_rows(RESULTS / name)}
    n = 0
    for row in stored_rows(found):
        before = committed[row["trial_id"], row["round"]]
        if row["student"].startswith(("adapter:", "frozen:")) or row["device"] == before["device"]:
            for column in set(before) - {*COSTS, *PROVENANCE}:
                assert row[column] == before[column], column
            n += 1
    return n


def test_a_part_of_the_demo_has_the_committed_rows(cache: Path, tmp_path: Path) -> None:
    protocol = stored_rows(RESULTS / "demo")[0]["protocol"]
    if protocol != PROTOCOL:
        pytest.skip(f"the committed rows have protocol {protocol}; this version runs protocol {PROTOCOL}")
    only = "dataset=digits,teacher=glyphclip+clap,selector=pcoreset,seed=0"
    options = ["--serial", "--device", "cpu", "--no-report", "--only", only, "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["run", "demo", *options], env={"ACTIVEKD_CACHE": str(cache)})
    assert result.exit_code == 0, result.output
    assert compared("demo", tmp_path) >= 5


def test_a_part_of_the_baselines_has_the_committed_rows(cache: Path, tmp_path: Path) -> None:
    """A network trained end to end: two objectives, one of them also without a teacher."""
    only = "dataset=digits,selector=random,recipe=small-fixmatch,recipe=small-feature,seed=0"
    options = ["--serial", "--device", "cpu", "--no-report", "--only", only, "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["run", "baselines", *options], env={"ACTIVEKD_CACHE": str(cache)})
    assert result.exit_code == 0, result.output
    found, committed = ({row["device"] for row in stored_rows(run)} for run in (tmp_path, RESULTS / "baselines"))
    assert compared("baselines", tmp_path) == (3 * 5 if found <= committed else 0)


@pytest.mark.soak
@needs_real_data
def test_a_part_of_the_stress_has_the_committed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the images on: every condition, with and without a teacher."""
    monkeypatch.setenv("ACTIVEKD_DATA", str(REAL))
    monkeypatch.setenv("ACTIVEKD_CACHE", str(tmp_path / "cache"))
    options = ["--serial", "--device", "cpu", "--no-report", "--only", "selector=random,seed=0"]
    result = CliRunner().invoke(app, ["run", "stress", *options, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert compared("stress", tmp_path / "run") == 10 * 8


@needs_real_data
def test_a_part_of_the_field_has_the_committed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the feature files on: two data sets, with and without a teacher."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ACTIVEKD_DATA", str(REAL))
    monkeypatch.setenv("ACTIVEKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import feature_sets

    names = ["dtd", "oxford_pets"]
    result = CliRunner().invoke(feature_sets.app, names)
    assert result.exit_code == 0, result.output
    only = [f"dataset=arrays:{feature_sets.SETS}/{name}.npz" for name in names]
    only += ["selector=pcoreset", "selector=dropquery", "seed=0"]
    options = ["--serial", "--device", "cpu", "--no-report", "--only", ",".join(only), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, ["run", "field", *options])
    assert result.exit_code == 0, result.output
    assert compared("field", tmp_path / "run") == 6 * 8
