"""The main table, worked by hand: its columns, the best, what is not different from it, averages, and LaTeX."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import frames, make_rows, page, run_of
from scipy import stats as reference

from activekd.errors import InputError
from bench import stats
from bench.display import Display
from bench.report.main_table import main_latex, main_tables
from bench.report.pages import contents_of

# Accuracy of seeds 0, 1, 2 in round 1 (20 labels); rounds 2 and 3 add .1 and .2 to all.
ROUND_1 = {"a": (0.50, 0.52, 0.54), "b": (0.49, 0.53, 0.53), "c": (0.40, 0.41, 0.44)}


def rows_of(n_rounds: int = 4, n_seeds: int = 3, **names: Any) -> pd.DataFrame:
    return make_rows(
        lambda selector, dataset, seed, index: ROUND_1[selector][seed] + 0.1 * (index - 1),
        selectors=("a", "b", "c"),
        rounds=n_rounds,
        seeds=n_seeds,
        **names,
    )


def table_of(rows: pd.DataFrame, budgets: tuple[str, ...] = ()) -> pd.DataFrame:
    return stats.main_table(stats.seed_means(rows), budgets)


def test_mean_spread_and_the_best_by_hand() -> None:
    table: Any = table_of(rows_of()).set_index(["selector", "round"])
    assert set(table["average"]) == {0}, "one configuration has no average"
    first = table.xs(1.0, level="round")
    assert first["mean"].to_dict() == pytest.approx({"a": 0.52, "b": 1.55 / 3, "c": 1.25 / 3})
    assert first.loc["a", ["sd", "n_seeds", "n_labeled"]].tolist() == pytest.approx([0.02, 3, 20])
    assert first.loc["c", "sd"] == pytest.approx(np.std(ROUND_1["c"], ddof=1))
    assert first["best"].to_dict() == {"a": True, "b": False, "c": False}
    # Differences from a: b .01, -.01, .01; c .10, .11, .10. Holm multiplies the smaller p by 2.
    p_b: Any = reference.ttest_1samp([0.01, -0.01, 0.01], 0)[1]
    p_c: Any = reference.ttest_1samp([0.10, 0.11, 0.10], 0)[1]
    assert first.loc["b", "p_holm"] == pytest.approx(p_b)
    assert first.loc["c", "p_holm"] == pytest.approx(2 * p_c)
    assert first["not_different"].to_dict() == {"a": False, "b": True, "c": False}
    assert np.isnan(first.loc["a", "p_holm"])


@pytest.mark.parametrize(
    ("n_rounds", "columns"), [(2, [1]), (3, [1, 2]), (4, [1, 2, 3]), (6, [1, 3, 5]), (9, [1, 4, 8])]
)
def test_columns_are_the_first_the_middle_and_the_last_query_round(n_rounds: int, columns: list[int]) -> None:
    assert sorted(set(table_of(rows_of(n_rounds))["round"])) == columns


def test_chosen_budgets() -> None:
    table = table_of(rows_of(), ("40", "30"))
    assert sorted(set(table["n_labeled"])) == [30, 40]
    assert table["round"].isna().all()
    with pytest.raises(InputError, match=r"--budgets 10, 25: no query round .*; expected: some of 20, 30, 40"):
        table_of(rows_of(), ("30", "10", "25"))


def test_nothing_is_tested_below_three_seeds_and_ties_are_all_best() -> None:
    table = table_of(rows_of(n_seeds=2))
    assert table["p_holm"].isna().all()
    assert not table["not_different"].any()
    # Means of two seeds: a .51, b .51.
    assert table.groupby("selector")["best"].all().to_dict() == {"a": True, "b": True, "c": False}
    assert table_of(rows_of(n_seeds=1))["sd"].isna().all()
    assert "so nothing is underlined" in page(rows_of(n_seeds=2))


def test_an_average_is_over_alike_configurations_and_its_spread_is_over_seeds() -> None:
    # The teacher adds .1 to seed 0 alone: the average of a has seeds .55, .52, .54.
    taught = rows_of(teacher="clip_rn50+zeroshot")
    taught = taught.assign(accuracy=taught["accuracy"] + 0.1 * (taught["seed"] == 0))
    short = rows_of(n_rounds=2, teacher="none", student="small")
    rows = pd.concat([rows_of(teacher="none"), taught, short], ignore_index=True)
    table = table_of(rows)
    averaged: Any = table[table["average"] == 1].set_index(["selector", "round"])
    assert averaged.loc[("a", 1.0), ["mean", "sd"]].tolist() == pytest.approx(
        [np.mean([0.55, 0.52, 0.54]), np.std([0.55, 0.52, 0.54], ddof=1)]
    )
    assert set(averaged["n_configurations"]) == {2}
    assert set(averaged["teacher"]) == {""}
    assert set(averaged["student"]) == {"s"}
    assert averaged["n_labeled"].notna().all()
    members = stats.main_averages(stats.seed_means(rows))
    assert members[["average", "teacher", "student"]].to_numpy().tolist() == [
        [1, "clip_rn50+zeroshot", "s"],
        [1, "none", "s"],
    ]
    # 2 tables of 3 columns, one of 1, and the average, of 3 selectors each.
    assert len(table) == 3 * (2 * 3 + 1 + 3)


def test_averages_over_unlike_budgets_name_rounds() -> None:
    more = rows_of(group="h", datasets=("h",))
    rows = pd.concat([rows_of(), more.assign(n_labeled=2 * more["n_labeled"])], ignore_index=True)
    text = page(rows)
    assert "| selector | round 1 | round 2 | round 3 |" in text
    assert "| selector | 40 labels | 60 labels | 80 labels |" in text


def test_the_first_table_of_a_page_has_marks_and_what_is_averaged() -> None:
    rows = pd.concat([rows_of(teacher="none"), rows_of()], ignore_index=True)
    text = page(rows)
    first = text[: text.index("\n## ")]
    assert "### Average over 2 configurations (n = 3)" in first
    assert "Teachers: CLIP RN50, zero-shot; no distillation. Students: s. Recipes: r." in first
    assert "| a | **52.0** ± 2.0 | **62.0** ± 2.0 | **72.0** ± 2.0 |" in first
    assert "| b | <ins>51.7</ins> ± 2.3 |" in first
    assert "| c | 41.7 ± 2.1 |" in first
    names = [section.title for section in contents_of(run_of(rows)).page.sections]
    assert names[0] == "Accuracy by configuration"
    alone = contents_of(run_of(rows_of()))
    assert "Accuracy by configuration" not in [section.title for section in alone.page.sections]
    assert alone.page.tables[0].title == "g · CLIP RN50, zero-shot · s (n = 3)"


def test_recipes_are_named_where_a_student_has_several() -> None:
    other = rows_of().assign(recipe="q")
    rows = pd.concat([rows_of(), other.assign(trial_id=other["trial_id"] + "/q")], ignore_index=True)
    titles = re.findall(r"^#+ (g · .*) \(n = 3\)$", page(rows), flags=re.MULTILINE)
    assert titles[:2] == ["g · CLIP RN50, zero-shot · s · q", "g · CLIP RN50, zero-shot · s · r"]


def latex_of(rows: pd.DataFrame, display: Display) -> dict[str, str]:
    of = frames(rows)
    return main_latex(of["main"], of["main_averages"], display, ["a", "b", "c"])


def test_latex_has_a_file_for_each_configuration_and_says_n_and_the_rule() -> None:
    rows = pd.concat([rows_of(teacher="none"), rows_of()], ignore_index=True)
    texts = latex_of(rows, Display({"selector": {"a": "A_1 & co", "b": "ours"}, "group": {"g": "G"}}))
    assert list(texts) == ["main", "main_G_clip-rn50-zeroshot_s", "main_G_none_s"]
    main = texts["main"]
    assert r"\label{tab:main}" in main
    assert r"\begin{tabular}{lrrr}" in main
    assert r"selector & 20 & 30 & 40 \\" in main
    assert r"\cmidrule(lr){2-4}" in main
    assert r"A\_1 \& co & \textbf{52.0} $\pm$ 2.0 &" in main
    assert r"ours & \underline{51.7} $\pm$ 2.3 &" in main
    caption = re.findall(r"\\caption\{(.*)\}", main)[0]
    assert "over n = 3 seeds" in caption
    assert "Bold: the best of a column. Underlined: not significantly different" in caption
    assert "Holm" in caption
    assert r"5\%" in caption
    assert len({label for text in texts.values() for label in re.findall(r"\\label\{[^}]*\}", text)}) == 3
    for text in texts.values():
        assert text.count("{") == text.count("}")


def test_one_configuration_is_the_main_file() -> None:
    assert list(latex_of(rows_of(), Display())) == ["main"]


def test_a_selector_that_took_no_part_has_no_row() -> None:
    both = rows_of(student="t")
    rows = pd.concat([rows_of(), both[both["selector"] != "c"]], ignore_index=True)
    of = frames(rows)
    tables = main_tables(of["main"], of["main_averages"], of.display, ["b", "c", "a"])
    assert [[row[0] for row in table.rows] for table in tables] == [["b", "c", "a"], ["b", "a"]]
