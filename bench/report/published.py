"""Published accuracies beside those of a run, cell by cell; knows the data file and the columns of ``stats.curves``."""

import tomllib
from functools import lru_cache
from pathlib import Path

import pandas as pd

FILE = Path(__file__).parent / "published.toml"
NO_TEACHER = "none"
ADAPTATIONS = (NO_TEACHER, "zeroshot", "clap")
KEYS = ["group", "adaptation", "selector", "round"]


@lru_cache(maxsize=1)
def published() -> pd.DataFrame:
    """Every published cell.

    Returns:
        Columns source, note (empty where there is none), group, student (None where the source does not name it),
        adaptation, selector, round, theirs and their_half_width (fractions; NaN where no interval is published).
    """
    cells = []
    for series in tomllib.loads(FILE.read_text(encoding="utf-8"))["series"]:
        for adaptation in ADAPTATIONS:
            for selector, numbers in series.get(adaptation, {}).items():
                widths = numbers.get("half_width", [float("nan")] * len(numbers["accuracy"]))
                for offset, (accuracy, width) in enumerate(zip(numbers["accuracy"], widths, strict=True)):
                    cells.append(
                        {
                            "source": series["source"],
                            "note": series.get("note", ""),
                            "group": series["group"],
                            "student": series.get("student"),
                            "adaptation": adaptation,
                            "selector": selector,
                            "round": series["first_round"] + offset,
                            "theirs": accuracy / 100,
                            "their_half_width": width / 100,
                        }
                    )
    return pd.DataFrame(cells)


def beside(curves: pd.DataFrame) -> pd.DataFrame:
    """The cells of a run that somebody published, with both accuracies.

    Args:
        curves: ``stats.curves``.

    Returns:
        Columns group, student, recipe, teacher, selector, round, accuracy, low, high, theirs, their_half_width,
        difference (ours minus theirs), apart (the intervals do not meet; a mean without an interval is a point), source
        and note.
    """
    ours = curves[curves["distillation"].isin([NO_TEACHER, "both"])]
    ours = ours.assign(adaptation=ours["teacher"].str.rpartition("+")[2])
    pairs = ours.merge(published().rename(columns={"student": "their_student"}), on=KEYS)
    pairs = pairs[pairs["their_student"].isna() | (pairs["their_student"] == pairs["student"])]
    difference = pairs["accuracy"] - pairs["theirs"]
    reach = (pairs["high"] - pairs["accuracy"]).fillna(0) + pairs["their_half_width"].fillna(0)
    columns = ["group", "student", "recipe", "teacher", "selector", "round", "accuracy", "low", "high", "theirs"]
    return pairs.assign(difference=difference, apart=difference.abs() > reach)[
        [*columns, "their_half_width", "difference", "apart", "source", "note"]
    ].reset_index(drop=True)
