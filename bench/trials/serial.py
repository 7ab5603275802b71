"""Cohorts one after the other in this process, without Ray: for a debugger."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from activekd.inputs import Banked, compute_shards, compute_text_head
from activekd.teachers.text_heads import TextHead
from bench.columns import Row, seconds_of
from bench.settings import DETERMINISTIC_ENVIRONMENT, Options, local_device
from bench.store.rows import Store
from bench.terminal import GridProgress
from bench.trials.cohorts import Cohort, cohorts
from bench.trials.first_fits import FitFolders, shared_first_fits
from bench.trials.resolved import ResolvedTrial, array_name, computed_together, shards_of, text_heads_of
from bench.trials.run import Execution, Fault, run_cohort_rows, run_stored
from bench.trials.tracebacks import show_from_selector_on
from bench.trials.zeroshot import ZeroShotLines


def run_serially(
    trials: Sequence[ResolvedTrial],
    done: Mapping[str, int],
    cache: Path,
    folder: Path,
    progress: GridProgress,
    options: Options,
    begin: Callable[[], None],
) -> None:
    """Run the missing rounds of these trials; an exception in a trial ends the run, and shows its selector's frames.

    Args:
        trials: each with a missing round.
        done: stored rounds of each trial, by id.
        cache: folder of the caches.
        folder: the results folder.
        progress: updated after every step.
        options: of the command.
        begin: called once, when nothing refuses the grid any more and before anything is written.
    """
    device, threads = local_device(options.device), options.extraction.cpus
    execution = Execution(device, options.trial.cpus, options.diagnostics, deterministic=options.deterministic)
    if options.deterministic:
        os.environ.update(DETERMINISTIC_ENVIRONMENT)
    shards = shards_of(trials)
    begin()
    store = Store(folder)
    with closing(store), progress:
        banked = {}
        progress.banked(0, len(shards))
        for group in computed_together(shards):
            first, trial = group[0], shards[group[0]]
            more = f" and {len(group) - 1} more" if len(group) > 1 else ""
            progress.banked(len(banked), len(shards), f"{array_name(first)}{more}")
            split, encoder = trial.split(first.split), trial.encoder_of(first)
            arrays = compute_shards(group, split, encoder, cache, device, threads)
            banked |= {shard.key: array for shard, array in zip(group, arrays, strict=True)}
            progress.banked(len(banked), len(shards))
        heads = {
            key: compute_text_head(trial.teacher.network, trial.dataset, cache, device, threads)
            for key, trial in text_heads_of(trials).items()
            if trial.teacher is not None
        }
        ready = {**banked, **heads}
        ZeroShotLines(trials).look(ready.__contains__, ready.__getitem__)
        first_fits = shared_first_fits(trials, done, cache, execution.of_fits)
        fits = FitFolders(first_fits)
        for cohort in cohorts(trials, 1, done, first_fits=first_fits):
            _run(cohort, banked, heads, store, progress, fits, execution)


def _run(
    cohort: Cohort,
    banked: Banked,
    heads: Mapping[tuple[str, str], TextHead],
    store: Store,
    progress: GridProgress,
    fits: FitFolders,
    execution: Execution,
) -> None:
    first = cohort.trials[0]
    head = heads[first.head_key] if first.head_key else None
    for trial in cohort.trials:
        progress.started(trial.id)

    def begin() -> dict[str, list[Row]]:
        return {trial.id: store.begin(trial.id) for trial in cohort.trials}

    run = partial(run_cohort_rows, cohort, banked, head, execution=execution)
    for outcome in run_stored(begin, run, store.append):
        if isinstance(outcome, Fault):
            sys.excepthook = show_from_selector_on
            raise outcome.error
        progress.round_done(outcome["trial_id"], seconds_of(outcome))
        fits.passed(outcome["trial_id"])
    for trial in cohort.trials:
        progress.ended(trial.id)
