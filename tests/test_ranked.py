"""What an unfinished run is ranked on, on cases worked by hand, and what is left out."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from test_report import run_of
from test_stats import make_rows

from bench.report.contents import missing_of
from bench.report.pages import contents_of
from bench.report.ranked import NothingToRankError, Ranked, ranked
from bench.store.table import Run

FAULT = "Traceback (most recent call last):\n  File x\nValueError: it is odd\n"


def unfinished(kept: Callable[[pd.DataFrame], pd.Series], *, failed: bool = False) -> Run:
    """Two teachers, two data sets, three selectors, two seeds, rounds 0 to 2, of which the kept rows are stored."""
    parts = [make_rows(teacher, dataset=d, group=d) for teacher in ("none", "t+clap") for d in "de"]
    run = run_of(pd.concat(parts, ignore_index=True))
    is_kept = kept(run.rows)
    lost = run.rows.loc[~is_kept, "trial_id"].unique() if failed else []
    return replace(
        run,
        rows=run.rows[is_kept].reset_index(drop=True),
        picks=run.picks[is_kept].reset_index(drop=True),
        failures=dict.fromkeys(lost, FAULT),
    )


def shape(chosen: Ranked) -> dict[str, int]:
    return {column: chosen.rows[column].nunique() for column in ("dataset", "teacher", "selector", "seed", "round")}


ALL = {"dataset": 2, "teacher": 2, "selector": 3, "seed": 2, "round": 3}


def test_a_finished_run_is_ranked_whole() -> None:
    chosen = ranked(unfinished(lambda rows: rows["round"] >= 0))
    assert chosen.left_out == []
    assert shape(chosen) == ALL


@pytest.mark.parametrize(
    ("column", "name", "n_trials"), [("selector", "b", 8), ("dataset", "e", 12), ("teacher", "t+clap", 12)]
)
def test_a_name_that_failed_everywhere_is_left_out_with_its_reason(column: str, name: str, n_trials: int) -> None:
    chosen = ranked(unfinished(lambda rows: rows[column] != name, failed=True))
    assert shape(chosen) == {**ALL, column: ALL[column] - 1}
    (remark,) = chosen.left_out
    label = {"dataset": "data set"}.get(column, column)
    assert (
        remark
        == f"ranked without {label} {name}: {n_trials} of {n_trials} trials failed, such as with ValueError: it is odd"
    )


def test_a_selector_that_always_fails_later_is_left_out_once_all_its_trials_were_given_up() -> None:
    def late(rows: pd.DataFrame) -> pd.Series:
        return (rows["selector"] != "b") | (rows["round"] < 2)

    assert shape(ranked(unfinished(late, failed=True))) == {**ALL, "selector": 2}
    assert shape(ranked(unfinished(late))) == {**ALL, "round": 2}


def test_seeds_that_have_not_run_and_seeds_that_are_under_way() -> None:
    chosen = ranked(unfinished(lambda rows: rows["seed"] == 0))
    assert shape(chosen) == {**ALL, "seed": 1}
    assert chosen.left_out == ["ranked on 1 of 2 seeds"]
    # One query round of two seeds is as much as two query rounds of one seed: more seeds.
    chosen = ranked(unfinished(lambda rows: (rows["seed"] == 0) | (rows["round"] < 2)))
    assert shape(chosen) == {**ALL, "round": 2}
    assert chosen.left_out == ["ranked on fewer rounds than planned: 4 of 4 configurations"]


def test_configurations_with_other_seeds_than_others() -> None:
    chosen = ranked(unfinished(lambda rows: (rows["teacher"] == "none") | (rows["seed"] == 1)))
    assert chosen.left_out == ["ranked on 1 of 2 seeds or 2 of 2 seeds, by configuration"]
    contents = contents_of(unfinished(lambda rows: (rows["teacher"] == "none") | (rows["seed"] == 1)), partial=True)
    assert contents.parts.missing.left_out == chosen.left_out


def test_a_selector_that_failed_in_one_configuration_takes_this_configuration_out() -> None:
    chosen = ranked(unfinished(lambda rows: (rows["selector"] != "b") | (rows["dataset"] == "d"), failed=True))
    assert shape(chosen) == {**ALL, "dataset": 1}
    (remark,) = chosen.left_out
    assert remark.startswith("ranked without 2 of 4 configurations, in which no seed has a query round of every sel")


def test_one_survivor_is_reported_without_a_ranking() -> None:
    run = unfinished(lambda rows: rows["selector"] == "a", failed=True)
    contents = contents_of(run, partial=True)
    assert contents.page.caveats == ["The run has one selector, so it has no ranking."]
    assert len(contents.parts.missing.left_out) == 2
    assert missing_of(run).trials[0].endswith("b seed 0 from round 0, failed: ValueError: it is odd")


def test_nothing_to_rank_says_why() -> None:
    with pytest.raises(
        NothingToRankError, match=r"no query round is stored: nothing to rank; expected: at least 2 rou"
    ):
        ranked(unfinished(lambda rows: rows["round"] == 0))
    with pytest.raises(
        NothingToRankError, match=r"24 of 24 trials failed, such as with ValueError: it is odd\); expected"
    ):
        ranked(unfinished(lambda rows: rows["round"] < 0, failed=True))
    with pytest.raises(
        NothingToRankError, match="no configuration has a query round of every selector for one seed; exp"
    ):
        ranked(unfinished(lambda rows: (rows["round"] == 0) | ((rows["selector"] == "a") == (rows["seed"] == 0))))
