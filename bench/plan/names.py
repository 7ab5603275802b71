"""The names of a spec's trials, resolved without data or weights to what their cost depends on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from activekd.bank.given import GivenFeatures, given_width
from activekd.banked import teacher_faults
from activekd.datasets.sizes import Sizes, dataset_sizes
from activekd.errors import Faults, InputError
from activekd.given import ARRAYS, FOLDER, GIVEN
from activekd.images.decoding import decoded_side
from activekd.networks.backbones import feature_width
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.recipes import NO_TEACHER
from activekd.selectors import Selector, selector
from activekd.students.networks import StudentNetwork, student_network
from activekd.teachers import Teacher, teacher
from bench.spec import Trial, with_transfers
from bench.trials.resolved import misfits, start_misfits


@dataclass(frozen=True)
class Names:
    """What the names of the trials stand for.

    Attributes:
        sizes: of each data set.
        selectors: by name.
        students: by name.
        teachers: by name; none for no distillation.
        widths: numbers a feature of each frozen backbone, by the student's name, and of each teacher network; of
            features that data sets give, those of the widest data set.
        sides: the shorter side in pixels that images are decoded to, by student and teacher.
    """

    sizes: Mapping[str, Sizes]
    selectors: Mapping[str, Selector]
    students: Mapping[str, StudentNetwork]
    teachers: Mapping[str, Teacher]
    widths: Mapping[str, int]
    sides: Mapping[tuple[str, str], int]


def resolved(trials: Sequence[Trial], cache: Path) -> Names:
    """Resolve the names of the trials.

    Args:
        trials: of the spec.
        cache: folder of the caches.

    Raises:
        InputError: all unknown names and all faults of image folders at once.
    """
    faults = Faults()
    sizes = faults.resolve(
        (t.dataset for t in trials),
        lambda name: dataset_sizes(name, cache),
        shown=lambda name: name.removeprefix(FOLDER).removeprefix(ARRAYS),
    )
    selectors = faults.resolve((t.selector for t in trials), selector)
    students = faults.resolve((t.student for t in with_transfers(trials)), student_network)
    faults.resolve(students, lambda name: students[name].check_name())
    teachers = faults.resolve((t.teacher for t in trials if t.teacher != NO_TEACHER), teacher)
    taught = {(t.dataset, t.teacher) for t in trials if t.dataset in sizes}
    lacking = (teacher_faults(name, sizes[name].lacking, teachers.get(taught_by)) for name, taught_by in sorted(taught))
    found = (*misfits(with_transfers(trials), students, teachers), *start_misfits(trials, students, teachers))
    for fault in (*found, *(fault for found in lacking for fault in found)):
        faults.add(InputError(fault))
    networks = {t.network.name: t.network for t in teachers.values()}
    run_here = {name: n for name, n in networks.items() if isinstance(n, VisionLanguageNetwork)}
    faults.resolve(run_here, lambda name: run_here[name].check_name())
    given = {name: n for name, n in networks.items() if isinstance(n, GivenFeatures)}
    widths = faults.resolve(given, lambda name: given_width(given[name]))
    faults.refuse()
    seen = {name: run_here[t.network.name].size for name, t in teachers.items() if t.network.name in run_here}
    pairs = {(t.student, t.teacher) for t in with_transfers(trials)}
    return Names(
        sizes,
        selectors,
        students,
        teachers,
        widths
        | _widths_of_data(sizes.values(), students)
        | {name: network.feature_width for name, network in run_here.items()}
        | {name: feature_width(s.base) for name, s in students.items() if s.frozen and not s.given},
        {(s, t): decoded_side(max(students[s].size, seen.get(t, 0))) for s, t in pairs},
    )


def _widths_of_data(sizes: Collection[Sizes], students: Mapping[str, StudentNetwork]) -> dict[str, int]:
    """The largest widths of features that data sets give: by student's name, and of the teacher network GIVEN."""
    of_student, of_teacher = (max((size.widths[k] for size in sizes), default=0) for k in (0, 1))
    widths = {name: of_student for name, student in students.items() if student.given}
    return widths | ({GIVEN: of_teacher} if of_teacher else {})
