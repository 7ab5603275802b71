"""Ranks from few blocks or data sets, over unequal settings, and who is clearly first."""

import pandas as pd
import pytest
from made_runs import frames, make_rows, noise, page, run_of

from bench import stats
from bench.report.pages import contents_of


def test_case_17_permutation_p_of_few_blocks() -> None:
    """Three blocks of six selectors, from real runs."""
    selectors = ["badge", "classbalanced", "coreset", "entropy", "pcoreset", "random"]
    accuracies = [
        [0.912281, 0.917750, 0.908978, 0.906811, 0.919401, 0.892054],
        [0.913829, 0.907946, 0.913622, 0.911662, 0.913725, 0.893086],
        [0.875851, 0.868111, 0.839422, 0.858720, 0.874200, 0.807843],
    ]
    index = pd.MultiIndex.from_tuples(
        [(3, "g", teacher, "s", "both", "r", "d") for teacher in ("none", "zeroshot", "clap")],
        names=["round", "group", "teacher", "student", "distillation", "recipe", "dataset"],
    )
    found = stats.friedman(pd.DataFrame(accuracies, index, selectors)).set_index("round")
    assert found.loc[3, "n_blocks"] == 3
    assert found.loc[3, "f_p"] == pytest.approx(0.0086, abs=0.001)
    assert found["permuted"].all()


def test_case_17_tests_are_left_out_for_fewer_than_five_data_sets() -> None:
    def accuracy(selector: str, dataset: str, seed: int, index: int) -> float:
        return 0.5 + 0.1 * (selector == "pcoreset") + noise(selector, dataset, seed, index, size=0.02)

    few = make_rows(accuracy, datasets=("a", "b", "c", "d"))
    for name in ("friedman", "nemenyi", "wilcoxon", "mean_ranks"):
        assert frames(few)[name].empty, name
    assert "tests are left out: the run has fewer than 5 data sets" in page(few)
    five = frames(make_rows(accuracy, datasets=("a", "b", "c", "d", "e")))
    assert five["friedman"]["permuted"].all()
    # Five blocks: of 2^5 changes of signs two are as extreme.
    assert five["wilcoxon"]["p"].min() == 2 / 2**5
    assert (five["nemenyi"]["p"] <= 1).all()


def test_case_18_selectors_are_ranked_on_the_same_settings() -> None:
    """``entropy`` ran in the easy block alone: its mean accuracy is not that of easier settings."""
    easy = make_rows(lambda selector, *cell: {"random": 0.9, "entropy": 0.85, "pcoreset": 0.8}[selector], group="easy")
    hard = make_rows(lambda selector, *cell: 0.3, group="hard", selectors=("random", "pcoreset"))
    rows = pd.concat([easy, hard], ignore_index=True)
    table = frames(rows)["rank_table"].set_index("selector")
    assert table["mean_accuracy"].to_dict() == pytest.approx({"random": 0.9, "entropy": 0.85, "pcoreset": 0.8})
    assert table["mean_rank"].to_dict() == {"random": 1.0, "entropy": 2.0, "pcoreset": 3.0}
    assert table["partial"].to_dict() == {"random": False, "entropy": True, "pcoreset": False}
    assert table["settings"].to_dict() == {"random": 8, "entropy": 4, "pcoreset": 8}
    text = page(rows)
    assert "| entropy (partial) |" in text
    assert "over the 4 settings in which every selector took part" in text


def test_case_18_selectors_without_a_common_setting() -> None:
    one = make_rows(lambda *cell: 0.5, group="one", selectors=("random", "entropy"))
    other = make_rows(lambda *cell: 0.5, group="other", selectors=("badge", "pcoreset"))
    rows = pd.concat([one, other], ignore_index=True)
    table = frames(rows)["rank_table"]
    assert table["partial"].all()
    assert table["mean_rank"].isna().all()
    contents = contents_of(run_of(rows))
    next(drawing for drawing in contents.drawings if drawing.stem == "ranks").draw()


def test_case_19_clearly_first_is_clear_of_every_other() -> None:
    shift = {"a": (0, 0, 0, 0, 0), "b": (0.001, -0.001, 0, 0.001, -0.001), "c": (0.04, -0.04, 0.03, -0.03, 0)}
    middle = {"a": 0.700, "b": 0.690, "c": 0.683}
    rows = make_rows(
        lambda selector, dataset, seed, index: middle[selector] + shift[selector][seed],
        selectors=("a", "b", "c"),
        rounds=2,
    )
    (lead,) = frames(rows)["margins"].to_dict("records")
    assert (lead["first"], lead["second"]) == ("a", "b")
    assert lead["low"] > 0
    assert not lead["clear"]
    narrow = rows.assign(accuracy=rows["accuracy"].where(rows["selector"] != "c", 0.683 + 0.001 * (rows["seed"] % 2)))
    assert frames(narrow)["margins"]["clear"].all()
