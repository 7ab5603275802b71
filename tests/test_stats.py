"""Statistics against a 3 x 3 case worked by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from activekd.errors import InputError
from bench import stats

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


def test_ranks_by_hand() -> None:
    ranked = stats.ranks(make_rows()).set_index(["round", "selector"])
    # Round 1: means .55, .65, .45. Round 2: .80, .80, .60, so a and b share the first place.
    assert ranked["rank"].to_dict() == {(1, "a"): 2, (1, "b"): 1, (1, "c"): 3, (2, "a"): 1, (2, "b"): 1, (2, "c"): 3}
    assert ranked.loc[(2, "a"), "rank_average"] == 1.5
    assert ranked["tied"].to_dict() == {(1, "a"): False, (1, "b"): False, (1, "c"): False} | {
        (2, "a"): True,
        (2, "b"): True,
        (2, "c"): False,
    }


def test_rank_table_by_hand() -> None:
    table = stats.rank_table(stats.ranks(make_rows())).set_index("selector")
    assert list(table.index) == ["b", "a", "c"]
    assert table["first"].to_dict() == {"b": 2, "a": 1, "c": 0}
    assert table["tied_first"].to_dict() == {"b": 1, "a": 1, "c": 0}
    assert table["mean_rank"].to_dict() == {"b": 1.25, "a": 1.75, "c": 3.0}
    assert set(table["settings"]) == {2}
    assert stats.headline(table.reset_index()) == "b first in 2 of 2 settings (100.0%; 1 shared)"


def test_curves_have_student_t_intervals_over_seeds() -> None:
    curve = stats.curves(make_rows()).query("selector == 'b' and round == 1").iloc[0]
    low, high = reference.t.interval(0.95, 1, loc=0.65, scale=reference.sem([0.7, 0.6]))
    assert (curve["accuracy"], curve["low"], curve["high"], curve["n_seeds"]) == pytest.approx((0.65, low, high, 2))


def test_one_seed_has_no_interval() -> None:
    rows = make_rows()
    curve = stats.curves(rows[rows["seed"] == 0])
    assert curve["low"].isna().all()
    assert set(curve["n_seeds"]) == {1}


def test_gain_is_paired() -> None:
    rows = pd.concat([make_rows(), make_rows("t+zeroshot", plus=0.05)], ignore_index=True)
    gain = stats.gain(rows)
    assert gain["gain"].to_numpy() == pytest.approx(np.full(9, 0.05))
    assert gain["high"].to_numpy() == pytest.approx(np.full(9, 0.05))
    assert stats.gain(make_rows()).empty


def test_data_sets_of_a_group_are_averaged_before_ranking() -> None:
    first, second = make_rows(dataset="x", group="g"), make_rows(dataset="y", group="g")
    swapped = second["selector"].map({"a": "c", "b": "b", "c": "a"})
    rows = pd.concat([first, second.assign(selector=swapped, trial_id="y" + second["trial_id"])], ignore_index=True)
    ranked = stats.ranks(rows)
    assert len(ranked) == 6
    means = ranked.set_index(["round", "selector"])["accuracy"]
    assert means[(1, "a")] == pytest.approx((0.55 + 0.45) / 2)
    assert means[(1, "a")] == pytest.approx(means[(1, "c")])


def test_clear_first_places_by_hand() -> None:
    # Round 1: b minus a is .2 and 0 in the two seeds, an interval around 0; in round 2 they are tied.
    assert not stats.ranks(make_rows())["clear"].any()
    ahead = make_rows().assign(accuracy=lambda rows: rows["accuracy"].where(rows["selector"] != "b", 0.95))
    found = stats.ranks(ahead).set_index(["round", "selector"])["clear"]
    assert found[found].index.tolist() == [(2, "b")]
    table = stats.rank_table(stats.ranks(ahead)).set_index("selector")
    assert table["clear_first"].to_dict() == {"b": 1, "a": 0, "c": 0}
    margins: Any = stats.margins(ahead).set_index("round")
    # Seeds of round 2: .95 - .80 twice.
    assert margins.loc[2, ["margin", "low", "high"]].tolist() == pytest.approx([0.15, 0.15, 0.15])
    low, high = reference.t.interval(0.95, 1, loc=0.4, scale=reference.sem([0.45, 0.35]))
    assert margins.loc[1, ["margin", "low", "high"]].tolist() == pytest.approx([0.4, low, high])
    assert margins["second"].tolist() == ["a", "a"]


def test_first_places_when_seeds_are_drawn_anew() -> None:
    """Two seeds have three draws: both, twice the one, twice the other."""
    # Both: b first in round 1, a and b share round 2. Seed 0 twice: b first in both (.7, .9). Seed 1 twice: a and b
    # share round 1 (.6), a first in round 2 (.8).
    found: Any = stats.first_place_intervals(make_rows()).set_index("selector")
    assert found.loc["a"].tolist() == [0, 2, 2]
    assert found.loc["b"].tolist() == [1, 2, 2]
    assert found.loc["c"].tolist() == [0, 0, 2]
    assert stats.first_place_intervals(make_rows().query("seed == 0"))["first_low"].isna().all()


def test_win_matrix_by_hand() -> None:
    found: Any = stats.win_matrix(make_rows()).set_index(["selector", "against"])
    assert found.loc[("b", "a"), ["settings", "wins", "ties", "losses"]].tolist() == [2, 1, 1, 0]
    assert found.loc[("a", "b"), ["settings", "wins", "ties", "losses"]].tolist() == [2, 0, 1, 1]
    assert found.loc[("a", "c"), ["settings", "wins", "ties", "losses"]].tolist() == [2, 2, 0, 0]
    # a minus c is .1 and .1 in round 1, .2 and .2 in round 2: no spread, so clear.
    assert found.loc[("a", "c"), ["clear_wins", "clear_losses"]].tolist() == [2, 0]
    assert found.loc[("c", "a"), ["clear_wins", "clear_losses"]].tolist() == [0, 2]


def test_labels_saved_by_hand() -> None:
    # Means of a over labels 10, 20, 30: .3, .55, .8; of b: .65, .80 from round 1 on; of c: .45, .60.
    found: Any = stats.labels_saved(make_rows(), "a").set_index(["selector", "round"])
    assert found["reference_labels"].to_dict() == pytest.approx(
        {("b", 1): 24.0, ("b", 2): 30.0, ("c", 1): 16.0, ("c", 2): 22.0}
    )
    assert found["saved"].to_dict() == pytest.approx({("b", 1): 4.0, ("b", 2): 0.0, ("c", 1): -4.0, ("c", 2): -8.0})
    assert not found["beyond"].any()
    behind: Any = stats.labels_saved(make_rows(), "c").set_index(["selector", "round"])
    assert behind.loc[("b", 1), ["reference_labels", "saved", "beyond"]].tolist() == [30.0, 10.0, True]
    assert stats.labels_saved(make_rows(), "nobody").empty


def test_front_of_accuracy_and_cost_by_hand() -> None:
    # Areas: a .55, b .6, c .4875; c is cheap, a as dear as b.
    seconds = {"a": 3.0, "b": 3.0, "c": 1.0}
    found = stats.pareto(make_rows().assign(train_seconds=lambda rows: rows["selector"].map(seconds)))
    assert found.set_index("selector")["on_front"].to_dict() == {"c": True, "b": True, "a": False}
    assert found.set_index("selector")["seconds"].to_dict() == pytest.approx({"a": 10.8, "b": 10.8, "c": 4.8})


def test_recipes_side_by_side() -> None:
    assert stats.recipes_beside(make_rows()).empty
    rows = pd.concat([make_rows(), make_rows(plus=0.1).assign(recipe="fixed")], ignore_index=True)
    found: Any = stats.recipes_beside(rows).set_index("selector")
    assert found[["r", "fixed"]].loc["b"].tolist() == pytest.approx([0.6, 0.7])


def test_gain_by_the_images_that_are_taught() -> None:
    parts = [
        make_rows("t+zeroshot", plus=plus).assign(distillation=d) for d, plus in (("both", 0.1), ("labeled", 0.02))
    ]
    rows = pd.concat([make_rows(), *parts], ignore_index=True)
    found = stats.gain_split(rows).set_index(["selector", "distillation"])["gain"]
    assert found["a", "both"] == pytest.approx(0.1)
    assert found["a", "labeled"] == pytest.approx(0.02)
    assert stats.gain_split(rows[rows["distillation"] != "labeled"]).empty


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
