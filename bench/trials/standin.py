"""Stand-in for activekd.loop.run_cohort until it is there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from activekd.loop import Round, run_rounds
from activekd.selectors.selector import Selector


@dataclass(frozen=True)
class FirstFit:
    state: Mapping[str, Tensor]
    prototypes: Tensor | None
    teacher_seconds: float
    train_seconds: float


class FirstFits(Protocol):
    def read(self, seed: int) -> FirstFit | None: ...
    def write(self, seed: int, fit: FirstFit) -> None: ...


@dataclass(frozen=True)
class Member:
    selector: Selector
    seed: int
    picked: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class Outcome:
    member: int
    result: Round | Exception


def run_cohort(
    dataset: Any,
    student: Any,
    teacher: Any,
    members: Sequence[Member],
    recipe: Any,
    geometry: Any,
    *,
    first_fits: FirstFits | None = None,
    **more: Any,
) -> Iterator[Outcome]:
    runs = [
        run_rounds(dataset, student, teacher, m.selector, recipe, geometry, seed=m.seed, picked=m.picked, **more)
        for m in members
    ]
    at = {k: len(m.picked) for k, m in enumerate(members) if len(m.picked) < more["rounds"]}
    while at:
        lowest = min(at.values())
        for k in [k for k, r in at.items() if r == lowest]:
            fit = (
                first_fits.read(members[k].seed) if first_fits and lowest == 0 and not student.network.frozen else None
            )
            try:
                result = next(runs[k])
            except Exception as fault:
                del at[k]
                yield Outcome(k, fault)
                continue
            if first_fits and lowest == 0 and not student.network.frozen:
                if fit is None:
                    first_fits.write(
                        members[k].seed,
                        FirstFit({"w": torch.zeros(2)}, None, result.teacher_seconds, result.train_seconds),
                    )
                else:
                    result = replace(result, teacher_seconds=fit.teacher_seconds, train_seconds=fit.train_seconds)
            at[k] += 1
            if at[k] == more["rounds"]:
                del at[k]
            yield Outcome(k, result)
