"""The bank: what is submitted in which order, with a Ray of two dictionaries; then two data sets on a real Ray."""

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import SPEC
from ray.exceptions import OutOfMemoryError, RayTaskError

from activekd.bank.shards import Shard, write_array
from activekd.datasets.split import Split
from activekd.errors import InputError
from activekd.recipes import ViewGeometry
from bench.cluster import banking
from bench.cluster.banking import READERS, Bank, NotCachedError
from bench.cluster.filling import Filler
from bench.specs.file import Share

VIEWS = ViewGeometry(2, (0.5, 1.0), (1.0, 1.0), 0.0)


def shard(dataset: str, view: int = 0) -> Shard:
    return Shard(dataset, "train", view, f"images of {dataset}", "teacher:clip", "weights", VIEWS)


def trial(dataset: str, n_views: int = 1) -> Any:
    """A trial that reads views of one data set, without a text head."""
    one = SimpleNamespace(
        id=f"{dataset} 0",
        source=dataset,
        trial=SimpleNamespace(student="student", teacher="clip+zeroshot", views=VIEWS),
        shards=tuple(shard(dataset, view) for view in range(n_views)),
        head_key=None,
        encoder_of=lambda shard: "a network",
        split=lambda name: Split(None, np.zeros(2, dtype=np.int64), ("a.png", "b.png")),
    )
    one.readers = (one,)
    return one


def raised(cause: Exception) -> RayTaskError:
    return RayTaskError("task", "traceback", cause, pid=1, ip="127.0.0.1")


def named(what: Shard | list[Shard]) -> tuple[str, int | list[int]]:
    """The data set, and the view of a shard or the views of several."""
    return (what[0].dataset, [one.view for one in what]) if isinstance(what, list) else (what.dataset, what.view)


@dataclass
class Recorded:
    """A Ray that runs nothing: the tasks that were submitted, each ended by the test.

    Attributes:
        submitted: (task, its options, its first argument) by reference.
        ended: results or errors by reference.
    """

    submitted: dict[str, tuple[str, dict[str, Any], Any]] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)

    def task(self, name: str, n_returns: int = 1) -> Any:
        def with_options(**options: Any) -> Any:
            def remote(*arguments: Any) -> Any:
                ref = f"{name} {len(self.submitted)}"
                self.submitted[ref] = name, options, arguments[0] if arguments else None
                return ref if n_returns == 1 else (f"array of {ref}", ref)

            return SimpleNamespace(remote=remote)

        return SimpleNamespace(options=with_options)

    def wait(self, refs: list[str], num_returns: int = 1, timeout: float | None = None) -> tuple[list[str], list[str]]:
        return [ref for ref in refs if ref in self.ended], [ref for ref in refs if ref not in self.ended]

    def get(self, ref: str) -> Any:
        if isinstance(self.ended[ref], Exception):
            raise self.ended[ref]
        return self.ended[ref]

    def running(self, name: str) -> list[tuple[str, str, Any]]:
        """(reference, data set, view or views) of the tasks of that name that have not ended."""
        going = [(ref, what) for ref, (task, _, what) in self.submitted.items() if task == name]
        return [(ref, *named(what)) for ref, what in going if ref not in self.ended]

    def end(self, ref: str, answer: Any = None) -> None:
        self.ended[ref] = answer


@dataclass
class Shown:
    """A progress that keeps what it gets."""

    lines: list[tuple[int, int, str]] = field(default_factory=list)

    def banked(self, done: int, total: int, now: str = "") -> None:
        self.lines.append((done, total, now))


@pytest.fixture
def rays(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """A recording Ray with room for two tasks that compute."""
    rays = Recorded()
    context = SimpleNamespace(get_node_id=lambda: "0" * 56)
    shelf = rays.task("shelf")
    monkeypatch.setattr(
        banking,
        "ray",
        SimpleNamespace(
            wait=rays.wait, get=rays.get, put=lambda value: f"put {value}", get_runtime_context=lambda: context
        ),
    )
    for name in ("_extract_task", "_extract_on_gpu", "_text_head_task", "_text_head_on_gpu"):
        monkeypatch.setattr(banking, name, rays.task(name))
    monkeypatch.setattr(banking, "_read", rays.task("_read", 2))
    monkeypatch.setattr(banking, "Shelf", shelf)
    monkeypatch.setattr(banking, "waiting_tasks", lambda share, device: 2)
    monkeypatch.setattr("bench.cluster.banking.runs_network", lambda encoder: True)
    return rays


def bank_of(trials: Iterable[Any], cache: Path, device: str = "cpu", progress: Shown | None = None) -> Bank:
    return Bank(list(trials), cache, device, Share(cpus=1, gpus=1), progress or Shown())


def test_cached_arrays_are_read_without_a_gpu(rays: Recorded, tmp_path: Path) -> None:
    """View 0 is cached; view 1 runs a network, on a GPU."""
    write_array(shard("a").path(tmp_path), np.zeros(3))
    bank = bank_of([trial("a", 2)], tmp_path, "cuda")
    bank.advance()
    submitted = list(rays.submitted.values())[1:]
    tasks = [(name, options.get("num_gpus"), named(what)[1]) for name, options, what in submitted]
    assert tasks == [("_read", None, 0), ("_extract_on_gpu", 1, [1])]


def test_trials_start_as_their_arrays_come(rays: Recorded, tmp_path: Path) -> None:
    """a computes three views on the two places, reading its images once a place; b is cached, and ready first."""
    write_array(shard("b").path(tmp_path), np.zeros(3))
    progress = Shown()
    bank = bank_of([trial("a", 3), trial("b")], tmp_path, progress=progress)
    bank.advance()
    assert [what[1:] for what in rays.running("_extract_task")] == [("a", [0, 1]), ("a", [2])]
    ((read, *what),) = rays.running("_read")
    assert what == ["b", 0]
    assert not bank.ready("a 0")
    assert not bank.ready("b 0")
    assert progress.lines[-1] == (0, 4, "teacher clip on a, train, view 0 and 3 more")
    rays.end(read)
    bank.advance()
    assert bank.ready("b 0")
    assert not bank.ready("a 0")
    for _ in range(2):
        for name in ("_extract_task", "_read"):
            for ref, *_ in rays.running(name):
                rays.end(ref)
            bank.advance()
    for ref, *_ in rays.running("_read"):
        rays.end(ref)
    bank.advance()
    assert bank.ready("a 0")
    assert bank.complete
    assert progress.lines[-1] == (4, 4, "")


def test_a_task_computes_one_array_at_a_time_where_they_are_large(
    rays: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banking, "TASK_BYTES", 1)
    bank_of([trial("a", 5)], tmp_path).advance()
    assert [what[1:] for what in rays.running("_extract_task")] == [("a", [0]), ("a", [1])]


def test_nothing_more_is_computed_while_a_trial_waits_for_a_place(rays: Recorded, tmp_path: Path) -> None:
    bank = bank_of([trial(name) for name in "abcd"], tmp_path)
    bank.advance()
    (of_a, *_), (of_b, *_) = rays.running("_extract_task")
    rays.end(of_a)
    bank.advance()
    rays.end(rays.running("_read")[0][0])
    bank.advance()
    assert bank.ready("a 0")
    rays.ended["put"] = None
    bank.shelf = SimpleNamespace(put=SimpleNamespace(remote=lambda refs: "put"))
    bank.hand_out("job", "a 0")
    rays.end(of_b)
    bank.advance()
    assert [what[1:] for what in rays.running("_extract_task")] == [("c", [0])]
    bank.placed("job")
    bank.advance()
    assert [what[1:] for what in rays.running("_extract_task")] == [("c", [0]), ("d", [0])]


def test_few_arrays_are_read_at_a_time_in_the_order_of_need(rays: Recorded, tmp_path: Path) -> None:
    for view in range(5):
        write_array(shard("a", view).path(tmp_path), np.zeros(3))
    bank = bank_of([trial("a", 5)], tmp_path)
    seen = []
    while not bank.complete:
        bank.advance()
        reading = rays.running("_read")
        assert len(reading) <= READERS
        seen += [view for _, _, view in reading if view not in seen]
        if reading:
            rays.end(reading[0][0])
    assert seen == [0, 1, 2, 3, 4]


def test_a_damaged_array_is_computed_again_and_a_cache_that_is_not_shared_is_named(
    rays: Recorded, tmp_path: Path
) -> None:
    write_array(shard("a").path(tmp_path), np.zeros(3))
    bank = bank_of([trial("a")], tmp_path)
    bank.advance()
    missing = raised(NotCachedError(str(shard("a").path(tmp_path))))
    rays.end(rays.running("_read")[0][0], missing)
    bank.advance()
    rays.end(rays.running("_extract_task")[0][0])
    bank.advance()
    rays.end(rays.running("_read")[0][0], missing)
    bank.advance()
    assert f"cache {tmp_path}: {shard('a').key}.npy was computed, but is missing on the driver's node" in str(
        bank.fault
    )


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (raised(InputError("full disk; expected: space")), "full disk; expected: space"),
        (OutOfMemoryError("killed"), "lost its worker more than 20 times \\(OutOfMemoryError\\)"),
    ],
)
def test_faults_of_tasks_are_kept(answer: Exception, text: str, rays: Recorded, tmp_path: Path) -> None:
    bank = bank_of([trial("a")], tmp_path)
    bank.advance()
    rays.end(rays.running("_extract_task")[0][0], answer)
    bank.wait(lambda: False)
    assert isinstance(bank.fault, InputError)
    with pytest.raises(InputError, match=text):
        raise bank.fault


def test_trials_start_no_sooner_than_the_bank_has_had_its_time(rays: Recorded, tmp_path: Path) -> None:
    bank = Bank([trial("a")], tmp_path, "cpu", Share(), Shown(), at_least=0.3)
    begin = monotonic()
    bank.wait(lambda: True)
    assert monotonic() - begin >= 0.3
    assert not bank.complete
    rays.end(rays.running("_extract_task")[0][0])
    bank.advance()
    rays.end(rays.running("_read")[0][0])
    bank.wait(lambda: pytest.fail("a complete bank waits for nothing"))
    assert bank.complete


def test_arrays_that_are_there_need_no_task(rays: Recorded, tmp_path: Path) -> None:
    bank = Bank([trial("a")], tmp_path, "cpu", Share(), Shown(), {shard("a").key: "ref"})
    assert bank.complete
    assert bank.ready("a 0")


class Filled:
    """A bank that keeps what it is told."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.steps = 0
        self.placed_jobs: list[str] = []

    def advance(self) -> None:
        self.steps += 1

    def placed(self, job: str) -> None:
        self.placed_jobs.append(job)


def test_the_bank_is_filled_at_every_step_and_its_fault_stops_the_grid() -> None:
    bank = Filled()
    filler = Filler(bank)
    filler.on_step_begin(0, [])
    filler.on_step_begin(1, [])
    filler.on_trial_start(1, [], SimpleNamespace(config={"job_id": "a"}))
    assert (bank.steps, bank.placed_jobs) == (2, ["a"])
    assert not filler.stop_all()
    bank.fault = ValueError("no space")
    assert filler.stop_all()


SCRIPT = '''
"""A slow data set comes first: its features are a pipe that nobody writes to, until all rows of the other are there."""

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import ray

from activekd.bank.given import GivenFeatures
from activekd.bank.shards import Shard, write_array
from activekd.banked import BankedShards
from activekd.datasets import load_dataset
from activekd.errors import InputError
from activekd.selectors import selector
from activekd.students.networks import student_network
from bench.cluster.banking import Bank
from bench.cluster.nodes import connected
from bench.cluster.running import run_jobs
from bench.cluster.storing import start_store
from bench.settings import Options
from bench.spec import read_spec
from bench.specs.file import Share
from bench.speed.grid import idle_rounds, write_idle_plan
from bench.store.rows import stored_rows
from bench.terminal import GridProgress
from bench.trials.cohorts import Cohort
from bench.trials.resolved import ResolvedTrial
from bench.trials.run import Execution

HERE = Path(sys.argv[1])
CACHE, RUN, PIPE = HERE / "cache", HERE / "run", HERE / "features.npz"
os.mkfifo(PIPE)
spec = read_spec(str(HERE / "two.toml"))
write_idle_plan(RUN, spec)
digits = load_dataset("digits", CACHE)


class Slow(GivenFeatures):
    given = False


given = Slow("features:slow", PIPE, PIPE)
slow, fast = sorted(spec.trials, key=lambda t: t.dataset == "digits")
random = selector("random")


def of(trial, encoder, dataset):
    shard = Shard(trial.dataset, "train", 0, trial.dataset, "encoder", "weights", trial.views)
    student = encoder or student_network(trial.student)
    banked = BankedShards(student_train=(shard,))
    return ResolvedTrial(trial, replace(dataset, name=trial.dataset), student, None, random, banked)


trials = [of(slow, given, digits), of(fast, None, digits)]
write_array(trials[1].shards[0].path(CACHE), np.zeros(4, dtype=np.float16))


def end_the_pipe():
    while len(stored_rows(RUN)) < fast.rounds:
        time.sleep(0.05)
    while True:
        # A reader may go before all is written, and another come.
        with suppress(BrokenPipeError), PIPE.open("wb") as file:
            file.write(b"no archive")


threading.Thread(target=end_the_pipe, daemon=True).start()
options = Options(spill=HERE / "spill", max_concurrent=1)
with connected(options):
    progress = GridProgress.of_trials(spec.trials, {}, every=60.0)
    with progress:
        store = start_store(RUN, attempts=1)
        # No GPU is there: a task that asked for one would never run.
        bank = Bank(trials, CACHE, "cuda", Share(gpus=1), progress, at_least=0)
        try:
            jobs = [Cohort((trial,)) for trial in trials]
            run_jobs(jobs, bank, store, RUN, progress, Execution("cpu"), options, run=idle_rounds)
        except InputError as fault:
            print("fault:", fault)
print("rows:", [(row["dataset"], row["round"]) for row in stored_rows(RUN)])
'''


def test_a_slow_data_set_holds_back_no_other_and_its_fault_ends_the_grid(tmp_path: Path) -> None:
    text = SPEC.replace('["digits"]', '["digits", "mnist5k"]').replace('["none", "glyphclip+clap"]', '["none"]')
    text = text.replace('["random", "pcoreset"]', '["random"]')
    (tmp_path / "two.toml").write_text(text, encoding="utf-8")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        env={**os.environ, "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "features.npz: not a zip archive; expected: an .npz file" in result.stdout, result.stdout + result.stderr
    assert "rows: [('digits', 0), ('digits', 1), ('digits', 2)]" in result.stdout
