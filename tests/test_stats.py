"""Statistics against a 3 x 3 case worked by hand."""

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
