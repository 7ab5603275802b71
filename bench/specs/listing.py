"""What a spec may name, one line each, from the registries and the docstrings behind them."""

from collections.abc import Callable, Iterator, Mapping
from inspect import cleandoc
from pkgutil import resolve_name
from typing import Any

from activekd.datasets import DATASETS
from activekd.datasets.catalog import CATALOG
from activekd.datasets.conditions import CONDITIONS
from activekd.defaults import END_TO_END, HEADS, KINDS, RECIPES, TRUNK
from activekd.given import ARRAYS, FEATURES, FOLDER, GIVEN
from activekd.networks.backbones import BACKBONES, NAMED, TIMM
from activekd.networks.vision_language import NETWORKS, OPEN_CLIP
from activekd.recipes import NO_TEACHER, Recipe, StepRule
from activekd.selectors import SELECTORS
from activekd.selectors.compose import FORMS, WRAPPERS
from activekd.students.networks import ADAPTER, FROZEN
from activekd.teachers import ADAPTATIONS
from bench.display import DATA_SETS
from bench.spec import SPEC_NAMES, read_spec

Lines = Iterator[tuple[str, str]]


def first_line(documented: Any) -> str:
    """The first line of a docstring.

    >>> first_line(first_line)
    'The first line of a docstring.'
    """
    return cleandoc(documented.__doc__).partition("\n")[0].replace("``", "`")


def _specs() -> Lines:
    for name in SPEC_NAMES:
        trials = read_spec(name).trials
        data = dict.fromkeys(trial.dataset for trial in trials)
        rounds = sum(trial.rounds for trial in trials)
        yield name, f"{len(trials):,} trials, {rounds:,} rounds; {', '.join(data)}"


def _selectors() -> Lines:
    for name, selector in SELECTORS.items():
        reads = f" [{', '.join(sorted(selector.needs))}]" if selector.needs else ""
        oracle = "oracle, not ranked: " if selector.is_oracle else ""
        yield name, f"{oracle}{first_line(selector.function)}{reads}"
    for kind, wrapper in WRAPPERS.items():
        yield FORMS[kind], first_line(wrapper)
    yield "MODULE:FUNCTION", "A function of your own: (view, query_size, *, rng) -> rows."


def _teachers() -> Lines:
    yield NO_TEACHER, "No distillation."
    for name, network in NETWORKS.items():
        weights = f"open_clip's weights {network.tag}" if network.tag else "weights in this package"
        yield f"{name}+ADAPTATION", f"{network.model}, {weights}."
    yield f"{OPEN_CLIP}MODEL/TAG+ADAPTATION", "Any network of open_clip; MODEL/TAG=FILE has a checkpoint of your own."
    yield f"{GIVEN}+ADAPTATION", f"Features and text embeddings in the file of a data set {ARRAYS}FILE.npz."
    yield f"{FEATURES}FILE.npz+ADAPTATION", first_line(resolve_name("activekd.bank.given"))
    for name, function in ADAPTATIONS.items():
        yield f"NETWORK+{name}", first_line(resolve_name(function))


def _students() -> Lines:
    for name, backbone in BACKBONES.items():
        yield name, f"{first_line(backbone.build)} {backbone.size} px."
    for name, tag in NAMED.items():
        yield name, f"timm's {tag}."
    yield f"{TIMM}NAME", "Any network of timm, with or without a tag of its weights."
    yield f"{ADAPTER}NAME", "A small trained trunk and the heads on frozen features: minutes on a CPU."
    yield f"{FROZEN}NAME", "The heads alone on frozen features."
    yield f"{ADAPTER}{GIVEN}, {FROZEN}{GIVEN}", f"The same on the features of a data set {ARRAYS}FILE.npz."
    yield "NAME@PIXELS", "Inputs of another size than the network's own."


def _datasets() -> Lines:
    for name, load in DATASETS.items():
        yield name, first_line(load)
    yield f"{FOLDER}PATH", first_line(resolve_name("activekd.datasets.folder"))
    yield f"{ARRAYS}FILE.npz", first_line(resolve_name("activekd.datasets.arrays:arrays_source"))
    for name, entry in CATALOG.items():
        counts = f"{entry.n_classes:,} classes, {entry.n_pool:,} images in the pool, {entry.n_test:,} in test"
        yield name, f"{DATA_SETS[name]}, {counts}; in $ACTIVEKD_DATA/{entry.folder}."
    for key, kind in CONDITIONS.items():
        yield f"NAME?{key}=NUMBER", f"Any of them under a condition: {kind.meaning}."


STEPS: Mapping[StepRule, str] = {
    "fixed": "steps in every round",
    "per_label": "steps per full batch of labeled images",
    "per_pool": "passes over the unlabeled pool",
    "images": "steps, or as many as make equally many forward passes of an image",
}
"""What a recipe's number of steps counts."""


def _recipes() -> Lines:
    students = {HEADS: f"{FROZEN}NAME", TRUNK: f"{ADAPTER}NAME", END_TO_END: "NAME trained end to end"}
    for name, recipe in RECIPES.items():
        kind = KINDS[name]
        yield (
            name,
            f"{'Default of' if name == kind else 'For'} {students[kind]}: {recipe.steps} {STEPS[recipe.step_rule]}, "
            f"batches of {recipe.batch_labeled} labeled and {recipe.batch_unlabeled} unlabeled images, the label head "
            f"weighs {recipe.label_weight:g}{_terms(recipe)}.",
        )


def _terms(recipe: Recipe) -> str:
    """What a recipe minimises, where it is more or other than the dual-head loss."""
    weights = {"feature": recipe.weight_feature, "feature direction": recipe.weight_feature_direction}
    more = [f"{name} {weight:g}" for name, weight in weights.items() if weight]
    named = [] if recipe.objective == "dual_head" else [f"objective {recipe.objective}"]
    return "".join(f"; {term}" for term in [*named, *more])


LISTS: Mapping[str, Callable[[], Lines]] = {
    "specs": _specs,
    "selectors": _selectors,
    "teachers": _teachers,
    "students": _students,
    "datasets": _datasets,
    "recipes": _recipes,
}
"""The lists by kind."""


def listed(kind: str) -> Iterator[str]:
    """The names of a kind, a key of LISTS, one line each: the name and what it is."""
    for name, what in LISTS[kind]():
        yield f"{name}: {what}"
