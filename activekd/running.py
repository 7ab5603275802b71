"""One run of active learning with distillation, from arrays or the name of a data set to a learning curve."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activekd.arguments import FeatureTeacher, Setup, chosen_setup, whole
from activekd.banked import teacher_faults
from activekd.datasets import Dataset, drawn_for, load_dataset
from activekd.datasets.arrays import arrays_source
from activekd.defaults import VIEWS, default_views
from activekd.devices import check_device
from activekd.errors import Faults, InputError, unknown
from activekd.folders import cache_folder
from activekd.given import GIVEN, IN_MEMORY
from activekd.images.decoding import decoded_side
from activekd.inputs import computed_inputs
from activekd.loop import run_rounds
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.recipes import NO_TEACHER, Distillation, Recipe, ViewGeometry
from activekd.rounds import Round
from activekd.selectors import Selector, query_faults
from activekd.starts import BALANCED, Start
from activekd.starts.checks import budget_faults, start_faults
from activekd.starts.rows import initial_rows
from activekd.students.networks import ADAPTER

if TYPE_CHECKING:
    import pandas as pd

    from activekd.datasets.arrays import Rows


@dataclass(frozen=True)
class Run:
    """The results of a run.

    Attributes:
        rounds: results of each round.
        initial: rows labeled at the start, in order of purchase: class by class where ``start`` is ``balanced``.
    """

    rounds: tuple[Round, ...]
    initial: tuple[int, ...]

    @property
    def picked(self) -> tuple[tuple[int, ...], ...]:
        """The rows of each query, in order of preference; one query fewer than rounds."""
        return tuple(done.picked for done in self.rounds[:-1])

    @property
    def curve(self) -> "pd.DataFrame":
        """The learning curve, one row per round.

        Columns ``round`` from 0, ``labels``, ``accuracy`` and ``teacher_accuracy``: top-1 accuracies on the test split,
        in [0, 1]; the teacher's is missing without a teacher, or without its features of the test split.
        """
        import pandas as pd

        columns = {
            "round": [done.index for done in self.rounds],
            "labels": [done.n_labeled for done in self.rounds],
            "accuracy": [done.accuracy for done in self.rounds],
            "teacher_accuracy": [done.teacher_accuracy for done in self.rounds],
        }
        return pd.DataFrame(columns).astype({"teacher_accuracy": "float64"})


def run(
    X: "Rows | str",
    y: "Rows | None" = None,
    X_test: "Rows | None" = None,
    y_test: "Rows | None" = None,
    *,
    class_names: "Rows | None" = None,
    teacher: FeatureTeacher | str | None = None,
    selector: str | Selector | Callable[..., Any] = "pcoreset",
    student: str = f"{ADAPTER}{GIVEN}",
    rounds: int = 5,
    start: str = BALANCED,
    shots: int = 1,
    initial_labels: int | None = None,
    query_size: int | None = None,
    seed: int = 0,
    distillation: Distillation | None = None,
    recipe: str | Recipe | None = None,
    views: str | ViewGeometry | None = None,
    device: str = "cpu",
    cache: str | Path | None = None,
) -> Run:
    """Run active learning with distillation (ActiveKD; Kang et al. 2025, Algorithm 1) and measure every round.

    A run has the numbers of a grid's trial with the same data, names, numbers and seed, on the same kind of device.

    Args:
        X: features of the rows of the pool, (rows, width); or the name of a data set as in specs, such as
            ``folder:photos``, ``arrays:FILE.npz`` or ``digits``, and then no other array.
        y: labels of the rows, (rows,), whole numbers from 0. A row's label counts once it is queried.
        X_test: features of the test rows, (rows, width).
        y_test: labels of the test rows, (rows,).
        class_names: one name per class, in label order; by default the numbers of the classes.
        teacher: ``zeroshot(features, text)`` or ``clap(features, text)``; for a data set by name NETWORK+ADAPTATION;
            None trains without distillation.
        selector: name of a query strategy, a function ``(view, query_size, *, rng) -> rows``, or a ``Selector``.
        student: ``adapter:given`` or ``frozen:given`` for arrays; for images a backbone, as in specs.
        rounds: student fits; one query follows each but the last.
        start: how the initial labels are chosen: ``balanced``, equally many random rows of each class; ``random``,
            uniformly; ``typiclust``, typical rows by features before any fit; ``teacher``, the rows of each predicted
            class of which the zero-shot teacher is most sure.
        shots: initial labels, as a multiple of the number of classes.
        initial_labels: the number of initial labels, in place of ``shots``; ``balanced`` gives random classes one more
            where it is no multiple of the classes.
        query_size: labels of each query; by default one per class.
        seed: names every random stream.
        distillation: images that the student distils on: ``labeled``, ``unlabeled`` or, by default, ``both``.
        recipe: hyperparameters of every fit: a ``Recipe``, or the name of a built-in one, by default the student's.
        views: geometry of the crops of images: a ``ViewGeometry``, or the name of a built-in one.
        device: ``cpu``, ``cuda`` or ``mps``.
        cache: folder of the caches of decoded images and of features; by default ``$ACTIVEKD_CACHE`` or
            ``~/.cache/activekd``. Arrays need none.

    Raises:
        InputError: arrays, names or numbers are wrong, all faults at once before any work; or a fit is not finite.

    >>> import numpy as np
    >>> import activekd as ak
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 3
    >>> X = np.eye(3)[y] + 0.1 * rng.normal(size=(60, 3))
    >>> done = ak.run(X[:45], y[:45], X[45:], y[45:], selector="random", rounds=2, query_size=6)
    >>> done.curve[["round", "labels"]].to_numpy().tolist()
    [[0, 3], [1, 9]]
    >>> [len(rows) for rows in done.picked]
    [6]
    """
    faults = Faults()
    in_memory = not isinstance(X, str)
    name = X if isinstance(X, str) else IN_MEMORY
    teacher = None if isinstance(teacher, str) and teacher == NO_TEACHER else teacher
    asked = {"rounds": (rounds, 1), "shots": (shots, 1), "seed": (seed, 0)}
    asked |= {} if query_size is None else {"query_size": (query_size, 1)}
    asked |= {} if initial_labels is None else {"initial_labels": (initial_labels, 1)}
    numbers = faults.resolve(asked, lambda key: whole(key, *asked[key]))
    amounts = numbers.get("shots", 1), numbers.get("initial_labels")
    starts = faults.resolve(["start"], lambda _: Start(start, *amounts), shown=lambda _: "")
    faults.resolve([device], check_device)
    geometries = faults.resolve(["views"], lambda _: _geometry(views, name), shown=lambda _: "")
    setup = chosen_setup(
        faults,
        name,
        student=student,
        chosen=teacher,
        selector=selector,
        recipe=recipe,
        distillation=distillation,
        views=geometries.get("views"),
    )
    arrays = {"X": X, "y": y, "X_test": X_test, "y_test": y_test, "class_names": class_names}
    if not in_memory and (odd := [key for key, value in arrays.items() if key != "X" and value is not None]):
        faults.add(InputError(f"{', '.join(odd)} with the data set {name}; expected: arrays, or a name alone"))
    given = {key: value for key, value in arrays.items() if value is not None}
    given |= teacher.arrays if isinstance(teacher, FeatureTeacher) else {}
    sources = faults.resolve([name] if in_memory else [], lambda _: arrays_source("run", given), shown=lambda _: "")
    if setup is not None and starts:
        for fault in start_faults(starts["start"], setup.student, setup.teacher):
            faults.add(InputError(fault))
    faults.refuse()
    assert setup is not None
    folder = Path() if in_memory else Path(cache).expanduser() if cache is not None else cache_folder()
    dataset = Dataset.of(name, sources[name]) if in_memory else _loaded(name, setup, folder, numbers["seed"])
    begin, n_rounds, n_asked = starts["start"], numbers["rounds"], numbers.get("query_size", dataset.n_classes)
    left = len(dataset.train) - begin.n_labels(dataset.n_classes)
    misfits = [
        *([] if in_memory else teacher_faults(name, dataset.lacking, setup.teacher)),
        *budget_faults(dataset, rounds=n_rounds, start=begin, query_size=n_asked),
        *(f"selector '{setup.selector.name}': {fault}" for fault in query_faults(setup.selector, n_asked, left)),
    ]
    if misfits:
        raise InputError(*misfits)
    geometry = geometries["views"]
    student_views, taught = computed_inputs(dataset, setup.student, setup.teacher, geometry, folder, device)
    done = run_rounds(
        dataset,
        student_views,
        taught,
        setup.selector,
        setup.recipe,
        geometry,
        rounds=n_rounds,
        start=begin,
        query_size=n_asked,
        distillation=setup.distillation,
        seed=numbers["seed"],
        device=device,
    )
    return Run(tuple(done), initial_rows(dataset, begin, numbers["seed"], student_views, taught, device))


def _geometry(views: str | ViewGeometry | None, data: str) -> ViewGeometry:
    if isinstance(views, ViewGeometry):
        return views
    name = default_views(data) if views is None else views
    if name not in VIEWS:
        raise unknown("view geometry", name, VIEWS)
    return VIEWS[name]


def _loaded(name: str, setup: Setup, cache: Path, seed: int) -> Dataset:
    """The data set of a name, after the checks of the networks that need no image."""
    setup.student.check_name()
    sides = [setup.student.size]
    if setup.teacher is not None and isinstance(setup.teacher.network, VisionLanguageNetwork):
        setup.teacher.network.check_name()
        sides.append(setup.teacher.network.size)
    return load_dataset(drawn_for(name, seed), cache, short_side=decoded_side(max(sides)))
