"""A grid on Ray: the nodes, the bank, the store and the trials, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from activekd.bank.given import forget_features
from activekd.errors import InputError
from bench.cluster.address import LOCAL
from bench.cluster.banking import Bank
from bench.cluster.nodes import connected, lacking_room, waiting_tasks
from bench.cluster.running import run_jobs
from bench.cluster.storing import start_store
from bench.settings import Options, local_device
from bench.terminal import GridProgress, named, say
from bench.trials.cohorts import Cohort, cohorts
from bench.trials.first_fits import shared_first_fits
from bench.trials.resolved import ResolvedTrial, all_readers, bank_bytes, shards_of
from bench.trials.run import Execution


def run_on_ray(
    trials: Sequence[ResolvedTrial],
    done: Mapping[str, int],
    cache: Path,
    folder: Path,
    progress: GridProgress,
    options: Options,
    begin: Callable[[], None],
) -> Mapping[str, str]:
    """Run the missing rounds of these trials on a Ray started on this machine, or on a running cluster.

    Args:
        trials: each with a missing round.
        done: stored rounds of each trial, by id.
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
        n_bytes = bank_bytes(shards)
        for line in [*(connection.lines(n_bytes) if options.verbose else ()), *connection.warnings(n_bytes)]:
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
            jobs = cohorts(
                trials,
                min(waiting_tasks(options.trial, device), options.max_concurrent or len(trials)),
                done,
                together=options.track is None,
                first_fits=shared_first_fits(trials, done, cache, execution.of_fits),
            )
            with named("the bank: looking for cached arrays"):
                ordered = [trial for job in jobs for trial in job.trials]
                bank = Bank(ordered, cache, device, options.extraction, progress)
            forget_features()
            light = _without_banked_images(jobs)
            return run_jobs(light, bank, store, folder, progress, execution, options)


def _without_banked_images(jobs: Sequence[Cohort]) -> list[Cohort]:
    """The jobs as workers need them: images only for students that are trained end to end."""
    trials = [trial for job in jobs for trial in job.trials]
    readers = all_readers(trials)
    live = {t.source for t in readers if not t.student.frozen}
    datasets = {t.source: t.dataset for t in readers}
    light = {source: d if source in live else d.without_images() for source, d in datasets.items()}

    def lightened(trial: ResolvedTrial) -> ResolvedTrial:
        transfer = trial.transfer and lightened(trial.transfer)
        return replace(trial, dataset=light[trial.source], transfer=transfer)

    return [replace(job, trials=tuple(map(lightened, job.trials))) for job in jobs]
