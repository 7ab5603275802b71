"""What ``run`` and ``Learner`` take: teachers of features, names, functions and numbers, resolved and checked."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any

from activekd.banked import objective_faults, pairing_faults
from activekd.defaults import RECIPES, check_recipe_fits, default_recipe
from activekd.errors import Faults, InputError, unknown
from activekd.given import GIVEN, IN_MEMORY
from activekd.recipes import Distillation, Recipe, ViewGeometry
from activekd.selectors import Selector, check_untaught
from activekd.selectors import selector as selector_named
from activekd.selectors.own import as_selector
from activekd.students.networks import StudentNetwork, student_network
from activekd.teachers import ADAPTATIONS, Teacher, teacher

if TYPE_CHECKING:
    from activekd.datasets.arrays import Rows

MODES: tuple[Distillation, ...] = ("labeled", "unlabeled", "both")


@dataclass(frozen=True, eq=False)
class FeatureTeacher:
    """A teacher given by image features and text embeddings of a vision-language network.

    Attributes:
        adaptation: key of ``activekd.teachers.ADAPTATIONS``.
        features: image features of the rows of X, (rows, dim), in any scale.
        text: text embeddings of the classes, (classes, dim), in label order.
        features_test: image features of the rows of X_test, (rows, dim); None leaves out the teacher's accuracy.
        logit_scale: the network's factor from a cosine to a logit.
    """

    adaptation: str
    features: "Rows"
    text: "Rows"
    features_test: "Rows | None" = None
    logit_scale: float = 100.0

    @property
    def arrays(self) -> dict[str, Any]:
        """Its arrays, by their names in a data set of arrays."""
        return {
            "teacher_features": self.features,
            "teacher_features_test": self.features_test,
            "text": self.text,
            "logit_scale": self.logit_scale,
        }


def zeroshot(
    features: "Rows", text: "Rows", *, features_test: "Rows | None" = None, logit_scale: float = 100.0
) -> FeatureTeacher:
    """The zero-shot teacher (Radford et al. 2021): the text embeddings are the class prototypes.

    Args:
        features: image features of the rows of X, (rows, dim), in any scale.
        text: text embeddings of the classes, (classes, dim), in label order, in any scale.
        features_test: image features of the rows of X_test, (rows, dim); without them the teacher's accuracy is not
            measured. ``Learner`` does not read them.
        logit_scale: the network's factor from a cosine to a logit, about 100 for CLIP.

    >>> teacher = zeroshot([[0.1, 0.9], [0.8, 0.3]], [[1, 0], [0, 1]])
    >>> teacher.adaptation
    'zeroshot'
    """
    return FeatureTeacher("zeroshot", features, text, features_test, logit_scale)


def clap(
    features: "Rows", text: "Rows", *, features_test: "Rows | None" = None, logit_scale: float = 100.0
) -> FeatureTeacher:
    """The CLAP teacher (Silva-Rodriguez et al. 2024): prototypes trained on the labels of a round, near the text.

    ``activekd.teachers.clap.clap`` has the equations and the departures; arguments as of ``zeroshot``.

    >>> clap([[0.1, 0.9], [0.8, 0.3]], [[1, 0], [0, 1]], logit_scale=50).logit_scale
    50
    """
    return FeatureTeacher("clap", features, text, features_test, logit_scale)


def tip_adapter(
    features: "Rows", text: "Rows", *, features_test: "Rows | None" = None, logit_scale: float = 100.0
) -> FeatureTeacher:
    """The Tip-Adapter-F teacher (Zhang et al. 2022): a cache of the labels of a round, whose keys are trained.

    ``activekd.teachers.tip_adapter`` has the equations and the departures; arguments as of ``zeroshot``.

    >>> tip_adapter([[0.1, 0.9], [0.8, 0.3]], [[1, 0], [0, 1]]).adaptation
    'tip_adapter'
    """
    return FeatureTeacher("tip_adapter", features, text, features_test, logit_scale)


def lp_plus_plus(
    features: "Rows", text: "Rows", *, features_test: "Rows | None" = None, logit_scale: float = 100.0
) -> FeatureTeacher:
    """The LP++ teacher (Huang et al. 2024): a linear probe that blends visual prototypes and the text.

    ``activekd.teachers.lp_plus_plus`` has the equations and the departures; arguments as of ``zeroshot``.

    >>> lp_plus_plus([[0.1, 0.9], [0.8, 0.3]], [[1, 0], [0, 1]]).adaptation
    'lp++'
    """
    return FeatureTeacher("lp++", features, text, features_test, logit_scale)


def transclip(
    features: "Rows", text: "Rows", *, features_test: "Rows | None" = None, logit_scale: float = 100.0
) -> FeatureTeacher:
    """The TransCLIP-FS teacher (Zanella et al. 2024): Gaussians of the classes, fitted to labeled and unlabeled rows.

    ``activekd.teachers.transclip`` has the equations and the departures; arguments as of ``zeroshot``.

    >>> transclip([[0.1, 0.9], [0.8, 0.3]], [[1, 0], [0, 1]]).adaptation
    'transclip'
    """
    return FeatureTeacher("transclip", features, text, features_test, logit_scale)


@dataclass(frozen=True)
class Setup:
    """The objects behind the names of a run.

    Attributes:
        student: the network to train.
        teacher: None for no distillation.
        selector: the query strategy.
        recipe: hyperparameters of every fit.
        distillation: images that the student distils on; ``none`` exactly without a teacher.
    """

    student: StudentNetwork
    teacher: Teacher | None
    selector: Selector
    recipe: Recipe
    distillation: Distillation


def chosen_selector(selector: str | Selector | Callable[..., Any]) -> Selector:
    """The selector of a name, a ``Selector``, or a function ``(view, query_size, *, rng) -> rows``.

    A function declares what it reads as its attribute ``needs``: ``{"student_probabilities", "features"}`` where it has
    none.

    Raises:
        InputError: no selector has that name, or the object is not a selector.
    """
    if isinstance(selector, str):
        return selector_named(selector)
    return as_selector(getattr(selector, "name", getattr(selector, "__name__", type(selector).__name__)), selector)


def chosen_recipe(recipe: str | Recipe | None, student: str) -> Recipe:
    """A recipe of one's own, or the built-in one of that name; by default that of the kind of student.

    Raises:
        InputError: there is no such recipe, or it is for students of another kind.
    """
    if isinstance(recipe, Recipe):
        return recipe
    name = default_recipe(student) if recipe is None else recipe
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    check_recipe_fits(name, student)
    return RECIPES[name]


def chosen_teacher(chosen: FeatureTeacher | str | None, data: str) -> Teacher | None:
    """The teacher of features in memory or of a name.

    Args:
        chosen: the teacher; None for no distillation.
        data: name of the data set.

    Raises:
        InputError: no teacher has that name; or features for a data set on disk, or a name for arrays in memory.
    """
    if chosen is None:
        return None
    in_memory = data == IN_MEMORY
    if in_memory and not isinstance(chosen, FeatureTeacher):
        raise InputError(
            f"teacher {chosen!r} for arrays in memory; expected: activekd.zeroshot(features, text), "
            f"another teacher of features, as activekd.clap(features, text), or None"
        )
    if isinstance(chosen, FeatureTeacher):
        if not in_memory:
            known = ", ".join(f"NETWORK+{adaptation}" for adaptation in ADAPTATIONS)
            raise InputError(f"a teacher of features for the data set {data}; expected: a name, {known}, or None")
        return teacher(f"{GIVEN}+{chosen.adaptation}")
    return teacher(chosen)


def chosen_setup(
    faults: Faults,
    data: str,
    *,
    student: str,
    chosen: FeatureTeacher | str | None,
    selector: str | Selector | Callable[..., Any],
    recipe: str | Recipe | None,
    distillation: Distillation | None,
    views: ViewGeometry | None,
) -> Setup | None:
    """The objects behind the names of a run; None where one of them is faulty.

    Args:
        faults: collects the faults.
        data: name of the data set.
        student: its name.
        chosen: the teacher.
        selector: as of ``chosen_selector``.
        recipe: as of ``chosen_recipe``.
        distillation: mode; None for ``both`` with a teacher and ``none`` without.
        views: geometry of the views; None where it is faulty.
    """
    networks = faults.resolve([student], student_network)
    recipes = faults.resolve(networks, lambda name: chosen_recipe(recipe, name), shown=lambda _: "")
    teachers = faults.resolve(["teacher"], lambda _: chosen_teacher(chosen, data), shown=lambda _: "")
    selectors = faults.resolve(["selector"], lambda _: chosen_selector(selector), shown=lambda _: "")
    mode: Distillation = distillation or ("none" if chosen is None else "both")
    if mode not in (("none",) if chosen is None else MODES):
        expected = "none" if chosen is None else ", ".join(MODES)
        faults.add(InputError(f"distillation '{mode}' with{'out' * (chosen is None)} a teacher; expected: {expected}"))
    if chosen is None:
        faults.resolve(selectors, lambda name: check_untaught(selectors[name]), shown=lambda _: "")
    if networks and teachers and views is not None:
        for fault in pairing_faults(data, networks[student], teachers["teacher"], views):
            faults.add(InputError(fault))
        for fit in recipes.values():
            for fault in objective_faults(networks[student], teachers["teacher"], views, fit):
                faults.add(InputError(fault))
    if not (recipes and teachers and selectors):
        return None
    return Setup(networks[student], teachers["teacher"], selectors["selector"], recipes[student], mode)


def whole(name: str, value: Any, least: int) -> int:
    """A whole number.

    Args:
        name: of the argument, for the message.
        value: of the user: anything that Python takes as an index.
        least: smallest number.

    Raises:
        InputError: it is no whole number, or too small.
    """
    try:
        number = index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise InputError(f"{name} is {value!r}; expected: a whole number, at least {least}")
    return number
