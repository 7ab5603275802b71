"""Cohorts: trials that run together in one job, because they differ in selector and seed alone."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain, pairwise
from math import ceil
from pathlib import Path
from typing import TypeVar

from activekd.errors import InputError
from bench.spec import Trial
from bench.trials.resolved import ResolvedTrial

JOBS_A_SLOT = 3
"""Cohorts per slot, so that slots end at about the same time; fewer where they would lack LEAST_MEMBERS."""

LEAST_MEMBERS = 16
"""Trials of a cohort below which slots would rather have fewer cohorts: as many as are fitted in one batched product.

Smaller ones come where a slot would be idle, or where no more trials may share a cohort.
"""

_OF_MEMBERS = frozenset({"selector", "seed", "recipe_name", "group", "references"})
_NAMES = tuple(f.name for f in fields(Trial) if f.name not in _OF_MEMBERS)

Item = TypeVar("Item")


def _shared(trial: ResolvedTrial) -> dict[str, object]:
    """What the trials of a cohort share: the draw of the data, and every number but the seed."""
    return {"data": trial.source, **{name: getattr(trial.trial, name) for name in _NAMES}}


def _differences(one: Mapping[str, object], other: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """What differs between two trials, with both values; the fields of a recipe one by one."""
    for name, value in one.items():
        if value == other[name]:
            continue
        theirs = other[name]
        if is_dataclass(value) and is_dataclass(theirs):
            yield from _differences(vars(value), vars(theirs), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}: {value} and {theirs}"


@dataclass(frozen=True)
class Cohort:
    """Trials that run together: on a frozen backbone, and different in selector and seed alone; or a single trial.

    A trial has the same rows in any cohort.

    Attributes:
        trials: at least one.
        work: of their missing rounds, as ``ResolvedTrial.work`` counts it.
        first_fit: folder of the fit of round 0 that a single trial trained end to end shares with those that differ in
            the selector; None without one.

    Raises:
        InputError: the trials differ in anything but selector and seed, or several are trained end to end.
    """

    trials: tuple[ResolvedTrial, ...]
    work: float = 0.0
    first_fit: Path | None = None

    def __post_init__(self) -> None:
        first, *others = map(_shared, self.trials)
        if any(other != first for other in others):
            found = "; ".join(_differences(first, next(other for other in others if other != first)))
            raise InputError(
                f"a cohort of trials that differ in {found}; expected: trials that differ in selector and seed alone"
            )
        if others and not self.trials[0].student.frozen:
            raise InputError(
                f"a cohort of {len(self.trials)} students '{first['student']}', which are trained end to end; "
                f"expected: students on a frozen backbone, or one trial"
            )

    @property
    def id(self) -> str:
        """The id of its only trial, or 16 hexadecimal digits of the hash of its trials' ids."""
        if len(self.trials) == 1:
            return self.trials[0].id
        return hashlib.sha256(" ".join(sorted(t.id for t in self.trials)).encode()).hexdigest()[:16]


def cohorts(
    trials: Sequence[ResolvedTrial],
    slots: int,
    done: Mapping[str, int],
    *,
    together: bool = True,
    first_fits: Mapping[str, Path] | None = None,
) -> list[Cohort]:
    """Group trials into cohorts, the largest work first.

    Trials on a frozen backbone that may share a cohort are split so that every slot has several cohorts, if these keep
    LEAST_MEMBERS. The selectors of a seed share round 0, and so stay together unless a slot would be idle. The memory
    of a cohort does not grow with its trials: no more are fitted together than fit.

    Args:
        trials: each with a missing round.
        slots: jobs that run at a time.
        done: stored rounds of each trial, by id; 0 where a trial is absent.
        together: whether trials may share a cohort at all.
        first_fits: folder of the shared fit of round 0, by trial id; see ``bench.trials.first_fits``.
    """
    groups: dict[tuple[object, ...], list[ResolvedTrial]] = {}
    for trial in trials:
        joins = together and trial.student.frozen
        groups.setdefault(tuple(_shared(trial).values()) if joins else (trial.id,), []).append(trial)
    n_joining = sum(t.student.frozen for t in trials)
    busy, several = ceil(n_joining / max(1, slots)), ceil(n_joining / max(1, JOBS_A_SLOT * slots))
    size = max(1, min(busy, max(several, LEAST_MEMBERS)))
    out = []
    for group in groups.values():
        for part in _parts(group, size):
            work = sum(t.work(done.get(t.id, 0)) for t in part)
            out.append(Cohort(tuple(part), work, (first_fits or {}).get(part[0].id)))
    return sorted(out, key=lambda cohort: cohort.work, reverse=True)


def _parts(group: Sequence[ResolvedTrial], most: int) -> list[list[ResolvedTrial]]:
    """A group in parts of at most ``most`` trials: of whole seeds, or of one seed each if a seed has more trials."""
    seeds: dict[int, list[ResolvedTrial]] = {}
    for trial in group:
        seeds.setdefault(trial.trial.seed, []).append(trial)
    largest = max(map(len, seeds.values()))
    if largest > most:
        return [part for of_seed in seeds.values() for part in _evenly(of_seed, ceil(len(of_seed) / most))]
    parts = _evenly(list(seeds.values()), ceil(len(seeds) / (most // largest)))
    return [list(chain.from_iterable(part)) for part in parts]


def _evenly(items: Sequence[Item], n: int) -> list[list[Item]]:
    """The items in order, in n parts whose sizes differ by at most one."""
    size, larger = divmod(len(items), n)
    starts = [k * size + min(k, larger) for k in range(n + 1)]
    return [list(items[a:b]) for a, b in pairwise(starts)]
