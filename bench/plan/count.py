"""The count of a grid's work: trials, fits, steps, images and bytes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from activekd.datasets import drawn_for
from activekd.folders import keeps_decoded_images
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.students.networks import StudentNetwork
from bench.plan.bank import shared_work
from bench.plan.jobs import TrialWork
from bench.plan.names import Names, resolved
from bench.plan.work import Estimate
from bench.spec import Trial, with_transfers


def estimate(
    trials: Sequence[Trial], cache: Path, *, slots: int = 1, device: str = "cpu", diagnostics: bool = True
) -> Estimate:
    """Count the work of the trials.

    Args:
        trials: of the spec.
        cache: folder of the caches.
        slots: jobs at a time, by which trials are grouped into cohorts.
        device: ``cpu``, ``cuda`` or ``mps``, where they run.
        diagnostics: whether the grid measures them, for which each student predicts its pool in every round.

    Raises:
        InputError: all unknown names and all faults of image folders at once.
    """
    names = resolved(trials, cache)
    bank = shared_work(with_transfers(trials), names, device)
    of_trials = TrialWork(trials, names, slots, device, diagnostics=diagnostics)
    drawn: defaultdict[str, set[str]] = defaultdict(set)
    for trial in trials:
        drawn[trial.dataset].add(drawn_for(trial.dataset, trial.seed))
    counts = {
        **_counts(trials),
        "fits of round 0 that trials share": of_trials.n_shared,
        **({"fits of reference lines, all labels": n} if (n := of_trials.n_all_labels) else {}),
        **({"linear probes of reference lines, in no hours": n} if (n := of_trials.n_probes) else {}),
        "optimiser steps": of_trials.n_steps,
    }
    return Estimate(
        totals=counts,
        sizes=names.sizes,
        draws={name: len(pools) for name, pools in drawn.items()},
        students=names.students,
        encoders=_encoders(names),
        widths=names.widths,
        shared=bank.work,
        rendering=of_trials.rendering,
        jobs=of_trials.jobs,
        examples=of_trials.examples,
        images=bank.images,
        cache_bytes=bank.cache_bytes if keeps_decoded_images() else 0,
        bank_bytes=bank.n_bytes,
    )


def _encoders(names: Names) -> Mapping[str, StudentNetwork | VisionLanguageNetwork]:
    """The encoders of the bank that run here, by the name of their tasks."""
    students = {s.encoder_name: s for s in names.students.values() if s.frozen and not s.given}
    networks = (each.network for each in names.teachers.values())
    return students | {n.name: n for n in networks if isinstance(n, VisionLanguageNetwork)}


def _counts(trials: Sequence[Trial]) -> dict[str, int]:
    transfers = sum(t.rounds for t in trials if t.transfer is not None)
    configurations = {(t.group, t.teacher, t.student, t.distillation, t.recipe_name): t.rounds - 1 for t in trials}
    return {
        "trials": len(trials),
        "fits (trial, round)": sum(t.rounds for t in trials),
        **({"fits of transfers": transfers} if transfers else {}),
        "configurations": len(configurations),
        "settings (configuration, query round)": sum(configurations.values()),
        "selectors": len({t.selector for t in trials}),
        "seeds": len({t.seed for t in trials}),
    }
