"""Reference lines: the student with all labels, the teacher alone, a linear probe and CLAP, none of which is ranked."""

from collections.abc import Sequence

import pandas as pd

from bench.columns import REFERENCES, SETTING
from bench.stats.main_table import MAIN_COLUMNS, averaged, chosen, mean_and_spread, members_of
from bench.stats.ranking import curves
from bench.stats.rows import data_set_means

REFERENCE = "reference"
"""Column with the name of a reference line, a key of REFERENCES."""

ALL_LABELS, TEACHER = "all_labels_accuracy", "teacher_accuracy"


def has_references(rows: pd.DataFrame) -> bool:
    """Whether a row has a reference line; the accuracy of the teacher alone, which rows have anyway, is none."""
    return any(rows[name].notna().any() for name in REFERENCES if name != TEACHER and name in rows)


def reference_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each reference line of each seed, the data sets of a configuration averaged.

    The trials that measure them are one a seed. All labels is measured in round 0 and stands in every round.

    Args:
        rows: of selectors that are ranked, checked by ``rows.check_rows``.

    Returns:
        The columns of ``rows.seed_means``, with the names of the lines in ``selector``; a line is there where every
        data set of its configuration has it.
    """
    lines = [name for name in REFERENCES if name in rows]
    of_trial = rows.groupby("trial_id")
    measured = pd.Series(data=False, index=rows.index)
    for name in lines:
        if name != TEACHER:
            measured |= of_trial[name].transform("count") > 0
    some = rows[measured]
    if ALL_LABELS in lines:
        some = some.assign(**{ALL_LABELS: some.groupby("trial_id")[ALL_LABELS].transform("first")})
    by = [*SETTING, "selector", "seed"]
    parts = []
    for name in lines:
        of_line = some.assign(selector=name, accuracy=some[name]).dropna(subset="accuracy")
        parts.append(data_set_means(of_line, by, ["accuracy", "n_labeled"], rows))
    return pd.concat(parts, ignore_index=True)


def references(reference_seeds: pd.DataFrame) -> pd.DataFrame:
    """The reference lines over rounds, means over seeds.

    Args:
        reference_seeds: ``reference_seeds``.

    Returns:
        Columns of SETTING, reference, n_labeled, accuracy, low, high (95% Student t over seeds; NaN for one seed),
        n_seeds; in the order of REFERENCES.
    """
    place = {name: index for index, name in enumerate(REFERENCES)}
    found = curves(reference_seeds).rename(columns={"selector": REFERENCE})
    found = found.sort_values(
        [*SETTING, REFERENCE], key=lambda values: values.map(place) if values.name == REFERENCE else values
    )
    return found.reset_index(drop=True)


def main_references(reference_seeds: pd.DataFrame, seeds: pd.DataFrame, budgets: Sequence[str] = ()) -> pd.DataFrame:
    """The reference lines in the columns of the main table, mean and standard deviation over seeds.

    An average has a line where each of its configurations has it.

    Args:
        reference_seeds: ``reference_seeds``.
        seeds: ``rows.seed_means`` of the selectors.
        budgets: as of ``main_table.main_table``.

    Returns:
        The columns of ``main_table.main_table``: no line is best or tested.
    """
    cells = chosen(seeds, budgets)
    members = members_of(cells)
    places = cells.drop(columns=["selector", "seed", "accuracy", "n_labeled"]).drop_duplicates()
    shown = reference_seeds.merge(places, on=list(SETTING))
    found = mean_and_spread(averaged(shown, members), budgets)
    return found.assign(best=False, p_holm=float("nan"), not_different=False)[[*MAIN_COLUMNS]]
