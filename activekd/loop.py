"""The order of a round: fit the teacher, fit the student, measure, query."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.bank.views import Views, ViewSource
from activekd.datasets import Dataset, Labeled, initial_rows, reveal
from activekd.diagnostics import Diagnostics, Measured, Opinion, diagnose
from activekd.errors import InputError
from activekd.finite import check_rows, count_broken
from activekd.losses import teacher_logits
from activekd.memory import forget_peak, peak_rss_bytes
from activekd.pool import Pool
from activekd.recipes import Distillation, Recipe, ViewGeometry
from activekd.selectors.query import select
from activekd.selectors.selector import Selector
from activekd.selectors.view import PoolView
from activekd.streams import stream
from activekd.students.fit import Guide, fit_student
from activekd.students.heads import Student, build_student
from activekd.students.networks import StudentNetwork
from activekd.students.predict import Prediction, predict
from activekd.teachers.text_heads import TextHead

SLICE = 8192
"""Train rows per slice of the teacher's predictions; bounds the memory of its probabilities."""


@dataclass(frozen=True)
class StudentViews:
    """A student with its inputs.

    Attributes:
        network: the student's name, parsed.
        train: views of the train split.
        test: views of the test split; only view 0 is read.
    """

    network: StudentNetwork
    train: ViewSource
    test: ViewSource


@dataclass(frozen=True)
class TeacherViews:
    """A teacher with its banked image features.

    Attributes:
        name: for messages, such as ``clip_rn50+clap``.
        adapt: fits the class prototypes of a round, with the arguments of ``activekd.teachers.clap.clap``.
        head: text embeddings of the classes, and the logit scale.
        train: features of the views of the train split; view 0 alone where the teacher has a single view.
        test: features of view 0 of the test split, (n_test, width).
    """

    name: str
    adapt: Callable[..., Tensor]
    head: TextHead
    train: Views
    test: np.ndarray


@dataclass(frozen=True)
class Round:
    """The results of one round.

    Attributes:
        index: round number, from 0.
        n_labeled: labels that the round trains on.
        picked: rows that its query labels, in order of preference; empty in the last round.
        accuracy: the student's top-1 accuracy on the test split, in [0, 1].
        teacher_accuracy: the fitted teacher's top-1 accuracy on the test split, in [0, 1]; None without a teacher.
        teacher_seconds: time to fit the teacher.
        train_seconds: time to build and fit the student.
        predict_seconds: time to predict the test split and, where the selector needs it, the train split.
        select_seconds: time of the query.
        peak_rss_bytes: peak resident memory of the round; on systems without /proc, of the whole process.
        diagnostics: diagnostics of the query and the networks; None unless requested. Times and memory exclude them.
    """

    index: int
    n_labeled: int
    picked: tuple[int, ...]
    accuracy: float
    teacher_accuracy: float | None
    teacher_seconds: float
    train_seconds: float
    predict_seconds: float
    select_seconds: float
    peak_rss_bytes: int
    diagnostics: Diagnostics | None = None


def run_rounds(
    dataset: Dataset,
    student: StudentViews,
    teacher: TeacherViews | None,
    selector: Selector,
    recipe: Recipe,
    geometry: ViewGeometry,
    *,
    rounds: int,
    shots: int,
    query_size: int,
    distillation: Distillation,
    seed: int,
    picked: Sequence[Sequence[int]] = (),
    device: str = "cpu",
    diagnostics: bool = False,
) -> Iterator[Round]:
    """Active learning with distillation (ActiveKD; Kang et al. 2025, Algorithm 1), one Round at a time.

    The streams of the initial labels, the student's initialisation and its batches are named by seed and round,
    independently of the selector. Runs that differ in the selector alone therefore share round 0, and a run resumes
    from its labeled rows without any other state.

    Args:
        dataset: class names and labels; its images are not read.
        student: network and inputs.
        teacher: teacher and its features; None trains without distillation.
        selector: the query strategy.
        recipe: hyperparameters of every fit.
        geometry: geometry of the views.
        rounds: number of rounds; each but the last ends with a query.
        shots: initial labels per class.
        query_size: labels per query.
        distillation: images that the student distils on; ``none`` exactly without a teacher.
        seed: names every random stream of the run, together with its purpose and round.
        picked: the rows of the queries of finished rounds, from round 0; the run resumes at the next round.
        device: ``cpu``, ``cuda`` or ``mps``: where teacher and student are fitted. Selection is on the CPU.
        diagnostics: whether to compute diagnostics, for which the student predicts the train split in every round; no
            other number depends on it.

    Yields:
        The rounds after those of ``picked``, in order.

    Raises:
        InputError: a class has fewer than ``shots`` train images, ``shots`` is below 1, a query is larger than the
            unlabeled pool, or a fit or prediction of the teacher or the student is not finite; messages give the round.
        ValueError: ``distillation`` does not fit the teacher, or the selector broke its contract.
    """
    if shots < 1:
        raise InputError(f"{shots} initial labels per class; expected: at least 1")
    single = teacher is not None and len(teacher.train) == 1
    teacher_geometry = replace(geometry, count=1) if single else geometry
    if single and recipe.single_view == "inputs":
        geometry = teacher_geometry
    name = f"student '{student.network.name}'"
    pool = Pool(len(dataset.train), initial_rows(dataset, shots, stream(seed, "initial")))
    for bought in picked:
        pool = pool.buy(bought)
    for index in range(len(picked), rounds):
        forget_peak()
        labeled = reveal(dataset, pool)
        clock = perf_counter()
        taught = None
        if teacher is not None:
            with _naming(index, f"teacher '{teacher.name}'"):
                rng = stream(seed, "teacher", index)
                taught = _fit_teacher(teacher, labeled, recipe, teacher_geometry, rng, device)
        clock, teacher_seconds = _lap(clock)

        with _naming(index, name):
            network = build_student(
                student.network,
                student.test.shape,
                dataset.n_classes,
                trunk_width=recipe.trunk_width,
                rng=stream(seed, "student", index),
            )
            fit_student(
                network,
                student.train,
                labeled,
                pool.unlabeled,
                None if taught is None else taught.guide(device),
                distillation,
                recipe,
                geometry,
                rng=stream(seed, "batches", index),
                device=device,
            )
        clock, train_seconds = _lap(clock)

        last = index + 1 == rounds
        on_pool = taught_test = teacher_accuracy = None
        with _naming(index, f"{name} on the test split"):
            test = predict(network, student.test, recipe, distillation, device=device)
        accuracy = _accuracy(test.probabilities, dataset.test.labels)
        if not last and selector.needs & {"student_probabilities", "features"}:
            wants_features = "features" in selector.needs
            with _naming(index, f"{name} on the train split"):
                on_pool = predict(network, student.train, recipe, distillation, features=wants_features, device=device)
        if taught is not None:
            with _naming(index):
                taught_test = taught.probabilities(taught.views.test)
            teacher_accuracy = _accuracy(taught_test, dataset.test.labels)
        clock, predict_seconds = _lap(clock)

        rows: tuple[int, ...] = ()
        if not last:
            with _naming(index):
                view = _pool_view(pool, labeled, dataset.n_classes, selector, on_pool, taught)
                picks = select(selector, view, query_size, rng=stream(seed, "select", index, selector.name))
            rows = tuple(picks.tolist())
        _, select_seconds = _lap(clock)
        peak = peak_rss_bytes()

        diagnosed = None
        if diagnostics:
            if on_pool is None:
                with _naming(index, f"{name} on the train split"):
                    on_pool = predict(network, student.train, recipe, distillation, device=device)
            with _naming(index):
                opinion = None if taught is None else _opinion(taught)
            measured = Measured(
                on_pool.probabilities,
                partial(_features, network, student.train, recipe, distillation, device),
                test.probabilities,
                opinion,
                taught_test,
                test.heads,
            )
            rng = stream(seed, "diagnostics", index)
            diagnosed = diagnose(dataset, pool, np.array(rows, dtype=np.int64), measured, rng=rng)
        yield Round(
            index=index,
            n_labeled=len(pool.labeled),
            picked=rows,
            accuracy=accuracy,
            teacher_accuracy=teacher_accuracy,
            teacher_seconds=teacher_seconds,
            train_seconds=train_seconds,
            predict_seconds=predict_seconds,
            select_seconds=select_seconds,
            peak_rss_bytes=peak,
            diagnostics=diagnosed,
        )
        pool = pool.buy(rows)


def _lap(since: float) -> tuple[float, float]:
    now = perf_counter()
    return now, now - since


@contextmanager
def _naming(index: int, who: str = "") -> Iterator[None]:
    """Names the round, and who acts in it, in the errors of the block; an InputError stays one."""
    place = f"round {index}, {who}" if who else f"round {index}"
    try:
        yield
    except InputError as fault:
        raise InputError(f"{place}: {fault}") from fault
    except ValueError as fault:
        raise ValueError(f"{place}: {fault}") from fault
    except Exception as fault:
        fault.add_note(place)
        raise


@dataclass(frozen=True)
class _Taught:
    """The teacher of a round: its class prototypes are finite and have a direction."""

    views: TeacherViews
    prototypes: Float32[Tensor, "classes dim"]

    def guide(self, device: str) -> Guide:
        """The teacher as the student's fit reads it."""
        return Guide(self.views.train, self.prototypes.to(device), self.views.head.logit_scale)

    def probabilities(self, features: np.ndarray) -> Float32[Tensor, "n classes"]:
        """Probabilities at temperature 1 of images with these features."""
        rows = torch.from_numpy(np.array(features))
        out = teacher_logits(rows, self.prototypes, self.views.head.logit_scale).softmax(dim=1)
        if broken := count_broken(out):
            raise InputError(
                f"teacher '{self.views.name}': probabilities of {broken} of {len(out)} rows are not finite; "
                f"expected: finite image features"
            )
        return out


def _fit_teacher(
    teacher: TeacherViews,
    labeled: Labeled,
    recipe: Recipe,
    geometry: ViewGeometry,
    rng: np.random.Generator,
    device: str,
) -> _Taught:
    prototypes = teacher.adapt(teacher.head, teacher.train, geometry, labeled, recipe.clap, rng, device)
    what = f"class prototypes, fitted on {len(labeled.rows)} labeled rows,"
    check_rows(prototypes, what, f"a fit that converges, as with a clap.lr below {recipe.clap.lr:g}", nonzero=True)
    return _Taught(teacher, prototypes)


def _accuracy(probabilities: Float32[Tensor, "n classes"], labels: np.ndarray) -> float:
    return float(np.mean(probabilities.argmax(dim=1).numpy() == labels))


def _pool_view(
    pool: Pool,
    labeled: Labeled,
    n_classes: int,
    selector: Selector,
    prediction: Prediction | None,
    taught: _Taught | None,
) -> PoolView:
    arrays = {}
    if prediction is not None:
        if "student_probabilities" in selector.needs:
            arrays["student_probabilities"] = prediction.probabilities
        if "features" in selector.needs and prediction.features is not None:
            arrays["features"] = prediction.features
    if "teacher_probabilities" in selector.needs and taught is not None:
        arrays["teacher_probabilities"] = taught.probabilities(taught.views.train.arrays[0])
    return PoolView(pool, labeled.spread(pool.n), n_classes, arrays)


def _features(
    network: Student,
    inputs: ViewSource,
    recipe: Recipe,
    distillation: Distillation,
    device: str,
    rows: Int64[np.ndarray, " n"],
) -> Float32[Tensor, "n dim"]:
    features = predict(network, inputs, recipe, distillation, rows=rows, features=True, device=device).features
    assert features is not None
    return features


def _opinion(taught: _Taught) -> Opinion:
    """The teacher's predicted class of each train row and its probability, computed in slices."""
    features = taught.views.train.arrays[0]
    tops = [
        taught.probabilities(features[start : start + SLICE]).max(dim=1) for start in range(0, len(features), SLICE)
    ]
    classes = torch.cat([top.indices for top in tops]).numpy()
    return Opinion(classes, torch.cat([top.values for top in tops]).numpy())
