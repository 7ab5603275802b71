"""Statistics against a 3 x 3 case worked by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from activekd.errors import InputError
from bench import stats
from bench.columns import SECONDS
from bench.stats.costs import seconds_per_pick

# Two query rounds and the shared round 0; three selectors; accuracies of seeds 0 and 1.
ACCURACY = {
    ("a", 1): (0.50, 0.60),
    ("b", 1): (0.70, 0.60),
    ("c", 1): (0.40, 0.50),
    ("a", 2): (0.80, 0.80),
    ("b", 2): (0.90, 0.70),
    ("c", 2): (0.60, 0.60),
}


def make_rows(teacher: str = "none", plus: float = 0.0, dataset: str = "d", group: str = "d") -> pd.DataFrame:
    rows = []
    for (selector, index), values in {**ACCURACY, **{(s, 0): (0.3, 0.3) for s in "abc"}}.items():
        for seed, accuracy in enumerate(values):
            rows.append(
                {
                    "trial_id": f"{dataset}/{teacher}/{selector}/{seed}",
                    "round": index,
                    "protocol": 1,
                    "dataset": dataset,
                    "group": group,
                    "teacher": teacher,
                    "student": "s",
                    "distillation": "none" if teacher == "none" else "both",
                    "recipe": "r",
                    "selector": selector,
                    "seed": seed,
                    "n_labeled": 10 * (index + 1),
                    "n_classes": 10,
                    "query_size": 10,
                    "accuracy": accuracy + plus,
                    "teacher_accuracy": float("nan"),
                    "teacher_seconds": 0.0,
                    "train_seconds": 1.0,
                    "predict_seconds": 0.5,
                    "select_seconds": 0.1,
                    "peak_rss_bytes": 10**9,
                    "commit": "0" * 12,
                    "versions": "python 3",
                    "device": "cpu",
                }
            )
    return pd.DataFrame(rows)


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    return stats.curves(stats.seed_means(rows))


def margins(rows: pd.DataFrame) -> pd.DataFrame:
    return stats.margins(curves(rows), stats.seed_means(rows))


def ranks(rows: pd.DataFrame) -> pd.DataFrame:
    return stats.ranks(curves(rows), margins(rows))


def areas(rows: pd.DataFrame) -> pd.DataFrame:
    return stats.seed_areas(stats.run_areas(rows))


def test_ranks_by_hand() -> None:
    ranked = ranks(make_rows()).set_index(["round", "selector"])
    # Round 1: means .55, .65, .45. Round 2: .80, .80, .60, so a and b share the first place.
    assert ranked["rank"].to_dict() == {(1, "a"): 2, (1, "b"): 1, (1, "c"): 3, (2, "a"): 1, (2, "b"): 1, (2, "c"): 3}
    assert ranked.loc[(2, "a"), "rank_average"] == 1.5
    assert ranked["tied"].to_dict() == {(1, "a"): False, (1, "b"): False, (1, "c"): False} | {
        (2, "a"): True,
        (2, "b"): True,
        (2, "c"): False,
    }


def test_rank_table_by_hand() -> None:
    table = stats.rank_table(ranks(make_rows())).set_index("selector")
    assert list(table.index) == ["b", "a", "c"]
    assert table["first"].to_dict() == {"b": 2, "a": 1, "c": 0}
    assert table["tied_first"].to_dict() == {"b": 1, "a": 1, "c": 0}
    assert table["mean_rank"].to_dict() == {"b": 1.25, "a": 1.75, "c": 3.0}
    assert set(table["settings"]) == {2}
    assert stats.headline(table.reset_index()) == "b first in 2 of 2 settings (100.0%; 1 shared)"


def test_curves_have_student_t_intervals_over_seeds() -> None:
    curve = curves(make_rows()).query("selector == 'b' and round == 1").iloc[0]
    low, high = reference.t.interval(0.95, 1, loc=0.65, scale=reference.sem([0.7, 0.6]))
    assert high > 1
    assert (curve["accuracy"], curve["low"], curve["high"], curve["n_seeds"]) == pytest.approx((0.65, low, 1.0, 2))


def test_one_seed_has_no_interval() -> None:
    rows = make_rows()
    curve = curves(rows[rows["seed"] == 0])
    assert curve["low"].isna().all()
    assert set(curve["n_seeds"]) == {1}


def test_gain_is_paired() -> None:
    rows = pd.concat([make_rows(), make_rows("t+zeroshot", plus=0.05)], ignore_index=True)
    gain = stats.gain(stats.seed_gains(rows))
    assert gain["gain"].to_numpy() == pytest.approx(np.full(9, 0.05))
    assert gain["high"].to_numpy() == pytest.approx(np.full(9, 0.05))
    assert stats.gain(stats.seed_gains(make_rows())).empty


def test_a_gain_uses_the_seeds_that_all_its_cells_share() -> None:
    # Selector a gains .1 in both seeds; b has seed 0 alone, where it gains .3. Seed 1 has no pair of b, so the mean
    # over selectors is that of seed 0: (.1 + .3) / 2. With seed 1 it would be (.2 + .1) / 2.
    plain = make_rows().query("selector != 'c'")
    lift = plain["selector"].map({"a": 0.1, "b": 0.3})
    taught = plain.assign(teacher="t", distillation="both", accuracy=plain["accuracy"] + lift)
    taught = taught[~((taught["selector"] == "b") & (taught["seed"] == 1))]
    gains = stats.seed_gains(pd.concat([plain, taught], ignore_index=True))
    found = stats.gain_summary(gains)
    assert found["gain"].tolist() == pytest.approx([0.2, 0.2, 0.2])
    assert found["n_seeds"].tolist() == [1, 1, 1]
    assert found["n_cells"].tolist() == [2, 2, 2]


def test_a_seed_counts_where_every_data_set_of_the_group_has_its_pair() -> None:
    # Data sets x and y in one group; y lacks seed 1 without a teacher, so that seed 1 has half of its pairs.
    x, y = make_rows(dataset="x", group="g"), make_rows(dataset="y", group="g")
    taught = [make_rows("t", 0.1, "x", "g"), make_rows("t", 0.3, "y", "g")]
    rows = pd.concat([x, y[y["seed"] == 0], *taught], ignore_index=True)
    found = stats.gain(stats.seed_gains(rows))
    assert found["gain"].to_numpy() == pytest.approx(np.full(9, 0.2))
    assert set(found["n_seeds"]) == {1}


def test_data_sets_of_a_group_are_averaged_before_ranking() -> None:
    first, second = make_rows(dataset="x", group="g"), make_rows(dataset="y", group="g")
    swapped = second["selector"].map({"a": "c", "b": "b", "c": "a"})
    rows = pd.concat([first, second.assign(selector=swapped, trial_id="y" + second["trial_id"])], ignore_index=True)
    ranked = ranks(rows)
    assert len(ranked) == 6
    means = ranked.set_index(["round", "selector"])["accuracy"]
    assert means[(1, "a")] == pytest.approx((0.55 + 0.45) / 2)
    assert means[(1, "a")] == pytest.approx(means[(1, "c")])


def three_seeds(accuracy: dict[str, tuple[float, float, float]]) -> pd.DataFrame:
    """Rounds 0 and 1 of some selectors with three seeds."""
    one = make_rows().query("selector == 'a' and seed == 0 and round < 2")
    parts = [
        one.assign(selector=name, seed=seed, trial_id=f"{name}/{seed}", accuracy=[values[seed], 0.3])
        for name, values in accuracy.items()
        for seed in range(3)
    ]
    return pd.concat(parts, ignore_index=True)


def test_clear_first_places_by_hand() -> None:
    # b minus a is .2, .21, .22; b minus c is .3, .31, .32: both far above 0 after Holm's correction.
    rows = three_seeds({"a": (0.5, 0.5, 0.5), "b": (0.70, 0.71, 0.72), "c": (0.4, 0.4, 0.4)})
    found = ranks(rows).set_index(["round", "selector"])["clear"]
    assert found[found].index.tolist() == [(1, "b")]
    (lead,) = margins(rows).to_dict("records")
    low, high = reference.t.interval(0.95, 2, loc=0.21, scale=reference.sem([0.2, 0.21, 0.22]))
    assert [lead["margin"], lead["low"], lead["high"]] == pytest.approx([0.21, low, high])
    assert (lead["first"], lead["second"], lead["n_seeds"]) == ("b", "a", 3)
    assert lead["p_holm"] == pytest.approx(reference.ttest_1samp([0.2, 0.21, 0.22], 0.0)[1])
    assert not ranks(rows[rows["seed"] < 2])["clear"].any(), "nothing is clear below three seeds"


def test_intervals_of_first_places_need_five_seeds() -> None:
    few = stats.first_place_intervals(stats.seed_means(make_rows()))
    assert few[["first_low", "first_high"]].isna().all().all()
    assert few[["n_seeds", "most_seeds"]].to_numpy().tolist() == [[2, 2]] * 3
    rows = make_rows()
    many = pd.concat([rows.assign(seed=rows["seed"] + 2 * k, trial_id=f"{k}" + rows["trial_id"]) for k in range(3)])
    found: Any = stats.first_place_intervals(stats.seed_means(many)).set_index("selector")
    # c is last in every seed; b and a are equal in round 2, where seeds give .9 and .7 against .8 and .8.
    assert found.loc["c", ["first_low", "first_high"]].isna().all(), "no draw has another count"
    assert found.loc["c", ["n_seeds", "most_seeds"]].tolist() == [6, 6]
    assert found.loc["b", "first_low"] < 1.5 < found.loc["b", "first_high"] <= 2
    # Mean ranks: b 1 and 1.5, a 2 and 1.5, c 3 and 3 in every draw.
    assert found.loc["c", ["rank_low", "rank_high"]].isna().all(), "no draw has another rank"
    assert 1 < found.loc["b", "rank_low"] < 1.25 < found.loc["b", "rank_high"] < 2.5
    assert 1 < found.loc["a", "rank_low"] < 1.75 < found.loc["a", "rank_high"] < 3


def test_win_matrix_by_hand() -> None:
    found: Any = stats.win_matrix(stats.seed_means(make_rows())).set_index(["selector", "against"])
    assert found.loc[("b", "a"), ["settings", "wins", "ties", "losses"]].tolist() == [2, 1, 1, 0]
    assert found.loc[("a", "b"), ["settings", "wins", "ties", "losses"]].tolist() == [2, 0, 1, 1]
    assert found.loc[("a", "c"), ["settings", "wins", "ties", "losses"]].tolist() == [2, 2, 0, 0]
    # a minus c is .1 and .1 in round 1, .2 and .2 in round 2: two equal differences may be chance.
    assert found.loc[("a", "c"), ["clear_wins", "clear_losses", "tested_settings"]].tolist() == [0, 0, 0]
    rows = three_seeds({"a": (0.5, 0.5, 0.5), "b": (0.70, 0.71, 0.72)})
    found = stats.win_matrix(stats.seed_means(rows)).set_index(["selector", "against"])
    assert found.loc[("b", "a"), ["clear_wins", "clear_losses", "tested_settings"]].tolist() == [1, 0, 1]
    assert found.loc[("a", "b"), ["clear_wins", "clear_losses", "tested_settings"]].tolist() == [0, 1, 1]


def test_labels_saved_by_hand() -> None:
    # Means over labels 10, 20, 30: a .3, .55, .8; b .3, .65, .8; c .3, .45, .6. c ends at .6: a is there at 22, b at
    # 10 + 10 x .3 / .35.
    found: Any = stats.labels_saved(stats.seed_means(make_rows()), "c").set_index("selector")
    assert found["labels"].to_dict() == pytest.approx({"a": 22.0, "b": 10 + 10 * 0.3 / 0.35})
    assert found["saved"].to_dict() == pytest.approx({"a": 8.0, "b": 20 - 10 * 0.3 / 0.35})
    assert found.loc["a", ["accuracy", "reference_labels", "n_seeds", "flat"]].tolist() == [0.6, 30.0, 2, False]
    assert found[["low", "high"]].isna().all().all(), "no bootstrap below five seeds"
    never: Any = stats.labels_saved(stats.seed_means(make_rows()), "a").set_index("selector")
    assert never.loc["b", "labels"] == 30.0
    assert np.isnan(never.loc["c", "labels"])
    assert stats.labels_saved(stats.seed_means(make_rows()), "nobody").empty


def test_front_of_accuracy_and_cost_by_hand() -> None:
    # Areas: a .55, b .6, c .45; c costs least, a as much as b. The prediction of the pool takes 1 s in rounds 0 and 1.
    seconds = {"a": 3.0, "b": 3.0, "c": 1.0}
    rows = make_rows().assign(
        select_seconds=lambda rows: rows["selector"].map(seconds),
        predict_seconds=lambda rows: 0.5 + (rows["round"] < 2),
    )
    found = stats.pareto(areas(rows), stats.query_seconds(rows))
    assert found.set_index("selector")["on_front"].to_dict() == {"c": True, "b": True, "a": False}
    assert found.set_index("selector")["seconds"].to_dict() == pytest.approx({"a": 4.0, "b": 4.0, "c": 2.0})


def test_area_relative_to_the_mean_of_the_configuration_and_seconds_of_a_query() -> None:
    # Areas of seeds 0 and 1: a (.525, .575), b (.65, .55), c (.425, .475); means .5333. In d2 areas are .1 larger
    # and queries ten times as long.
    seconds = {"a": 4.0, "b": 8.0, "c": 12.0}
    d = make_rows().assign(predict_seconds=0.0, select_seconds=lambda rows: rows["selector"].map(seconds))
    d2 = d.assign(dataset="d2", group="d2", trial_id="d2" + d["trial_id"], select_seconds=10 * d["select_seconds"])
    rows = pd.concat([d, d2.assign(accuracy=d["accuracy"] + 0.1)], ignore_index=True)
    found: Any = stats.pareto_overall(areas(rows), stats.query_seconds(rows)).set_index("selector")
    assert found["seconds"].to_dict() == pytest.approx({"a": 22.0, "b": 44.0, "c": 66.0})
    mean = (0.55 + 0.6 + 0.45) / 3
    assert found["area"].to_dict() == pytest.approx({"a": 0.55 - mean, "b": 0.6 - mean, "c": 0.45 - mean})
    low, high = reference.t.interval(0.95, 1, loc=0.6 - mean, scale=reference.sem([0.65 - mean, 0.55 - mean]))
    assert found.loc["b", ["area_low", "area_high", "n_seeds"]].tolist() == pytest.approx([low, high, 2])
    assert found["on_front"].to_dict() == {"a": True, "b": True, "c": False}
    assert set(found["n_configurations"]) == {2}


def test_the_last_round_has_no_query_and_no_cost_of_one() -> None:
    # The query of round 0 takes 1 s, that of round 1 takes 3 s; the 100 s of the last round are of no query.
    rows = make_rows().assign(select_seconds=lambda rows: rows["round"].map({0: 1.0, 1: 3.0, 2: 100.0}))
    found = stats.costs(rows, ["selector"]).set_index("selector")
    assert found["select_seconds"].to_dict() == {"a": 2.0, "b": 2.0, "c": 2.0}
    assert found["train_seconds"].to_dict() == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert set(found["n_rounds"]) == {6}
    # Of 10 picks a query: .1 s and .3 s a pick.
    assert seconds_per_pick(rows)["seconds_per_pick"].tolist() == pytest.approx([0.2, 0.2, 0.2])


def test_the_share_of_queries_in_the_seconds_of_all_rounds() -> None:
    # In each trial of three rounds two queries of 1 s, or of 3 s for b, and 4 s of everything else.
    rows = make_rows().assign(teacher_seconds=0.0, train_seconds=1.0, predict_seconds=1 / 3)
    rows = rows.assign(select_seconds=np.where(rows["round"] == 2, 0.0, np.where(rows["selector"] == "b", 3.0, 1.0)))
    whole, by_selector = stats.selection_share(rows)
    assert by_selector.to_dict() == pytest.approx({"b": 6 / 10, "a": 2 / 6, "c": 2 / 6})
    assert by_selector.index[0] == "b"
    assert whole == pytest.approx(10 / 22)
    assert np.isnan(stats.selection_share(rows.assign(**dict.fromkeys(SECONDS, 0.0)))[0])


def test_early_rounds_are_the_first_two() -> None:
    staged = stats.with_stage(pd.DataFrame({"round": [1, 2, 3]}))
    assert staged["stage"].tolist() == ["early", "early", "late"]


def test_recipes_side_by_side() -> None:
    assert stats.recipe_areas(make_rows()).empty
    rows = pd.concat([make_rows(), make_rows(plus=0.1).assign(recipe="fixed")], ignore_index=True)
    found: Any = stats.recipe_areas(rows).set_index("selector")
    assert found[["r", "fixed"]].loc["b"].tolist() == pytest.approx([0.6, 0.7])


def test_gain_by_the_images_distilled_on() -> None:
    parts = [
        make_rows("t+zeroshot", plus=plus).assign(distillation=d) for d, plus in (("both", 0.1), ("labeled", 0.02))
    ]
    rows = pd.concat([make_rows(), *parts], ignore_index=True)
    found = stats.gain_split(stats.seed_gains(rows)).set_index(["selector", "distillation"])["gain"]
    assert found["a", "both"] == pytest.approx(0.1)
    assert found["a", "labeled"] == pytest.approx(0.02)
    assert stats.gain_split(stats.seed_gains(rows[rows["distillation"] != "labeled"])).empty


def broken(change: str) -> pd.DataFrame:
    rows = make_rows()
    match change:
        case "empty":
            return rows.iloc[:0]
        case "column":
            return rows.drop(columns="seed")
        case "twice":
            return pd.concat([rows, rows.iloc[:1]])
        case "nan":
            return rows.assign(accuracy=rows["accuracy"].where(rows["round"] > 0))
        case "protocol":
            return rows.assign(protocol=[1] * (len(rows) - 1) + [2])
        case _:
            return rows[~((rows["selector"] == "a") & (rows["seed"] == 1))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("empty", "table of rounds is empty"),
        ("column", "lacks the columns seed"),
        ("twice", "more than one row of trial_id=d/none/a/0 round=1"),
        ("nan", r"accuracy of .* accuracy=nan"),
        ("protocol", "protocols 1, 2"),
        ("seeds", "do not share seeds, data sets and rounds"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(change: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stats.check_rows(broken(change))


def test_cells_in_common_are_those_of_both_runs() -> None:
    one, other = make_rows(), make_rows(plus=0.1)
    runs = {"one": one[one["selector"] != "c"], "other": other[other["round"] < 2]}
    common = stats.common_cells({name: stats.seed_means(rows) for name, rows in runs.items()})
    # a and b in rounds 0 and 1.
    assert sorted(zip(common["selector"], common["round"], strict=True)) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert common.notna().all().all()
    (found,) = stats.run_differences(common, "one").to_dict("records")
    assert (found["run"], found["n_cells"]) == ("other", 4)
    assert (found["mean"], found["min"], found["max"]) == pytest.approx((0.1, 0.1, 0.1))


def test_runs_are_compared_on_the_seeds_that_both_have() -> None:
    # Of a in round 1 the seeds have .5 and .6; the other run has seed 1 alone.
    other = make_rows().query("seed == 1")
    common = stats.common_cells({"one": stats.seed_means(make_rows()), "other": stats.seed_means(other)})
    assert set(common["n_seeds"]) == {1}
    assert common["one"].tolist() == common["other"].tolist()
    assert stats.run_differences(common, "one")["n_seeds"].tolist() == [1]


def test_a_seed_without_all_data_sets_is_not_averaged() -> None:
    x, y = make_rows(dataset="x", group="g"), make_rows(dataset="y", group="g", plus=0.1)
    rows = pd.concat([x, y[y["seed"] == 0]], ignore_index=True)
    assert set(stats.seed_means(rows)["seed"]) == {0}
    assert set(areas(rows)["seed"]) == {0}


def test_comparisons_keep_rounds_and_seeds_that_all_cells_have() -> None:
    # a has seeds 0 and 1 in rounds 0, 1, 2; b seed 0 alone in rounds 0 and 1: round by round the same population.
    rows = make_rows().query("selector in ['a', 'b']")
    rows = rows[(rows["selector"] == "a") | ((rows["seed"] == 0) & (rows["round"] < 2))]
    same = stats.alike(rows, [], ["selector"])
    assert set(zip(same["selector"], same["seed"], same["round"], strict=True)) == {
        (name, 0, index) for name in "ab" for index in (0, 1)
    }


def test_columns_of_numbers_are_checked() -> None:
    rows = make_rows().assign(student_ece="low")
    with pytest.raises(InputError, match=r"columns that are no numbers: student_ece has 'low'; expected: numbers"):
        stats.check_rows(rows)
    stats.check_rows(make_rows().assign(student_ece=None))


def test_overlap_and_recipes_share_rounds_and_seeds() -> None:
    # The recipe ``short`` has one seed and rounds 0 and 1: both areas are those of seed 0 between 10 and 20 labels.
    short = make_rows(plus=0.1).query("seed == 0 and round < 2").assign(recipe="short")
    found: Any = stats.recipe_areas(pd.concat([make_rows(), short], ignore_index=True)).set_index("selector")
    assert found.loc["b", ["n_seeds", "r", "short"]].tolist() == pytest.approx([1, 0.5, 0.6])


def test_the_cost_of_a_selector_is_relative_to_the_same_rivals() -> None:
    # In the second configuration c did not run: a and b are cheap there, but not cheaper than c.
    d2 = make_rows(dataset="d2", group="d2").query("selector != 'c'").assign(select_seconds=0.01)
    rows = pd.concat([make_rows(), d2], ignore_index=True)
    found = stats.pareto_overall(areas(rows), stats.query_seconds(rows))
    assert set(found["n_configurations"]) == {1}
    assert found["seconds"].tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_facts_of_a_run() -> None:
    facts = stats.facts_of(make_rows())
    assert facts.distinct["selector"] == ["a", "b", "c"]
    assert facts.distinct["seed"] == ["0", "1"]
    # 18 rounds of 0 + 1 + .5 + .1 seconds.
    assert (facts.n_trials, facts.n_rows, facts.seconds) == pytest.approx((6, 18, 28.8))
    assert stats.joint_provenance({"one": facts, "two": facts})["device"] == ["cpu"]
