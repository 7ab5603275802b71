"""The cost of a grid, from names and sizes alone: trials, fits, steps, bytes, and hours at given rates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from activekd.bank.given import GivenFeatures
from activekd.datasets import drawn_for
from activekd.datasets.folder import FOLDER
from activekd.datasets.sizes import Sizes, dataset_sizes
from activekd.errors import Faults
from activekd.folders import keeps_decoded_images
from activekd.images.decoding import decoded_side, kept_size
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.recipes import NO_TEACHER, ViewGeometry
from activekd.selectors import Selector, selector
from activekd.students.networks import StudentNetwork, student_network
from activekd.teachers import Teacher, teacher
from bench.spec import Trial
from bench.terminal import print_notes
from bench.trials.resolved import banked_bytes

PHOTO = (375, 500)
"""Height and width in pixels of a typical photograph of these data sets, to estimate the cost of decoding."""

FORWARD_SHARE = 1 / 3
"""Assumed cost of a forward pass as a share of a training step, unless it is measured."""


@dataclass(frozen=True)
class Load:
    """The work of one student, or of one teacher network, in images.

    Attributes:
        name: of the student or the network.
        trained: images in optimiser steps, labeled and unlabeled.
        predicted: images in forward passes alone.
        rendered: views rendered for students that are trained end to end, each once a trial.
    """

    name: str
    trained: int = 0
    predicted: int = 0
    rendered: int = 0

    def __add__(self, other: "Load") -> "Load":
        return Load(
            self.name, self.trained + other.trained, self.predicted + other.predicted, self.rendered + other.rendered
        )


@dataclass(frozen=True)
class Estimate:
    """The cost of a grid.

    Attributes:
        totals: counts by description.
        sizes: of each data set.
        draws: of each data set, the number of pools that its trials draw; 1 where nothing is drawn.
        students: work of each student, in all trials.
        teachers: work of each teacher network, once for all trials.
        decoded: images decoded from files, once.
        cache_bytes: of the image cache on disk; 0 where it is switched off.
        bank_bytes: of the bank on disk and in the object store.
    """

    totals: Mapping[str, int]
    sizes: Mapping[str, Sizes]
    draws: Mapping[str, int]
    students: Mapping[str, Load]
    teachers: Mapping[str, Load]
    decoded: int
    cache_bytes: int
    bank_bytes: int


def estimate(trials: Sequence[Trial], cache: Path, *, diagnostics: bool = True) -> Estimate:
    """Add up the cost of the trials.

    Args:
        trials: of the spec.
        cache: folder of the caches.
        diagnostics: whether the grid measures them, for which each student predicts its pool in every round.

    Raises:
        InputError: all unknown names and all faults of image folders at once.
    """
    faults = Faults()
    sizes = faults.resolve(
        (t.dataset for t in trials),
        lambda name: dataset_sizes(name, cache),
        shown=lambda name: name.removeprefix(FOLDER),
    )
    selectors = faults.resolve((t.selector for t in trials), selector)
    students = faults.resolve((t.student for t in trials), student_network)
    faults.resolve(students, lambda name: students[name].check_name())
    teachers = faults.resolve((t.teacher for t in trials if t.teacher != NO_TEACHER), teacher)
    networks = {name: t.network for name, t in teachers.items() if isinstance(t.network, VisionLanguageNetwork)}
    faults.resolve(networks, lambda name: networks[name].check_name())
    faults.refuse()
    loads: dict[str, Load] = {}
    banked: dict[tuple[str, int, str, int, ViewGeometry | None], int] = {}
    taught: dict[str, Load] = {}
    pools: dict[str, set[str]] = {}
    decoded: dict[tuple[str, int], int] = {}
    n_steps = 0
    for trial in trials:
        size, student, guide = sizes[trial.dataset], students[trial.student], teachers.get(trial.teacher)
        steps, load = _student_load(trial, size, student, selectors[trial.selector], diagnostics)
        n_steps += steps
        loads[trial.student] = loads.get(trial.student, Load(trial.student)) + load
        pool = drawn_for(trial.dataset, trial.seed)
        pools.setdefault(trial.dataset, set()).add(pool)
        side = _side(student, guide) if size.from_files else 0
        images_of = {pool: size.n_pool, f"test of {trial.dataset}": size.n_test}
        if size.from_files:
            decoded |= {(name, side): n for name, n in images_of.items()}
        if student.frozen:
            for name, view, n in _views(images_of, trial.views.count):
                key = (name, side, f"{student.encoder_name}@{student.size}", view, _geometry(trial, view))
                banked[key] = banked_bytes(student, n)
        if guide is None:
            continue
        network = guide.network
        is_given = isinstance(network, GivenFeatures)
        for name, view, n in _views(images_of, 1 if is_given else trial.views.count):
            key = (name, side, f"teacher {network.name}", view, _geometry(trial, view))
            if key not in banked:
                banked[key] = banked_bytes(network, n)
                known = taught.get(network.name, Load(network.name))
                taught[network.name] = known + Load(network.name, predicted=0 if is_given else n)
    return Estimate(
        totals={**_counts(trials), "optimiser steps": n_steps},
        sizes=sizes,
        draws={name: len(drawn) for name, drawn in pools.items()},
        students=loads,
        teachers=taught,
        decoded=sum(decoded.values()),
        cache_bytes=sum(n * cached_bytes(side) for (_, side), n in decoded.items()) if keeps_decoded_images() else 0,
        bank_bytes=sum(banked.values()),
    )


def _side(student: StudentNetwork, guide: Teacher | None) -> int:
    """The shorter side in pixels that the images of a trial are decoded to."""
    network = None if guide is None else guide.network
    return decoded_side(max(student.size, network.size if isinstance(network, VisionLanguageNetwork) else 0))


def cached_bytes(short_side: int) -> int:
    """Bytes of a PHOTO in the image cache, decoded to this shorter side."""
    width, height = kept_size(PHOTO[1], PHOTO[0], short_side)
    return 3 * height * width


def _views(images_of: Mapping[str, int], n_views: int) -> Iterator[tuple[str, int, int]]:
    """The banked (images, view, number of images): every view of the pool, which comes first, and view 0 of test."""
    (pool, n_pool), (test, n_test) = images_of.items()
    yield from ((pool, view, n_pool) for view in range(n_views))
    yield test, 0, n_test


def _geometry(trial: Trial, view: int) -> ViewGeometry | None:
    """What a view depends on besides the image: nothing for view 0, which no other view shares."""
    return None if view == 0 else replace(trial.views, count=1)


def _student_load(
    trial: Trial, size: Sizes, student: StudentNetwork, chosen: Selector, diagnostics: bool
) -> tuple[int, Load]:
    """Optimiser steps of a trial, and its student's load, in the order of ``activekd.loop.run_rounds``."""
    recipe, per_query = trial.recipe, trial.labels_per_query(size.n_classes)
    on_unlabeled = trial.distillation in {"unlabeled", "both"}
    steps = 0
    for index in range(trial.rounds):
        labeled = size.n_classes * trial.shots + index * per_query
        steps += recipe.n_steps(labeled, max(0, size.n_pool - labeled))
    trained = steps * (recipe.batch_labeled + (recipe.batch_unlabeled if on_unlabeled else 0))
    queries = trial.rounds - 1
    asks = bool(chosen.needs & {"student_probabilities", "features"})
    predicted = trial.rounds * size.n_test + size.n_pool * (trial.rounds if diagnostics else queries * asks)
    if diagnostics and per_query > 1:
        # The diversity of the picks, and of equally many images drawn at random.
        predicted += queries * 2 * per_query
    views = size.n_pool * trial.views.count + size.n_test
    return steps, Load(trial.student, trained, predicted, 0 if student.frozen else min(views, trained + predicted))


def _counts(trials: Sequence[Trial]) -> dict[str, int]:
    configurations = {(t.group, t.teacher, t.student, t.distillation, t.recipe_name): t.rounds - 1 for t in trials}
    return {
        "trials": len(trials),
        "fits (trial, round)": sum(t.rounds for t in trials),
        "configurations": len(configurations),
        "settings (configuration, query round)": sum(configurations.values()),
        "selectors": len({t.selector for t in trials}),
        "seeds": len({t.seed for t in trials}),
    }


@dataclass(frozen=True)
class Throughput:
    """Images per second of one trial.

    Attributes:
        trained: in optimiser steps, by student.
        predicted: in forward passes, by student and by teacher network.
        rendered: in rendering views from decoded pixels; None if ``trained`` includes it.
        decoded: in decoding photographs from files; None if unknown.
    """

    trained: Mapping[str, float]
    predicted: Mapping[str, float]
    rendered: float | None = None
    decoded: float | None = None


def given_throughput(estimated: Estimate, images_per_second: float) -> Throughput:
    """The same training rate, rendering included, for every network; a forward pass costs FORWARD_SHARE of a step."""
    return Throughput(
        dict.fromkeys(estimated.students, images_per_second),
        dict.fromkeys([*estimated.students, *estimated.teachers], images_per_second / FORWARD_SHARE),
    )


def hours(estimated: Estimate, throughput: Throughput, slots: int) -> dict[str, float]:
    """Hours of the teachers' passes, of the trials and, if its rate is known, of decoding, with ``slots`` at a time."""
    running = {name: load for name, load in estimated.teachers.items() if load.predicted}
    teachers = sum(load.predicted / throughput.predicted[name] for name, load in running.items())
    trials = sum(
        load.trained / throughput.trained[name]
        + load.predicted / throughput.predicted[name]
        + (load.rendered / throughput.rendered if throughput.rendered else 0.0)
        for name, load in estimated.students.items()
    )
    seconds = {"teachers, every view once": teachers, "trials": trials}
    if throughput.decoded:
        seconds = {"decoding into the image cache": estimated.decoded / throughput.decoded, **seconds}
    return {name: value / 3600 / slots for name, value in seconds.items()}


def print_plan(name: str, estimated: Estimate, out: Console) -> None:
    """Print the plan as tables."""
    totals = Table(title=f"plan of {name}", show_header=False)
    for what, value in estimated.totals.items():
        totals.add_row(what, f"{value:,}")
    totals.add_row("images in optimiser steps", f"{sum(s.trained for s in estimated.students.values()):,}")
    totals.add_row("images in forward passes", f"{sum(s.predicted for s in estimated.students.values()):,}")
    totals.add_row("images encoded by teachers, once", f"{sum(t.predicted for t in estimated.teachers.values()):,}")
    totals.add_row("image cache on disk, approximate GB", f"{estimated.cache_bytes / 1e9:,.2f}")
    totals.add_row("bank on disk and in the object store, GB at most", f"{estimated.bank_bytes / 1e9:,.2f}")
    out.print(totals)
    data = Table("data set", "classes", "train (pool)", "val", "test", title="data")
    for dataset, size in estimated.sizes.items():
        data.add_row(dataset, *(f"{n:,}" for n in (size.n_classes, size.n_pool, size.n_val, size.n_test)))
    out.print(data)
    for dataset, n_draws in estimated.draws.items():
        if n_draws > 1:
            out.print(f"{dataset}: {n_draws} pools are drawn, one per seed", highlight=False, soft_wrap=True)
    print_notes({dataset: size.notes for dataset, size in estimated.sizes.items()}, out)


def print_hours(estimated: Estimate, throughput: Throughput, slots: int, out: Console) -> None:
    """Print the rates and the hours that follow, as tables."""
    rates = Table("network", "trained, images/s", "forward, images/s", title="throughput of one trial")
    for network_name, rate in throughput.predicted.items():
        trained = throughput.trained.get(network_name)
        rates.add_row(network_name, "" if trained is None else f"{trained:,.1f}", f"{rate:,.1f}")
    out.print(rates)
    table = Table(title=f"hours, {slots} at a time", show_header=False)
    parts = hours(estimated, throughput, slots)
    for what, value in {**parts, "total": sum(parts.values())}.items():
        table.add_row(what, f"{value:,.2f}")
    out.print(table)
