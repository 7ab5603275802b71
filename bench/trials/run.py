"""From the trials of a cohort and their arrays to rows, round by round."""

import hashlib
import importlib.metadata
import json
import math
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch

import activekd
from activekd.devices import deterministic_algorithms, limit_memory
from activekd.inputs import Banked, student_views, teacher_views
from activekd.loop import run_cohort
from activekd.rounds import Member, Round, StudentViews, Transfer
from activekd.teachers.text_heads import TextHead
from bench.columns import PICKED, Row
from bench.trials.cohorts import Cohort
from bench.trials.first_fits import StoredFits
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

    @property
    def of_fits(self) -> dict[str, object]:
        """What of it a fit depends on: everything but the diagnostics."""
        return {name: value for name, value in asdict(self).items() if name != "diagnostics"}


@dataclass(frozen=True)
class Fault:
    """A trial that raised an error in the company of others, which go on."""

    trial_id: str
    error: Exception


RunCohort = Callable[[Cohort, Banked, TextHead | None, Mapping[str, Sequence[Row]], Execution], Iterator[Row | Fault]]


def run_cohort_rows(
    cohort: Cohort, banked: Banked, head: TextHead | None, done: Mapping[str, Sequence[Row]], execution: Execution
) -> Iterator[Row | Fault]:
    """Run the missing rounds of the trials of a cohort, one row each, as soon as it is there.

    Ray and ``--serial`` call this same function, so that their numbers agree to the bit.

    Args:
        cohort: the trials.
        banked: at least the arrays of their shards.
        head: of their teacher; None without a teacher.
        done: the rows so far of each trial that is to run, from round 0 on, by id; the others are left out.
        execution: where and how they run.

    Yields:
        Rows, and the error of each trial that fails by itself, after which no row of that trial comes.

    Raises:
        ValueError: the trials have a teacher, and ``head`` is None.
    """
    torch.set_num_threads(execution.threads)
    limit_memory(execution.device, execution.gpu_share)
    trials = [t for t in cohort.trials if len(done.get(t.id, ())) < t.trial.rounds and t.id in done]
    if not trials:
        return
    first = trials[0]
    names = first.trial
    teacher = None
    if first.teacher is not None:
        if head is None:
            raise ValueError(f"trial {first.id}: teacher '{first.teacher.name}' without its text head")
        conditioned = first.dataset.conditioned
        teacher = teacher_views(first.teacher, head, first.banked, banked, execution.device, conditioned=conditioned)

    def inputs_of(trial: ResolvedTrial) -> StudentViews:
        return student_views(trial.dataset, trial.student, names.views, trial.banked, banked, execution.device)

    other = first.transfer
    outcomes = run_cohort(
        first.dataset,
        inputs_of(first),
        teacher,
        [
            Member(t.selector, t.trial.seed, [row[PICKED] for row in done[t.id]], t.trial.measures_references)
            for t in trials
        ],
        names.recipe,
        names.views,
        rounds=names.rounds,
        start=names.initial,
        query_size=first.query_size,
        distillation=names.distillation,
        device=execution.device,
        diagnostics=execution.diagnostics,
        transfer=None if other is None else Transfer(inputs_of(other), other.trial.recipe),
        first_fits=None if cohort.first_fit is None else StoredFits(cohort.first_fit, fit_place(execution)),
    )
    with deterministic_algorithms(execution.deterministic):
        for outcome in outcomes:
            trial = trials[outcome.member]
            if isinstance(outcome.result, Exception):
                yield Fault(trial.id, outcome.result)
            else:
                yield _row(trial, outcome.result, execution)


def fit_place(execution: Execution) -> str:
    """What changes a fit beyond the trial: the code as it is, libraries, device and threads; see ``provenance``."""
    place = {**provenance(execution.device, execution.threads), "code": _code_digest()}
    return json.dumps(place, sort_keys=True)


def run_stored(
    begin: Callable[[], Mapping[str, Sequence[Row]]],
    run: Callable[[Mapping[str, Sequence[Row]]], Iterator[Row | Fault]],
    append: Callable[[Row], Row],
) -> Iterator[Row | Fault]:
    """Run the missing rounds of a cohort against a store; yield the stored row of each round that is computed here.

    Two workers of one cohort can be alive at once, since a node that is cut off goes on. The first row of a round
    stays. A worker that gets other picks than its own begins the cohort again from the stored rows, and so continues
    the one history; rows that differ only in costs or provenance continue it alike.

    Args:
        begin: the stored rows of each trial to run, by id; called before the first round and whenever the worker begins
            again.
        run: the missing rounds from these rows on; see ``run_cohort_rows``.
        append: stores a row and answers with the row that is stored for its round; see ``Store.append``.
    """
    agrees = False
    while not agrees:
        agrees = True
        for outcome in run(begin()):
            if isinstance(outcome, Fault):
                yield outcome
                continue
            stored = append(outcome)
            yield stored
            if stored[PICKED] != outcome[PICKED]:
                agrees = False
                break


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


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """Of the library's modules, which can change without a commit."""
    folder = Path(activekd.__file__).parent
    modules = sorted(folder.rglob("*.py"))
    digests = [f"{m.relative_to(folder).as_posix()} {hashlib.sha256(m.read_bytes()).hexdigest()}" for m in modules]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


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
