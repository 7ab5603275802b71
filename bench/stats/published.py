"""Published accuracies against those of a run, cell by cell."""

import pandas as pd

from activekd.recipes import NO_TEACHER

MATCH = ["group", "adaptation", "selector", "round"]


def compare_with_published(curves: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The cells of a run that are published, with both accuracies.

    Args:
        curves: ``ranking.curves``.
        published: one row per published cell; columns of MATCH, source, note, student (None where the source names
            none), published and published_half_width (fractions; NaN without an interval).

    Returns:
        Columns group, student, recipe, teacher, distillation, selector, round, accuracy, low, high, published,
        published_half_width, difference (this run minus published), disjoint (the intervals do not overlap; a mean
        without an interval is a point), source and note.
    """
    ours = curves[curves["distillation"].isin([NO_TEACHER, "both"])]
    ours = ours.assign(adaptation=ours["teacher"].str.rsplit("+", n=1).str[-1])
    pairs = ours.merge(published.rename(columns={"student": "named_student"}), on=MATCH)
    pairs = pairs[pairs["named_student"].isna() | (pairs["named_student"] == pairs["student"])]
    difference = pairs["accuracy"] - pairs["published"]
    half_widths = (pairs["high"] - pairs["accuracy"]).fillna(0) + pairs["published_half_width"].fillna(0)
    keys = ["group", "student", "recipe", "teacher", "distillation", "selector", "round"]
    measured = ["accuracy", "low", "high", "published", "published_half_width", "difference", "disjoint"]
    pairs = pairs.assign(difference=difference, disjoint=difference.abs() > half_widths)
    return pairs[[*keys, *measured, "source", "note"]].reset_index(drop=True)


def published_summary(pairs: pd.DataFrame) -> pd.DataFrame:
    """Differences from published numbers by source and configuration.

    Args:
        pairs: ``compare_with_published``.

    Returns:
        Columns source, student, recipe, teacher, mean, min and max (of the difference), n_cells, n_overlap (cells
        whose intervals overlap).
    """
    groups = pairs.groupby(["source", "student", "recipe", "teacher"], sort=False)
    table = groups.agg(
        mean=("difference", "mean"),
        min=("difference", "min"),
        max=("difference", "max"),
        n_cells=("difference", "size"),
        n_disjoint=("disjoint", "sum"),
    ).reset_index()
    return table.assign(n_overlap=table["n_cells"] - table.pop("n_disjoint"))
