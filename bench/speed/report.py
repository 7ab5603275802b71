"""Seconds and memory of the report of a synthetic run of thousands of trials."""

import tempfile
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from activekd.memory import peak_rss_bytes
from bench.columns import COLUMNS, DIAGNOSTICS, OUTCOMES
from bench.report.pages import write_report
from bench.speed.bars import Bar, apart
from bench.store.table import Run

LIMIT_SECONDS, LIMIT_BYTES = 90.0, 2e9

SELECTORS = ("random", "entropy", "coreset", "badge", "classbalanced", "pcoreset")
TEACHERS = ("none", "a+zeroshot", "a+clap", "b+zeroshot")
STUDENTS = ("s1", "s2", "s3", "s4")
SEEDS = 5
QUERY_SIZE = 10
POOL = 1_000


def synthetic_run(n_trials: int, n_rounds: int) -> Run:
    """Rows of about so many trials, one data set a group: the longest tables that so many rows give."""
    trials_per_dataset = len(SELECTORS) * len(TEACHERS) * len(STUDENTS) * SEEDS
    datasets = [f"d{k}" for k in range(max(1, round(n_trials / trials_per_dataset)))]
    names = ["dataset", "teacher", "student", "selector", "seed"]
    trials = pd.DataFrame(product(datasets, TEACHERS, STUDENTS, SELECTORS, range(SEEDS)), columns=names)
    trials = trials.assign(trial_id=[f"{k:016x}" for k in range(len(trials))])
    rows = trials.loc[trials.index.repeat(n_rounds)].reset_index(drop=True)
    index, n = np.tile(np.arange(n_rounds), len(trials)), len(rows)
    rng = np.random.default_rng(0)
    rows = rows.assign(
        round=index,
        protocol=1,
        group=rows["dataset"],
        distillation=np.where(rows["teacher"] == "none", "none", "both"),
        recipe="r",
        n_labeled=QUERY_SIZE * (index + 1),
        n_classes=QUERY_SIZE,
        query_size=QUERY_SIZE,
        accuracy=np.clip(0.3 + 0.03 * index + rng.normal(0.0, 0.03, n), 0.0, 1.0),
        teacher_accuracy=0.5,
        teacher_seconds=1.0,
        train_seconds=2.0,
        predict_seconds=0.1,
        select_seconds=0.1,
        peak_rss_bytes=10**9,
        commit="0" * 12,
        versions="v",
        device="cpu",
        **{name: rng.uniform(size=n) for name in (*OUTCOMES, *DIAGNOSTICS)},
    )
    nothing = np.array([], dtype=np.int64)
    picks = pd.Series([rng.choice(POOL, QUERY_SIZE, replace=False) if r < n_rounds - 1 else nothing for r in index])
    return Run("synthetic", rows[list(COLUMNS)], rows[["trial_id", "round"]], picks)


def _measure(n_trials: int, n_rounds: int, folder: Path) -> tuple[float, int, int]:
    """Seconds, peak memory in bytes and rows of a report."""
    run = synthetic_run(n_trials, n_rounds)
    start = perf_counter()
    write_report(run, folder)
    return perf_counter() - start, peak_rss_bytes(), len(run.rows)


def report_bars(n_trials: int, n_rounds: int) -> list[Bar]:
    """Seconds and peak memory of the report of a synthetic run."""
    with tempfile.TemporaryDirectory(prefix="activekd-speed-") as scratch:
        seconds, peak, n_rows = apart(_measure, n_trials, n_rounds, Path(scratch) / "report")
        size = sum(path.stat().st_size for path in Path(scratch).rglob("*") if path.is_file())
    what = f"report of {n_rows:,} rows"
    return [
        Bar(f"{what}: seconds", seconds, LIMIT_SECONDS, f"{size / 1e6:.0f} MB of files"),
        Bar(f"{what}: peak memory, GB", peak / 1e9, LIMIT_BYTES / 1e9),
    ]
