"""The report: what its page says, equal bytes, bad rows, several runs, LaTeX that compiles, a real browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_stats import make_rows
from typer.testing import CliRunner

from activekd.errors import InputError
from bench import diagrams, plots, stats
from bench.columns import DIAGNOSTICS
from bench.report import latex
from bench.report.__main__ import app
from bench.report.figures import panels as charts
from bench.report.pages import digest_of, write_beside, write_report
from bench.report.tables import CAPTIONS, frames_of
from bench.store.table import Run, read_run

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "results" / "demo"


def run_of(rows: pd.DataFrame) -> Run:
    nothing = pd.Series([np.array([], dtype=np.int64)] * len(rows))
    return Run("made", rows, rows[["trial_id", "dataset", "teacher", "student", "selector", "seed", "round"]], nothing)


def taught_rows() -> pd.DataFrame:
    """Three selectors with and without a teacher, and diagnostics."""
    rows = pd.concat([make_rows(), make_rows("t+zeroshot", plus=0.05)], ignore_index=True)
    names = rows["selector"].map({"a": "pcoreset", "b": "badge", "c": "random"})
    return rows.assign(selector=names, **dict.fromkeys(DIAGNOSTICS, 0.1 + 0.1 * rows["round"] + 0.01 * rows["seed"]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write_report(run_of(taught_rows()), out)
    return out


def test_the_page_says_what_stats_gives(folder: Path) -> None:
    rows = taught_rows()
    table = stats.rank_table(stats.ranks(rows))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f'<p class="headline">{stats.headline(table)}</p>' in page
    assert stats.headline_confidence(table, stats.first_place_intervals(rows)) in page
    for title in ("Learning curves", "Critical differences", "Wins", "Gain of distillation", "Labels saved"):
        assert f">{title}</h2>" in page
    for title in ("Diagnostics", "Costs", "Seeds that a difference needs", "Provenance"):
        assert f">{title}</h2>" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_every_table_is_csv_and_latex_and_every_figure_svg_and_png(folder: Path) -> None:
    tables = {path.stem: pd.read_csv(path) for path in (folder / "tables").glob("*.csv")}
    assert set(tables) == set(CAPTIONS)
    for name, table in tables.items():
        tex = folder / "tables" / f"{name}.tex"
        assert tex.is_file() == bool(len(table)), name
        if len(table):
            assert r"\toprule" in tex.read_text(encoding="utf-8")
    figures = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert figures == {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"ranks", "ranks_cd", "wins", "gain", "costs", "diagnostics"} < figures


def test_same_rows_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_report(run_of(taught_rows()), tmp_path)
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_figures_know_what_they_were_made_from(folder: Path) -> None:
    run = run_of(taught_rows())
    digest = digest_of(frames_of(run.rows, run.picks, "pcoreset"))
    for path in (folder / "figures").glob("*.svg"):
        assert f"<dc:source>{digest}</dc:source>" in path.read_text(encoding="utf-8")


def test_one_seed_and_one_selector_are_stated(tmp_path: Path) -> None:
    rows = make_rows()
    write_report(run_of(rows[rows["seed"] == 0].reset_index(drop=True)), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "There is one seed, so there are no intervals." in page
    assert "with one seed there is no interval" in page
    write_report(run_of(rows[rows["selector"] == "a"].reset_index(drop=True)), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "There is one selector, so there is nothing to rank." in page
    assert "nothing to rank: a is the only selector" in page


def test_another_protocol_and_mixed_provenance_are_stated(tmp_path: Path) -> None:
    rows = make_rows()
    commits = np.where(rows["seed"] == 0, "one", "two")
    write_report(run_of(rows.assign(protocol=99, commit=commits)), tmp_path)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "The rows are of protocol 99; this version makes protocol 1" in page
    assert "The rows were made by 2 commits" in page


def test_others_are_tested_against_a_chosen_control(tmp_path: Path) -> None:
    run = run_of(taught_rows())
    write_report(run, tmp_path, control="badge")
    assert "test against badge, Holm" in (tmp_path / "report.md").read_text(encoding="utf-8")
    wilcoxon = pd.read_csv(tmp_path / "tables" / "wilcoxon.csv")
    assert set(wilcoxon["selector"]) == {"pcoreset", "random"}
    with pytest.raises(InputError, match="unknown control 'bagde'; did you mean 'badge'"):
        write_report(run, tmp_path, control="bagde")


def test_partial_names_the_holes_and_ranks_finished_settings_alone(tmp_path: Path) -> None:
    whole = run_of(make_rows())
    missing = (whole.rows["selector"] == "b") & (whole.rows["round"] == 2) & (whole.rows["seed"] == 1)
    keys = ["group", "teacher", "student", "distillation", "recipe", "round"]
    plan = whole.rows[[*whole.plan.columns, *(k for k in keys if k not in whole.plan.columns)]]
    run = Run("made", whole.rows[~missing].reset_index(drop=True), plan, whole.picks[~missing].reset_index(drop=True))
    with pytest.raises(InputError, match=r"1 of 18 .* d none s b seed 1 from round 2"):
        write_report(run, tmp_path)
    report = write_report(run, tmp_path, partial=True)
    assert set(report.rank_table["settings"]) == {1}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index("Unfinished: 1 of 18") < page.index("<h2")
    assert "d none s b seed 1 from round 2" in page


def copied(tmp_path: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """The committed demo with changed rows."""
    (tmp_path / "rounds").mkdir()
    shutil.copy(DEMO / "plan.json", tmp_path)
    rows = [json.loads(line) for line in (DEMO / "rounds" / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]
    change(rows)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rounds" / "rounds.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("accuracy", 1.2, r"rounds.jsonl line 3: accuracy: found 1.2; Input should be less than or equal to 1"),
        ("accuracy", "0.5", r"line 3: accuracy: found '0.5'; Input should be a valid number"),
        ("accuracy", float("nan"), r"line 3: accuracy: found nan"),
        ("selector", "mine", r"line 3, trial .* round .: selector is 'mine'; plan.json has '"),
        ("round", 7, "the trial has 5 rounds"),
        ("trial_id", "0" * 16, "no trial of plan.json"),
        ("picked", [1, 1], r"2 picks, 1 different; expected: 10"),
        ("n_labeled", 11, "n_labeled is 11; another round of the trial says otherwise|11; another"),
    ],
)
def test_edited_rows_are_refused_by_line(column: str, value: object, message: str, tmp_path: Path) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        rows[2][column] = value

    with pytest.raises(InputError, match=message):
        read_run(copied(tmp_path, edit))


def test_an_empty_run_and_a_missing_one_are_told(tmp_path: Path) -> None:
    run = copied(tmp_path, lambda rows: rows.clear())
    result = CliRunner().invoke(app, [str(run)])
    assert result.exit_code == 2
    assert "unfinished: 1080 of 1080" in result.stderr
    result = CliRunner().invoke(app, [str(run), "--partial"])
    assert result.exit_code == 2
    assert "table of rounds is empty" in result.stderr
    result = CliRunner().invoke(app, [str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_runs_side_by_side(tmp_path: Path) -> None:
    rows = make_rows()
    better = rows.assign(accuracy=rows["accuracy"] + 0.01 * (rows["round"] > 0))
    page = write_beside({"one": run_of(rows), "two": run_of(better)}, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "2 runs side by side" in text
    assert "two: +0.67 points beside one on average over 9 cells, +0.0 to +1.0" in text
    common = pd.read_csv(tmp_path / "tables" / "common_cells.csv")
    assert common["two"].to_numpy() - common["one"].to_numpy() == pytest.approx(np.where(common["round"] > 0, 0.01, 0))
    write_beside({"one": run_of(rows), "two": run_of(rows.assign(protocol=2))}, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "The runs are of protocols 1, 2" in text
    assert "no cell in common that may be compared" in text
    short = run_of(rows)
    with pytest.raises(InputError, match="two is unfinished"):
        write_beside({"one": short, "two": replace(short, rows=rows.iloc[1:], picks=short.picks.iloc[1:])}, tmp_path)


def test_command_line_of_several_runs(tmp_path: Path) -> None:
    runs = [str(DEMO), str(ROOT / "results" / "caltech-recipes")]
    result = CliRunner().invoke(app, [*runs, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "report.html").is_file()
    assert CliRunner().invoke(app, [runs[0], runs[0], "--out", str(tmp_path)]).exit_code == 2
    assert CliRunner().invoke(app, [*runs, "--partial"]).exit_code == 2


def test_bars_join_what_is_not_told_apart() -> None:
    assert diagrams.cliques([1.0, 1.5, 3.0, 3.2], 1.0) == [(1.0, 1.5), (3.0, 3.2)]
    assert diagrams.cliques([1.0, 1.5, 2.2, 3.2], 1.3) == [(1.0, 2.2), (2.2, 3.2)]
    assert diagrams.cliques([1.0, 2.0], 0.0) == []


def test_charts_have_a_point_a_round_and_its_value() -> None:
    rows = make_rows()
    chart = charts.curve_chart(stats.curves(rows), plots.selector_styles(["a", "b", "c"]), "t")
    (panel,) = chart.panels
    assert [line.selector for line in panel.lines] == ["a", "b", "c"]
    b = next(line for line in panel.lines if line.selector == "b")
    assert [point.said.partition(" at ")[0] for point in b.points] == ["b: 30.00%", "b: 65.00%", "b: 80.00%"]
    heights = [point.y for point in b.points]
    assert heights == sorted(heights, reverse=True)
    assert b.points[0].x < b.points[1].x < b.points[2].x
    assert all(0 <= place <= charts.HEIGHT for place, _ in panel.y_ticks)


def test_latex_escapes_and_breaks_long_tables() -> None:
    short = latex.table(pd.DataFrame({"my_name": ["a_b & 50% <"], "x": [0.123456]}), "A caption.")
    assert r"a\_b \& 50\% \textless{}" in short
    assert "my name & x" in short
    assert "0.1235" in short
    assert r"\begin{tabular}{lr}" in short
    assert r"\begin{longtable}{r}" in latex.table(pd.DataFrame({"x": range(latex.LONG + 1)}), "c")
    assert "1234567" in latex.table(pd.DataFrame({"bytes": [1234567]}), "c")


@pytest.mark.soak
def test_latex_tables_compile(tmp_path: Path) -> None:
    """Of the committed demo, every one."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no pdflatex here; Debian's texlive-latex-recommended has it")
    write_report(read_run(DEMO), tmp_path)
    done = subprocess.run(
        [program, "-interaction=nonstopmode", "-halt-on-error", "all_tables.tex"],
        cwd=tmp_path / "tables",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables" / "all_tables.pdf").stat().st_size > 10_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; skipped where there is none."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with chromedriver here; Debian's chromium and chromium-driver have them")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", *quiet):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    yield found
    found.quit()


def requests(browser: Any) -> list[str]:
    """What the page asked for since the last call, but for itself and what it carries."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("data:", "file:"))]


def test_the_page_in_a_browser(browser: Any, folder: Path) -> None:
    browser.get((folder / "report.html").as_uri())
    assert browser.get_log("browser") == []
    assert requests(browser) == []
    table = stats.rank_table(stats.ranks(taught_rows()))
    assert browser.find_element("class name", "headline").text == stats.headline(table)

    def column(index: int) -> list[str]:
        cells = browser.find_elements("css selector", f"table:first-of-type tbody td:nth-child({index})")
        return [cell.text for cell in cells[: len(table)]]

    assert column(1) == table["selector"].tolist()
    assert [int(text.partition(" ")[0]) for text in column(2)] == table["first"].tolist()
    head = browser.find_elements("css selector", "table:first-of-type th button")[1]
    head.click()
    assert [int(text.partition(" ")[0]) for text in column(2)] == sorted(table["first"])
    head.click()
    assert [int(text.partition(" ")[0]) for text in column(2)] == sorted(table["first"], reverse=True)

    paper = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(paper)
    browser.find_element("id", "theme").click()
    assert browser.execute_script(paper) != light
    browser.find_element("id", "theme").click()
    assert browser.execute_script(paper) == light


def test_hover_and_legend_in_a_browser(browser: Any, folder: Path) -> None:
    from selenium.webdriver import ActionChains

    browser.get((folder / "report.html").as_uri())
    point = browser.find_elements("css selector", "svg.chart circle")[-1]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(browser).move_to_element(point).perform()
    assert browser.find_element("id", "hover").text == point.get_attribute("data-said")
    assert re.match(r"\w+: \d+\.\d\d% at \d+ labels \(round \d\)", point.get_attribute("data-said"))
    name = browser.find_element("css selector", ".legend button")
    name.click()
    lit = browser.find_elements("css selector", "svg.chart .lit")
    assert {part.get_attribute("data-of") for part in lit} == {name.text}
    name.click()
    assert browser.find_elements("css selector", "figure.one-lit") == []
    assert browser.get_log("browser") == []


def test_a_phone_scrolls_tables_and_not_the_page(browser: Any, folder: Path) -> None:
    browser.set_window_size(500, 900)
    browser.get((folder / "report.html").as_uri())
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) <= 0
    browser.set_window_size(1200, 900)
