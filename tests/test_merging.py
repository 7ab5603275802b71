"""The union of runs: what is ranked, what is taken once, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from activekd.errors import InputError
from bench.report.__main__ import app
from bench.store.merging import read_merged
from bench.store.table import read_run

DEMO = Path(__file__).parent.parent / "results" / "demo"
STUDENT = "adapter:efficientnet_lite0@48"

Wanted = Callable[[dict[str, Any]], bool]


def part(
    folder: Path,
    wanted: Wanted,
    *,
    change_trial: Callable[[dict[str, Any]], Any] = lambda trial: None,
    change_row: Callable[[dict[str, Any]], Any] = lambda row: None,
    **plan: Any,
) -> Path:
    """A results folder with some trials on digits of one student and teacher of the committed demo."""
    content = json.loads((DEMO / "plan.json").read_text(encoding="utf-8"))
    one = {"dataset": "digits", "student": STUDENT, "teacher": "none"}
    trials = [t for t in content["trials"] if wanted(t) and one.items() <= t.items()]
    kept = {trial["trial_id"] for trial in trials}
    for trial in trials:
        change_trial(trial)
    lines = (DEMO / "rounds" / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["trial_id"] in kept]
    for row in rows:
        change_row(row)
    assert rows
    (folder / "rounds").mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({**content, **plan, "trials": trials}), encoding="utf-8")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rounds" / "rounds.jsonl").write_text(text, encoding="utf-8")
    return folder


def everything(trial: dict[str, Any]) -> bool:
    return True


def test_seeds_and_selectors_of_several_runs_are_ranked_together(tmp_path: Path) -> None:
    first = part(tmp_path / "a", lambda t: t["seed"] < 2 and t["selector"] != "badge", display={"random": "Chance"})
    second = part(tmp_path / "b", lambda t: t["seed"] >= 1 and t["selector"] != "badge", display={"random": "Luck"})
    third = part(tmp_path / "c", lambda t: t["selector"] == "badge", name="mine")
    whole = read_run(part(tmp_path / "whole", everything))
    merged = read_merged([first, second, third])
    assert merged.name == "demo + mine"
    assert merged.display == {"random": "Luck"}
    assert merged.holes.empty
    key = ["trial_id", "round"]
    pd.testing.assert_frame_equal(
        merged.rows.sort_values(key, ignore_index=True), whole.rows.sort_values(key, ignore_index=True)
    )
    by_cell = {tuple(cell): tuple(picks) for cell, picks in zip(whole.rows[key].to_numpy(), whole.picks, strict=True)}
    assert all(
        by_cell[tuple(cell)] == tuple(picks)
        for cell, picks in zip(merged.rows[key].to_numpy(), merged.picks, strict=True)
    )
    assert read_merged([first]).rows.equals(read_run(first).rows)


def test_a_missing_round_of_one_run_is_that_of_another(tmp_path: Path) -> None:
    rows = part(tmp_path / "a", everything) / "rounds" / "rounds.jsonl"
    lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
    last = {json.loads(line)["trial_id"]: index for index, line in enumerate(lines)}
    rows.write_text("".join(line for i, line in enumerate(lines) if i != min(last.values())), encoding="utf-8")
    second = part(tmp_path / "b", lambda t: t["seed"] < 3)
    assert len(read_run(tmp_path / "a").holes) == 1
    assert read_merged([tmp_path / "a", second]).holes.empty


def better(row: dict[str, Any]) -> None:
    row["accuracy"] = min(1.0, row["accuracy"] + 0.01 * (row["seed"] == 1))


def another_pick(row: dict[str, Any]) -> None:
    if row["seed"] == 1 and row["picked"] and row["selector"] == "random":
        row["picked"] = row["picked"][::-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"change_row": better},
            r"a and \S*b disagree on 30 of 90 rows that both have: .*seed=1 round=0.*; expected: eq",
        ),
        ({"change_row": another_pick}, r"disagree on 4 of 90 rows that both have: .*selector=random seed=1"),
        (
            {
                "change_trial": lambda trial: trial.update(protocol=3),
                "change_row": lambda row: row.update(protocol=3),
            },
            r"RUNs of different protocols: \S*a 2; \S*b 3; expected: RUNs of one protocol",
        ),
        (
            {
                "change_trial": lambda trial: trial.update(trial_id=trial["trial_id"][::-1]),
                "change_row": lambda row: row.update(trial_id=row["trial_id"][::-1]),
            },
            r"a and \S*b define the same cell differently: group=digits .*; and 15 more; expected: equal rounds",
        ),
        (
            {"change_trial": lambda trial: trial.update(group="other")},
            r"a and \S*b show the same trial in two cells: group=digits group_other=other .*; expected: one group",
        ),
        ({"datasets": {"digits": "0"}}, r"a and \S*b: the images or labels of digits differ; expected: the same"),
    ],
)
def test_runs_that_disagree_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    first, second = part(tmp_path / "a", everything), part(tmp_path / "b", everything, **changes)
    with pytest.raises(InputError, match=message):
        read_merged([first, second])


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    first = part(tmp_path / "a", everything)
    second = part(tmp_path / "b", everything, change_row=better, datasets={"digits": "0"})
    with pytest.raises(InputError) as caught:
        read_merged([first, second])
    assert len(caught.value.faults) == 2
    with pytest.raises(InputError, match="the same RUN twice"):
        read_merged([first, first])


def test_command_line_of_a_merge(tmp_path: Path) -> None:
    first = part(tmp_path / "a", lambda t: t["seed"] < 2)
    second = part(tmp_path / "b", lambda t: t["seed"] == 2)
    options = ["--merge", "--out", str(tmp_path / "out"), "--subject", "badge", "--budgets", "20, 50"]
    result = CliRunner().invoke(app, [str(first), str(second), *options])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert page.startswith("# demo: badge first in ")
    assert "| selector | 20 labels | 50 labels |" in page
    assert "over the n seeds of a table" in page
    assert "(n = 3)" in page
    shutil.rmtree(tmp_path / "out")
    for more, message in (
        (["--budgets", "many"], "--budgets 'many'; expected: numbers of labels, such as 100,200"),
        (["--budgets", "21"], "--budgets 21: no query round has so many labels; expected: some of 20, 30, 40, 50"),
    ):
        refused = CliRunner().invoke(app, [str(first), str(second), *options, *more])
        assert refused.exit_code == 2
        assert message in refused.stderr
    assert not (tmp_path / "out").exists()
    apart = CliRunner().invoke(app, [str(first), str(second), "--subject", "badge", "--out", str(tmp_path / "out")])
    assert apart.exit_code == 2
    assert "expected: one RUN with them, or --merge" in apart.stderr
