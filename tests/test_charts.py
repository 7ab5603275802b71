"""Charts of the page, bars of critical differences, and LaTeX that compiles."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from test_stats import make_rows

from bench import stats
from bench.report import latex
from bench.report.figures import panels
from bench.report.figures.ranks import cliques
from bench.report.figures.style import selector_styles
from bench.report.pages import frames_of, write_tables
from bench.store.table import read_run

DEMO = Path(__file__).parent.parent / "results" / "demo"


def test_bars_join_ranks_closer_than_the_critical_difference() -> None:
    assert cliques([1.0, 1.5, 3.0, 3.2], 1.0) == [(1.0, 1.5), (3.0, 3.2)]
    assert cliques([1.0, 1.5, 2.2, 3.2], 1.3) == [(1.0, 2.2), (2.2, 3.2)]
    assert cliques([1.0, 2.0], 0.0) == []


def test_charts_have_a_line_a_selector_and_the_values_of_each_round() -> None:
    seeds = stats.seed_means(make_rows())
    styles = selector_styles(["a", "b", "c"])
    chart = panels.curve_chart(stats.curves(seeds), stats.curve_differences(seeds, "c"), styles, "t", "b")
    (panel,) = chart.panels
    assert (chart.reference, chart.subject) == ("c", "b")
    accuracy, difference = panel.views
    assert [line.selector for line in accuracy.lines] == ["a", "b", "c"]
    assert [line.selector for line in difference.lines] == ["a", "b"]
    readings = json.loads(panel.readings)
    assert [reading["title"] for reading in readings] == [f"{10 * k} labels (round {k - 1}), n = 2" for k in (1, 2, 3)]
    assert readings[0]["x"] < readings[1]["x"] < readings[2]["x"]
    of_b = [next(row for row in reading["rows"] if row["selector"] == "b") for reading in readings]
    assert [row["accuracy"][0] for row in of_b] == [0.3, 0.65, 0.8]
    # Seeds .7 and .6: the t interval is wider than [0, 1] above; minus c .3 and .1.
    assert of_b[1]["accuracy"][1] == "65.0% (1.5% to 100.0%)"
    assert of_b[1]["difference"] == [0.2, "+20.0 (-107.1 to +147.1)"]
    for view in panel.views:
        assert all(0 <= place <= panels.HEIGHT for place, _ in view.y_ticks)
    assert "0" in [label for _, label in difference.y_ticks]


def test_every_panel_has_an_axis_of_its_own() -> None:
    seeds = stats.seed_means(pd.concat([make_rows(), make_rows("t+zeroshot", plus=-0.3)], ignore_index=True))
    chart = panels.curve_chart(
        stats.curves(seeds), stats.curve_differences(seeds, "a"), selector_styles(["a", "b"]), "t"
    )
    tops = [[label for _, label in panel.views[0].y_ticks][-1] for panel in chart.panels]
    assert len(set(tops)) == 2


def test_latex_escapes_and_breaks_long_tables() -> None:
    short = latex.table(pd.DataFrame({"my_name": ["a_b & 50% <"], "x": [0.123456]}), "A caption.")
    assert r"a\_b \& 50\% \textless{}" in short
    assert "my name & x" in short
    assert "0.1235" in short
    assert r"\begin{tabular}{lr}" in short
    assert r"\begin{longtable}{r}" in latex.table(pd.DataFrame({"x": range(latex.LONG + 1)}), "c")
    names = latex.escaped("[a], R&D--x `y'\n$z$")
    assert names == r"{[}a{]}, R\&D-{}-x \textasciigrave{}y' \$z\$"
    assert "1234567" in latex.table(pd.DataFrame({"bytes": [1234567]}), "c")


@pytest.mark.soak
def test_latex_tables_compile(tmp_path: Path) -> None:
    """Of the committed demo, every one."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no pdflatex here; Debian's texlive-latex-recommended has it")
    write_tables(frames_of(read_run(DEMO)), tmp_path)
    done = subprocess.run(
        [program, "-interaction=nonstopmode", "-halt-on-error", "all_tables.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all_tables.pdf").stat().st_size > 10_000
