"""Cases of the command line: misspelt commands, help, versions, plans."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import bench.data
import bench.report.__main__
import bench.speed.__main__
from activekd.recipes import ViewGeometry
from bench.checks import resolve
from bench.grid import app, main
from bench.plan.count import estimate
from bench.plan.work import Task
from bench.spec import SPEC_NAMES, read_spec
from bench.trials.resolved import bank_bytes, shards_of, with_shards


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    """Exit code, output and errors of ``python -m bench.grid``."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, errors = capsys.readouterr()
    return end.value.code, out, errors


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(("pln", "demo"), "plan"), (("statsu",), "status"), (("dmeo",), "demo"), (("lst",), "list"), (("rnu",), "run")],
)
def test_case_46_a_misspelt_command_gets_a_suggestion(
    arguments: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = ended(capsys, *arguments)
    assert (code, out) == (2, "")
    assert errors.startswith(f"error: unknown command or spec '{arguments[0]}'; did you mean '{meant}'? known: ")


def test_case_46_a_path_and_a_misspelt_option_are_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown spec 'absent/demo.toml'" in ended(capsys, "absent/demo.toml")[2]
    assert "No such option: --seril" in ended(capsys, "--seril", "demo")[2]


def test_case_46_help_version_and_list(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("-h",), ("--help",), ("run", "-h"), ("plan", "-h")):
        code, out, _ = ended(capsys, *arguments)
        assert code == 0
        assert "Usage: " in out
    assert ended(capsys, "--version")[1].startswith("activekd-bench ")
    code, out, _ = ended(capsys, "list")
    assert code == 0
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(SPEC_NAMES)
    assert "demo: 216 trials, 1,080 rounds; digits, mnist5k" in lines
    for module in (bench.data, bench.report.__main__, bench.speed.__main__):
        for option, shown in (("--version", "activekd-bench "), ("-h", "Usage: ")):
            result = CliRunner().invoke(module.app, [option])
            assert result.exit_code == 0
            assert shown in result.output


@pytest.mark.parametrize("option", ["--gpus-per-trial", "--gpus-per-extraction"])
@pytest.mark.parametrize("value", ["1.5", "inf"])
def test_a_wrong_share_names_its_option(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = ended(capsys, "demo", option, value)
    assert (code, errors) == (2, f"error: {option} {value}; expected: at most 1, or a whole number\n")


def test_case_49_a_plan_counts_the_predictions_for_diagnostics(tiny_spec: Path, tmp_path: Path) -> None:
    """Two trials of pcoreset ask for the pool in two of three rounds; diagnostics take it in each round of all four."""
    trials = read_spec(str(tiny_spec)).trials
    with_them, without = (estimate(trials, tmp_path, diagnostics=on) for on in (True, False))
    pool, task = with_them.sizes["digits"].n_pool, Task("diagnose", "resnet6_mini@16")
    predicted = (4 * 3 - 2 * 2) * pool + 4 * 2 * (10 + 10)
    assert (with_them.work[task], without.work.get(task)) == (predicted, None)
    other = Task("predict", "resnet6_mini@16")
    assert with_them.work[other] == without.work[other] > 0
    printed = [CliRunner().invoke(app, ["plan", str(tiny_spec), *more]).output for more in ((), ("--no-diagnostics",))]
    totals = (predicted + with_them.work[other], without.work[other])
    assert [f"{total:,}" in text for total, text in zip(totals, printed, strict=True)] == [True, True]


def test_case_50_the_bank_of_a_plan_is_that_of_the_grid(tiny_spec: Path, cache: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8")
    block = text.partition("[[block]]")[2].partition("[views")[0].replace('views = "two"', 'views = "other"\ngroup="o"')
    other = "[views.other]\ncount = 3\nscale = [0.8, 1.0]\nratio = [0.9, 1.0]\nflip = 0.0\n\n"
    tiny_spec.write_text(text.replace("[views.two]", f"[[block]]{block}\n{other}[views.two]"), encoding="utf-8")
    trials = read_spec(str(tiny_spec)).trials
    assert len({trial.views for trial in trials}) == 2
    assert {type(trial.views) for trial in trials} == {ViewGeometry}
    shards = shards_of(with_shards(resolve(trials, cache, lambda name, done, total: None)))
    assert bank_bytes(shards) == estimate(trials, cache).bank_bytes
