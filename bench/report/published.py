"""The published accuracies of published.toml as a frame."""

import tomllib
from functools import lru_cache
from pathlib import Path

import pandas as pd

from activekd.recipes import NO_TEACHER

FILE = Path(__file__).parent / "published.toml"
ADAPTATIONS = (NO_TEACHER, "zeroshot", "clap")


@lru_cache(maxsize=1)
def published_cells() -> pd.DataFrame:
    """Every published cell.

    Returns:
        Columns source, note (may be empty), group, student (None where the source names none), adaptation, selector,
        round, published and published_half_width (fractions; NaN without an interval).
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
                            "published": accuracy / 100,
                            "published_half_width": width / 100,
                        }
                    )
    return pd.DataFrame(cells)
