"""Spec files: TOML in, trials with their ids out; names and numbers only."""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

from activekd.defaults import default_recipe
from activekd.errors import InputError, unknown
from activekd.recipes import NO_TEACHER, Distillation, Recipe, ViewGeometry
from activekd.starts import BALANCED, Start
from bench.specs.file import CLASSES, REFERRED, Resources, SpecFile, validated

PROTOCOL = 2
"""Part of every trial id; bumped when a change alters the numbers of a trial. CHANGELOG lists such changes."""

SPECS = Path(__file__).parent / "specs"
SPEC_NAMES = tuple(sorted(path.stem for path in SPECS.glob("*.toml")))
"""Names of the specs in SPECS."""


NOT_IN_ID = frozenset({"recipe_name", "group", "transfer", "transfer_recipe", "references"})
"""Fields of a trial on which its id does not depend."""


@lru_cache(maxsize=64)
def _plain(shared: Recipe | ViewGeometry) -> dict[str, Any]:
    """A recipe or view geometry as a dictionary, cached because many trials share it."""
    return shared.content if isinstance(shared, Recipe) else asdict(shared)


@dataclass(frozen=True)
class Trial:
    """One active-learning run, with everything that defines its numbers.

    The id does not depend on NOT_IN_ID, so stored rows stay those of the trial when they change: ``group`` and
    ``recipe_name`` are labels for tables; ``references`` asks for more columns; ``transfer`` is another student, fitted
    in each round on the same labels with ``transfer_recipe``. They change no number of other columns.
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
    start: str = BALANCED
    initial_labels: int | None = None
    transfer: str | None = None
    transfer_recipe: Recipe | None = None
    references: bool = False

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the hash of the canonical JSON of all that defines the trial and of PROTOCOL.

        A field with a default is part of it where it has another value.
        """
        content = {
            f.name: value
            for f in fields(self)
            if f.name not in NOT_IN_ID and ((value := getattr(self, f.name)) != f.default or f.default is MISSING)
        }
        content |= {"recipe": _plain(self.recipe), "views": _plain(self.views)}
        text = json.dumps({"protocol": PROTOCOL, **content}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def measures_references(self) -> bool:
        """Whether its rounds measure the reference lines, as those of REFERRED do: one trial a seed."""
        return self.references and self.selector == REFERRED

    @property
    def initial(self) -> Start:
        """Strategy and number of its initial labels."""
        return Start(self.start, self.shots, self.initial_labels)

    def labels_per_query(self, n_classes: int) -> int:
        """Labels bought after each round: the spec's number, or one for each class."""
        return n_classes if self.query_size == CLASSES else self.query_size

    @property
    def of_transfer(self) -> "Trial | None":
        """A trial of the student that it transfers to: what that student reads and costs; None without one."""
        if self.transfer is None or self.transfer_recipe is None:
            return None
        nothing: dict[str, Any] = {"transfer": None, "transfer_recipe": None}
        return replace(self, student=self.transfer, recipe=self.transfer_recipe, **nothing)

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
        display: labels of names in tables and figures.
    """

    name: str
    trials: tuple[Trial, ...]
    resources: Resources
    display: Mapping[str, str] = field(default_factory=dict[str, str])

    def only(self, wanted: str) -> "Spec":
        """The trials that match ``KEY=VALUE,...``; values of a repeated key are alternatives.

        Raises:
            InputError: unknown key, a value that no trial has, or no matching trial.
        """
        return replace(self, trials=_filter(self.trials, wanted))


def with_transfers(trials: Iterable[Trial]) -> list[Trial]:
    """Each trial, behind it that of the student that it transfers to: all (data set, student, teacher)s of a grid."""
    return [one for trial in trials for one in (trial, trial.of_transfer) if one is not None]


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
    file = validated(content, path)
    return Spec(file.name, _expand(file, path), file.resources, file.display)


def _expand(file: SpecFile, path: Path) -> tuple[Trial, ...]:
    trials: dict[str, Trial] = {}
    for block in file.block:
        pairs: list[tuple[str, Distillation]] = []
        for teacher in block.teachers:
            pairs.extend([(teacher, "none")] if teacher == NO_TEACHER else [(teacher, d) for d in block.distillation])
        students = [(student, recipe) for student in block.students for recipe in block.recipes_of(student)]
        for dataset, (student, recipe), (teacher, distillation), size, seed, selector in product(
            block.datasets, students, pairs, block.query_sizes, block.seeds, block.selectors
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
                query_size=size,
                recipe=file.recipe(recipe),
                views=file.view_geometry(block.views_of(dataset)),
                recipe_name=block.recipe_label(recipe),
                group=block.group_of(dataset, size),
                start=block.start,
                initial_labels=block.initial_labels,
                transfer=block.transfer,
                transfer_recipe=_transfer_recipe(file, block.transfer, file.recipe(recipe)),
                references=block.references,
            )
            if trial.id in trials:
                raise InputError(
                    f"spec {path}: defined twice: dataset {dataset}, teacher {teacher}, student {student}, "
                    f"recipe {recipe}, query_size {size}, selector {selector}, seed {seed}"
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


def _transfer_recipe(file: SpecFile, transfer: str | None, recipe: Recipe) -> Recipe | None:
    """The default recipe of the student that a trial transfers to, beside the trial's own teacher."""
    return None if transfer is None else replace(file.recipe(default_recipe(transfer)), clap=recipe.clap)


FILTERS = ("dataset", "teacher", "student", "distillation", "selector", "seed", "recipe", "group", "query_size")


def _filtered_by(trial: Trial, key: str) -> str:
    """The value of a trial for a key of FILTERS."""
    return str(trial.query_size if key == "query_size" else trial.identity[key])


def _filter(trials: Sequence[Trial], wanted: str) -> tuple[Trial, ...]:
    wanted_values: dict[str, set[str]] = {}
    for pair in wanted.split(","):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise InputError(f"--only '{pair}'; expected: KEY=VALUE,... with keys {', '.join(FILTERS)}")
        if key not in FILTERS:
            raise unknown("key in --only", key, FILTERS)
        values = {_filtered_by(trial, key) for trial in trials}
        if value not in values:
            close = get_close_matches(value, values, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ";"
            raise InputError(f"--only {key}={value}: no such trial{hint} known: {', '.join(sorted(values))}")
        wanted_values.setdefault(key, set()).add(value)
    kept = tuple(t for t in trials if all(_filtered_by(t, k) in v for k, v in wanted_values.items()))
    if not kept:
        raise InputError(f"--only {wanted}: no trial matches every key")
    return kept
