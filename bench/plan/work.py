"""The work of a grid as amounts of tasks: decoding, encoding, rendering, fits, predictions, queries."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from activekd.datasets.sizes import Sizes
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.students.networks import StudentNetwork
from bench.spec import Trial

PHOTO = (375, 500)
"""Height and width in pixels of a typical photograph of these data sets, to estimate the cost of decoding."""

PHOTOGRAPH, PICTURE = "photograph", "small picture"
"""What a crop is rendered from: an image of a file, or one of a data set that a package embeds."""

DIAGNOSTICS = "diagnostics"

Part = Literal["decode", "encode", "render", "teacher", "student", "predict", "select", "diagnose", "measure"]


class Task(NamedTuple):
    """A kind of work, of which a grid has an amount.

    Attributes:
        part: ``decode`` files and ``encode`` the bank (images), ``render`` crops, fit a ``teacher`` (steps) or a
            ``student`` (images in optimiser steps; on a frozen backbone trial-steps), ``predict`` (images), ``select``
            (images x classes x picks), ``diagnose``: predict for diagnostics (images), ``measure`` them (images x
            classes).
        name: of the network, teacher, student or selector; the source of a crop, PHOTOGRAPH or PICTURE; DIAGNOSTICS.
        size: images of a student's step; side of a crop in pixels; 0 for other parts.
    """

    part: Part
    name: str
    size: int = 0


@dataclass(frozen=True)
class Example:
    """What a task is measured on: a trial that has it, and the mean sizes over all of the task.

    Attributes:
        trial: the first trial that has the task, with a teacher if any has one.
        n_classes: classes.
        n_labeled: labeled images of a fit.
        n_pool: images of the pool.
        query_size: labels of a query.
        members: students, or teachers, that are fitted together.
        steps: optimiser steps of a fit.
    """

    trial: Trial
    n_classes: int
    n_labeled: int = 1
    n_pool: int = 1
    query_size: int = 1
    members: int = 1
    steps: int = 1


@dataclass(frozen=True)
class Job:
    """What one slot runs at a time: a cohort of trials.

    Attributes:
        trial: its first trial.
        members: trials that it holds.
        together: the most students that it fits together.
        work: amounts of its tasks.
    """

    trial: Trial
    members: int
    together: int
    work: Mapping[Task, int]


@dataclass(frozen=True)
class DecodedImages:
    """Decoded images of a pool, which a device holds or reads as a stream.

    Attributes:
        n: images of the pool.
        n_bytes: of their pixels, about.
    """

    n: int
    n_bytes: int


@dataclass(frozen=True)
class Estimate:
    """The cost of a grid.

    Attributes:
        totals: counts by description.
        sizes: of each data set.
        draws: of each data set, the number of pools that its trials draw; 1 where nothing is drawn.
        students: by name.
        encoders: of the bank, by the name of their tasks: students with a frozen backbone, and teacher networks.
        widths: numbers a feature of each frozen backbone, by the student's name, and of each teacher network.
        shared: amounts that are done once for all trials: decoding, encoding and the rendering for it.
        rendering: crops that workers render for students trained end to end.
        jobs: of the trials.
        examples: of the tasks of the trials.
        images: of the pool of each data set from files on which a student is trained end to end.
        cache_bytes: of the image cache on disk; 0 where it is switched off.
        bank_bytes: of the bank on disk and in the object store.
    """

    totals: Mapping[str, int]
    sizes: Mapping[str, Sizes]
    draws: Mapping[str, int]
    students: Mapping[str, StudentNetwork]
    encoders: Mapping[str, StudentNetwork | VisionLanguageNetwork]
    widths: Mapping[str, int]
    shared: Mapping[Task, int]
    rendering: Mapping[Task, int]
    jobs: Sequence[Job]
    examples: Mapping[Task, Example]
    images: Mapping[str, DecodedImages]
    cache_bytes: int
    bank_bytes: int

    @cached_property
    def work(self) -> Mapping[Task, int]:
        """Amounts of all tasks."""
        out: Counter[Task] = Counter(dict(self.shared))
        out.update(self.rendering)
        for job in self.jobs:
            out.update(job.work)
        return out
