"""Spec files: TOML in, trials with their ids out; names and numbers only."""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from activekd.errors import InputError, unknown
from activekd.recipes import NO_TEACHER, Distillation, Recipe, ViewGeometry

PROTOCOL = 2
"""Part of every trial id; bumped when a change alters the numbers of a trial. CHANGELOG lists such changes."""

SPECS = Path(__file__).parent / "specs"
SPEC_NAMES = tuple(sorted(path.stem for path in SPECS.glob("*.toml")))
"""Names of the specs in SPECS."""

CLASSES = "classes"
"""As a query size: as many labels as there are classes."""

Names = Annotated[list[str], Field(min_length=1)]


class Block(BaseModel):
    """One product of a spec: every data set x teacher x student x distillation mode x selector x seed.

    Attributes:
        datasets: data set names; ``folder:PATH`` for an image folder.
        teachers: NETWORK+ADAPTATION each, or ``none`` for no distillation.
        students: BACKBONE, adapter:BACKBONE or frozen:BACKBONE each, optionally with @PIXELS.
        distillation: modes for the teachers other than ``none``.
        rounds: student fits; one query follows each but the last.
        shots: initial labels of each class.
        query_size: labels bought after each round, or ``classes``: as many as there are classes.
        recipe: name of a recipe of the spec.
        compared_as: name of the recipe in tables, so that blocks with different recipes are compared as one.
        views: name of a view geometry of the spec.
        group: name under which the data sets are averaged before ranking; by default each is ranked by itself.
        selectors: replace the spec's.
        seeds: replace the spec's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    datasets: Names
    teachers: Names
    students: Names
    distillation: Annotated[list[Literal["labeled", "unlabeled", "both"]], Field(min_length=1)] = ["both"]
    rounds: Annotated[int, Field(ge=1)]
    shots: Annotated[int, Field(ge=1)] = 1
    query_size: Annotated[int, Field(ge=1)] | Literal["classes"] = CLASSES
    recipe: str
    compared_as: str | None = None
    views: str
    group: str | None = None
    selectors: Names | None = None
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None


class Share(BaseModel):
    """Resources of one trial, or of one task that runs a teacher over images.

    Attributes:
        cpus: CPUs, and as many torch threads.
        gpus: share of a GPU, or a whole number of GPUs; used only with ``--device cuda``.
        resource: custom resource of Ray; restricts the task to nodes with this resource.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 1.0
    resource: str | None = None

    @field_validator("gpus")
    @classmethod
    def _is_whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus % 1 != 0:
            raise ValueError(f"found {gpus}; expected: at most 1, or a whole number")
        return gpus


class Resources(BaseModel):
    """Resources of trials and extraction tasks; trial ids do not depend on them.

    Attributes:
        trial: of one trial.
        extraction: of one task that fills the bank or computes a text head.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trial: Share = Share()
    extraction: Share = Share()


class SpecFile(BaseModel):
    """A spec file: its top-level keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    selectors: Names
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    recipes: dict[str, Recipe]
    views: dict[str, ViewGeometry]
    resources: Resources = Resources()
    block: Annotated[list[Block], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_resolve(self) -> "SpecFile":
        for block in self.block:
            if block.recipe not in self.recipes:
                raise unknown("recipe", block.recipe, self.recipes)
            if block.views not in self.views:
                raise unknown("view geometry", block.views, self.views)
        return self


@lru_cache(maxsize=64)
def _plain(shared: Recipe | ViewGeometry) -> dict[str, Any]:
    """A recipe or view geometry as a dictionary, cached because many trials share it."""
    return asdict(shared)


@dataclass(frozen=True)
class Trial:
    """One active-learning run, with everything that defines its numbers.

    ``group`` and ``recipe_name`` are labels for tables; the id does not depend on them.
    """

    dataset: str
    teacher: str
    student: str
    distillation: Distillation
    selector: str
    seed: int
    rounds: int
    shots: int
    query_size: int | Literal["classes"]
    recipe: Recipe
    views: ViewGeometry
    recipe_name: str
    group: str

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the hash of the canonical JSON of all that defines the trial and of PROTOCOL."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in {"recipe_name", "group"}}
        content |= {"recipe": _plain(self.recipe), "views": _plain(self.views)}
        text = json.dumps({"protocol": PROTOCOL, **content}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def labels_per_query(self, n_classes: int) -> int:
        """Labels bought after each round: the spec's number, or one for each class."""
        return n_classes if self.query_size == CLASSES else self.query_size

    @property
    def identity(self) -> dict[str, Any]:
        """The identity columns of its rows, without the round and the counts of the data set."""
        return {
            "trial_id": self.id,
            "protocol": PROTOCOL,
            "dataset": self.dataset,
            "group": self.group,
            "teacher": self.teacher,
            "student": self.student,
            "distillation": self.distillation,
            "recipe": self.recipe_name,
            "selector": self.selector,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Spec:
    """A spec expanded to trials.

    Attributes:
        name: of the spec, and of its results folder.
        trials: in the order of the file.
        resources: of each trial and extraction task.
    """

    name: str
    trials: tuple[Trial, ...]
    resources: Resources

    def only(self, wanted: str) -> "Spec":
        """The trials that match ``KEY=VALUE,...``; values of a repeated key are alternatives.

        Raises:
            InputError: unknown key, a value that no trial has, or no matching trial.
        """
        return replace(self, trials=_filter(self.trials, wanted))


def is_spec(source: str) -> bool:
    """Whether this is the name of a spec, or looks like the path of a TOML file."""
    return source in SPEC_NAMES or Path(source).is_file() or "/" in source or source.endswith(".toml")


def read_spec(source: str) -> Spec:
    """The spec of that name in bench/specs or at that path.

    Raises:
        InputError: no such spec, or invalid TOML; else all unknown keys and unexpected values at once.
    """
    path = SPECS / f"{source}.toml"
    if not path.is_file():
        path = Path(source)
        if not path.is_file():
            raise unknown("spec", source, [*SPEC_NAMES, "a path of a TOML file"])
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise InputError(f"spec {path} is not valid TOML: {fault}") from fault
    try:
        file = SpecFile.model_validate(content)
    except ValidationError as fault:
        raise InputError(f"spec {path}: " + "; ".join(_explain(fault))) from fault
    return Spec(file.name, _expand(file, path), file.resources)


def _expand(file: SpecFile, path: Path) -> tuple[Trial, ...]:
    trials: dict[str, Trial] = {}
    for block in file.block:
        pairs: list[tuple[str, Distillation]] = []
        for teacher in block.teachers:
            pairs.extend([(teacher, "none")] if teacher == NO_TEACHER else [(teacher, d) for d in block.distillation])
        for dataset, student, (teacher, distillation), seed, selector in product(
            block.datasets, block.students, pairs, block.seeds or file.seeds, block.selectors or file.selectors
        ):
            trial = Trial(
                dataset=dataset,
                teacher=teacher,
                student=student,
                distillation=distillation,
                selector=selector,
                seed=seed,
                rounds=block.rounds,
                shots=block.shots,
                query_size=block.query_size,
                recipe=file.recipes[block.recipe],
                views=file.views[block.views],
                recipe_name=block.compared_as or block.recipe,
                group=block.group or dataset,
            )
            if trial.id in trials:
                raise InputError(
                    f"spec {path}: defined twice: dataset {dataset}, teacher {teacher}, student {student}, "
                    f"selector {selector}, seed {seed}"
                )
            trials[trial.id] = trial
    cells: dict[tuple[object, ...], Trial] = {}
    for trial in trials.values():
        cell = tuple(v for k, v in trial.identity.items() if k not in {"trial_id", "protocol"})
        if cell in cells:
            raise InputError(
                f"spec {path}: two different trials would share a cell of every table: dataset {trial.dataset}, "
                f"teacher {trial.teacher}, student {trial.student}, selector {trial.selector}, seed {trial.seed}; "
                f"expected: another group or compared_as for one of the blocks"
            )
        cells[cell] = trial
    return tuple(trials.values())


def _explain(fault: ValidationError) -> Iterable[str]:
    for error in fault.errors():
        where = ".".join(str(part) for part in error["loc"])
        if error["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            yield _unknown_key(error["loc"])
        elif error["type"] == "value_error":
            message = error["msg"].removeprefix("Value error, ")
            yield f"{where}: {message}" if where else message
        elif error["type"] in {"missing", "missing_argument"}:
            yield f"{where}: missing"
        else:
            yield f"{where}: found {error['input']!r}; {error['msg']}"


def _unknown_key(location: Sequence[int | str]) -> str:
    *path, key = (str(part) for part in location)
    if path[:1] == ["block"]:
        known: Iterable[str] = Block.model_fields
    elif path[:1] == ["recipes"] and path[-1:] == ["clap"]:
        known = (f.name for f in fields(Recipe.__annotations__["clap"]))
    elif path[:1] == ["recipes"]:
        known = (f.name for f in fields(Recipe))
    elif path[:1] == ["views"]:
        known = (f.name for f in fields(ViewGeometry))
    elif path[:1] == ["resources"]:
        known = Share.model_fields if len(path) > 1 else Resources.model_fields
    else:
        known = SpecFile.model_fields
    return str(unknown("key" + (f" in {'.'.join(path)}" if path else ""), key, known))


FILTERS = ("dataset", "teacher", "student", "distillation", "selector", "seed", "recipe", "group")


def _filter(trials: Sequence[Trial], wanted: str) -> tuple[Trial, ...]:
    wanted_values: dict[str, set[str]] = {}
    for pair in wanted.split(","):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise InputError(f"--only '{pair}'; expected: KEY=VALUE,... with keys {', '.join(FILTERS)}")
        if key not in FILTERS:
            raise unknown("key in --only", key, FILTERS)
        values = {str(trial.identity[key]) for trial in trials}
        if value not in values:
            close = get_close_matches(value, values, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ";"
            raise InputError(f"--only {key}={value}: no such trial{hint} known: {', '.join(sorted(values))}")
        wanted_values.setdefault(key, set()).add(value)
    kept = tuple(t for t in trials if all(str(t.identity[k]) in v for k, v in wanted_values.items()))
    if not kept:
        raise InputError(f"--only {wanted}: no trial matches every key")
    return kept
