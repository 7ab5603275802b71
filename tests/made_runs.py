"""Runs made of accuracies that a function gives, for tests of statistics and reports."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import stats
from bench.report.frames import Frames
from bench.report.pages import Contents, contents_of, frames_of
from bench.report.rendering import run_markdown
from bench.spec import PROTOCOL
from bench.store.table import Run

ROOT = Path(__file__).parents[1]
SELECTORS = ("random", "entropy", "pcoreset")
TEACHER = "clip_rn50+zeroshot"


def make_rows(
    accuracy: Any,
    *,
    selectors: tuple[str, ...] = SELECTORS,
    teacher: str = TEACHER,
    student: str = "s",
    group: str = "g",
    datasets: tuple[str, ...] = ("d",),
    seeds: int = 5,
    rounds: int = 5,
) -> pd.DataFrame:
    """Rows of one configuration; ``accuracy(selector, dataset, seed, round)`` is a fraction."""
    rows = []
    for dataset in datasets:
        for selector in selectors:
            for seed, index in [(s, r) for s in range(seeds) for r in range(rounds)]:
                rows.append(
                    {
                        "trial_id": f"{group}/{dataset}/{teacher}/{student}/{selector}/{seed}",
                        "round": index,
                        "protocol": PROTOCOL,
                        "dataset": dataset,
                        "group": group,
                        "teacher": teacher,
                        "student": student,
                        "distillation": "none" if teacher == "none" else "both",
                        "recipe": "r",
                        "selector": selector,
                        "seed": seed,
                        "n_labeled": 10 * (index + 1),
                        "n_classes": 10,
                        "query_size": 10,
                        "accuracy": accuracy(selector, dataset, seed, index),
                        "teacher_accuracy": np.nan if teacher == "none" else 0.9,
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


def run_of(rows: pd.DataFrame) -> Run:
    last = rows.groupby("trial_id")["round"].transform("max")
    picks = pd.Series(
        [
            np.arange(10 * index, 10 * index + 10 * (index < end), dtype=np.int64)
            for index, end in zip(rows["round"], last, strict=True)
        ],
        dtype=object,
    )
    columns = ["trial_id", "dataset", *stats.CONFIGURATION, "selector", "seed", "round"]
    return Run("made", rows, rows[columns], picks)


def frames(rows: pd.DataFrame) -> Frames:
    return frames_of(run_of(rows.reset_index(drop=True)))


def text_of(contents: Contents) -> str:
    return run_markdown(contents.page, contents.parts)


def page(rows: pd.DataFrame) -> str:
    return text_of(contents_of(run_of(rows.reset_index(drop=True))))


def noise(*key: Any, size: float = 0.005) -> float:
    """A fixed number of mean 0 for a cell."""
    return float(np.random.default_rng(_seed(key)).normal(0, size))


def _seed(key: tuple[Any, ...]) -> int:
    return sum((i + 1) * ord(letter) for i, letter in enumerate(str(key))) % 2**32


def ahead(lead: float) -> Any:
    return lambda selector, dataset, seed, index: 0.5 + lead * (selector == "pcoreset") + noise(selector, seed, index)
