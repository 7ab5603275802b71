"""Oracles in statistics and reports: kept out of every ranking, shown apart, with the gap that selectors close."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import make_rows, noise, run_of
from scipy import stats as scipy_stats

from activekd.errors import InputError
from bench import stats
from bench.checks import resolve
from bench.report.blocks import BLOCKS
from bench.report.ceilings import UNDEFINED, unmeasured
from bench.report.cells import CEILING
from bench.report.figures.drawing import all_styles_of, charts_of
from bench.report.frames import Frames
from bench.report.pages import Contents, contents_of, frames_of, write_report, write_tables
from bench.report.ranked import NothingToRankError, ranked
from bench.report.rendering import run_markdown
from bench.report.sections import sections
from bench.spec import read_spec
from bench.specs.listing import listed
from bench.stats.oracles import quotient
from bench.store.folder import Sources, read_plan, write_plan
from bench.store.merging import read_merged
from bench.store.table import Run, read_run

LEVEL = {"random": 0.5, "entropy": 0.52, "pcoreset": 0.53, "boss": 0.56}
"""Mean accuracies: entropy closes (.52 - .50) / (.56 - .50) = 1/3 of the gap, PCoreSet 1/2."""

NAMES = tuple(LEVEL)


def level(selector: str, dataset: str, seed: int, index: int) -> float:
    return LEVEL[selector] + noise(selector, seed, index, size=0.002)


def with_oracle(rows: pd.DataFrame) -> Run:
    return replace(run_of(rows.reset_index(drop=True)), oracles=frozenset({"boss"}))


def made(accuracy: Any = level, **kind: Any) -> Run:
    return with_oracle(make_rows(accuracy, **{"selectors": NAMES, "seeds": 5, **kind}))


@pytest.fixture(scope="module")
def run() -> Run:
    return made()


@pytest.fixture(scope="module")
def contents(run: Run) -> Contents:
    return contents_of(run)


def without(run: Run) -> Run:
    return run.restricted_to(set(run.plan.loc[run.plan["selector"] != "boss", "trial_id"]))


def test_a_quotient_by_hand() -> None:
    # Equal denominators: the interval is that of the mean of the numerators over .2.
    top = np.array([0.05, 0.1, 0.15])
    middle, low, high = stats.t_interval(top)
    assert quotient(top, np.full(3, 0.2)) == pytest.approx((middle / 0.2, low / 0.2, high / 0.2))
    # Proportional values have one quotient in every seed, so no spread.
    assert quotient(np.array([0.1, 0.2, 0.15]), np.array([0.2, 0.4, 0.3])) == pytest.approx((0.5, 0.5, 0.5))
    # A denominator that may be 0 gives no bound: its mean is .1 and its t interval of 3 values includes 0.
    middle, low, high = quotient(top, np.array([0.0, 0.1, 0.2]))
    assert middle == pytest.approx(1.0)
    assert np.isnan(low)
    assert np.isnan(high)


def p_of(differences: np.ndarray) -> float:
    return float(np.asarray(scipy_stats.ttest_1samp(differences, 0.0))[1])


@pytest.mark.parametrize("seed", range(5))
def test_limits_are_where_the_paired_test_is_at_five_percent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bottom = rng.normal(0.06, 0.01, size=8)
    top = 0.4 * bottom + rng.normal(0.0, 0.01, size=8)
    middle, low, high = quotient(top, bottom)
    assert low < middle < high
    for limit in (low, high):
        assert p_of(top - limit * bottom) == pytest.approx(0.05)


def areas_of(values: dict[str, list[float]]) -> pd.DataFrame:
    cell = {"group": "g", "teacher": "t", "student": "s", "distillation": "both", "recipe": "r"}
    lines = [
        {**cell, "selector": name, "seed": seed, "area": area}
        for name, areas in values.items()
        for seed, area in enumerate(areas)
        if not np.isnan(area)
    ]
    return pd.DataFrame(lines, columns=[*stats.CONFIGURATION, "selector", "seed", "area"])


def test_the_gap_closed_by_hand() -> None:
    # Gaps .10, .12, .08 above random, mean .10; the method gains .04, .06, .05 there: .05 / .10 = one half. Its fourth
    # seed has no oracle and does not count.
    areas = areas_of({"random": [0.50, 0.52, 0.48, 0.50], "m": [0.54, 0.58, 0.53, 0.9]})
    oracles = areas_of({"boss": [0.60, 0.64, 0.56, np.nan]})
    (line,) = stats.gap_closed(areas, oracles).to_dict("records")
    assert line["closed"] == pytest.approx(0.5)
    assert (line["oracle"], line["selector"], line["n_seeds"], line["is_ceiling"]) == ("boss", "m", 3, True)
    assert (line["low"], line["high"]) == pytest.approx(
        quotient(np.array([0.04, 0.06, 0.05]), np.array([0.1, 0.12, 0.08]))[1:]
    )
    (line,) = stats.oracle_areas(areas, oracles).to_dict("records")
    assert (line["area"], line["above"], line["n_seeds"]) == pytest.approx((0.6, 0.1, 3))
    assert line["p_holm"] == pytest.approx(p_of(np.array([0.1, 0.12, 0.08])))


@pytest.mark.parametrize(
    "oracle",
    [
        pytest.param([0.50, 0.56, 0.46], id="not significant"),
        pytest.param([0.40, 0.41, 0.38], id="below random"),
        pytest.param([0.60, 0.64, np.nan], id="two seeds"),
    ],
)
def test_a_gap_is_undefined_below_a_ceiling_that_is_none(oracle: list[float]) -> None:
    areas = areas_of({"random": [0.50, 0.52, 0.48], "m": [0.54, 0.58, 0.53]})
    (line,) = stats.gap_closed(areas, areas_of({"boss": oracle})).to_dict("records")
    assert not line["is_ceiling"]
    assert np.isnan([line["closed"], line["low"], line["high"]]).all()


def test_several_oracles_are_a_family() -> None:
    # p of boss alone is .0128 and .0385 after Holm's correction over three oracles.
    areas = areas_of({"random": [0.50, 0.52, 0.48], "m": [0.54, 0.58, 0.53]})
    ceiling = [0.60, 0.64, 0.56]
    for names, expected in ((["boss"], True), ([*"abcd"], False)):
        oracles = areas_of(dict.fromkeys(names, ceiling))
        assert set(stats.oracle_areas(areas, oracles)["is_ceiling"]) == {expected}
        assert set(stats.gap_closed(areas, oracles)["is_ceiling"]) == {expected}


def test_no_ranking_changes_with_an_oracle(run: Run, contents: Contents) -> None:
    plain = contents_of(without(run)).frames
    assert set(contents.frames.tables) - set(plain.tables) == {"oracle_curves", "oracles", "gap_closed"}
    for name, frame in plain.items():
        pd.testing.assert_frame_equal(contents.frames[name], frame)
    assert contents.frames.headline == plain.headline
    assert contents.frames.confidence == plain.confidence


def test_the_page_shows_it_apart(contents: Contents) -> None:
    text = run_markdown(contents.page, contents.parts)
    before, _, section = text.partition("## Gap closed to the oracle")
    section = section.partition("\n## ")[0]
    assert "boss" not in before
    assert "| g | s | " in section
    assert "boss (oracle)" in section
    for selector, share in (("entropy", 1 / 3), ("pcoreset", 1 / 2)):
        (line,) = (line for line in section.splitlines() if f"| {selector} | " in line)
        cells = [cell.strip() for cell in line.split("|")]
        assert float(cells[7].removesuffix("%")) / 100 == pytest.approx(share, abs=0.06)
        assert cells[9] == "5"
    assert contents.parts.facts["selectors"] == "entropy; pcoreset; random"
    assert contents.parts.facts["oracles, not ranked"] == "boss (oracle)"
    assert contents.parts.facts["rounds"] == "100 of 100 planned"


def test_the_block_of_a_field_is_a_few_lines(contents: Contents) -> None:
    first, areas, claim, gap = BLOCKS["field"](contents.frames).splitlines()
    assert first.startswith("- pcoreset first in 4 of 4 settings (100.0%). pcoreset is first in 4 and has place 1 of 3")
    assert areas.endswith(
        "in 1 configurations: better than / not significantly different from / worse than pcoreset: none is ever "
        "better. 2 others are never better, 2 of these worse in one configuration or more."
    )
    assert "PCoreSet is best" in claim
    assert gap.endswith("closed: boss (oracle) (mean over 1 configurations): pcoreset 49.8%, entropy 33.5%.")


def test_an_undefined_gap_says_so() -> None:
    def flat(selector: str, dataset: str, seed: int, index: int) -> float:
        return 0.5 + noise(selector, seed, index, size=0.05)

    frames = frames_of(made(flat))
    (table,) = frames.tables["gap_closed"].show(frames["gap_closed"], frames.display)
    assert [row[table.header.index("gap closed")] for row in table.rows] == [UNDEFINED, UNDEFINED]
    assert [row[table.header.index("95% interval")] for row in table.rows] == ["-", "-"]


def test_without_random_there_is_no_gap_and_the_page_says_so() -> None:
    frames = frames_of(made(selectors=("entropy", "pcoreset", "boss")))
    (remark,) = unmeasured(frames)
    assert remark.startswith("No gap is measured: no configuration has the oracle, random and another selector")
    (section,) = (section for section in sections(frames, {}) if section.title == CEILING)
    assert section.points == [remark]


def test_curves_show_it_as_a_dashed_line_without_dots_or_band(contents: Contents) -> None:
    frames = contents.frames
    styles = all_styles_of(frames)
    assert list(styles)[-1] == "boss (oracle)"
    assert (styles["boss (oracle)"].line, styles["boss (oracle)"].marker) == ("--", "")
    (chart,) = charts_of(frames).values()
    assert chart.selectors[-1][0] == "boss (oracle)"
    for view in chart.panels[0].views:
        line = view.lines[-1]
        assert (line.selector, line.dash, line.dots, line.band) == ("boss (oracle)", "6 3", "", "")
        assert line.path.count("L") == 4
    (drawing,) = (each for each in contents.drawings if each.stem.startswith("curves"))
    figure = drawing.draw()
    drawn = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    assert drawn["boss (oracle)"].get_linestyle() == "--"
    assert drawn["boss (oracle)"].get_marker() in {"", "None"}
    assert len(next(iter(figure.axes)).collections) == 3


def test_its_tables_are_csv_and_latex(contents: Contents, tmp_path: Path) -> None:
    write_tables(contents.frames, tmp_path)
    table = pd.read_csv(tmp_path / "gap_closed.csv")
    assert set(table["oracle"]) == {"boss"}
    assert "boss (oracle)" in (tmp_path / "gap_closed.tex").read_text(encoding="utf-8")
    assert "\\input{gap_closed.tex}" in (tmp_path / "all_tables.tex").read_text(encoding="utf-8")
    assert "boss" not in (tmp_path / "main.tex").read_text(encoding="utf-8")


def test_the_report_of_a_run_with_an_oracle_is_written(run: Run, tmp_path: Path) -> None:
    report = write_report(run, tmp_path)
    html = report.html.read_text(encoding="utf-8")
    assert "Gap closed to the oracle" in html
    assert 'data-selector="boss (oracle)"' in html
    assert set(pd.read_parquet(tmp_path / "rounds.parquet")["selector"]) == set(NAMES)


def test_a_subject_that_is_an_oracle_is_refused(run: Run) -> None:
    message = "subject 'boss' is an oracle, which is not ranked; expected: one of entropy, pcoreset, random"
    with pytest.raises(InputError, match=message):
        contents_of(run, subject="boss")


def test_oracles_alone_have_no_ranking() -> None:
    with pytest.raises(NothingToRankError, match=r"every selector is an oracle \(boss\).*; expected: also strategies"):
        ranked(made(selectors=("boss",)))


def unfinished(run: Run, lacks: Any) -> Run:
    kept = ~lacks(run.rows)
    return replace(run, rows=run.rows[kept].reset_index(drop=True), picks=run.picks[kept].reset_index(drop=True))


def test_an_unfinished_oracle_takes_nothing_from_the_ranking(run: Run) -> None:
    part = unfinished(run, lambda rows: (rows["selector"] == "boss") & (rows["seed"] >= 3) & (rows["round"] >= 2))
    chosen = ranked(part)
    assert len(chosen.rows) == 3 * 5 * 5
    assert sorted(chosen.oracles["seed"].unique()) == [0, 1, 2]
    (remark,) = chosen.left_out
    assert remark.startswith("oracle boss: 3 of 5 trials are shown")
    assert frames_of(part)["gap_closed"]["n_seeds"].tolist() == [3, 3]


def test_an_oracle_is_measured_over_the_ranked_rounds(run: Run) -> None:
    part = unfinished(run, lambda rows: (rows["selector"] != "boss") & (rows["round"] >= 3))
    frames = frames_of(part)
    assert frames.oracles is not None
    assert sorted(frames.oracles["round"].unique()) == [0, 1, 2]


def test_a_seed_of_an_oracle_counts_with_all_data_sets_of_a_group() -> None:
    run = made(datasets=("d", "e"))
    gone = unfinished(run, lambda rows: (rows["selector"] == "boss") & (rows["seed"] == 0) & (rows["dataset"] == "e"))
    assert sorted(ranked(gone).oracles["seed"].unique()) == [1, 2, 3, 4]


def test_a_run_without_an_oracle_is_as_before(run: Run) -> None:
    frames: Frames = frames_of(without(run))
    assert frames.oracles is None
    assert "gap_closed" not in frames.tables
    assert frames.oracle_seeds.empty
    assert frames.oracle_areas.empty


def test_a_grid_of_oracles_alone_is_refused_before_its_data_are_read(tiny_spec: Path, tmp_path: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace('["random", "pcoreset"]', '["boss"]')
    tiny_spec.write_text(text.replace('"digits"', '"folder:/none"'), encoding="utf-8")
    trials = read_spec(str(tiny_spec)).trials
    message = r"(?s)2 faults.*selectors: boss, which read true labels and are not ranked; expected: also strategies"
    with pytest.raises(InputError, match=message):
        resolve(trials, tmp_path, lambda name, done, total: None, ranked={"boss"})
    with pytest.raises(InputError, match="no such folder") as caught:
        resolve(trials, tmp_path, lambda name, done, total: None, ranked={"boss", "random"})
    assert len(caught.value.faults) == 1


def test_a_grid_with_an_oracle_runs_and_reports_it_apart(cache: Path, tiny_spec: Path, tmp_path: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace('["random", "pcoreset"]', '["random", "boss"]')
    tiny_spec.write_text(text.replace('["none", "glyphclip+clap"]', '["none"]'), encoding="utf-8")
    command = [sys.executable, "-m", "bench.grid", str(tiny_spec), "--serial", "--out", str(tmp_path / "run")]
    settings = {**os.environ, "ACTIVEKD_CACHE": str(cache)}
    done = subprocess.run([*command, "--no-report"], env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = read_run(tmp_path / "run")
    assert found.oracles == {"boss"}
    assert found.holes.empty
    chosen = ranked(found)
    assert set(chosen.rows["selector"]) == {"random"}
    assert len(chosen.oracles) == 3


def trial(selector: str) -> dict[str, Any]:
    names = dict.fromkeys(("dataset", "group", "teacher", "student", "distillation", "recipe"), "x")
    return {"trial_id": selector, "protocol": 2, **names, "selector": selector, "seed": 0, "rounds": 2}


def test_the_plan_names_oracles_and_keeps_those_of_an_earlier_part(tmp_path: Path) -> None:
    trials = [trial(name) for name in ("random", "boss", "mine:cheat")]
    write_plan(tmp_path, "s", trials, Sources({}, {}), is_oracle={"boss": True})
    assert read_plan(tmp_path)["oracles"] == ["boss"]
    write_plan(tmp_path, "s", trials, Sources({}, {}), is_oracle={"random": False, "mine:cheat": True})
    assert read_plan(tmp_path)["oracles"] == ["boss", "mine:cheat"]
    write_plan(tmp_path, "s", trials, Sources({}, {}), is_oracle={"mine:cheat": False})
    assert read_plan(tmp_path)["oracles"] == ["boss"]
    content = (tmp_path / "plan.json").read_text(encoding="utf-8")
    (tmp_path / "plan.json").write_text(content.replace('"boss"\n]', "3\n]"), encoding="utf-8")
    with pytest.raises(InputError, match=r"oracles\.0: found 3; expected: a valid string"):
        read_plan(tmp_path)


def test_merged_runs_keep_their_oracles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run) -> None:
    folders = {tmp_path / "a": without(run), tmp_path / "b": run}
    folders[tmp_path / "a"] = replace(folders[tmp_path / "a"], oracles=frozenset())
    for folder in folders:
        folder.mkdir()
    folders = {folder: replace(each, plan=each.plan.assign(protocol=2)) for folder, each in folders.items()}
    monkeypatch.setattr("bench.store.merging.read_run", folders.__getitem__)
    monkeypatch.setattr("bench.store.merging.read_plan", lambda folder: {})
    merged = read_merged([*folders])
    assert merged.oracles == {"boss"}
    assert set(ranked(merged).rows["selector"]) == {"random", "entropy", "pcoreset"}


def test_the_list_of_selectors_marks_oracles_and_has_every_wrapper() -> None:
    lines = [*listed("selectors")]
    assert [line.partition(":")[0] for line in lines if ": oracle, not ranked: " in line] == ["boss"]
    for form in ("top:SCORE:M|NAME", "parts:K|NAME", "switch:R|A|B", "refine:LEVELS:A+B+...|NAME"):
        assert len([line for line in lines if line.startswith(f"{form}: ")]) == 1
