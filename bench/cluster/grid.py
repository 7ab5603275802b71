"""A grid on Ray: the nodes, the bank, the store and the trials, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from activekd.bank.given import forget_features
from activekd.errors import InputError
from bench.cluster.address import LOCAL
from bench.cluster.banking import Bank
from bench.cluster.nodes import connected, lacking_room
from bench.cluster.running import run_trials
from bench.cluster.storing import start_store
from bench.settings import Options, local_device
from bench.terminal import GridProgress, named, say
from bench.trials.resolved import ResolvedTrial, bank_bytes, shards_of
from bench.trials.run import Execution


def run_on_ray(
    trials: Sequence[ResolvedTrial],
    cache: Path,
    folder: Path,
    progress: GridProgress,
    options: Options,
    begin: Callable[[], None],
) -> Mapping[str, str]:
    """Run the missing rounds of these trials on a Ray started on this machine, or on a running cluster.

    Args:
        trials: each with a missing round, in the order in which they start.
        cache: folder of the caches.
        folder: the results folder.
        progress: updated after every step.
        options: of the command.
        begin: called once, when nothing refuses the grid any more and before anything is written.

    Returns:
        Why trials were given up, by id.

    Raises:
        InputError: there is no cluster, a local Ray has no room for a trial, or the grid cannot continue.
    """
    shards = shards_of(trials)
    with ExitStack() as stack:
        with named("Ray: starting" if options.address == LOCAL else f"Ray: joining {options.address}"):
            connection = stack.enter_context(connected(options))
        for line in connection.lines(bank_bytes(shards)):
            say(line)
        device = connection.device(options.device)
        if options.address == LOCAL:
            local_device(device)
        if lacking := lacking_room(device, options.trial, options.extraction):
            if options.address == LOCAL:
                raise InputError("; ".join(lacking))
            say(f"waiting for larger nodes: {'; '.join(lacking)}")
        execution = Execution(
            device, options.trial.cpus, options.diagnostics, options.trial.gpus, options.deterministic
        )
        begin()
        with progress:
            store = start_store(folder, options.attempts)
            with named("the bank: looking for cached arrays"):
                bank = Bank(trials, cache, device, options.extraction, progress)
            forget_features()
            return run_trials(_without_banked_images(trials), bank, store, folder, progress, execution, options)


def _without_banked_images(trials: Sequence[ResolvedTrial]) -> list[ResolvedTrial]:
    """The trials as workers need them: images only for students that are trained end to end."""
    live = {t.source for t in trials if not t.student.frozen}
    datasets = {t.source: t.dataset for t in trials}
    light = {source: d if source in live else d.without_images() for source, d in datasets.items()}
    return [replace(t, dataset=light[t.source]) for t in trials]
