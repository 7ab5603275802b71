"""Trials one after the other in this process, without Ray: for a debugger."""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.columns import seconds_of
from bench.settings import DETERMINISTIC_ENVIRONMENT, Options, local_device
from bench.store.rows import Store
from bench.terminal import GridProgress
from bench.trials.inputs import compute_shards, compute_text_head
from bench.trials.resolved import ResolvedTrial, computed_together, shards_of, text_heads_of
from bench.trials.run import Execution, run_stored, run_trial


def run_serially(
    trials: Sequence[ResolvedTrial],
    cache: Path,
    folder: Path,
    progress: GridProgress,
    options: Options,
    begin: Callable[[], None],
) -> None:
    """Run the missing rounds of these trials; an exception in a trial ends the run.

    Args:
        trials: each with a missing round, in the order in which they start.
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
        for group in computed_together(shards):
            first, trial = group[0], shards[group[0]]
            split, encoder = trial.split(first.split), trial.encoder_of(first)
            arrays = compute_shards(group, split, encoder, cache, device, threads)
            banked |= {shard.key: array for shard, array in zip(group, arrays, strict=True)}
            progress.banked(len(banked), len(shards))
        heads = {
            key: compute_text_head(trial.teacher.network, trial.dataset, cache, device, threads)
            for key, trial in text_heads_of(trials).items()
            if trial.teacher is not None
        }
        for trial in trials:
            progress.started(trial.id)
            head = heads[trial.head_key] if trial.head_key else None
            run = partial(run_trial, trial, banked, head, execution=execution)
            for row in run_stored(partial(store.begin, trial.id), run, store.append):
                progress.round_done(trial.id, seconds_of(row))
            progress.ended(trial.id)
