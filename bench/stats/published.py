"""Published accuracies against those of a run, cell by cell."""

import pandas as pd

from activekd.recipes import NO_TEACHER

MATCH = ["group", "student", "selector", "round", "n_labeled"]


def of_data_sets(published: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The published cells whose group has the published data sets in a run: the name of a group is free.

    Args:
        published: as in ``compare_with_published``; the column datasets, names joined by a space.
        rows: one row per (trial_id, round).
    """
    pairs = rows[["group", "dataset"]].drop_duplicates().sort_values("dataset")
    names = {group: " ".join(part["dataset"]) for group, part in pairs.groupby("group")}
    return published[published["group"].map(names) == published["datasets"]]


def compare_with_published(curves: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The cells of a run that are published, with both accuracies.

    A cell is the same group, student, teacher (network and adaptation), selector and round, with the same number of
    labels. Recipes are not compared: they have no name in a publication.

    Args:
        curves: ``ranking.curves``.
        published: one row per published cell; columns of MATCH, teacher, source, note, published and
            published_half_width (fractions; NaN without an interval).

    Returns:
        Columns group, student, recipe, teacher, distillation, selector, round, accuracy, low, high, n_seeds, published,
        published_half_width, difference (this run minus published), disjoint (the intervals do not overlap; a mean
        without an interval is a point), source and note.
    """
    ours = curves[curves["distillation"].isin([NO_TEACHER, "both"])]
    ours = ours.assign(n_labeled=ours["n_labeled"].round(3))
    theirs = published.assign(n_labeled=published["n_labeled"].round(3))
    keep = [*MATCH, "teacher", "published", "published_half_width", "source", "note"]
    pairs = ours.merge(theirs[keep], on=[*MATCH, "teacher"])
    difference = pairs["accuracy"] - pairs["published"]
    half_width = pairs["published_half_width"].fillna(0)
    low, high = pairs["low"].fillna(pairs["accuracy"]), pairs["high"].fillna(pairs["accuracy"])
    disjoint = (low > pairs["published"] + half_width) | (high < pairs["published"] - half_width)
    keys = ["group", "student", "recipe", "teacher", "distillation", "selector", "round"]
    measured = ["accuracy", "low", "high", "n_seeds", "published", "published_half_width", "difference", "disjoint"]
    pairs = pairs.assign(difference=difference, disjoint=disjoint)
    return pairs[[*keys, *measured, "source", "note"]].reset_index(drop=True)


def published_summary(pairs: pd.DataFrame) -> pd.DataFrame:
    """Differences from published numbers by source and configuration.

    Args:
        pairs: ``compare_with_published``.

    Returns:
        Columns source, student, recipe, teacher, mean, min and max (of the difference), n_cells, n_seeds (the least),
        n_overlap (cells whose intervals overlap).
    """
    groups = pairs.groupby(["source", "student", "recipe", "teacher"], sort=False)
    table = groups.agg(
        mean=("difference", "mean"),
        min=("difference", "min"),
        max=("difference", "max"),
        n_cells=("difference", "size"),
        n_seeds=("n_seeds", "min"),
        n_disjoint=("disjoint", "sum"),
    ).reset_index()
    return table.assign(n_overlap=table["n_cells"] - table.pop("n_disjoint"))
