"""From a resolved trial and its arrays to rows, round by round."""

import importlib.metadata
import math
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch

from activekd.bank.shards import Shard
from activekd.bank.views import RenderedViews, Views, ViewSource
from activekd.datasets import Split
from activekd.devices import deterministic_algorithms, limit_memory
from activekd.images.node import node_copy
from activekd.loop import run_rounds
from activekd.rounds import Round, StudentViews, TeacherViews
from activekd.teachers.text_heads import TextHead
from bench.columns import PICKED, Row
from bench.trials.inputs import Banked
from bench.trials.resolved import ResolvedTrial

LIBRARIES = ("torch", "timm", "open_clip_torch", "ray", "numpy")


@dataclass(frozen=True)
class Execution:
    """Where and how trials run.

    Attributes:
        device: on which the networks are trained.
        threads: of torch, one per CPU of the trial.
        diagnostics: measure them in every round.
        gpu_share: of a card, for each worker on ``cuda``; it bounds the memory of the worker.
        deterministic: only deterministic algorithms, so that two runs on one card give equal rows.
    """

    device: str = "cpu"
    threads: int = 1
    diagnostics: bool = True
    gpu_share: float = 1.0
    deterministic: bool = False


RunTrial = Callable[[ResolvedTrial, Banked, TextHead | None, Sequence[Row], Execution], Iterator[Row]]


def run_trial(
    trial: ResolvedTrial, banked: Banked, head: TextHead | None, done: Sequence[Row], execution: Execution
) -> Iterator[Row]:
    """Run the missing rounds of a trial, one row each.

    Ray and ``--serial`` call this same function, so that their numbers agree to the bit.

    Args:
        banked: at least the arrays of the trial's shards.
        head: of the trial's teacher; None without a teacher.
        done: the trial's rows so far, from round 0 on.

    Raises:
        ValueError: the trial has a teacher, and ``head`` is None.
    """
    torch.set_num_threads(execution.threads)
    limit_memory(execution.device, execution.gpu_share)
    names = trial.trial
    teacher = None
    if trial.teacher is not None:
        if head is None:
            raise ValueError(f"trial {trial.id}: teacher '{trial.teacher.name}' without its text head")
        test = banked[trial.teacher_test[0].key]
        train = _views(trial.teacher_train, banked, execution.device)
        teacher = TeacherViews(trial.teacher.name, trial.teacher.adapt, head, train, test)
    rounds = run_rounds(
        trial.dataset,
        _student_views(trial, banked, execution.device),
        teacher,
        trial.selector,
        names.recipe,
        names.views,
        rounds=names.rounds,
        shots=names.shots,
        query_size=trial.query_size,
        distillation=names.distillation,
        seed=names.seed,
        picked=[row[PICKED] for row in done],
        device=execution.device,
        diagnostics=execution.diagnostics,
    )
    with deterministic_algorithms(execution.deterministic):
        for measured in rounds:
            yield _row(trial, measured, execution)


def run_stored(
    begin: Callable[[], Sequence[Row]],
    run: Callable[[Sequence[Row]], Iterator[Row]],
    append: Callable[[Row], Row],
) -> Iterator[Row]:
    """Run the missing rounds of a trial against a store, and yield the stored row of each round that is computed here.

    Two workers of one trial can be alive at once, since a node that is cut off goes on. The first row of a round stays.
    A worker that gets other picks than its own resumes from the stored rows, and so continues the one history; rows
    that differ only in costs or provenance continue it alike.

    Args:
        begin: the trial's stored rows; called before the first round and whenever the worker resumes.
        run: the missing rounds from these rows on; see ``run_trial``.
        append: stores a row and answers with the row that is stored for its round; see ``Store.append``.
    """
    agrees = False
    while not agrees:
        agrees = True
        for row in run(begin()):
            stored = append(row)
            yield stored
            if stored[PICKED] != row[PICKED]:
                agrees = False
                break


def _student_views(trial: ResolvedTrial, banked: Banked, device: str) -> StudentViews:
    student = trial.student
    if student.frozen:
        train, test = (_views(shards, banked, device) for shards in (trial.student_train, trial.student_test))
        return StudentViews(student, train, test)

    def rendered(split: Split) -> ViewSource:
        images = node_copy(split.pixels)
        return RenderedViews(images, trial.trial.views, student.size, student.backbone.interpolation, device)

    return StudentViews(student, rendered(trial.dataset.train), rendered(trial.dataset.test))


def _views(shards: Sequence[Shard], banked: Banked, device: str) -> Views:
    keys = [shard.key for shard in shards]
    return Views(tuple(banked[key] for key in keys), device, " ".join(keys))


def _row(trial: ResolvedTrial, measured: Round, execution: Execution) -> Row:
    values = asdict(measured)
    index, picked, diagnostics = (values.pop(name) for name in ("index", "picked", "diagnostics"))
    return {
        **trial.trial.identity,
        "round": index,
        "n_classes": trial.dataset.n_classes,
        "query_size": trial.query_size,
        **values,
        **{name: None if math.isnan(value) else value for name, value in (diagnostics or {}).items()},
        **provenance(execution.device, execution.threads, execution.deterministic),
        PICKED: list(picked),
    }


@lru_cache(maxsize=2)
def provenance(device: str, threads: int = 1, deterministic: bool = False) -> dict[str, str]:
    """Commit of the code, versions of the libraries that decide the numbers, and the device.

    The device includes the instruction set of the CPU and the number of threads: both change the rounding of sums, and
    training amplifies the difference. Of a GPU it says whether its algorithms were deterministic; those of the CPU
    always are.
    """
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return {
        "commit": _commit(),
        "versions": f"python {platform.python_version()} {versions}",
        "device": f"{device} {torch.cuda.get_device_name() if device == 'cuda' else cpu}"
        + (f" {threads} threads" if threads > 1 else "")
        + (" deterministic" if deterministic and device != "cpu" else ""),
    }


def _commit() -> str:
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
