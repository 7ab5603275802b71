"""The report: its tables and pages, equal bytes, several runs, a real browser."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from test_stats import make_rows
from typer.testing import CliRunner

from activekd.errors import InputError
from bench import stats
from bench.columns import CONFIGURATION, DIAGNOSTICS
from bench.report.__main__ import app
from bench.report.blocks import BLOCKS, replace_block
from bench.report.pages import (
    Contents,
    contents_of,
    digest_of,
    frames_of,
    write_report,
    write_side_by_side,
    write_tables,
)
from bench.report.rendering import run_markdown
from bench.report.sections import SECTIONS
from bench.report.tables import TABLES
from bench.spec import PROTOCOL
from bench.store.table import Run

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "results" / "demo"


def run_of(rows: pd.DataFrame) -> Run:
    nothing = pd.Series([np.array([], dtype=np.int64)] * len(rows))
    columns = ["trial_id", "dataset", *CONFIGURATION, "selector", "seed", "round"]
    return Run("made", rows.assign(protocol=PROTOCOL), rows[columns], nothing)


def other_protocol(run: Run) -> Run:
    return replace(run, rows=run.rows.assign(protocol=PROTOCOL + 1))


def taught_rows() -> pd.DataFrame:
    """Three selectors with and without a teacher, and diagnostics."""
    rows = pd.concat([make_rows(), make_rows("t+zeroshot", plus=0.05)], ignore_index=True)
    names = rows["selector"].map({"a": "pcoreset", "b": "badge", "c": "random"})
    return rows.assign(selector=names, **dict.fromkeys(DIAGNOSTICS, 0.1 + 0.1 * rows["round"] + 0.01 * rows["seed"]))


def markdown_of(contents: Contents) -> str:
    return run_markdown(contents.page, contents.parts)


@pytest.fixture(scope="module")
def contents() -> Contents:
    """A report that is not drawn."""
    return contents_of(run_of(taught_rows()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything, figures too."""
    out = tmp_path_factory.mktemp("report")
    write_report(run_of(taught_rows()), out)
    return out


def test_the_page_shows_what_stats_computes(contents: Contents) -> None:
    frames = contents.frames
    assert contents.page.headline == stats.headline(frames["rank_table"])
    assert contents.parts.confidence == stats.headline_confidence(frames["rank_table"], frames["first_places"])
    titles = [section.title for section in contents.page.sections]
    assert titles == [spec.title for spec in SECTIONS if spec.title in titles]
    assert {"Ranks", "Critical differences", "Wins", "Gain of distillation", "Labels saved"} < set(titles)
    assert titles[-1] == "The paper's two claims on this run"
    assert {"Diagnostics", "Costs", "Seeds that a difference needs"} < set(titles)
    page = markdown_of(contents)
    assert page.startswith(f"# made: {contents.page.headline}\n")
    assert "| measure | badge | pcoreset | random |" in page
    assert page.index("| selector | 20 labels | 30 labels |") < page.index("\n## ")
    # Means over rounds 0, 1, 2 and seeds 0, 1 of .1 + .1 round + .01 seed.
    assert "| confident mistakes of the teacher | 0.205 | 0.205 | 0.205 |" in page


def test_every_table_names_a_section_of_the_page() -> None:
    titles = {spec.title for spec in SECTIONS}
    assert len(titles) == len(SECTIONS)
    assert {spec.section for spec in TABLES.values()} - {""} <= titles
    assert all(spec.caption.endswith(".") for spec in TABLES.values())


def test_each_frame_is_computed_once() -> None:
    frames = frames_of(run_of(taught_rows()))
    for name in TABLES:
        assert frames[name] is frames[name]


def test_every_table_is_csv_and_latex(contents: Contents, tmp_path: Path) -> None:
    write_tables(contents.frames, tmp_path)
    tables = {path.stem: pd.read_csv(path) for path in tmp_path.glob("*.csv")}
    assert set(tables) == set(TABLES)
    document = (tmp_path / "all_tables.tex").read_text(encoding="utf-8")
    for name, table in tables.items():
        tex = tmp_path / f"{name}.tex"
        assert tex.is_file() == bool(len(table)), name
        assert (f"\\input{{{name}.tex}}" in document) == bool(len(table)), name
        if len(table):
            assert r"\toprule" in tex.read_text(encoding="utf-8")


def test_a_written_report_has_its_figures_and_needs_no_network(folder: Path, contents: Contents) -> None:
    stems = {drawing.stem for drawing in contents.drawings}
    assert {"ranks", "wins", "gain", "costs", "diagnostics"} < stems
    digest = digest_of(contents.frames)
    for stem in stems:
        assert (folder / "figures" / f"{stem}.png").is_file()
        assert (folder / "figures" / f"{stem}.pdf").is_file()
        svg = (folder / "figures" / f"{stem}.svg").read_text(encoding="utf-8")
        assert f"<dc:source>{digest}</dc:source>" in svg
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f'<p class="headline">{contents.page.headline}</p>' in page
    for section in contents.page.sections:
        assert f">{escape(section.title)}</h2>" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_same_rows_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_report(run_of(taught_rows()), tmp_path)
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_one_seed_and_one_selector_are_caveats() -> None:
    rows = make_rows()
    one_seed = contents_of(run_of(rows[rows["seed"] == 0].reset_index(drop=True)))
    assert one_seed.page.caveats == ["The run has one seed, so it has no intervals."]
    assert one_seed.parts.confidence.endswith("no interval, which needs 5 seeds in every configuration (n = 1)")
    one_selector = contents_of(run_of(rows[rows["selector"] == "a"].reset_index(drop=True)))
    assert one_selector.page.caveats == ["The run has one selector, so it has no ranking."]
    assert one_selector.page.headline == "nothing to rank: a is the only selector"
    assert "**The run has one selector, so it has no ranking.**" in markdown_of(one_selector)


def test_accuracy_on_another_split_than_test_is_a_caveat() -> None:
    rows = make_rows()
    name = "caltech101?pool=val&test=train"
    assert contents_of(run_of(rows.assign(dataset="caltech101?pool=val"))).page.caveats == []
    assert contents_of(run_of(rows.assign(dataset=name))).page.caveats == [
        f"Accuracy is measured on another split than test, to choose by: {name} (train). "
        "These are no results on test images."
    ]


def test_another_protocol_and_mixed_provenance_are_caveats() -> None:
    rows = make_rows()
    commits = np.where(rows["seed"] == 0, "one", "two")
    run = run_of(rows.assign(commit=commits))
    page = contents_of(replace(run, rows=run.rows.assign(protocol=99))).page
    assert page.caveats == [
        f"The rows have protocol 99; this version runs protocol {PROTOCOL}, whose numbers may differ.",
        "The rows come from 2 commits; see Provenance.",
    ]


def test_a_run_without_teacher_and_diagnostics_says_so() -> None:
    page = markdown_of(contents_of(run_of(make_rows())))
    assert "The run has no pair of configurations with and without a teacher." in page
    assert "The rows have no diagnostics of the networks." in page
    assert "reference numbers" not in page


def test_a_chosen_subject_has_the_headline_and_others_are_tested_against_it() -> None:
    run = run_of(taught_rows())
    contents = contents_of(run, subject="badge")
    assert "Differences from badge in points" in markdown_of(contents)
    assert set(contents.frames["paired_areas"]["selector"]) == {"pcoreset", "random"}
    assert set(contents.frames["area_comparison"]["against"]) == {"badge"}
    assert contents.page.headline == "badge first in 4 of 4 settings (100.0%; 2 shared)"
    behind = contents_of(run, subject="random")
    assert behind.page.headline == f"random first in 0 of 4 settings (0.0%); {contents.page.headline}"
    assert behind.parts.confidence.startswith("random: no first place is called clear")
    assert behind.parts.charts[behind.parts.figure].subject == "random"
    with pytest.raises(InputError, match="unknown subject 'bagde'; did you mean 'badge'"):
        contents_of(run, subject="bagde")


def test_partial_names_the_holes_and_ranks_finished_settings_alone() -> None:
    whole = run_of(make_rows())
    missing = (whole.rows["selector"] == "b") & (whole.rows["round"] == 2) & (whole.rows["seed"] == 1)
    kept = whole.rows[~missing].reset_index(drop=True)
    run = replace(whole, rows=kept, picks=whole.picks[~missing].reset_index(drop=True))
    with pytest.raises(InputError, match=r"1 of 18 .* d none s b seed 1 from round 2"):
        contents_of(run)
    contents = contents_of(run, partial=True)
    assert set(contents.frames["rank_table"]["settings"]) == {1}
    page = markdown_of(contents)
    assert page.index("Unfinished: 1 of 18") < page.index("\n## ")
    assert "- d none s b seed 1 from round 2" in page


def test_a_block_replaces_what_is_between_its_markers(contents: Contents, tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("head\n<!-- r:begin -->\nold\n<!-- r:end -->\ntail\n", encoding="utf-8")
    block = BLOCKS["ranks"](contents.frames)
    replace_block(file, "r", block)
    assert file.read_text(encoding="utf-8") == f"head\n<!-- r:begin -->\n{block}\n<!-- r:end -->\ntail\n"
    assert block.startswith(f"**{contents.page.headline}**\n\n| selector | first |")
    # Gains of the first round; the teacher adds .05 to both seeds.
    gain = "+5.0 points over no distillation in round 0 (95% interval over seeds +5.0 to +5.0, n = 2)"
    assert f"- d, s, t+zeroshot: {gain}" in block
    assert block.startswith(f"{BLOCKS['table'](contents.frames)}\n\n- ")
    with pytest.raises(InputError, match="lacks the markers"):
        replace_block(file, "other", block)


def test_runs_side_by_side(tmp_path: Path) -> None:
    rows = make_rows()
    better = rows.assign(accuracy=rows["accuracy"] + 0.01 * (rows["round"] > 0))
    page = write_side_by_side({"one": run_of(rows), "two": run_of(better)}, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "2 runs side by side" in text
    # .01 in two of three rounds.
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| two | 0.67 | +0.0 to +1.0 | 9 | 2 |" in markdown
    assert "| b | 2 of 2, mean rank 1.25 | 2 of 2, mean rank 1.25 |" in markdown
    common = pd.read_csv(tmp_path / "tables" / "common_cells.csv")
    assert common["two"].to_numpy() - common["one"].to_numpy() == pytest.approx(np.where(common["round"] > 0, 0.01, 0))
    write_side_by_side({"one": run_of(rows), "two": other_protocol(run_of(rows))}, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert f"The runs have protocols {PROTOCOL}, {PROTOCOL + 1}" in text
    assert "no cell in common that may be compared" in text
    short = run_of(rows)
    with pytest.raises(InputError, match="two is unfinished"):
        write_side_by_side(
            {"one": short, "two": replace(short, rows=rows.iloc[1:], picks=short.picks.iloc[1:])}, tmp_path
        )


def test_cells_of_one_run_alone_are_not_compared(tmp_path: Path) -> None:
    rows = make_rows()
    write_side_by_side({"one": run_of(rows), "two": run_of(rows[rows["selector"] != "c"])}, tmp_path)
    common = pd.read_csv(tmp_path / "tables" / "common_cells.csv")
    assert set(common["selector"]) == {"a", "b"}
    assert len(common) == 6


def test_command_line_of_several_runs(tmp_path: Path) -> None:
    runs = [str(DEMO), str(ROOT / "results" / "caltech-recipes")]
    result = CliRunner().invoke(app, [*runs, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "report.html").is_file()
    assert CliRunner().invoke(app, [runs[0], runs[0], "--out", str(tmp_path)]).exit_code == 2
    lacking = CliRunner().invoke(app, [runs[0], "--readme", str(tmp_path / "no.md"), "--out", str(tmp_path / "late")])
    assert lacking.exit_code == 2
    assert not (tmp_path / "late").exists()
    shutil.copytree(runs[1], tmp_path / "round", ignore=shutil.ignore_patterns("figures"))
    result = CliRunner().invoke(app, [runs[0], str(tmp_path / "round"), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(app, [*runs, "--partial"]).exit_code == 2


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
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


def requests(browser: Any) -> list[str]:
    """Requests since the last call, without the page and its embedded data."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("data:", "file:"))]


def test_the_page_in_a_browser(browser: Any, folder: Path, contents: Contents) -> None:
    browser.get((folder / "report.html").as_uri())
    assert browser.get_log("browser") == []
    assert requests(browser) == []
    table = contents.frames["rank_table"]
    assert browser.find_element("class name", "headline").text == contents.page.headline

    def column(index: int) -> list[str]:
        cells = browser.find_elements("css selector", f"table:first-of-type tbody td:nth-child({index})")
        return [cell.text for cell in cells[: len(table)]]

    # The first table is the main one; at 20 labels: badge 67.5, pcoreset 57.5, random 47.5 over both configurations.
    assert column(1) == table["selector"].tolist() == ["badge", "pcoreset", "random"]
    assert [text.partition(" ")[0] for text in column(2)] == ["67.5", "57.5", "47.5"]
    assert browser.find_element("css selector", "table td b").text == "67.5"
    head = browser.find_elements("css selector", "table:first-of-type th button")[1]
    head.click()
    assert [text.partition(" ")[0] for text in column(2)] == ["47.5", "57.5", "67.5"]
    head.click()
    assert [text.partition(" ")[0] for text in column(2)] == ["67.5", "57.5", "47.5"]

    paper = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(paper)
    browser.find_element("id", "theme").click()
    assert browser.execute_script(paper) != light
    browser.find_element("id", "theme").click()
    assert browser.execute_script(paper) == light


def test_hover_and_legend_in_a_browser(browser: Any, folder: Path) -> None:
    from selenium.webdriver import ActionChains

    browser.get((folder / "report.html").as_uri())
    chart = browser.find_element("css selector", "svg.chart")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    # The middle of the panel is at 20 labels: badge .65, pcoreset .55, random .45.
    ActionChains(browser).move_to_element(chart).perform()
    lines = browser.find_element("id", "hover").text.splitlines()
    assert lines[0] == "20 labels (round 1), n = 2"
    assert [line.split()[:2] for line in lines[1:]] == [["badge", "65.0%"], ["pcoreset", "55.0%"], ["random", "45.0%"]]
    cursor = chart.find_element("css selector", ".cursor")
    assert cursor.value_of_css_property("visibility") == "visible"

    name, other = browser.find_elements("css selector", ".legend button")[:2]
    band = chart.find_element("css selector", f'.view.accuracy .band[data-selector="{name.text}"]')
    assert float(band.value_of_css_property("opacity")) == 0
    name.click()
    lit = browser.find_elements("css selector", "svg.chart .lit")
    assert {part.get_attribute("data-selector") for part in lit} == {name.text}
    assert (name.get_attribute("aria-pressed"), other.get_attribute("aria-pressed")) == ("true", "false")
    assert float(band.value_of_css_property("opacity")) > 0
    name.click()
    assert browser.find_elements("css selector", "figure.chosen") == []

    accuracy, difference = browser.find_elements("css selector", ".views button")[:2]
    assert chart.find_element("css selector", ".view.accuracy").is_displayed()
    difference.click()
    assert not chart.find_element("css selector", ".view.accuracy").is_displayed()
    ActionChains(browser).move_to_element(chart).perform()
    lines = browser.find_element("id", "hover").text.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["badge", "+20.0"], ["pcoreset", "+10.0"]]
    accuracy.click()
    assert browser.get_log("browser") == []


def test_a_phone_scrolls_tables_and_not_the_page(browser: Any, folder: Path) -> None:
    browser.set_window_size(500, 900)
    browser.get((folder / "report.html").as_uri())
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) <= 0
    box = browser.find_element("css selector", ".wide.more")
    browser.execute_script("arguments[0].scrollLeft = 200", box)
    left = "return arguments[0].getBoundingClientRect().left - arguments[1].getBoundingClientRect().left"
    first, second = box.find_elements("css selector", "tbody tr:first-child td")[:2]
    assert browser.execute_script(left, first, box) == pytest.approx(0, abs=1)
    assert browser.execute_script(left, second, box) > 0
    browser.set_window_size(1200, 900)
