"""Built-in recipes and view geometries, and the defaults of a student and a data set. No torch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from activekd.errors import InputError
from activekd.given import is_arrays, split_name
from activekd.recipes import ClapRecipe, Recipe, ViewGeometry
from activekd.students.networks import ADAPTER, FROZEN

HEADS, TRUNK, END_TO_END = "heads", "adapter", "end-to-end"
"""The default recipes of ``frozen:`` students, of ``adapter:`` students and of those that are trained end to end."""

PHOTOS, DIGITS, SINGLE = "photos", "digits", "single"
"""The default views of photographs, of images whose mirror image has another meaning, and of arrays."""

EMBEDDED_DIGITS = ("digits", "mnist5k")


def default_recipe(student: str) -> str:
    """Name of the built-in recipe for a student, by its name in specs.

    >>> default_recipe("adapter:efficientnet_lite0@128")
    'adapter'
    """
    return TRUNK if student.startswith(ADAPTER) else HEADS if student.startswith(FROZEN) else END_TO_END


def default_views(dataset: str) -> str:
    """Name of the built-in view geometry for a data set, by its name in specs."""
    if is_arrays(dataset):
        return SINGLE
    return DIGITS if split_name(dataset)[0] in EMBEDDED_DIGITS else PHOTOS


def check_recipe_fits(recipe: str, student: str) -> None:
    """Check that a built-in recipe is one for students of this kind.

    Raises:
        InputError: it is the recipe of another kind.
    """
    kind = KINDS[recipe]
    if default_recipe(student) != kind:
        fitting = sorted(name for name, other in KINDS.items() if other == default_recipe(student))
        raise InputError(
            f"recipe '{recipe}' with student '{student}'; expected: one of {', '.join(fitting)}, or a "
            f"recipe of your own in [recipes]"
        )


_CLAP = ClapRecipe(lr=0.01, momentum=0.9, epochs=300, batch=64, warmup=0.1)
_HEADS = Recipe(
    lr=0.001,
    weight_decay=0.01,
    steps=300,
    step_rule="fixed",
    schedule="linear",
    warmup=0.1,
    batch_labeled=64,
    batch_unlabeled=64,
    weight_ce=0.5,
    weight_kd_labeled=0.5,
    weight_kd_unlabeled=0.5,
    temperature=2.0,
    label_weight=0.5,
    distill_temperature=1.0,
    single_view="targets",
    clap=_CLAP,
)
_IMAGENET = replace(
    _HEADS,
    steps=20,
    step_rule="per_pool",
    schedule="cosine",
    warmup=0.0,
    batch_labeled=256,
    batch_unlabeled=256,
    label_weight=0.4,
    distill_temperature=0.5,
)

_RAMP, _EMA = 0.4, 0.9
"""Of FreeMatch and SoftMatch, whose fits here have some hundred steps, where the papers have a million.

``ramp``: share of the steps over which their terms, and pseudo-labels, come in. Thresholds start at 1 / classes, so
early mistakes would be learned. ``ema``: momentum, a memory of ten steps. docs/objectives.md says how both were chosen.
"""

_OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "dual-head": {},
    "single-head": {"objective": "single_head"},
    "pseudo-label": {"objective": "pseudo_label", "ramp": _RAMP},
    "uda": {"objective": "uda", "confidence": 0.8},
    "fixmatch": {"objective": "fixmatch"},
    "freematch": {"objective": "freematch", "ramp": _RAMP, "ema": _EMA, "weight_fairness": 0.005},
    "softmatch": {"objective": "softmatch", "ramp": _RAMP, "ema": _EMA},
    "feature": {"weight_feature": 0.5},
    "feature-direction": {"weight_feature_direction": 0.5},
}
"""What a built-in recipe of an objective changes of ``_equal_compute``."""


def _equal_compute(recipe: Recipe) -> Recipe:
    """A recipe whose steps are counted in images, and whose term on unlabeled images weighs as much as the labeled one.

    The papers of all semi-supervised objectives weigh both alike.
    """
    return replace(recipe, step_rule="images", weight_consistency=recipe.weight_ce)


_DEFAULTS: Mapping[str, Recipe] = {
    HEADS: _HEADS,
    TRUNK: replace(_HEADS, steps=150),
    END_TO_END: replace(_HEADS, steps=240, batch_labeled=32, batch_unlabeled=32, batch_norm="frozen"),
}

RECIPES: Mapping[str, Recipe] = {
    **_DEFAULTS,
    "paper-ten": replace(_HEADS, steps=200, step_rule="per_label"),
    "paper-imagenet-zeroshot": _IMAGENET,
    "paper-imagenet-clap": replace(_IMAGENET, label_weight=0.2),
    **{
        f"{kind}-{name}": replace(_equal_compute(_DEFAULTS[kind]), **changed)
        for kind in (TRUNK, END_TO_END)
        for name, changed in _OBJECTIVES.items()
    },
}
"""Built-in recipes. ``heads``, ``adapter`` and ``end-to-end`` are those of the committed run caltech-real.

The others are those of the paper (arXiv 2506.00910) and its released code: on the ten data sets, 200 passes over the
labeled images; on ImageNet, 20 passes over the pool in every round (released code: 50 in the last) and one mixture of
the heads for evaluation and selection (released code: two), whose weights depend on the adaptation.

``adapter-NAME`` and ``end-to-end-NAME`` are one for each objective and each term on features, all of equal compute: as
many forward passes as ``adapter`` and ``end-to-end`` make with a teacher. docs/objectives.md has their equations.
"""

KINDS: Mapping[str, str] = {
    HEADS: HEADS,
    TRUNK: TRUNK,
    END_TO_END: END_TO_END,
    "paper-ten": END_TO_END,
    "paper-imagenet-zeroshot": END_TO_END,
    "paper-imagenet-clap": END_TO_END,
    **{f"{kind}-{name}": kind for kind in (TRUNK, END_TO_END) for name in _OBJECTIVES},
}
"""The kind of student that each built-in recipe is for, by its default recipe."""

VIEWS: Mapping[str, ViewGeometry] = {
    PHOTOS: ViewGeometry(count=5, scale=(0.5, 1.0), ratio=(0.75, 1.3333), flip=0.5),
    DIGITS: ViewGeometry(count=5, scale=(0.7, 1.0), ratio=(0.75, 1.3333), flip=0.0),
    SINGLE: ViewGeometry(count=1, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),
}
"""Built-in view geometries: the centred square and four crops; ``single``: the centred square, or a row of features."""
