"""Transfer: another student on the labels of a trial. Its accuracy is its own trial's, and no other number changes."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cohorts import (
    ADAPTER,
    COSTS,
    DIM,
    GEOMETRY,
    HEADS,
    RECIPE,
    N,
    features,
    members,
    student_views,
    teacher_views,
    world,
)
from typer.testing import CliRunner

from activekd.bank.views import Views
from activekd.errors import InputError
from activekd.loop import run_cohort
from activekd.rounds import Member, Outcome, Round, StudentViews, Transfer
from activekd.selectors import Selector
from activekd.selectors.view import PoolView
from activekd.starts import Start
from activekd.students import cohort
from activekd.students.cohort import MemberFit
from activekd.students.networks import student_network
from bench.checks import resolve
from bench.columns import PROVENANCE
from bench.grid import app
from bench.plan.count import estimate
from bench.plan.work import Task
from bench.spec import read_spec, with_transfers
from bench.store.rows import stored_rows
from bench.trials.cohorts import Cohort, cohorts
from bench.trials.resolved import shards_of, with_shards

OTHER_DIM = 9
OTHER_RECIPE = replace(RECIPE, lr=0.02, steps=5, trunk_width=6)


def other(name: str) -> StudentViews:
    """Another student on the rows of the same world."""
    network = student_network(name)
    if network.frozen:
        return StudentViews(network, features(OTHER_DIM, N, 3, seed=5), features(OTHER_DIM, 40, 1, seed=6))
    rng = np.random.default_rng(7)
    images = Views(tuple(rng.integers(256, size=(N, 3, 16, 16), dtype=np.uint8) for _ in range(3)))
    return StudentViews(network, images, Views((rng.integers(256, size=(40, 3, 16, 16), dtype=np.uint8),)))


def run(
    some: Sequence[Member],
    student: StudentViews,
    transfer: Transfer | None = None,
    *,
    taught: bool = True,
    recipe: Any = RECIPE,
    rounds: int = 3,
    diagnostics: bool = True,
) -> list[Outcome]:
    return list(
        run_cohort(
            world(),
            student,
            teacher_views() if taught else None,
            some,
            recipe,
            GEOMETRY,
            rounds=rounds,
            start=Start(),
            query_size=4,
            distillation="both" if taught else "none",
            diagnostics=diagnostics,
            transfer=transfer,
        )
    )


def rounds_of(outcomes: Sequence[Outcome], member: int) -> list[Round]:
    found = [outcome.result for outcome in outcomes if outcome.member == member]
    assert all(isinstance(one, Round) for one in found)
    return [one for one in found if isinstance(one, Round)]


def text(one: Round) -> str:
    return repr({k: v for k, v in asdict(one).items() if k not in {*COSTS, "transfer_accuracy"}})


@pytest.mark.parametrize("taught", [True, False], ids=["taught", "alone"])
@pytest.mark.parametrize("name", ["frozen:resnet18", "adapter:resnet18", "resnet6_mini@16"])
def test_transfer_is_a_plain_trial_of_that_student_and_changes_no_other_number(name: str, taught: bool) -> None:
    some = members(("random", 0), ("entropy", 0), ("badge", 1))
    plain = run(some, student_views(ADAPTER), taught=taught)
    found = run(some, student_views(ADAPTER), Transfer(other(name), OTHER_RECIPE), taught=taught)
    for k, member in enumerate(some):
        with_it, without = rounds_of(found, k), rounds_of(plain, k)
        assert [text(one) for one in with_it] == [text(one) for one in without]
        assert {one.transfer_accuracy for one in without} == {None}
        for index, one in enumerate(with_it):
            same_labels = replace(member, picked=[done.picked for done in with_it[:index]])
            own = run([same_labels], other(name), taught=taught, recipe=OTHER_RECIPE, rounds=index + 1)
            assert one.transfer_accuracy == rounds_of(own, 0)[-1].accuracy


def test_company_changes_no_transfer() -> None:
    wanted = [("random", 0), ("entropy", 0), ("pcoreset", 1), ("badge", 1)]
    transfer = Transfer(other("adapter:resnet18"), OTHER_RECIPE)
    together = run(members(*wanted), student_views(HEADS), transfer)
    for k, pair in enumerate(wanted):
        alone = rounds_of(run(members(pair), student_views(HEADS), transfer), 0)
        assert [one.transfer_accuracy for one in alone] == [one.transfer_accuracy for one in rounds_of(together, k)]


def test_equal_transfers_are_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[tuple[int, int]] = []
    whole = cohort.fit_cohort

    def counting(fits: Sequence[MemberFit], inputs: Views, *arguments: object, **named: object) -> object:
        fitted.append((inputs.shape[0], len(fits)))
        return whole(fits, inputs, *arguments, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("activekd.fitting.fit_cohort", counting)
    some = members(*((name, seed) for seed in (0, 1) for name in ("random", "entropy", "badge")))
    found = run(some, student_views(ADAPTER), Transfer(other("frozen:resnet18"), OTHER_RECIPE), diagnostics=False)
    assert fitted == [(DIM, 2), (OTHER_DIM, 2), (DIM, 6), (OTHER_DIM, 6), (DIM, 6), (OTHER_DIM, 6)]
    assert len({rounds_of(found, k)[0].transfer_accuracy for k in range(3)}) == 1


def test_a_transfer_that_is_not_finite_and_a_selector_that_raises_leave_alone() -> None:
    broken = replace(other("frozen:resnet18"), train=features(OTHER_DIM, N, 3, seed=5))
    assert isinstance(broken.train, Views)
    for array in broken.train.banked:
        array[:] = np.nan
    transfer = Transfer(broken, OTHER_RECIPE)
    (left,) = run(members(("random", 0)), student_views(ADAPTER), transfer)
    assert isinstance(left.result, InputError)
    assert str(left.result).startswith("transfer: round 0, student 'frozen:resnet18': ")

    def raises(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        raise RuntimeError("no idea")

    some = [Member(Selector("broken", raises, frozenset()), 0), *members(("random", 1))]
    outcomes = run(some, student_views(ADAPTER), Transfer(other("frozen:resnet18"), OTHER_RECIPE))
    (fault,) = (one.result for one in outcomes if one.member == 0)
    assert isinstance(fault, RuntimeError)
    assert all(one.transfer_accuracy is not None for one in rounds_of(outcomes, 1))


FROZEN = "frozen:efficientnet_lite0@32"


def transferring(spec: Path, name: str, key: str = "rounds = 3") -> Path:
    path = spec.with_name("transferring.toml")
    path.write_text(spec.read_text(encoding="utf-8").replace(key, f'{key}\ntransfer = "{name}"'), encoding="utf-8")
    return path


def test_a_transfer_is_no_part_of_the_id_and_has_the_recipe_of_its_student(tiny_spec: Path) -> None:
    plain, found = read_spec(str(tiny_spec)).trials, read_spec(str(transferring(tiny_spec, FROZEN))).trials
    assert [t.id for t in found] == [t.id for t in plain]
    assert {t.of_transfer for t in plain} == {None}
    trial = found[0]
    assert trial.of_transfer is not None
    assert (trial.of_transfer.student, trial.of_transfer.transfer) == (FROZEN, None)
    assert trial.of_transfer.recipe.steps == 300, "that of heads"
    assert trial.of_transfer.recipe.clap == trial.recipe.clap, "the teacher is that of the trial"
    assert trial.of_transfer.seed == trial.seed
    assert [t.student for t in with_transfers(found[:1])] == [trial.student, FROZEN]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("frozen:resnet81", r"frozen:resnet81.*did you mean 'resnet18'"),
        ("adapter:given", "student 'adapter:given' on digits, which has images; expected: a backbone"),
    ],
)
def test_transfers_that_are_refused_before_any_work(name: str, message: str, tiny_spec: Path, cache: Path) -> None:
    trials = read_spec(str(transferring(tiny_spec, name))).trials
    with pytest.raises(InputError, match=message):
        resolve(trials, cache, lambda name, done, total: pytest.fail("images are decoded"))
    with pytest.raises(InputError, match=message):
        estimate(trials, cache)


def test_a_transfer_to_the_student_itself_is_refused(tiny_spec: Path) -> None:
    with pytest.raises(
        InputError, match="transfer = 'resnet6_mini@16', which is among the students; expected: another"
    ):
        read_spec(str(transferring(tiny_spec, "resnet6_mini@16")))


def test_the_bank_and_the_jobs_of_a_grid_that_transfers(tiny_spec: Path, cache: Path) -> None:
    trials = resolve(read_spec(str(transferring(tiny_spec, FROZEN))).trials, cache, lambda name, done, total: None)
    assert all(t.transfer is not None and t.transfer.student.name == FROZEN for t in trials)
    with_them = with_shards(trials)
    encoders = {shard.encoder for shard in shards_of(with_them)}
    assert encoders == {FROZEN, "teacher:glyphclip"}
    for trial in with_them:
        assert trial.transfer is not None
        assert len(trial.transfer.shards) == 2 + 1, "two views of the pool and view 0 of test"
    alone = resolve(read_spec(str(tiny_spec)).trials, cache, lambda name, done, total: None)
    assert all(a.work() > b.work() for a, b in zip(trials, alone, strict=True))
    assert {type(job) for job in cohorts(trials, 1, {})} == {Cohort}


def test_a_plan_counts_the_transfers(tiny_spec: Path, cache: Path) -> None:
    plain, found = (
        estimate(read_spec(str(path)).trials, cache) for path in (tiny_spec, transferring(tiny_spec, FROZEN))
    )
    assert found.totals["fits of transfers"] == 4 * 3
    assert "fits of transfers" not in plain.totals
    # Trials end to end are jobs of one: three fits of 300 steps of the recipe heads each, without a shared round 0.
    assert found.totals["optimiser steps"] - plain.totals["optimiser steps"] == 4 * 3 * 300
    more = {task: n for task, n in found.work.items() if n != plain.work.get(task)}
    pool, test = found.sizes["digits"].n_pool, found.sizes["digits"].n_test
    assert more[Task("predict", FROZEN)] == 4 * 3 * test
    assert more[Task("encode", FROZEN, 32)] == 2 * pool + test
    # With a teacher steps have labeled and unlabeled images; on a frozen backbone trial-steps count.
    assert sum(n for task, n in more.items() if (task.part, task.name) == ("student", FROZEN)) == 4 * 3 * 300
    assert not {task for task in more if task.name in {"resnet6_mini@16", "random", "pcoreset"}}


def rows_of(spec: Path, out: Path, cache: Path, *options: str) -> list[dict[str, Any]]:
    arguments = ["run", str(spec), "--device", "cpu", "--no-report", "--no-diagnostics", "--out", str(out), *options]
    result = CliRunner().invoke(app, arguments, env={"ACTIVEKD_CACHE": str(cache)})
    assert result.exit_code == 0, result.output
    costs = {*COSTS, *PROVENANCE}
    rows = ({k: v for k, v in row.items() if k not in costs} for row in stored_rows(out))
    return sorted(rows, key=lambda row: (row["trial_id"], row["round"]))


def short_heads(spec: Path) -> Path:
    """The same spec, whose default recipe of heads is as short as its own."""
    text = spec.read_text(encoding="utf-8")
    spec.write_text(f"{text}\n[recipes.heads]\n{text.partition('[recipes.short]')[2]}", encoding="utf-8")
    return spec


def test_rows_of_a_grid_that_transfers(tiny_spec: Path, cache: Path, tmp_path: Path) -> None:
    only = ("--serial", "--only", "selector=random")
    plain = rows_of(short_heads(tiny_spec), tmp_path / "plain", cache, *only)
    found = rows_of(transferring(tiny_spec, FROZEN), tmp_path / "found", cache, *only)
    reached = [row.pop("transfer_accuracy") for row in found]
    assert [row.pop("transfer_accuracy") for row in plain] == [None] * len(plain)
    assert found == plain
    own = tmp_path / "own.toml"
    text = tiny_spec.read_text(encoding="utf-8").replace('"resnet6_mini@16"', f'"{FROZEN}"')
    own.write_text(text, encoding="utf-8")
    # Random queries are those of any student, so all rounds have the same labels.
    assert [row["accuracy"] for row in by_cell(rows_of(own, tmp_path / "own", cache, *only))] == [
        accuracy for _, accuracy in sorted(zip([cell(row) for row in found], reached, strict=True))
    ]


def cell(row: dict[str, Any]) -> tuple[str, int]:
    return row["teacher"], row["round"]


def by_cell(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=cell)


def test_rows_stored_before_stay_without_it(tiny_spec: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    rows_of(short_heads(tiny_spec), out, cache, "--serial", "--only", "selector=random")
    found = rows_of(transferring(tiny_spec, FROZEN), out, cache, "--serial")
    assert {row["selector"] for row in found if row["transfer_accuracy"] is None} == {"random"}
    assert {row["selector"] for row in found if row["transfer_accuracy"] is not None} == {"pcoreset"}


def test_ray_and_serial_give_the_same_transfers(tiny_spec: Path, cache: Path, tmp_path: Path) -> None:
    spec = transferring(short_heads(tiny_spec), FROZEN)
    only = ("--only", "selector=random,teacher=none")
    serial = rows_of(spec, tmp_path / "serial", cache, "--serial", *only)
    assert rows_of(spec, tmp_path / "ray", cache, *only) == serial
    assert all(row["transfer_accuracy"] is not None for row in serial)
