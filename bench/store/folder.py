"""The plan of a results folder, with the sources of its numbers, and the failures."""

import json
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from activekd.errors import InputError
from bench.spec import PROTOCOL, read_spec

RUNS = Path("results") / "runs"
"""Parent of the default results folder of each spec."""

PLAN = "plan.json"

COUNTS = ("n_classes", "query_size")
"""Columns of a planned trial that are unknown until its data set was loaded once."""

CONTENT = {
    "datasets": "the images or labels",
    "selectors": "the code",
    "networks": "the weights, or the features or head,",
}
"""What ``Sources`` hashes, by its kinds."""

TABLE = "rounds.parquet"

FAILURES = "failures"


def failure_file(run: Path, trial_id: str) -> Path:
    """Path of the file with the reason why a trial was given up."""
    return run / FAILURES / f"{trial_id}.txt"


def read_failures(run: Path) -> dict[str, str]:
    """Why trials of a results folder were given up, by id."""
    files = sorted((run / FAILURES).glob("*.txt"))
    return {path.stem: path.read_text(encoding="utf-8", errors="replace") for path in files}


def forget_failure(run: Path, trial_id: str) -> None:
    """Delete the failure of a trial, so that the trial runs again."""
    failure_file(run, trial_id).unlink(missing_ok=True)


@dataclass(frozen=True)
class Sources:
    """Hashes of the content behind names: the numbers of a trial depend on them and on its id.

    Attributes:
        datasets: fingerprint of images and labels, by data set name.
        selectors: fingerprint of the code of user-defined selectors, by selector name.
        networks: hash of the files of pretrained weights, or of given features and head, by network name;
            of the networks that trials were left to run with.
    """

    datasets: Mapping[str, str]
    selectors: Mapping[str, str]
    networks: Mapping[str, str] = field(default_factory=dict[str, str])


def write_plan(
    run: Path,
    name: str,
    trials: Sequence[Mapping[str, Any]],
    sources: Sources,
    display: Mapping[str, str] | None = None,
    is_oracle: Mapping[str, bool] | None = None,
) -> None:
    """Write the plan to disk: the trials that the spec defines, and their known sources.

    Args:
        run: the results folder.
        name: of the spec.
        trials: identity columns and ``rounds`` of each trial; a count of the data set that is None keeps the value of
            an earlier plan.
        sources: of these trials; they are added to those of an earlier plan.
        display: labels of names in tables and figures; they replace those of an earlier plan.
        is_oracle: whether selectors are oracles, by name; an earlier plan has the answer for the others.

    Raises:
        InputError: the folder cannot be written.
    """
    path = run / PLAN
    before = read_plan(run) if path.is_file() else {}
    known = {kind: {**before.get(kind, {}), **values} for kind, values in asdict(sources).items()}
    counted = {trial["trial_id"]: trial for trial in before.get("trials", [])}
    kept = [{**trial, **_known_counts(trial, counted.get(trial["trial_id"], {}))} for trial in trials]
    oracles = {**dict.fromkeys(before.get("oracles", []), True), **(is_oracle or {})}
    content = {
        "name": name,
        **known,
        "display": {**(display or {})},
        "oracles": sorted(selector for selector, reads_truth in oracles.items() if reads_truth),
        "trials": kept,
    }
    temporary = path.with_suffix(".part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=0, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as fault:
        raise InputError(f"results folder {run}: {fault}; expected: a writable folder (--out)") from fault


def _other_protocol(run: Path, trial_ids: Collection[str]) -> str:
    """A remark on trials of the plan in the folder that another protocol than this version's has numbered."""
    trials = read_plan(run)["trials"] if (run / PLAN).is_file() else []
    others = {trial["protocol"] for trial in trials if trial["trial_id"] in trial_ids} - {PROTOCOL}
    return f"; they have protocol {', '.join(map(str, sorted(others)))}, this version {PROTOCOL}" if others else ""


def _known_counts(trial: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {name: before[name] for name in COUNTS if trial.get(name) is None and before.get(name) is not None}


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
            f"({', '.join(sorted(foreign)[:3])}{', ...' * (len(foreign) > 3)}){_other_protocol(run, foreign)}; "
            f"expected: an empty folder or one of this spec (--out)"
        )
    if stored:
        check_unchanged(run, sources)


def check_unchanged(run: Path, sources: Sources) -> None:
    """Check that sources are those of the plan in a results folder; a source that the plan lacks may be any.

    Args:
        run: the results folder.
        sources: on which stored rows depend.

    Raises:
        InputError: every kind of source of which some have changed.
    """
    before, faults = read_plan(run) if (run / PLAN).is_file() else {}, []
    for kind, what in CONTENT.items():
        then, now = before.get(kind, {}), asdict(sources)[kind]
        changed = [key for key, fingerprint in now.items() if then.get(key, fingerprint) != fingerprint]
        if changed:
            again = [f"--replace {shlex.quote(name)}" for name in changed] if kind == "selectors" else []
            remedy = f"{' '.join(again)} (drops its rows and runs it again), " if again else ""
            faults.append(
                f"results folder {run}: {what} of {', '.join(changed)} changed since its rows were computed; "
                f"expected: the unchanged version, {remedy}or another folder (--out)"
            )
    if faults:
        raise InputError(*faults)


class PlannedTrial(BaseModel):
    """A trial of plan.json; the counts of a data set that no grid has loaded yet are None."""

    model_config = ConfigDict(strict=True)

    trial_id: str
    protocol: int
    dataset: str
    group: str
    teacher: str
    student: str
    distillation: str
    recipe: str
    selector: str
    seed: Annotated[int, Field(ge=0)]
    rounds: Annotated[int, Field(ge=1)]
    n_classes: Annotated[int, Field(ge=1)] | None = None
    query_size: Annotated[int, Field(ge=1)] | None = None


class Plan(BaseModel):
    """plan.json: the name of the spec, the hashes of ``Sources``, labels of names, oracles, and every trial."""

    model_config = ConfigDict(strict=True)

    name: str
    datasets: dict[str, str] = {}
    selectors: dict[str, str] = {}
    networks: dict[str, str] = {}
    display: dict[str, str] = {}
    oracles: list[str] = []
    trials: Annotated[list[PlannedTrial], Field(min_length=1)]


def explained(error: ErrorDetails) -> str:
    """What was found and what is expected, from one error of pydantic."""
    if error["type"] == "missing":
        return "missing; expected: a value"
    expected = error["msg"].removeprefix("Input should be ")
    return f"found {error['input']!r}; expected: {expected}"


def read_plan(run: Path) -> dict[str, Any]:
    """The plan as written by ``write_plan``.

    Raises:
        InputError: there is no plan, or it is not one that ``write_plan`` wrote.
    """
    expected = "expected: a folder that bench.grid wrote"
    try:
        content = json.loads((run / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(f"{run} is not a results folder: {fault}; {expected}") from fault
    try:
        plan = Plan.model_validate(content)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        raise InputError(f"{run / PLAN}: {where}{explained(first)}, as bench.grid writes it") from fault
    if len({trial.trial_id for trial in plan.trials}) < len(plan.trials):
        raise InputError(f"{run / PLAN}: a trial stands twice; {expected}")
    return content


def results_folder(named: str) -> Path:
    """The results folder at that path, of that name in RUNS, or of the spec of that name or path.

    Raises:
        InputError: there is none.
    """
    folders = [path for path in (Path(named), RUNS / named) if path.is_dir()]
    if folders:
        return next((path for path in folders if (path / PLAN).is_file()), folders[0])
    try:
        of_spec = RUNS / read_spec(named).name
    except InputError as fault:
        raise InputError(
            f"'{named}' is neither a results folder nor a spec ({fault}); expected: the path of a results folder, its "
            f"name in {RUNS}, or a spec"
        ) from fault
    if of_spec.is_dir():
        return of_spec
    raise InputError(
        f"spec '{named}' has no results in {of_spec}; expected: a grid that has started (activekd run "
        f"{named}), or the path of its results folder (--out)"
    )
