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
        Columns source, note, group, datasets (names in alphabetical order, joined by a space), student, teacher,
        adaptation, selector, round, n_labeled, published and published_half_width (fractions).
    """
    cells = []
    for series in tomllib.loads(FILE.read_text(encoding="utf-8"))["series"]:
        for adaptation in ADAPTATIONS:
            for selector, numbers in series[adaptation].items():
                cells.append(
                    {
                        "source": series["source"],
                        "note": series["note"],
                        "group": series["group"],
                        "datasets": " ".join(sorted(series["datasets"])),
                        "student": series["student"],
                        "teacher": NO_TEACHER if adaptation == NO_TEACHER else f"{series['network']}+{adaptation}",
                        "adaptation": adaptation,
                        "selector": selector,
                        "round": series["round"],
                        "n_labeled": float(series["n_labeled"]),
                        "published": numbers["accuracy"] / 100,
                        "published_half_width": numbers["half_width"] / 100,
                    }
                )
    return pd.DataFrame(cells)
