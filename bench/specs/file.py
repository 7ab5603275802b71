"""What a spec file may hold: keys, their defaults, and messages on what is wrong with them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from activekd.defaults import RECIPES, VIEWS, check_recipe_fits, default_recipe, default_views
from activekd.errors import InputError, unknown
from activekd.recipes import Recipe, ViewGeometry
from activekd.starts import BALANCED, Start, check_start
from bench.display import group_of_query, label_of

_T = TypeVar("_T")

CLASSES = "classes"
"""As a query size: as many labels as there are classes."""

REFERRED = "random"
"""The selector whose trials measure the reference lines."""

BLOCK = "block"

Names = Annotated[list[str], Field(min_length=1)]

Label = Annotated[str, Field(pattern=r"^\S([^\n\r\t]*\S)?$")]
"""What people read in place of a name: one line."""


def _counted(seeds: object) -> object:
    """The seeds 0 to n - 1 for a number n."""
    if not isinstance(seeds, int) or isinstance(seeds, bool):
        return seeds
    if seeds < 1:
        raise ValueError(f"found {seeds}; expected: the number of seeds, at least 1, or a list of seeds")
    return list(range(seeds))


def _query_sizes(given: object) -> object:
    """A query size, or a list of them, checked here so that a fault has one message."""
    sizes = given if isinstance(given, list) else [given]
    odd = [s for s in sizes if not (s == CLASSES or (isinstance(s, int) and not isinstance(s, bool) and s >= 1))]
    if odd or not sizes:
        raise ValueError(
            f"found {odd[0] if odd else given!r}; expected: a number of labels, at least 1, '{CLASSES}', or a list of "
            f"these"
        )
    return given


def _recipe_names(given: object) -> object:
    """The name of a recipe, or a list of them, checked here so that a fault has one message."""
    names = given if isinstance(given, list) else [given]
    odd = [name for name in names if not isinstance(name, str)]
    if odd or not names:
        raise ValueError(f"found {odd[0] if odd else given!r}; expected: the name of a recipe, or a list of names")
    return given


QuerySize = int | Literal["classes"]

QuerySizes = Annotated[QuerySize | list[QuerySize], BeforeValidator(_query_sizes)]

RecipeNames = Annotated[str | list[str], BeforeValidator(_recipe_names)]

Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), BeforeValidator(_counted)]


class Block(BaseModel):
    """One product of a spec: a trial for every combination of the values of its lists.

    Each key may stand on top of the file too, where it is the default of every block; a file without ``[[block]]`` is
    one block. ``views`` on top is such a default as a name, and defines geometries as a table.

    Attributes:
        datasets: data set names; ``folder:PATH`` for an image folder, ``arrays:FILE.npz`` for features in a file.
        teachers: NETWORK+ADAPTATION each, or ``none`` for no distillation.
        students: BACKBONE, adapter:BACKBONE or frozen:BACKBONE each, optionally with @PIXELS.
        selectors: query strategies.
        seeds: a list, or a number n for 0 to n - 1.
        distillation: modes for the teachers other than ``none``.
        rounds: student fits; one query follows each but the last.
        start: how the initial labels are chosen: ``balanced`` (equally many of each class), ``random``, ``typiclust``
            or ``teacher``.
        shots: initial labels, as a multiple of the number of classes.
        initial_labels: the number of initial labels, in place of ``shots``.
        query_size: labels of each query, or ``classes``: as many as there are classes; or a list of these, which tables
            tell apart by the group.
        recipe: name of a recipe of the file, or of a built-in one, or a list of names; by default that of the kind of
            student.
        compared_as: name of the recipe in tables, so that blocks with different recipes are compared as one; with one
            recipe alone.
        views: name of a view geometry of the file, or of a built-in one; by default that of the data set.
        transfer: another student, which is fitted in each round on the labels that a trial has bought and is never
            asked: the column transfer_accuracy. By default there is none.
        group: name under which the data sets are averaged before ranking; by default each is ranked by itself.
        references: also measure the reference lines, in the trials of ``random``: the student with all labels of the
            pool, and a linear probe and CLAP on the teacher's features with the labels of the round.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    datasets: Names
    teachers: Names
    students: Names
    selectors: Names
    seeds: Seeds
    distillation: Annotated[list[Literal["labeled", "unlabeled", "both"]], Field(min_length=1)] = ["both"]
    rounds: Annotated[int, Field(ge=1)]
    start: Annotated[str, AfterValidator(check_start)] = BALANCED
    shots: Annotated[int, Field(ge=1)] = 1
    initial_labels: Annotated[int, Field(ge=1)] | None = None
    query_size: QuerySizes = CLASSES
    recipe: RecipeNames | None = None
    compared_as: str | None = None
    views: str | None = None
    transfer: str | None = None
    group: str | None = None
    references: bool = False

    @model_validator(mode="after")
    def _references_are_measured(self) -> "Block":
        if self.references and REFERRED not in self.selectors:
            raise ValueError(
                f"references = true with selectors {', '.join(self.selectors)}; expected: also {REFERRED}, in whose "
                f"trials the reference lines are measured"
            )
        return self

    @model_validator(mode="after")
    def _compares_one_recipe(self) -> "Block":
        if self.compared_as is not None and isinstance(self.recipe, list) and len(self.recipe) > 1:
            raise ValueError(
                f"compared_as = '{self.compared_as}' with the recipes {', '.join(self.recipe)}; expected: one recipe, "
                f"or no compared_as"
            )
        return self

    @model_validator(mode="after")
    def _transfers_to_another(self) -> "Block":
        if self.transfer in self.students:
            raise ValueError(
                f"transfer = '{self.transfer}', which is among the students; expected: another student, or another "
                f"block for it"
            )
        return self

    @property
    def query_sizes(self) -> list[QuerySize]:
        """Its query sizes."""
        return self.query_size if isinstance(self.query_size, list) else [self.query_size]

    def recipes_of(self, student: str) -> list[str]:
        """Names of the recipes of one of its students."""
        return self.recipe if isinstance(self.recipe, list) else [self.recipe or default_recipe(student)]

    def recipe_label(self, recipe: str) -> str:
        """Name of one of its recipes in tables."""
        return self.compared_as or recipe

    def group_of(self, dataset: str, query_size: QuerySize) -> str:
        """Name of the group of one of its data sets with one of its query sizes; several sizes give several groups."""
        group = self.group or dataset
        return group if len(self.query_sizes) == 1 else group_of_query(group, query_size)

    def views_of(self, dataset: str) -> str:
        """Name of the view geometry of one of its data sets."""
        return self.views or default_views(dataset)


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
    """A spec file, with the defaults of its blocks filled in.

    Attributes:
        name: of the spec, and of its results folder.
        description: one line for people.
        recipes: recipes by name; one with the name of a built-in recipe takes its place.
        views: view geometries by name, likewise.
        resources: of trials and extraction tasks.
        display: labels that tables and figures show in place of names of the blocks; trial ids do not depend on them.
        block: the blocks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    recipes: dict[str, Recipe] = {}
    views: dict[str, ViewGeometry] = {}
    resources: Resources = Resources()
    display: dict[str, Label] = {}
    block: Annotated[list[Block], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_resolve(self) -> "SpecFile":
        for block in self.block:
            Start(block.start, block.shots, block.initial_labels)
            for student in block.students:
                for name in block.recipes_of(student):
                    self.recipe(name)
                    if name not in self.recipes:
                        check_recipe_fits(name, student)
            for dataset in block.datasets:
                self.view_geometry(block.views_of(dataset))
        return self

    @model_validator(mode="after")
    def _labels_name(self) -> "SpecFile":
        names = self.names()
        known = {name for of_kind in names.values() for name in of_kind} | {b.group for b in self.block if b.group}
        faults = [str(unknown("name in display", name, known)) for name in self.display if name not in known]
        for kind, of_kind in names.items():
            by_label: dict[str, list[str]] = {}
            for name in of_kind:
                by_label.setdefault(label_of(kind, name, self.display), []).append(name)
            faults += [
                f"display: '{label}' is the label of {kind} {' and '.join(alike)}; expected: a "
                f"label of its own for each"
                for label, alike in by_label.items()
                if len(alike) > 1 and not self.display.keys().isdisjoint(alike)
            ]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def names(self) -> dict[str, list[str]]:
        """The distinct names of the blocks by kind, as tables show them."""
        pairs = [
            pair
            for block in self.block
            for pair in (
                *(("dataset", name) for name in block.datasets),
                *(("group", block.group_of(name, size)) for name in block.datasets for size in block.query_sizes),
                *(("teacher", name) for name in block.teachers),
                *(("student", name) for name in block.students),
                *(("selector", name) for name in block.selectors),
                *(("recipe", block.recipe_label(r)) for student in block.students for r in block.recipes_of(student)),
            )
        ]
        out: dict[str, list[str]] = {}
        for kind, name in dict.fromkeys(pairs):
            out.setdefault(kind, []).append(name)
        return out

    def recipe(self, name: str) -> Recipe:
        """The recipe of that name.

        Raises:
            InputError: there is none.
        """
        return _named("recipe", name, {**RECIPES, **self.recipes})

    def view_geometry(self, name: str) -> ViewGeometry:
        """The view geometry of that name.

        Raises:
            InputError: there is none.
        """
        return _named("view geometry", name, {**VIEWS, **self.views})


def _named(kind: str, name: str, known: Mapping[str, _T]) -> _T:
    if name not in known:
        raise unknown(kind, name, known)
    return known[name]


def validated(content: Mapping[str, Any], path: Path) -> SpecFile:
    """The spec file of parsed TOML.

    Args:
        content: of the file.
        path: of the file, for messages.

    Raises:
        InputError: all unknown keys and unexpected values at once.
    """
    shared = {key: value for key, value in content.items() if _is_of_blocks(key, value)}
    blocks = content.get(BLOCK, [{}])
    whole = {key: value for key, value in content.items() if key not in shared}
    if isinstance(blocks, list):
        whole[BLOCK] = [{**shared, **block} if isinstance(block, dict) else block for block in blocks]
    try:
        return SpecFile.model_validate(whole)
    except ValidationError as fault:
        messages = dict.fromkeys(_explain(fault, content))
        raise InputError(f"spec {path}: " + "; ".join(messages)) from fault


def _is_of_blocks(key: str, value: object) -> bool:
    """Whether a key on top of the file is the default of every block; ``views`` may also define geometries there."""
    return key in Block.model_fields and not (key == "views" and isinstance(value, dict))


def _explain(fault: ValidationError, content: Mapping[str, Any]) -> Iterable[str]:
    for error in fault.errors():
        location = _as_written(error["loc"], content)
        where = ".".join(str(part) for part in location)
        if error["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            yield _unknown_key(location)
        elif error["type"] == "value_error":
            message = error["msg"].removeprefix("Value error, ")
            yield f"{where}: {message}" if where else message
        elif error["type"] in {"missing", "missing_argument"}:
            yield f"{where}: missing"
        else:
            yield f"{where}: found {error['input']!r}; {error['msg']}"


def _as_written(location: Sequence[int | str], content: Mapping[str, Any]) -> Sequence[int | str]:
    """Where a value stands in the file: on top, if its block does not have it or there is no block."""
    if location[:1] != (BLOCK,) or len(location) < 3:
        return location
    _, number, key, *_ = location
    is_shared = key in content and _is_of_blocks(str(key), content[str(key)])
    on_top = BLOCK not in content or (is_shared and key not in content[BLOCK][number])
    return location[2:] if on_top else location


def _unknown_key(location: Sequence[int | str]) -> str:
    *path, key = (str(part) for part in location)
    if path[:1] == [BLOCK]:
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
        known = {**SpecFile.model_fields, **Block.model_fields}
    return str(unknown("key" + (f" in {'.'.join(path)}" if path else ""), key, known))
