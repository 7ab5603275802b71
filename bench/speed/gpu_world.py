"""Synthetic arrays of a data set on a frozen backbone, for the code of today and for that of an older commit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from activekd.bank.views import Views
from activekd.datasets import Dataset, Split
from activekd.networks.vision_language import vision_language_network
from activekd.recipes import Recipe, ViewGeometry
from activekd.rounds import StudentViews, TeacherViews
from activekd.students.networks import student_network
from activekd.teachers import Teacher
from activekd.teachers.text_heads import TextHead
from bench.spec import read_spec

LOGIT_SCALE = 100.0
"""Of the older code for every network."""

HEADS = next(trial.recipe for trial in read_spec("caltech-real").trials if trial.student.startswith("frozen:"))
"""Recipe of the heads of ``caltech-real``."""


@dataclass(frozen=True)
class Size:
    """Sizes of a synthetic data set with banked features.

    Attributes:
        train: rows of the pool.
        test: test rows.
        classes: number of classes.
        student: width of the student's features.
        teacher: width of the teacher's features.
        views: views per image.
    """

    train: int
    test: int
    classes: int
    student: int
    teacher: int
    views: int


@dataclass(frozen=True)
class World:
    """A synthetic data set: a cluster of features for each class, in the student's space and in the teacher's.

    Attributes:
        arrays: labels, features of all views, embeddings of the classes.
        recipe: hyperparameters of a fit.
        geometry: geometry of the views; their number counts alone.
    """

    arrays: Mapping[str, np.ndarray]
    recipe: Recipe
    geometry: ViewGeometry

    @classmethod
    def drawn(cls, size: Size, recipe: Recipe = HEADS) -> "World":
        """A world of these sizes."""
        rng = np.random.default_rng(0)
        labels = {
            name: rng.permutation(np.arange(n) % size.classes)
            for name, n in (("train", size.train), ("test", size.test))
        }
        arrays: dict[str, np.ndarray] = {f"{split}_labels": of_split for split, of_split in labels.items()}
        for space, width in (("student", size.student), ("teacher", size.teacher)):
            centers = rng.normal(size=(size.classes, width)).astype(np.float32)
            for split, views in (("train", size.views), ("test", 1)):
                own = centers[labels[split]] + rng.normal(size=(len(labels[split]), width)).astype(np.float32)
                noise = rng.normal(size=(views, *own.shape)).astype(np.float32)
                arrays[f"{space}_{split}"] = (own + 0.3 * noise).astype(np.float16)
            if space == "teacher":
                arrays["text"] = centers
                arrays["zero_shot"] = centers / np.linalg.norm(centers, axis=1, keepdims=True)
        return cls(arrays, recipe, ViewGeometry(size.views, (0.5, 1.0), (0.75, 1.3333), 0.5))

    def save(self, path: Path) -> list[Any]:
        """Write the arrays; what the functions of ``gpu_older_child`` need to read them as a world."""
        np.savez(path, allow_pickle=False, **self.arrays)
        return [str(path), asdict(self.recipe), asdict(self.geometry)]

    @property
    def dataset(self) -> Dataset:
        """Class names and labels."""
        train, test = Split(None, self.arrays["train_labels"]), Split(None, self.arrays["test_labels"])
        classes = tuple(f"class {k}" for k in range(len(self.arrays["text"])))
        return Dataset("speed", classes, ("{}",), train, Split(None, test.labels[:0]), test)

    def student(self, name: str, device: str = "cpu") -> StudentViews:
        """A student on a frozen backbone, whose features are those of this world."""
        train, test = self.views("student_train", device), self.views("student_test", device)
        return StudentViews(student_network(name), train, test)

    def teacher(self, adaptation: str, device: str = "cpu") -> TeacherViews | None:
        """A teacher; None for ``none``."""
        if adaptation == "none":
            return None
        adapt = Teacher(adaptation, vision_language_network("clip_rn50"), adaptation).adapt
        head = TextHead(self.arrays["zero_shot"], self.arrays["text"], LOGIT_SCALE)
        return TeacherViews(
            adaptation, adapt, head, self.views("teacher_train", device), self.arrays["teacher_test"][0]
        )

    def views(self, name: str, device: str = "cpu") -> Views:
        """Features of all views of a split."""
        return Views(tuple(self.arrays[name]), device)


def wait_for(device: str) -> None:
    """Wait until the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def clock(device: str) -> float:
    """Seconds of CPU time, which other processes on a CPU do not change; seconds of time on other devices."""
    return process_time() if device == "cpu" else perf_counter()
