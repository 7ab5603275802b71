"""Reports of parts, of failures and of odd names: what is reported, where, and what the page says about it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import SPEC
from names import NAMES
from test_report import run_of, taught_rows
from trees import write_image
from typer.testing import CliRunner, Result

from bench import grid
from bench.report import __main__ as report_command
from bench.report.figures.fonts import fallbacks
from bench.report.pages import contents_of, write_report, write_tables
from bench.report.rendering import run_html, run_markdown
from bench.settings import LOCK
from bench.store.rows import ROUNDS
from bench.store.table import read_run


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of each file but the lock, which names the process that held it last."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def two_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec over two folders of noise, two selectors and two seeds: eight trials of two rounds."""
    home = tmp_path_factory.mktemp("two folders [old]")
    for name in ("one", "two"):
        for kind in ("ant", "bee", "cat"):
            for index in range(8):
                write_image(home / name / kind / f"{index}.jpg", index, (24, 24))
    text = SPEC.replace('["digits"]', json.dumps([f"folder:{home / name}" for name in ("one", "two")]))
    for old, new in (
        ("seeds = [0]", "seeds = [0, 1]"),
        ('["none", "glyphclip+clap"]', '["none"]'),
        ("rounds = 3", "rounds = 2"),
        ("batch_labeled = 8\nbatch_unlabeled = 8", "batch_labeled = 4\nbatch_unlabeled = 4"),
    ):
        assert old in text
        text = text.replace(old, new)
    (home / "tiny.toml").write_text(text, encoding="utf-8")
    return home


@pytest.fixture(scope="module")
def run_grid(two_folders: Path, cache: Path) -> Callable[..., Result]:
    """``bench.grid run`` on the spec, in this process."""

    def run(out: Path, *options: str, spec: Path = two_folders / "tiny.toml") -> Result:
        arguments = ["run", str(spec), "--serial", "--device", "cpu", "--no-diagnostics", "--out", str(out), *options]
        return CliRunner().invoke(grid.app, arguments, env={"ACTIVEKD_CACHE": str(cache)})

    return run


@pytest.fixture(scope="module")
def finished(two_folders: Path, run_grid: Callable[..., Result]) -> Path:
    out = two_folders / "run"
    result = run_grid(out)
    assert result.exit_code == 0, result.output
    return out


def copy_of(run: Path, to: Path) -> Path:
    for name in ("plan.json", str(ROUNDS)):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes((run / name).read_bytes())
    return to


def without(run: Path, *, keep: Callable[[dict[str, Any]], bool]) -> Path:
    """Drop rows of a results folder."""
    lines = text_of(run / ROUNDS).splitlines(keepends=True)
    (run / ROUNDS).write_text("".join(line for line in lines if keep(json.loads(line))), encoding="utf-8")
    return run


def fail(run: Path, trials: list[str], reason: str = "Traceback\nRuntimeError: it is broken\n") -> None:
    (run / "failures").mkdir()
    for trial_id in trials:
        (run / "failures" / f"{trial_id}.txt").write_text(reason, encoding="utf-8")


def test_case_23_a_part_leaves_the_report_of_the_whole(finished: Path, run_grid: Callable[..., Result]) -> None:
    before = files_of(finished)
    dataset = read_run(finished).plan["dataset"].iloc[0]
    result = run_grid(finished, "--only", f"dataset={dataset}")
    assert result.exit_code == 0, result.output
    after = files_of(finished)
    assert {name: after[name] for name in before} == before
    assert {trial["n_classes"] for trial in json.loads(text_of(finished / "plan.json"))["trials"]} == {3}
    assert len(pd.read_parquet(finished / "rounds.parquet")) == 16
    part = text_of(finished / "part" / "report.md")
    assert re.search(r"This is a part of tiny: the 4 trials with dataset=folder:.*one", part)
    assert len(pd.read_parquet(finished / "part" / "rounds.parquet")) == 8
    assert f"report of all stored rows: {finished / 'report.html'}\n" in result.stdout
    assert f"report: {finished / 'part' / 'report.html'}\n" in result.stdout


def test_case_23_a_part_of_a_new_folder_reports_what_is_missing(
    two_folders: Path, tmp_path: Path, run_grid: Callable[..., Result]
) -> None:
    result = run_grid(tmp_path / "run", "--only", "seed=1")
    assert result.exit_code == 0, result.output
    page = text_of(tmp_path / "run" / "report.md")
    assert "Unfinished: 8 of 16" in page
    assert "- ranked on 1 of 2 seeds" in page


DEGENERATE: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "distilled on unlabeled images, no pair": lambda r: r[r["teacher"] != "none"].assign(distillation="unlabeled"),
    "one of everything": lambda r: r[(r["selector"] == "badge") & (r["seed"] == 0) & (r["round"] < 2)],
    "no reference": lambda r: r.assign(selector=r["selector"].map({"pcoreset": "x", "badge": "y", "random": "z"})),
    "seeds apart": lambda r: r[(r["teacher"] == "none") == (r["seed"] == 0)],
    "rounds apart": lambda r: r[(r["teacher"] == "none") | (r["round"] < 2)],
    "selectors apart": lambda r: r[(r["teacher"] == "none") == (r["selector"] == "badge")],
    "one class, free and perfect": lambda r: r.assign(
        n_classes=1, query_size=1, accuracy=1.0, train_seconds=0.0, predict_seconds=0.0, select_seconds=0.0
    ),
    "named like columns": lambda r: pd.concat(
        [
            part.assign(
                selector=r["selector"].map({"pcoreset": "round", "badge": "measure", "random": "teacher"}),
                recipe=recipe,
                trial_id=recipe + r["trial_id"],
            )
            for recipe, part in (("selector", r), ("student", r))
        ]
    ),
}


@pytest.mark.parametrize("kind", DEGENERATE)
def test_case_32_every_table_stands_rows_that_leave_it_empty(kind: str, tmp_path: Path) -> None:
    contents = contents_of(run_of(DEGENERATE[kind](taught_rows()).reset_index(drop=True)))
    write_tables(contents.frames, tmp_path)
    assert run_markdown(contents.page, contents.parts).startswith("# made: ")
    for drawing in contents.drawings:
        (tmp_path / f"{drawing.stem}.svg").write_text("<svg/>", encoding="utf-8")
    assert "</html>" in run_html(contents.page, contents.parts, tmp_path)


def named_rows(names: tuple[str, ...]) -> pd.DataFrame:
    """A configuration whose data set, group, student, recipe, teacher and a selector have these names."""
    dataset, group, student, recipe, teacher, selector = names
    rows = taught_rows()
    return rows.assign(
        dataset=dataset,
        group=group,
        student=student,
        recipe=recipe,
        teacher=rows["teacher"].replace("t+zeroshot", f"{teacher}+zeroshot"),
        selector=rows["selector"].replace("badge", selector),
        trial_id=dataset + rows["trial_id"],
    )


def test_case_33_names_are_never_mathematics_nor_markup(tmp_path: Path) -> None:
    """A warning of matplotlib is an error here."""
    sets = [NAMES[start : start + 6] for start in (0, 6, 12, 18)] + [NAMES[-6:]]
    rows = pd.concat([named_rows(names) for names in sets], ignore_index=True)
    contents = contents_of(run_of(rows))
    lacking = fallbacks("鸟类🐦")[1]
    assert [text for text in contents.page.caveats if "as boxes" in text and set(lacking) <= set(text)] or not lacking
    write_tables(contents.frames, tmp_path)
    for drawing in contents.drawings:
        (tmp_path / f"{drawing.stem}.svg").write_text("<svg/>", encoding="utf-8")
    page = run_html(contents.page, contents.parts, tmp_path)
    for markup in ("<b>bold", "<script>alert"):
        assert markup not in page
    assert set(pd.read_csv(tmp_path / "curves.csv")["group"]) == set(rows["group"])
    tex = text_of(tmp_path / "curves.tex")
    for name in (r"\textbackslash{}alpha", r"birds\_\$5\_vs\_\$10", r"{[}red{]}x{[}/red{]}", r"\&amp;", r"a-{}-b"):
        assert name in text_of(tmp_path / "ranks.tex") + tex


def test_case_33_figures_show_names_as_they_are(tmp_path: Path) -> None:
    names = ("d", "birds_$5_vs_$10", "鸟类", "_r", "\\alpha_$x$", "_x_")
    contents = contents_of(run_of(named_rows(names)))
    write_report(run_of(named_rows(names)), tmp_path)
    assert len(list((tmp_path / "figures").glob("*.svg"))) == len(contents.drawings)
    figure = next(drawing for drawing in contents.drawings if drawing.stem.startswith("curves")).draw()
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"_x_", "pcoreset", "random"}
    assert {text.get_parse_math() for text in legend.get_texts()} == {False}


def test_case_33_a_changed_group_is_a_label(
    finished: Path, two_folders: Path, tmp_path: Path, run_grid: Callable[..., Result]
) -> None:
    run = copy_of(finished, tmp_path / "run")
    spec = tmp_path / "tiny.toml"
    text = text_of(two_folders / "tiny.toml")
    spec.write_text(text.replace("rounds = 2", 'rounds = 2\ngroup = "birds_$5"\ncompared_as = "x"'), encoding="utf-8")
    result = run_grid(run, "--no-report", spec=spec)
    assert result.exit_code == 0, result.output
    assert "0 trials to do" in result.stdout
    rows = read_run(run).rows
    assert set(rows["group"]) == {"birds_$5"}
    assert set(rows["recipe"]) == {"x"}
    assert (run / ROUNDS).read_bytes() == (finished / ROUNDS).read_bytes()


def test_labels_of_the_last_start_are_those_of_the_page(
    finished: Path, two_folders: Path, tmp_path: Path, run_grid: Callable[..., Result]
) -> None:
    run = copy_of(finished, tmp_path / "run")
    spec = tmp_path / "tiny.toml"
    for table in ('pcoreset = "First"', 'pcoreset = "PCoreSet <new>"\nshort = "Short recipe"'):
        spec.write_text(f"{text_of(two_folders / 'tiny.toml')}\n[display]\n{table}\n", encoding="utf-8")
        result = run_grid(run, "--no-report", spec=spec)
        assert result.exit_code == 0, result.output
    assert json.loads(text_of(run / "plan.json"))["display"] == {
        "pcoreset": "PCoreSet <new>",
        "short": "Short recipe",
    }
    assert (run / ROUNDS).read_bytes() == (finished / ROUNDS).read_bytes()
    contents = contents_of(read_run(run))
    assert set(contents.frames["curves"]["selector"]) == {"random", "pcoreset"}, "frames keep the names"
    page = run_markdown(contents.page, contents.parts)
    assert "| PCoreSet \\<new> |" in page
    assert "| pcoreset |" not in page
    assert "PCoreSet \\<new> is pcoreset in the spec" in page
    assert "| one | ResNet-6 mini at 16 px | no distillation | Short recipe |" in page
    write_tables(contents.frames, tmp_path / "tables")
    assert r"PCoreSet \textless{}new\textgreater{}" in text_of(tmp_path / "tables" / "main.tex")
    figure = next(drawing for drawing in contents.drawings if drawing.stem.startswith("curves")).draw()
    assert "PCoreSet <new>" in {text.get_text() for text in figure.legends[0].get_texts()}


@pytest.mark.parametrize(
    ("old", "new", "options"),
    [
        ("seeds = [0, 1]", "seeds = [7]", []),
        ("resnet6_mini@16", "timm:resnet18/nowhere", []),
        ("resnet6_mini@16", "resnet6_mini@20", ["--device", "mps"]),
        ("rounds = 2", "rounds = 9", []),
    ],
)
def test_case_33_a_refused_grid_leaves_the_folder_as_it_is(
    old: str, new: str, options: list[str], finished: Path, two_folders: Path, tmp_path: Path, run_grid: Any
) -> None:
    run = copy_of(finished, tmp_path / "run")
    without(run, keep=lambda row: False)
    spec = tmp_path / "tiny.toml"
    assert old in text_of(two_folders / "tiny.toml")
    spec.write_text(text_of(two_folders / "tiny.toml").replace(old, new), encoding="utf-8")
    if new == "seeds = [7]":
        copy_of(finished, run)
    before = files_of(run)
    result = run_grid(run, *options, spec=spec)
    assert result.exit_code == 2, result.output
    assert files_of(run) == before


def test_case_37_a_selector_that_fails_everywhere_is_left_out(finished: Path, tmp_path: Path) -> None:
    run = without(copy_of(finished, tmp_path), keep=lambda row: row["selector"] != "pcoreset")
    plan = read_run(run).plan
    fail(run, plan.loc[plan["selector"] == "pcoreset", "trial_id"].unique().tolist())
    result = CliRunner().invoke(report_command.app, [str(run), "--partial"])
    assert result.exit_code == 0, result.output
    page = text_of(run / "report.md")
    assert page.index(
        "- ranked without selector pcoreset: 4 of 4 trials failed, such as with RuntimeError: it is broken"
    ) < page.index("## ")
    assert "failed: RuntimeError: it is broken" in page
    assert "| random |" in page
    assert (
        "ranked without selector pcoreset: 4 of 4 trials failed, such as with RuntimeError: it is broken\n"
        in result.stdout
    )
    refused = CliRunner().invoke(report_command.app, [str(run)])
    assert "4 trials failed (--retry-failed)" in refused.stderr


def test_case_38_seeds_that_did_not_run(finished: Path, tmp_path: Path) -> None:
    run = without(copy_of(finished, tmp_path), keep=lambda row: row["seed"] == 0)
    result = CliRunner().invoke(report_command.app, [str(run), "--partial"])
    assert result.exit_code == 0, result.output
    page = text_of(run / "report.md")
    assert page.index("ranked on 1 of 2 seeds") < page.index("## ")
    assert "The run has one seed, so it has no intervals." in page


def test_case_44_paths_are_printed_as_they_are(finished: Path, run_grid: Callable[..., Result]) -> None:
    assert "[old]" in str(finished)
    result = run_grid(finished, "--no-report")
    assert f"\ntiny: 8 trials, 16 rounds; 0 trials to do; {finished}\n" in result.stdout
    again = CliRunner().invoke(report_command.app, [str(finished)])
    assert again.stdout.endswith(f"report: {finished / 'report.html'}\n")
    status = CliRunner().invoke(grid.app, ["status", str(finished)])
    assert f"folder:{finished.parent / 'one'} " in status.stdout


def test_case_48_status_takes_a_spec(
    finished: Path, two_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = str(two_folders / "tiny.toml")
    refused = CliRunner().invoke(grid.app, ["status", spec])
    assert refused.exit_code == 2
    assert re.search(
        r"spec '.*' has no results in results/runs/tiny; expected: a grid that has started", refused.stderr
    )
    copy_of(finished, tmp_path / "results" / "runs" / "tiny")
    for named in (spec, "tiny", "results/runs/tiny"):
        result = CliRunner().invoke(grid.app, ["status", named])
        assert result.exit_code == 0, result.output
        assert "tiny: 8 of 8 trials, 16 of 16 rounds; no grid is running" in result.stdout
    unknown = CliRunner().invoke(grid.app, ["status", "tinny"])
    assert unknown.exit_code == 2
    assert "'tinny' is neither a results folder nor a spec" in unknown.stderr
    assert "expected: " in unknown.stderr
