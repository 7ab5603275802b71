"""A grid from its first check to its report."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from activekd.bank.shards import check_cache
from activekd.errors import InputError, unknown
from bench.cluster.address import LOCAL, check_address, use_loopback
from bench.settings import LOCK, Options, cache_folder, local_device
from bench.spec import Spec, Trial
from bench.store import folder as store
from bench.store.locks import exclusive
from bench.store.replacing import drop_rows, to_replace
from bench.store.rows import stored_histories
from bench.terminal import (
    EXIT_FAILED,
    DecodingLines,
    GridProgress,
    console,
    named,
    print_failures,
    print_notes,
    say,
    shown_time,
)
from bench.trials.resolved import ResolvedTrial, networks_of, planned, sources_of, sources_with_rows, with_shards

if TYPE_CHECKING:
    from bench.report.pages import Report

PART = "part"
"""Folder in a results folder with the report of the part that ``--only`` chose last."""


@dataclass(frozen=True)
class _Unfinished:
    """The unfinished trials of a grid.

    Attributes:
        done: stored rounds of each trial without a gap from round 0 on, by id.
        trials: to run, each with a missing round.
        given_up: ids of trials that failed before and are not retried.
        replaced: ids of the trials whose rows are dropped first, by selector.
        with_rows: trials of the spec whose rows are kept.
    """

    done: Mapping[str, int]
    trials: Sequence[ResolvedTrial]
    given_up: Sequence[str]
    replaced: Mapping[str, frozenset[str]]
    with_rows: Sequence[Trial]


def launch(whole: Spec, only: str | None, folder: Path, options: Options) -> int:
    """Run a grid, or resume it, and write its report.

    Args:
        whole: the spec.
        only: filter on its trials, as in ``Spec.only``; None for all.
        folder: the results folder.
        options: of the command.

    Returns:
        The exit code: 0, or EXIT_FAILED where trials were given up.

    Raises:
        InputError: a check failed before any trial started, or the grid cannot continue.
    """
    spec = whole.only(only) if only else whole
    began = monotonic()
    from bench.checks import check_networks, check_resumable, resolve, teacher_notes

    if not options.serial:
        check_address(options.address)
        use_loopback(options.address)
    _check_replaced(options.replace, spec)
    if options.device != "auto" and (options.serial or options.address == LOCAL):
        local_device(options.device)
    cache = cache_folder()
    check_cache(cache)
    if options.track is not None:
        _check_tracker(options)
    trials = resolve(spec.trials, cache, DecodingLines(), ranked={trial.selector for trial in whole.trials})
    with named("comparing pictures"):
        notes = {trial.dataset.name: trial.dataset.notes for trial in trials}
    print_notes(notes)
    print_notes(teacher_notes(trials))
    plan, sources = planned(whole.trials, trials), sources_of(trials)

    def unfinished() -> _Unfinished:
        """The unfinished trials, after the checks that need no weights."""
        stored = stored_histories(folder)
        counts = {trial_id: len(history.rows) for trial_id, history in stored.items()}
        replaced = to_replace(options.replace, whole.trials, counts, sources.selectors, folder)
        dropped = frozenset().union(*replaced.values())
        kept = {trial_id: history for trial_id, history in stored.items() if trial_id not in dropped}
        with_rows = [t for t in whole.trials if t.id in kept]
        known = sources_with_rows(trials, with_rows)
        store.check_belongs(folder, whole.name, [t.id for t in whole.trials], kept, known)
        check_resumable(trials, kept, folder)
        done = {trial_id: counts[trial_id] for trial_id in kept}
        return _unfinished(folder, trials, done, replaced, with_rows, options)

    if (left := unfinished()).trials:
        check_networks(left.trials, cache)
    with exclusive(folder, LOCK):
        left = unfinished()
        networks, of_rows = networks_of(left.trials, left.with_rows)
        store.check_unchanged(folder, of_rows)

        def begin() -> None:
            """Drop what is replaced, write the plan, forget failures: nothing refuses the grid any more."""
            if dropped := frozenset().union(*left.replaced.values()):
                codes = {name: sources.selectors.get(name) for name in left.replaced}
                if (gone := drop_rows(folder, dropped, codes)).rows:
                    say(gone.line)
            for name in options.replace:
                if name not in left.replaced:
                    say(f"--replace {name}: its rows were dropped before, and the grid resumes")
            is_oracle = {trial.selector.name: trial.selector.is_oracle for trial in trials}
            store.write_plan(folder, whole.name, plan, replace(sources, networks=networks), whole.display, is_oracle)
            for trial in left.trials:
                store.forget_failure(folder, trial.id)

        counts = f"{len(trials)} trials, {sum(t.rounds for t in spec.trials)} rounds"
        say(f"{whole.name}: {counts}; {len(left.trials)} trials to do; {folder}")
        failures = dict.fromkeys(left.given_up, "")
        if left.trials:
            with named("reading the fingerprints of networks and images"):
                todo = with_shards(left.trials)
            progress = GridProgress.of_trials(spec.trials, left.done, every=options.log_every)
            if options.serial:
                from bench.trials.serial import run_serially

                run_serially(todo, left.done, cache, folder, progress, options, begin)
            else:
                from bench.cluster.grid import run_on_ray

                failures |= run_on_ray(todo, left.done, cache, folder.resolve(), progress, options, begin)
        else:
            begin()
        if failures:
            print_failures(failures, spec.trials, folder / store.FAILURES)
        n_done = len(trials) - len(failures)
        say(f"{whole.name}: {n_done} of {len(trials)} trials done; wall time {shown_time(monotonic() - began)}")
        if options.report and (report := _report(folder, [t.id for t in trials], only)):
            _print_next(folder, report)
    return EXIT_FAILED if failures else 0


def _print_next(folder: Path, report: "Report") -> None:
    """What one can do after a run."""
    run = shlex.quote(str(folder))
    say(f"next: open {report.html} in a browser, or activekd report {run} --subject NAME for the case of NAME")
    say(f"      activekd status {run} lists what is done; the same command with --only KEY=VALUE,... runs a part")


def _check_replaced(names: Sequence[str], spec: Spec) -> None:
    known = {trial.selector for trial in spec.trials}
    for name in names:
        if name not in known:
            raise unknown("selector in --replace", name, known)


def _check_tracker(options: Options) -> None:
    from bench.cluster.tracking import check_tracker

    if options.serial:
        raise InputError("--track with --serial; expected: only one of them, since Ray Tune reports to trackers")
    check_tracker(str(options.track))


def _unfinished(
    folder: Path,
    trials: Sequence[ResolvedTrial],
    done: Mapping[str, int],
    replaced: Mapping[str, frozenset[str]],
    with_rows: Sequence[Trial],
    options: Options,
) -> _Unfinished:
    missing = [t for t in trials if done.get(t.id, 0) < t.trial.rounds]
    if options.retry_failed or options.serial:
        return _Unfinished(done, missing, [], replaced, with_rows)
    of_replaced = {t.id for t in trials if t.trial.selector in options.replace}
    failed = store.read_failures(folder).keys() - of_replaced
    left = [t for t in missing if t.id not in failed]
    return _Unfinished(done, left, [t.id for t in missing if t.id in failed], replaced, with_rows)


def _report(folder: Path, trial_ids: Sequence[str], only: str | None) -> "Report | None":
    """Write the report of all stored rows and, for a part of the spec, that of the part; print the ranks.

    Returns:
        The report whose ranks are printed; None without any.
    """
    from bench.report.pages import write_report
    from bench.report.ranked import NothingToRankError
    from bench.report.terminal_table import print_rank_table
    from bench.store.table import Run, read_run

    def written(run: Run, out: Path) -> "Report | None":
        try:
            return write_report(run, out, partial=True)
        except NothingToRankError as fault:
            say(f"no report in {out}: {fault}")
            return None

    run = read_run(folder)
    report = written(run, folder)
    if only is not None and len(trial_ids) < run.plan["trial_id"].nunique():
        if report is not None:
            say(f"report of all stored rows: {report.html}")
        report = written(run.restricted_to(trial_ids, only), folder / PART)
    if report is not None:
        print_rank_table(report, console)
    return report
