"""The fits of a round and what they predict: a teacher and a student, which trials with equal labels share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.bank.gathered import Gathered
from activekd.devices import naming_memory, results_device
from activekd.diagnostics import Opinion
from activekd.errors import InputError
from activekd.finite import count_broken
from activekd.recipes import Distillation, Recipe
from activekd.rounds import StudentViews, TeacherViews
from activekd.selectors.view import StudentHead
from activekd.students.fit import Guide
from activekd.students.heads import Student
from activekd.students.predict import Prediction, label_weight, predict
from activekd.teachers.classifier import Classifier

SLICE, SLICE_NUMBERS = 8192, 2**25
"""Most rows per slice of the teacher's predictions, and most numbers that they make on the way; both bound memory."""


@contextmanager
def naming(index: int, who: str = "") -> Iterator[None]:
    """Name the round, and who acts in it, in the errors of the block; an InputError stays one, a full device is one."""
    place = f"round {index}, {who}" if who else f"round {index}"
    try:
        with naming_memory("a computation"):
            yield
    except InputError as fault:
        raise InputError(f"{place}: {fault}") from fault
    except ValueError as fault:
        raise ValueError(f"{place}: {fault}") from fault
    except Exception as fault:
        fault.add_note(place)
        raise


@dataclass(frozen=True)
class Taught:
    """The teacher of a round.

    Attributes:
        views: the teacher with its features.
        classifier: its fit, on the device where it predicts.
    """

    views: TeacherViews
    classifier: Classifier

    @classmethod
    def checked(cls, views: TeacherViews, classifier: Classifier, n_labeled: int, recipe: Recipe) -> "Taught":
        """The teacher with this classifier, after a fit on ``n_labeled`` rows.

        Raises:
            InputError: it is not finite, or has a class prototype of norm 0.
        """
        remedy = "a fit that converges, on finite image features"
        if classifier.kind == "prototypes":
            remedy = f"a fit that converges, as with a clap.lr below {recipe.clap.lr:g}"
        classifier.check(f"fitted on {n_labeled} labeled rows", remedy)
        return cls(views, classifier)

    def guide(self, device: str) -> Guide:
        """The teacher as the student's fit reads it."""
        return Guide(self.views.train, self.classifier.to(device))

    @property
    def kept_on(self) -> str:
        """The device of predictions, as ``activekd.devices.results_device`` says."""
        return results_device(self.classifier.device.type)

    def probabilities(self, features: np.ndarray | Gathered) -> Float32[Tensor, "n classes"]:
        """Probabilities at temperature 1 of images with these features, computed in slices on the teacher's device.

        Like those of a student they stay there (``kept_on``).
        """
        device = self.classifier.device
        out = torch.empty(len(features), self.classifier.n_classes, device=self.kept_on)
        step = max(1, min(SLICE, SLICE_NUMBERS // self.classifier.numbers_an_image))
        for start in range(0, len(features), step):
            rows = torch.from_numpy(np.array(features[start : start + step])).to(device)
            out[start : start + step] = self.classifier.logits(rows).softmax(dim=1)
        if broken := count_broken(out):
            raise InputError(
                f"{self.views.who}: probabilities of {broken} of {len(out)} rows are not finite; "
                f"expected: finite image features"
            )
        return out

    def opinion(self) -> Opinion:
        """The predicted class of each train row and its probability, computed in slices."""
        features = self.views.train.arrays[0]
        tops = [
            self.probabilities(features[start : start + SLICE]).max(dim=1) for start in range(0, len(features), SLICE)
        ]
        classes = torch.cat([top.indices for top in tops]).cpu().numpy()
        return Opinion(classes, torch.cat([top.values for top in tops]).cpu().numpy())


class Fitted:
    """The fitted teacher and student of a round; each prediction is computed once, when it is first read.

    Attributes:
        network: the fitted student.
        taught: the fitted teacher; None without one.
        forward_passes: images that passed through the student in its fit.
        teacher_seconds: of the teacher's fit.
        train_seconds: of building and fitting the student.
        test_seconds: of predicting the test split by both.
        pool_seconds: of predicting the train split by the student; 0 until it is read.
    """

    def __init__(
        self,
        index: int,
        network: Student,
        student: StudentViews,
        taught: Taught | None,
        recipe: Recipe,
        distillation: Distillation,
        device: str,
        *,
        features: bool,
        forward_passes: int,
        teacher_seconds: float,
        train_seconds: float,
    ) -> None:
        self._index, self._who, self._features = index, student.who, features
        self._train, self._test = student.train, student.test
        self._label_weight = label_weight(recipe, distillation)
        self._distill_temperature = recipe.distill_temperature
        self._kept_on = results_device(device)
        self._predict = partial(predict, network, recipe=recipe, distillation=distillation, device=device)
        self.network, self.taught = network, taught
        self.forward_passes = forward_passes
        self.teacher_seconds, self.train_seconds = teacher_seconds, train_seconds
        self.test_seconds = self.pool_seconds = 0.0

    @cached_property
    def test(self) -> Prediction:
        """The student's predictions of the test split."""
        start = perf_counter()
        with naming(self._index, f"{self._who} on the test split"):
            out = self._predict(self._test)
        self.test_seconds += perf_counter() - start
        return out

    @cached_property
    def taught_test(self) -> Float32[Tensor, "n classes"] | None:
        """The teacher's probabilities of the test split; None without a teacher, or without its features of it."""
        if self.taught is None or self.taught.views.test is None:
            return None
        start = perf_counter()
        with naming(self._index):
            out = self.taught.probabilities(self.taught.views.test)
        self.test_seconds += perf_counter() - start
        return out

    @cached_property
    def pool(self) -> Prediction:
        """The student's predictions of the train split, with features if a selector needs them."""
        start = perf_counter()
        with naming(self._index, f"{self._who} on the train split"):
            out = self._predict(self._train, features=self._features)
        self.pool_seconds = perf_counter() - start
        return out

    @property
    def head(self) -> StudentHead:
        """The student's heads, copied to the device of its predictions."""
        heads = self.network.label_head, self.network.distill_head
        weights, biases = (
            torch.stack([part.detach() for part in parts]).to(self._kept_on)
            for parts in ([head.weight for head in heads], [head.bias for head in heads])
        )
        return StudentHead(weights, biases, self._label_weight, self._distill_temperature)

    @cached_property
    def opinion(self) -> Opinion | None:
        """The teacher's prediction of each train row; None without a teacher."""
        if self.taught is None:
            return None
        with naming(self._index):
            return self.taught.opinion()

    def features(self, rows: Int64[np.ndarray, " n"]) -> Float32[Tensor, "n dim"]:
        """The student's features of these train rows."""
        out = self._predict(self._train, rows=rows, features=True).features
        assert out is not None
        return out
