"""Reference lines in reports: their means over seeds, the last rows of the main table, lines in every figure."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import make_rows, page, run_of
from matplotlib.figure import Figure

from bench import stats
from bench.columns import REFERENCES
from bench.report.figures.drawing import all_styles_of, charts_of
from bench.report.figures.style import THIN_WIDTH
from bench.report.frames import Frames
from bench.report.main_table import UNRANKED, main_latex
from bench.report.pages import Contents, contents_of, digest_of, frames_of, write_report
from bench.report.rendering import run_html, run_markdown

ALL, TEACHER, PROBE, CLAP = REFERENCES
ZERO_SHOT, AS_CLAP = "clip_rn50+zeroshot", "clip_rn50+clap"


def level(selector: str, dataset: str, seed: int, index: int) -> float:
    return 0.4 + 0.05 * index + 0.01 * seed + 0.02 * (selector == "pcoreset")


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    """References in the rows of random: all labels .9 + .01 seed, the probe .5 + .1 round + .01 seed, CLAP .1 more."""
    random, taught = rows["selector"] == "random", rows["teacher"] != "none"
    probe = 0.5 + 0.1 * rows["round"] + 0.01 * rows["seed"]
    clap = probe + 0.1
    return rows.assign(
        **{
            ALL: (0.9 + 0.01 * rows["seed"]).where(random & (rows["round"] == 0)),
            PROBE: probe.where(random & taught),
            CLAP: clap.where(random & taught),
            TEACHER: rows[TEACHER].where(rows["teacher"] != AS_CLAP, clap),
        }
    )


def made(**kind: Any) -> pd.DataFrame:
    parts = [make_rows(level, teacher=t, rounds=4, seeds=3, **kind) for t in ("none", ZERO_SHOT, AS_CLAP)]
    return measured(pd.concat(parts, ignore_index=True))


@pytest.fixture(scope="module")
def contents() -> Contents:
    return contents_of(run_of(made()))


def test_means_over_seeds_by_hand() -> None:
    table = stats.references(stats.reference_seeds(made()))
    for teacher, names in (("none", [ALL]), (ZERO_SHOT, list(REFERENCES))):
        of_last = table[(table["teacher"] == teacher) & (table["round"] == 3)]
        assert of_last["reference"].tolist() == names
    found = table.set_index(["teacher", "reference", "round"])
    for index in range(4):
        # Seeds 0, 1, 2: .90, .91, .92 in every round; .5, .51, .52 and .1 more in each round.
        assert found.loc[("none", ALL, index), "accuracy"] == pytest.approx(0.91)
        assert found.loc[(ZERO_SHOT, PROBE, index), "accuracy"] == pytest.approx(0.51 + 0.1 * index)
        assert found.loc[(ZERO_SHOT, CLAP, index), "accuracy"] == pytest.approx(0.61 + 0.1 * index)
        assert found.loc[(ZERO_SHOT, TEACHER, index), "accuracy"] == pytest.approx(0.9)
        assert found.loc[(ZERO_SHOT, PROBE, index), "n_labeled"] == 10 * (index + 1)
    assert set(found["n_seeds"]) == {3}
    _, low, high = stats.t_interval(np.array([0.9, 0.91, 0.92]))
    assert (found.loc[("none", ALL, 3), "low"], found.loc[("none", ALL, 3), "high"]) == pytest.approx((low, high))


def test_a_group_has_a_line_where_all_its_data_sets_do() -> None:
    rows = measured(make_rows(level, datasets=("d", "e"), rounds=3, seeds=3))
    rows = rows.assign(**{PROBE: rows[PROBE].where((rows["dataset"] == "d") | (rows["seed"] > 0))})
    found = stats.references(stats.reference_seeds(rows)).set_index(["reference", "round"])
    assert found.loc[(PROBE, 1), "n_seeds"] == 2
    assert found.loc[(CLAP, 1), "n_seeds"] == 3
    without = rows.assign(**{PROBE: rows[PROBE].where(rows["dataset"] == "d")})
    assert PROBE not in set(stats.references(stats.reference_seeds(without))["reference"])


def test_a_run_that_measures_none_has_none() -> None:
    plain = make_rows(level, rounds=3, seeds=3)
    assert not stats.has_references(plain)
    assert not stats.has_references(plain.assign(**dict.fromkeys((ALL, PROBE, CLAP), np.nan)))
    assert stats.has_references(measured(plain))


def test_no_other_frame_changes(contents: Contents) -> None:
    rows = made()
    plain = contents_of(run_of(rows.drop(columns=[ALL, PROBE, CLAP])))
    assert set(contents.frames.tables) - set(plain.frames.tables) == {"references", "main_references"}
    for name, frame in plain.frames.items():
        pd.testing.assert_frame_equal(contents.frames[name], frame)
    assert contents.page.headline == plain.page.headline
    # Empty columns change no byte.
    empty = contents_of(run_of(rows.assign(**dict.fromkeys((ALL, PROBE, CLAP), np.nan))))
    assert run_markdown(empty.page, empty.parts) == run_markdown(plain.page, plain.parts)
    assert digest_of(empty.frames) == digest_of(plain.frames) != digest_of(contents.frames)
    assert "reference:" not in page(rows.drop(columns=[ALL, PROBE, CLAP]))


def lines_of(text: str, title: str) -> list[str]:
    table = text.partition(f"### {title}")[2].partition("\n\n| ")[2].partition("\n\n")[0]
    return [f"| {table.splitlines()[0]}", *table.splitlines()[1:]]


def test_the_main_table_ends_with_them(contents: Contents) -> None:
    text = run_markdown(contents.page, contents.parts)
    _, _, *rows = lines_of(text, "g · CLIP RN50, zero-shot")
    assert [row.split(" | ")[0].strip("| ") for row in rows] == ["pcoreset", "entropy", "random", *REFERENCES.values()]
    assert rows[3] == "| reference: all labels | 91.0 ± 1.0 | 91.0 ± 1.0 | 91.0 ± 1.0 |"
    assert rows[5] == "| reference: linear probe | 61.0 ± 1.0 | 71.0 ± 1.0 | 81.0 ± 1.0 |"
    # Without a teacher, and in the average over configurations with and without one, there is all labels alone.
    for title in ("g · no distillation", "Average over 3 configurations"):
        _, _, *rows = lines_of(text, title)
        assert [row for row in rows if "reference" in row] == [rows[-1]]
        assert rows[-1].startswith("| reference: all labels | 91.0 ± 1.0 |")
    assert contents.page.note.endswith(UNRANKED)
    # The best of a column and the tests are those of the selectors.
    assert "**91.0" not in text
    assert "## Reference lines" in text
    assert "| g | s | CLIP RN50, zero-shot | r | 2 | reference: linear probe | 71.0% |" in text


def test_averages_and_budgets(contents: Contents) -> None:
    rows = made()
    seeds, lines = stats.seed_means(rows), stats.reference_seeds(rows)
    some = lines[lines["teacher"] != "none"], seeds[seeds["teacher"] != "none"]
    found = stats.main_references(*some, ["30"])
    assert found.columns.tolist() == contents.frames["main"].columns.tolist()
    average = found[found["average"] == 1].set_index("selector")
    # CLAP .81 in round 2 in both; the teacher alone .9 and CLAP's .81.
    assert average.loc[CLAP, "mean"] == pytest.approx(0.81)
    assert average.loc[TEACHER, "mean"] == pytest.approx((0.9 + 0.81) / 2)
    assert (average["n_configurations"] == 2).all()
    assert (average["n_labeled"] == 30).all()
    assert not found["best"].any()
    assert found["p_holm"].isna().all()


def test_the_latex_table_has_them_below_a_rule(contents: Contents) -> None:
    of = contents.frames
    order = of["rank_table"]["selector"].tolist()
    texts = main_latex(of["main"], of["main_averages"], of.display, order, of["main_references"])
    (zero_shot,) = (text for text in texts.values() if "CLIP RN50, zero-shot $" in text.partition("caption")[2][:40])
    above, _, below = zero_shot.rpartition("\\midrule\n")
    assert "reference" not in above.partition("\\midrule")[2]
    assert below.startswith("reference: all labels & 91.0 $\\pm$ 1.0 & ")
    assert UNRANKED in zero_shot
    plain = main_latex(of["main"], of["main_averages"], of.display, order)
    assert all("reference" not in text and text.count("\\midrule") <= 2 for text in plain.values())


def drawn(figure: Figure, teacher: str) -> dict[str, Any]:
    (axes,) = (axes for axes in figure.axes if axes.get_title().startswith(teacher))
    assert axes.get_title().endswith("n = 3")
    return {str(line.get_label()): line for line in axes.get_lines()}


def test_every_figure_of_curves_has_them(contents: Contents) -> None:
    (drawing,) = (each for each in contents.drawings if each.stem.startswith("curves"))
    figure = drawing.draw()
    zero_shot = drawn(figure, "CLIP RN50, zero-shot")
    assert set(REFERENCES.values()) < set(zero_shot)
    all_labels = zero_shot["reference: all labels"]
    assert np.allclose(all_labels.get_ydata(), 0.91)
    assert (all_labels.get_linestyle(), all_labels.get_linewidth()) == ("--", THIN_WIDTH)
    assert np.allclose(zero_shot["reference: linear probe"].get_ydata(), [0.51, 0.61, 0.71, 0.81])
    assert zero_shot["random"].get_linewidth() > THIN_WIDTH
    # The teacher is CLAP: its line is drawn once. Without a teacher there is all labels alone.
    assert "reference: CLAP" not in drawn(figure, "CLIP RN50, CLAP")
    assert {name for name in drawn(figure, "no distillation") if name in REFERENCES.values()} == {
        "reference: all labels"
    }
    # Bands are those of the three selectors, which stay few.
    assert [len(axes.collections) for axes in figure.axes] == [3, 3, 3]


def test_the_chart_of_the_page_has_them_too(contents: Contents) -> None:
    frames: Frames = contents.frames
    (chart,) = charts_of(frames).values()
    assert [name for name, *_ in chart.selectors][-4:] == list(REFERENCES.values())
    # In the legend each has its own pattern of a line, "" for an unbroken one; selectors have none.
    patterns = [pattern for *_, pattern in chart.selectors]
    assert patterns[:-4] == [None] * 3
    assert len(set(patterns[-4:]) - {None}) == 4
    panel = next(panel for panel in chart.panels if panel.title == "CLIP RN50, zero-shot")
    accuracy, difference = panel.views
    of_lines = {line.selector: line for line in accuracy.lines}
    assert of_lines["reference: all labels"].dash
    assert [line.thin for line in accuracy.lines] == [False] * 3 + [True] * 4
    assert not any(line.thin for line in difference.lines)
    assert '"reference: all labels", "color": "currentColor", "accuracy": [0.91, "91.0%"]' in panel.readings
    assert list(all_styles_of(frames))[-4:] == list(REFERENCES.values())


def test_a_written_report_has_their_tables(tmp_path: Any) -> None:
    rows = made()
    report = write_report(run_of(rows), tmp_path)
    html = report.html.read_text(encoding="utf-8")
    assert html.count('class="line" style="stroke-width: 1"') == 1 + 3 + 4
    assert html.count('<svg class="sample"') == 4
    assert html == run_html(*(lambda c: (c.page, c.parts))(contents_of(run_of(rows))), tmp_path / "figures")
    table = pd.read_csv(tmp_path / "tables" / "references.csv")
    assert set(table["reference"]) == set(REFERENCES)
    assert "reference: all labels" in (tmp_path / "tables" / "references.tex").read_text(encoding="utf-8")


def test_oracles_stand_beside_them() -> None:
    rows = measured(make_rows(level, selectors=("random", "pcoreset", "boss"), rounds=3, seeds=3))
    frames = frames_of(replace(run_of(rows), oracles=frozenset({"boss"})))
    assert list(all_styles_of(frames)) == ["random", "pcoreset", "boss (oracle)", *REFERENCES.values()]
    (chart,) = charts_of(frames).values()
    assert [name for name, *_ in chart.selectors] == list(all_styles_of(frames))
