"""Whether a grid is running on a results folder, and the time left by its rows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.columns import SECONDS
from bench.store.rows import last_start
from bench.store.table import Run


def activity(results: Run, run: Path, busy: bool | None) -> str:
    """Whether a grid is running on a results folder, how many trials run, and the time left.

    A missing round counts the mean seconds of its configuration. The sum is scaled by the time since the grid began
    over the seconds of the rounds since then, as many trials run at a time, several of them in one cohort.

    Args:
        results: of the folder.
        run: the folder.
        busy: whether a grid holds its lock; None where the file system has no locks.
    """
    if not busy:
        return "no grid is running" if busy is not None else "whether a grid is running is unknown: no file locks"
    given_up, start = set(results.failures), last_start(run)
    running = start.rounds.keys() & set(results.holes["trial_id"]) - given_up
    by = ["dataset", "teacher", "student", "recipe"]
    rows = results.rows.assign(seconds=results.rows[list(SECONDS)].sum(axis=1))
    seconds = rows.groupby(by)["seconds"].mean()
    left = results.holes[~results.holes["trial_id"].isin(given_up)].groupby(by).size()
    measured = rows["seconds"][rows["round"] >= rows["trial_id"].map(start.rounds)].sum()
    if start.at is None or not measured or not running:
        return "a grid is running"
    work = float((left * seconds.reindex(left.index).fillna(seconds.mean())).sum())
    elapsed = (datetime.now(UTC) - start.at).total_seconds()
    return f"a grid is running, {len(running)} trials, {timedelta(seconds=round(work * elapsed / measured))} left"
