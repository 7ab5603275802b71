"""The files of a results folder beside its rows: the plan with the sources of its numbers, and the failures."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from activekd.errors import InputError

RUNS = Path("results") / "runs"
"""Where a grid's results folder is made."""

PLAN = "plan.json"

TABLE = "rounds.parquet"

FAILURES = "failures"


def failure_file(run: Path, trial_id: str) -> Path:
    """Where the reason is kept why a trial was given up."""
    return run / FAILURES / f"{trial_id}.txt"


def read_failures(run: Path) -> dict[str, str]:
    """Why trials of a results folder were given up, by id."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((run / FAILURES).glob("*.txt"))}


def forget_failure(run: Path, trial_id: str) -> None:
    """Let a trial that was given up be tried again."""
    failure_file(run, trial_id).unlink(missing_ok=True)


@dataclass(frozen=True)
class Sources:
    """What a trial's numbers depend on beside its id: hashes of the content behind names.

    Attributes:
        datasets: fingerprint of images and labels by data set name.
        selectors: fingerprint of the code by selector name, of the user's own selectors.
    """

    datasets: Mapping[str, str]
    selectors: Mapping[str, str]


def write_plan(run: Path, name: str, trials: Sequence[Mapping[str, Any]], sources: Sources) -> None:
    """Put the plan on disk: which trials the spec defines, and the sources of them that are known.

    Args:
        trials: identity columns and ``rounds`` of each trial.
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
    """Check that a results folder, if it holds rows, holds them for this spec, these data and this code of selectors.

    Args:
        name: of the spec.
        trial_ids: that it defines.
        stored: ids of the trials that the folder has rows of.
        sources: of the trials that are to be run.

    Raises:
        InputError: rows of trials that the spec does not define, or other images or another selector under the same
            name.
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
            raise InputError(
                f"results folder {run}: {what} of {', '.join(changed)} changed since its rows were computed; "
                f"expected: the same as then, or another folder (--out)"
            )


def read_plan(run: Path) -> dict[str, Any]:
    """The plan as written by ``write_plan``.

    Raises:
        InputError: there is none.
    """
    try:
        return json.loads((run / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(f"{run} is no results folder: {fault}; expected: a folder that bench.grid wrote") from fault
