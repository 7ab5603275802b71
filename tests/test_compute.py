"""Equal compute, gains by recipe, conditions and skylines, worked by hand; runs without them are unchanged."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import TEACHER, frames, make_rows, noise, page

from activekd.errors import InputError
from bench import stats
from bench.report.blocks import BLOCKS
from bench.report.cells import Marked
from bench.report.metrics import METRICS
from bench.report.occasional import OCCASIONAL
from bench.report.tables import TABLES
from bench.stats.baselines import LAST
from bench.stats.conditions import BETTER, NO_VERDICT, NOT_DIFFERENT, WORSE, split_name

T_975_DF2 = 4.302652729911275


def of_recipe(recipe: str, level: float, passes: float, **options: Any) -> pd.DataFrame:
    """Three seeds whose accuracies are level - .01, level and level + .01, and .1 more in each round."""
    rows = make_rows(
        lambda selector, dataset, seed, index: level + 0.1 * index + 0.01 * (seed - 1), seeds=3, rounds=3, **options
    )
    name = f"{recipe}/"
    seconds = 2.0 + rows["round"]
    return rows.assign(recipe=recipe, trial_id=name + rows["trial_id"], forward_passes=passes, train_seconds=seconds)


def two_recipes(passes: float = 200.0) -> pd.DataFrame:
    plain, better = of_recipe("plain", 0.3, 100.0), of_recipe("fixmatch", 0.4, passes)
    return pd.concat([plain, better], ignore_index=True)


def test_compute_is_of_a_fit_and_accuracy_of_the_last_round() -> None:
    found: Any = stats.compute_table(two_recipes()).set_index("recipe")
    assert found["forward_passes"].to_dict() == {"fixmatch": 200.0, "plain": 100.0}
    assert found["train_seconds"].to_dict() == {"fixmatch": 3.0, "plain": 3.0}
    assert found["accuracy"].to_dict() == pytest.approx({"fixmatch": 0.6, "plain": 0.5})
    half = T_975_DF2 * 0.01 / np.sqrt(3)
    assert found.loc["plain", "low"] == pytest.approx(0.5 - half)
    assert found.loc["plain", "high"] == pytest.approx(0.5 + half)
    assert set(found["n_seeds"]) == {3}
    assert set(found["round"]) == {2}
    assert found["best"].to_dict() == {"fixmatch": True, "plain": False}
    # Every seed differs by .1: the sign test of three equal differences has p = 2^(1 - 3).
    assert found.loc["plain", "p_holm"] == pytest.approx(0.25)
    assert found["tied"].to_dict() == {"fixmatch": False, "plain": True}
    assert not found["equal"].any()
    assert stats.compute_table(two_recipes(100.0))["equal"].all()


def test_recipes_are_compared_on_what_they_share() -> None:
    fewer = of_recipe("fixmatch", 0.4, 200.0, selectors=("random",))
    longer = of_recipe("plain", 0.3, 100.0)
    rows = pd.concat([longer, fewer[fewer["round"] < 2]], ignore_index=True)
    rows.loc[(rows["recipe"] == "plain") & (rows["selector"] == "entropy"), "accuracy"] = 0.9
    found: Any = stats.compute_table(rows).set_index("recipe")
    assert found["accuracy"].to_dict() == pytest.approx({"fixmatch": 0.5, "plain": 0.4})
    assert found["train_seconds"].to_dict() == {"fixmatch": 2.5, "plain": 2.5}


@pytest.mark.parametrize("kind", ["no column", "empty column", "one recipe"])
def test_without_forward_passes_or_with_one_recipe_there_is_no_table_and_the_page_is_the_same(kind: str) -> None:
    rows = two_recipes()
    changed = {
        "no column": rows.drop(columns="forward_passes"),
        "empty column": rows.assign(forward_passes=np.nan),
        "one recipe": rows[rows["recipe"] == "plain"],
    }[kind].reset_index(drop=True)
    assert stats.compute_table(changed).empty
    found = frames(changed)
    assert set(found.tables) == set(TABLES)
    if kind == "empty column":
        assert page(changed) == page(rows.drop(columns="forward_passes"))


def test_the_page_shows_the_best_at_its_compute() -> None:
    found = frames(two_recipes())
    assert set(found.tables) - set(TABLES) == {"compute"}
    (shown,) = OCCASIONAL["compute"].show(found["compute"], found.display)
    cells = {str(row[3]): row for row in shown.rows}
    at = {name: shown.header.index(name) for name in ("accuracy", "images through the student", "equal compute")}
    assert cells["fixmatch"][at["accuracy"]] == Marked("60.0%", best=True)
    assert cells["plain"][at["accuracy"]] == Marked("50.0%", tied=True)
    assert [cells["fixmatch"][at[name]] for name in ("images through the student", "equal compute")] == ["200", "no"]
    text = page(two_recipes())
    section = text.partition("## Recipes side by side")[2].partition("\n## ")[0]
    assert "Compute and accuracy of a fit" in section
    assert "| 200 | no | 3.00 | 2 | **60.0%** |" in section


def taught(recipe: str, level: float, gain: float) -> pd.DataFrame:
    """A recipe without a teacher, and with one that adds a gain and the seed minus 1, in points."""
    plain = of_recipe(recipe, level, 100.0, teacher="none")
    more = of_recipe(recipe, level, 100.0)
    return pd.concat([plain, more.assign(accuracy=more["accuracy"] + gain + 0.01 * (more["seed"] - 1))])


def gains_of_two() -> pd.DataFrame:
    return pd.concat([taught("plain", 0.3, 0.1), taught("fixmatch", 0.5, 0.0)], ignore_index=True)


def test_gains_by_recipe_are_paired_and_corrected_over_recipes() -> None:
    found: Any = stats.recipe_gains(gains_of_two()).set_index(["measure", "recipe"])
    assert len(found) == 4
    assert set(found["teacher"]) == {TEACHER}
    half = T_975_DF2 * 0.01 / np.sqrt(3)
    for measure, level in ((LAST, 0.5), ("area", 0.4)):
        plain, fixmatch = found.loc[measure, "plain"], found.loc[measure, "fixmatch"]
        assert (plain["gain"], plain["low"], plain["high"]) == pytest.approx((0.1, 0.1 - half, 0.1 + half))
        assert (plain["without"], plain["with_teacher"]) == pytest.approx((level, level + 0.1))
        assert fixmatch["gain"] == pytest.approx(0.0)
        assert plain["n_seeds"] == 3
        # t = 10 sqrt(3) with 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2); the smaller of two counts twice.
        assert plain["p_holm"] == pytest.approx(2 * (1 - np.sqrt(300 / 302)))
        assert fixmatch["p_holm"] == pytest.approx(1.0)


def test_gains_by_recipe_need_two_recipes_with_and_without_a_teacher() -> None:
    one = pd.concat([taught("plain", 0.3, 0.1), of_recipe("fixmatch", 0.5, 100.0)], ignore_index=True)
    assert stats.recipe_gains(one).empty
    assert stats.recipe_gains(two_recipes()).empty
    assert "gain_by_recipe" not in frames(one).tables


def test_the_block_of_baselines_is_a_line_for_each_question() -> None:
    rows = gains_of_two()
    line, best = BLOCKS["baselines"](frames(rows)).splitlines()
    assert line.startswith("- Does distillation add to semi-supervised learning: points that the teacher adds to each")
    assert "(n = 3)" in line
    assert "fixmatch +0.0 (-2.5 to +2.5; not significant), plain +10.0 (+7.5 to +12.5; adds)." in line
    # The recipes differ by the same in all three seeds: p of the sign test is 1/4. Then by .001 more from seed to seed.
    assert best.startswith("- The most accurate recipe of the last round at equal compute (n = 3), in brackets those ")
    both = "zero-shot: fixmatch {shown}. g, s, no distillation: fixmatch {shown}."
    assert best.endswith(both.format(shown="70.0% (plain)"))
    more = rows["accuracy"] + 0.001 * rows["seed"] * (rows["recipe"] == "fixmatch")
    assert BLOCKS["baselines"](frames(rows.assign(accuracy=more))).endswith(both.format(shown="70.1% (none)"))
    unequal = rows.assign(forward_passes=rows["forward_passes"] + 100 * (rows["recipe"] == "plain"))
    assert BLOCKS["baselines"](frames(unequal)).splitlines() == [line]
    *others, skyline = BLOCKS["baselines"](frames(rows.assign(all_labels_accuracy=0.9))).splitlines()
    assert others == [line, best]
    # The last round of the four configurations: .5, .6, .7 and .7; all labels reach .9.
    assert skyline.startswith(
        "- How far is the skyline: with all labels of the pool the student is 27.5 points above the best strategy of "
        "the last round (mean over 4 configurations; +20.0 to +40.0; n = 3; best strategies: "
    )
    with pytest.raises(InputError, match="--show baselines: no student has several recipes with and without a teacher"):
        BLOCKS["baselines"](frames(two_recipes()))


def test_gaps_to_the_skyline_are_those_of_the_best_strategy() -> None:
    rows = make_rows(lambda selector, dataset, seed, index: 0.5 + 0.1 * (selector == "entropy") * index, rounds=3)
    assert stats.skyline_gaps(rows).empty
    assert stats.skyline_gaps(rows.assign(all_labels_accuracy=np.nan)).empty
    rows = rows.assign(all_labels_accuracy=0.9 + 0.01 * (rows["seed"] - 2))
    (found,) = stats.skyline_gaps(rows).to_dict("records")
    assert found["selector"] == "entropy"
    assert found["gap"] == pytest.approx(0.2)
    # Five seeds that differ by .01: standard deviation .01 sqrt(2.5), t with 4 degrees of freedom.
    assert found["high"] - found["gap"] == pytest.approx(2.7764451051977987 * 0.01 * np.sqrt(2.5 / 5))


def test_gaps_to_the_skyline_are_of_seeds_that_have_it_on_every_data_set() -> None:
    rows = make_rows(lambda selector, dataset, *_: 0.9 if dataset == "a" else 0.5, datasets=("a", "b"), rounds=2)
    measured = (rows["selector"] == "random") & (rows["round"] == 0)
    partly = rows.assign(all_labels_accuracy=np.where(measured & (rows["dataset"] == "a"), 0.95, np.nan))
    assert stats.skyline_gaps(partly).empty
    (found,) = stats.skyline_gaps(rows.assign(all_labels_accuracy=np.where(measured, 0.95, np.nan))).to_dict("records")
    assert (found["accuracy"], found["gap"]) == pytest.approx((0.7, 0.25))


PLAIN, NOISY = "digits", "digits?noise=0.2"


def conditions() -> pd.DataFrame:
    """Entropy is 10 points above random, and 10 below with noise, where pcoreset is random's equal on average."""

    def accuracy(selector: str, dataset: str, seed: int, index: int) -> float:
        noisy = dataset == NOISY
        ahead = {"random": 0.0, "entropy": -0.1 if noisy else 0.1, "pcoreset": 0.0 if noisy else 0.2}[selector]
        return 0.6 - 0.05 * noisy + ahead + noise(selector, seed, noisy, size=0.002)

    return pd.concat(
        [make_rows(accuracy, group=group, datasets=(name,)) for group, name in (("plain", PLAIN), ("noisy", NOISY))],
        ignore_index=True,
    )


def test_names_of_data_sets_without_what_makes_them_harder() -> None:
    assert split_name(PLAIN) == ("digits", frozenset())
    assert split_name("caltech101?noise=0.2&pool=val") == ("caltech101?pool=val", frozenset({"noise=0.2"}))
    assert split_name("arrays:x.npz?imbalance=100&open=0.3") == (
        "arrays:x.npz",
        frozenset({"imbalance=100", "open=0.3"}),
    )


def test_conditions_are_groups_that_differ_in_pool_or_query_size() -> None:
    rows = conditions()
    found = stats.conditions(rows)
    assert found.to_dict("list") == {
        "group": ["plain", "noisy"],
        "base": ["digits"] * 2,
        "plain": ["", "plain"],
    }
    assert stats.conditions(rows[rows["group"] == "noisy"]).empty
    shots = rows[rows["group"] == "plain"].assign(group="more shots")
    assert stats.conditions(pd.concat([rows[rows["group"] == "plain"], shots])).empty, "neither pool nor query size"
    larger = shots.assign(group="35 a query", query_size=35)
    found = stats.conditions(pd.concat([rows, larger]))
    assert found.set_index("group")["plain"].to_dict() == {"plain": "", "noisy": "plain", "35 a query": ""}


@pytest.mark.parametrize("other", [{"n_classes": 7}, {"n_labeled": 5}], ids=["left-out classes", "another budget"])
def test_other_classes_or_budgets_have_no_plain_condition(other: dict[str, int]) -> None:
    rows = conditions()
    noisy = rows["group"] == "noisy"
    assert stats.conditions(pd.concat([rows[~noisy], rows[noisy].assign(**other)]))["plain"].tolist() == ["", ""]


def test_blocks_about_accuracy_refuse_another_metric() -> None:
    found = replace(frames(conditions()), metric=METRICS["macro_accuracy"])
    for show in ("baselines", "stress"):
        with pytest.raises(
            InputError, match=f"--show {show} with --metric macro_accuracy; expected: --metric accuracy"
        ):
            BLOCKS[show](found)


def test_what_breaks_which_strategy() -> None:
    found: Any = frames(conditions())["conditions"].set_index(["group", "selector"])
    verdicts = found["verdict"].to_dict()
    assert verdicts == {
        ("plain", "random"): NO_VERDICT,
        ("plain", "entropy"): BETTER,
        ("plain", "pcoreset"): BETTER,
        ("noisy", "random"): NO_VERDICT,
        ("noisy", "entropy"): WORSE,
        ("noisy", "pcoreset"): NOT_DIFFERENT,
    }
    assert found.loc["plain"]["lost"].isna().all()
    lost = found.loc["noisy"]["lost"].to_dict()
    assert lost == pytest.approx({"random": 0.05, "entropy": 0.25, "pcoreset": 0.25}, abs=0.005)
    areas: Any = stats.seed_areas(stats.run_areas(conditions())).set_index(["group", "selector", "seed"])["area"]
    pairs = areas["plain"]["entropy"] - areas["noisy"]["entropy"]
    half = 2.7764451051977987 * pairs.std() / np.sqrt(5)
    assert found.loc[("noisy", "entropy"), "lost_high"] == pytest.approx(pairs.mean() + half)


def test_the_page_and_the_block_of_conditions() -> None:
    text = page(conditions())
    section = text.partition("## What breaks which strategy")[2].partition("\n## ")[0]
    assert "against random, points" in section
    assert "points lost to the plain condition" in section
    against, lost = (line for line in section.splitlines() if line.startswith("| entropy | +"))
    assert ") better | -" in against
    assert against.endswith(") worse |")
    assert not lost.endswith("e |"), "no verdict on what is lost"
    found: Any = frames(conditions())
    block = BLOCKS["stress"](found)
    assert len(block.splitlines()) == 1
    assert block.startswith("- What breaks which strategy: areas under the budget curve against random, paired by seed")
    assert (
        "plain: not better none; worse none. noisy: not better pcoreset; worse entropy; pcoreset, first under" in block
    )
    lost = found["conditions"].set_index(["group", "selector"]).loc[("noisy", "pcoreset"), "lost"]
    assert block.endswith(f" plain, loses {100 * lost:.1f} points.")
    with pytest.raises(InputError, match="--show stress: no data set has several conditions, or random took no part"):
        BLOCKS["stress"](frames(two_recipes()))


def test_without_random_there_is_no_table_of_conditions() -> None:
    rows = conditions()
    assert "conditions" not in frames(rows[rows["selector"] != "random"].reset_index(drop=True)).tables
