"""The plan of a results folder, with the sources of its numbers, and the failures."""

import json
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from activekd.errors import InputError

RUNS = Path("results") / "runs"
"""Parent of the default results folder of each spec."""

PLAN = "plan.json"

TABLE = "rounds.parquet"

FAILURES = "failures"


def failure_file(run: Path, trial_id: str) -> Path:
    """Path of the file with the reason why a trial was given up."""
    return run / FAILURES / f"{trial_id}.txt"


def read_failures(run: Path) -> dict[str, str]:
    """Why trials of a results folder were given up, by id."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((run / FAILURES).glob("*.txt"))}


def forget_failure(run: Path, trial_id: str) -> None:
    """Delete the failure of a trial, so that the trial runs again."""
    failure_file(run, trial_id).unlink(missing_ok=True)


@dataclass(frozen=True)
class Sources:
    """Hashes of the content behind names: the numbers of a trial depend on them and on its id.

    Attributes:
        datasets: fingerprint of images and labels, by data set name.
        selectors: fingerprint of the code of user-defined selectors, by selector name.
    """

    datasets: Mapping[str, str]
    selectors: Mapping[str, str]


def write_plan(run: Path, name: str, trials: Sequence[Mapping[str, Any]], sources: Sources) -> None:
    """Write the plan to disk: the trials that the spec defines, and their known sources.

    Args:
        run: the results folder.
        name: of the spec.
        trials: identity columns and ``rounds`` of each trial.
        sources: of these trials; they are added to those of an earlier plan.

    Raises:
        InputError: the folder cannot be written.
    """
    path = run / PLAN
    before = read_plan(run) if path.is_file() else {}
    known = {kind: {**before.get(kind, {}), **values} for kind, values in asdict(sources).items()}
    content = {"name": name, **known, "trials": list(trials)}
    temporary = path.with_suffix(".part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=0, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as fault:
        raise InputError(f"results folder {run}: {fault}; expected: a writable folder (--out)") from fault


def check_belongs(run: Path, name: str, trial_ids: Collection[str], stored: Collection[str], sources: Sources) -> None:
    """Check that the rows of a results folder, if any, belong to this spec, these data and this code of selectors.

    Args:
        run: the results folder.
        name: of the spec.
        trial_ids: of all trials of the spec.
        stored: ids of the trials with rows in the folder.
        sources: of the trials to run.

    Raises:
        InputError: the folder has rows of trials that the spec does not define, or the images, the labels or the code
            behind a name have changed.
    """
    foreign = set(stored) - set(trial_ids)
    if foreign:
        raise InputError(
            f"results folder {run} holds rows of {len(foreign)} trials that spec '{name}' does not define "
            f"({', '.join(sorted(foreign)[:3])}, ...); expected: an empty folder or one of this spec (--out)"
        )
    if not stored or not (run / PLAN).is_file():
        return
    before = read_plan(run)
    for kind, what in (("datasets", "the images or labels"), ("selectors", "the code")):
        then, now = before.get(kind, {}), asdict(sources)[kind]
        changed = [key for key, fingerprint in now.items() if then.get(key, fingerprint) != fingerprint]
        if changed:
            again = [f"--replace {shlex.quote(name)}" for name in changed] if kind == "selectors" else []
            remedy = f"{' '.join(again)} (drops its rows and runs it again), " if again else ""
            raise InputError(
                f"results folder {run}: {what} of {', '.join(changed)} changed since its rows were computed; "
                f"expected: the unchanged version, {remedy}or another folder (--out)"
            )


def read_plan(run: Path) -> dict[str, Any]:
    """The plan as written by ``write_plan``.

    Raises:
        InputError: there is no plan, or it cannot be read.
    """
    try:
        return json.loads((run / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(f"{run} is not a results folder: {fault}; expected: a folder that bench.grid wrote") from fault
