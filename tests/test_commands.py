"""The command lines: one command for all programs, help that nothing cuts, lists of names, rows of a data set."""

import csv
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from folders import load
from test_data import build, publish
from typer.testing import CliRunner

import bench.__main__
import bench.data
import bench.grid
import bench.report.__main__
import bench.speed.__main__
from activekd.datasets import DATASETS, load_dataset
from activekd.datasets.catalog import CATALOG
from activekd.defaults import RECIPES
from activekd.networks.vision_language import NETWORKS
from activekd.selectors import SELECTORS
from activekd.students.networks import STUDENTS
from activekd.teachers import ADAPTATIONS
from bench.spec import SPEC_NAMES
from bench.specs.listing import LISTS, listed

ROOT = Path(__file__).parents[1]

APPS = {
    "activekd": bench.__main__.whole(),
    "grid": bench.grid.app,
    "report": bench.report.__main__.app,
    "data": bench.data.app,
    "speed": bench.speed.__main__.app,
}


def pages(name: str, app: typer.Typer) -> Iterator[tuple[str, str]]:
    """The help of a command line and of each of its commands, on 80 columns."""

    def helped(*path: str) -> str:
        result = CliRunner().invoke(app, [*path, "-h"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
        assert result.exit_code == 0, result.output
        return result.output

    todo: list[tuple[str, ...]] = [()]
    while todo:
        path = todo.pop()
        text = helped(*path)
        yield " ".join([name, *path]), text
        commands = text.partition("\nCommands:\n")[2]
        todo += [(*path, line.split()[0]) for line in commands.splitlines() if re.match(r"  \w", line)]


@pytest.mark.parametrize("name", APPS)
def test_help_is_whole_on_80_columns_and_its_metavariables_read(name: str) -> None:
    seen = dict(pages(name, APPS[name]))
    for path, text in seen.items():
        assert all(len(line) <= 80 for line in text.splitlines()), path
        assert "…" not in text, path
        assert "[[" not in text, path
        body = "\n".join(line for line in text.splitlines() if not line.startswith("Usage: "))
        assert not re.search(r"(?<!VALUE,)(?<!NAME)\.\.\.", body), path
        assert re.search(r"^  -h, --help", text, re.MULTILINE), path
    if name == "activekd":
        assert {"activekd run", "activekd report", "activekd data list", "activekd speed gpu"} <= seen.keys()


def test_the_programs_of_the_command_are_those_of_the_modules() -> None:
    whole = {command.callback for command in APPS["activekd"].registered_commands}
    assert whole == {c.callback for name in ("grid", "report") for c in APPS[name].registered_commands}
    assert [group.typer_instance for group in APPS["activekd"].registered_groups] == [APPS["data"], APPS["speed"]]
    of_grid = [c.name or getattr(c.callback, "__name__", "") for c in APPS["grid"].registered_commands]
    assert sorted(of_grid) == sorted(bench.grid.COMMANDS)
    (script,) = entry_points(group="console_scripts", name="activekd") or [None]
    if script is not None:
        assert script.load() is bench.__main__.main


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        ([], 0, "Usage: "),
        (["--version"], 0, "activekd-bench "),
        (["-h"], 0, "report "),
        (["plan", "-h"], 0, "Usage: "),
        (["data", "list", "-h"], 0, "--csv"),
        (["lst"], 2, "unknown command or spec 'lst'; did you mean 'list'?"),
        (["reprot", "x"], 2, "did you mean 'report'?"),
        (["data", "chek"], 2, "No such command 'chek'. Did you mean 'check'?"),
        (["demo", "--seril"], 2, "--serial"),
        (["list", "selectrs"], 2, "'selectors'"),
    ],
)
def test_activekd_answers(arguments: list[str], code: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        bench.__main__.main(arguments)
    out, errors = capsys.readouterr()
    assert (end.value.code, shown in (errors if code else out)) == (code, True), out + errors


def test_a_command_of_a_grid_loads_no_other_program() -> None:
    """What keeps the first line of a run within a second; the other programs load numpy."""
    code = "import sys, bench.__main__; print({'numpy', 'pandas', 'torch', 'ray', 'bench.data'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_selector_in_the_current_folder_is_found(tiny_spec: Path, tmp_path: Path) -> None:
    """A console script has its own folder on the path, not the current one; ``-P`` is like it."""
    (tmp_path / "mine.py").write_text(
        "def narrow(view, query_size, *, rng):\n    return view.pool.unlabeled\n", "utf-8"
    )
    text = tiny_spec.read_text(encoding="utf-8").replace('"pcoreset"]', '"mine:narrow"]')
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    code = f"import sys; sys.path.append({str(ROOT)!r}); from bench.__main__ import main; main(['plan', 'own.toml'])"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "plan of tiny" in done.stdout


NAMES: dict[str, set[str]] = {
    "specs": set(SPEC_NAMES),
    "selectors": {*SELECTORS, "MODULE:FUNCTION"},
    "teachers": {"none", *(f"{name}+ADAPTATION" for name in NETWORKS), *(f"NETWORK+{name}" for name in ADAPTATIONS)},
    "students": {*STUDENTS, "adapter:NAME", "frozen:NAME", "timm:NAME"},
    "datasets": {*DATASETS, *CATALOG, "folder:PATH"},
    "recipes": set(RECIPES),
}


@pytest.mark.parametrize("kind", LISTS)
def test_every_name_of_a_registry_is_listed_once_with_what_it_is(kind: str) -> None:
    lines = [*listed(kind)]
    names = [line.partition(": ")[0] for line in lines]
    assert len(set(names)) == len(names)
    assert set(names) >= NAMES[kind]
    assert all(len(line.partition(": ")[2]) > 10 and "\n" not in line for line in lines)


def test_the_kinds_of_lists_are_those_of_the_command() -> None:
    hints: Any = get_type_hints(bench.grid.list_names)
    assert get_args(hints["kind"]) == tuple(LISTS)
    assert [*listed("recipes")] == CliRunner().invoke(bench.grid.app, ["list", "recipes"]).output.splitlines()


def rows_of(name: str) -> list[dict[str, str]]:
    listed = CliRunner().invoke(bench.data.app, ["list", name, "--csv"])
    assert listed.exit_code == 0, listed.output
    assert listed.output.startswith("split,row,path,label\n")
    return [*csv.DictReader(io.StringIO(listed.output))]


def test_rows_of_a_folder_are_those_of_the_data_set(ok: Path) -> None:
    (ok / "cat" / "0.png").rename(ok / "cat" / 'a "quoted", name.png')
    data = load(ok)
    wanted = [
        {"split": part, "row": str(row), "path": path, "label": data.class_names[label]}
        for part, split in (("train", data.train), ("val", data.val), ("test", data.test))
        for row, (path, label) in enumerate(zip(split.names or (), split.labels, strict=True))
    ]
    assert rows_of(f"folder:{ok}") == wanted
    assert len(wanted) == 36


def test_rows_of_the_benchmark_follow_the_choices_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEKD_DATA", str(tmp_path))
    publish("dtd", monkeypatch)
    build("dtd", tmp_path)
    data = load_dataset("dtd?pool=val", tmp_path / "cache")
    rows = rows_of("dtd?pool=val")
    pool = [row["path"] for row in rows if row["split"] == "train"]
    assert tuple(pool) == data.train.names
    assert [row["label"] for row in rows if row["split"] == "test"] == [data.class_names[k] for k in data.test.labels]


def test_rows_of_embedded_images_have_labels_and_no_path() -> None:
    rows = rows_of("digits")
    assert len(rows) == 1797
    assert {row["path"] for row in rows} == {""}
    assert {row["label"] for row in rows} == set("0123456789")


def test_rows_of_unknown_data_are_refused() -> None:
    refused = CliRunner().invoke(bench.data.app, ["list", "dgits"])
    assert refused.exit_code == 2
    assert "unknown dataset 'dgits'; did you mean 'digits'?" in refused.stderr
