"""What a grid would take, from names and sizes alone: trials, fits, steps, bytes and hours; nothing is trained."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from activekd.datasets.sizes import Sizes, dataset_sizes
from activekd.images.decoding import MAX_SHORT_SIDE
from activekd.networks.vision_language import network
from activekd.selectors import selector
from activekd.students.networks import StudentNetwork, student_network
from activekd.teachers import NO_TEACHER, split_teacher
from activekd.teachers.text_heads import has_given_features
from bench.spec import Trial
from bench.speed.throughput import REPEATS, _decode_one, _rate, _render_one
from bench.trial import WIDEST, is_live, view_bytes

PHOTO = (375, 500)
"""Height and width in pixels of a typical photograph of these data sets, for the cost of decoding one."""

CACHED_BYTES = 3 * MAX_SHORT_SIDE**2 * PHOTO[1] // PHOTO[0]
"""Bytes of such an image in the image cache."""

FORWARD_SHARE = 1 / 3
"""Cost of a forward pass as a share of a training step's, where no throughput is measured for it."""


@dataclass(frozen=True)
class Load:
    """The work of one student, or of one teacher network, in images.

    Attributes:
        name: of the student or the network.
        trained: images that optimiser steps take, labeled and unlabeled.
        predicted: images of forward passes alone.
        rendered: images whose views are rendered at every step, since they are too many for the bank.
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
class Plan:
    """What a grid would take.

    Attributes:
        totals: counts by what they count.
        sizes: of each data set.
        students: work of each student, in all trials.
        teachers: work of each teacher network, once for all trials.
        cache_bytes: of the image cache on disk.
        bank_bytes: of the bank on disk and in the object store.
        live: (data set, student) pairs whose inputs are rendered at every step.
    """

    totals: Mapping[str, int]
    sizes: Mapping[str, Sizes]
    students: Mapping[str, Load]
    teachers: Mapping[str, Load]
    cache_bytes: int
    bank_bytes: int
    live: tuple[tuple[str, str], ...]


def make_plan(trials: Sequence[Trial], cache: Path) -> Plan:
    """Add up what the trials would take.

    Raises:
        InputError: an unknown name.
    """
    sizes = {name: dataset_sizes(name, cache) for name in _distinct(t.dataset for t in trials)}
    for name in _distinct(t.selector for t in trials):
        selector(name)
    students: dict[str, Load] = {}
    banked: dict[tuple[str, ...], int] = {}
    seen: dict[str, int] = {}
    live: dict[tuple[str, str], None] = {}
    teachers: dict[str, Load] = {}
    steps_in_all = 0
    for trial in trials:
        size, student = sizes[trial.dataset], student_network(trial.student)
        steps, load = _student_load(trial, size, student)
        steps_in_all += steps
        students[trial.student] = students.get(trial.student, Load(trial.student)) + load
        if load.rendered:
            live[trial.dataset, trial.student] = None
        else:
            for view in range(trial.views.count):
                key = (trial.dataset, _encoder_key(student), str(view), repr(trial.views.scale))
                banked[key] = view_bytes(student, size.n_pool + (size.n_test if view == 0 else 0))
        if trial.teacher == NO_TEACHER:
            continue
        name, _ = split_teacher(trial.teacher)
        views = 1 if has_given_features(name) else trial.views.count
        for view in range(views):
            images = size.n_pool + (size.n_test if view == 0 else 0)
            key = (trial.dataset, f"teacher {name}", str(view), repr(trial.views.scale))
            if key not in banked:
                banked[key] = 2 * images * feature_width(name)
                seen[name] = seen.get(name, 0) + (0 if has_given_features(name) else images)
    for name, images in seen.items():
        teachers[name] = Load(name, predicted=images)
    return Plan(
        totals={**_counts(trials), "optimiser steps": steps_in_all},
        sizes=sizes,
        students=students,
        teachers=teachers,
        cache_bytes=sum(CACHED_BYTES * (s.n_pool + s.n_test) for s in sizes.values() if s.from_files),
        bank_bytes=sum(banked.values()),
        live=tuple(live),
    )


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _encoder_key(student: StudentNetwork) -> str:
    return f"{student.encoder_name}@{student.size}"


def _student_load(trial: Trial, size: Sizes, student: StudentNetwork) -> tuple[int, Load]:
    recipe = trial.recipe
    per_query = size.n_classes if trial.query_size == "classes" else trial.query_size
    on_unlabeled = trial.distillation in {"unlabeled", "both"}
    steps = 0
    for index in range(trial.rounds):
        labeled = size.n_classes * trial.shots + index * per_query
        steps += recipe.n_steps(labeled, max(0, size.n_pool - labeled))
    trained = steps * (recipe.batch_labeled + (recipe.batch_unlabeled if on_unlabeled else 0))
    asks = bool(selector(trial.selector).needs & {"student_probabilities", "features"})
    predicted = trial.rounds * size.n_test + (trial.rounds - 1) * size.n_pool * asks
    rendered = trained + predicted if is_live(student, size.n_pool, size.n_test, trial.views.count) else 0
    return steps, Load(trial.student, trained, predicted, rendered)


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


def feature_width(name: str) -> int:
    """Width of a teacher's image features as open_clip's model config has it; an upper bound where it is not known."""
    if has_given_features(name):
        return WIDEST
    import open_clip

    found = network(name)
    if found.config is not None:
        open_clip.add_model_config(found.config)
    config = open_clip.get_model_config(found.model) or {}
    return int(config.get("embed_dim", WIDEST))


@dataclass(frozen=True)
class Throughput:
    """Images a second of one trial.

    Attributes:
        trained: images of optimiser steps, by student.
        predicted: images of forward passes, by student and by teacher network.
        rendered: images whose view is rendered from decoded pixels.
        decoded: photographs decoded from their files.
    """

    trained: Mapping[str, float]
    predicted: Mapping[str, float]
    rendered: float
    decoded: float


def given_throughput(plan: Plan, images_per_second: float) -> Throughput:
    """One number of images a second for every network: of training; forward passes alone cost FORWARD_SHARE of it."""
    return Throughput(
        dict.fromkeys(plan.students, images_per_second),
        dict.fromkeys([*plan.students, *plan.teachers], images_per_second / FORWARD_SHARE),
        rendered=_rate(_render_one, REPEATS),
        decoded=_rate(_decode_one, REPEATS),
    )


def hours(plan: Plan, throughput: Throughput, slots: int) -> dict[str, float]:
    """Hours of the teachers' passes, of the trials, and of decoding, with so many trials at a time."""
    teachers = sum(load.predicted / throughput.predicted[name] for name, load in plan.teachers.items())
    trials = sum(
        load.trained / throughput.trained[name]
        + load.predicted / throughput.predicted[name]
        + load.rendered / throughput.rendered
        for name, load in plan.students.items()
    )
    images = sum(s.n_pool + s.n_test for s in plan.sizes.values() if s.from_files)
    parts = {
        "decoding into the image cache": images / throughput.decoded,
        "teachers, every view once": teachers,
        "trials": trials,
    }
    return {name: seconds / 3600 / slots for name, seconds in parts.items()}


def print_plan(name: str, plan: Plan, throughput: Throughput | None, slots: int, out: Console) -> None:
    """The plan as tables."""
    totals = Table(title=f"plan of {name}", show_header=False)
    for what, value in plan.totals.items():
        totals.add_row(what, f"{value:,}")
    totals.add_row("images that steps take", f"{sum(s.trained for s in plan.students.values()):,}")
    totals.add_row("images of forward passes", f"{sum(s.predicted for s in plan.students.values()):,}")
    totals.add_row("images through teachers, once", f"{sum(t.predicted for t in plan.teachers.values()):,}")
    totals.add_row("image cache on disk, about, GB", f"{plan.cache_bytes / 1e9:,.2f}")
    totals.add_row("bank on disk and in the object store, at most, GB", f"{plan.bank_bytes / 1e9:,.2f}")
    out.print(totals)
    data = Table("data set", "classes", "train (pool)", "val", "test", title="data")
    for dataset, size in plan.sizes.items():
        data.add_row(dataset, *(f"{n:,}" for n in (size.n_classes, size.n_pool, size.n_val, size.n_test)))
    out.print(data)
    if plan.live:
        rendered = sum(s.rendered for s in plan.students.values())
        core_hours = rendered / _rate(_decode_one, REPEATS) / 3600
        out.print(
            f"{len(plan.live)} (data set, student) pairs have too many views for the bank ($ACTIVEKD_BANK_GB): "
            f"{rendered:,} images are rendered as they are needed. Without the image cache "
            f"(ACTIVEKD_IMAGE_CACHE=off) each of them is decoded too: about {core_hours:,.0f} hours of one core.",
            highlight=False,
        )
    if throughput is None:
        out.print("hours: give --images-per-second (and --slots), or --measure them here", highlight=False)
        return
    rates = Table("network", "trained, images/s", "forward, images/s", title="throughput of one trial")
    for network_name, rate in throughput.predicted.items():
        trained = throughput.trained.get(network_name)
        rates.add_row(network_name, "" if trained is None else f"{trained:,.1f}", f"{rate:,.1f}")
    out.print(rates)
    estimate = Table(title=f"hours, {slots} at a time", show_header=False)
    parts = hours(plan, throughput, slots)
    for what, value in {**parts, "in all": sum(parts.values())}.items():
        estimate.add_row(what, f"{value:,.2f}")
    out.print(estimate)


def default_slots() -> int:
    """Trials at a time where nothing is said: one a CPU of this machine."""
    return os.cpu_count() or 1
