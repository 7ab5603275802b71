"""The floors of the house: who imports whom, read from the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = [
    {"activekd", "activekd.errors", "activekd.memory"},
    {"activekd.recipes", "activekd.streams", "activekd.pool", "activekd.losses"},
    {"activekd.shards"},
    {"bench", "bench.spec", "bench.store", "bench.stats", "bench.terminal"},
    {"activekd.images", "bench.runs", "bench.plots", "bench.claims", "bench.published", "bench.latex"},
    {
        "activekd.datasets",
        "activekd.selectors",
        "activekd.bank",
        "activekd.checkpoints",
        "bench.cells",
        "bench.diagrams",
        "bench.charts",
    },
    {"activekd.features", "activekd.backbones", "bench.sections", "bench.beside"},
    {"bench.frames"},
    {"bench.pages"},
    {"bench.report"},
    {"activekd.students", "activekd.teachers"},
    {"activekd.distill", "activekd.diagnostics"},
    {"activekd.loop"},
    {"bench.trial"},
    {"bench.checks", "bench.plan", "bench.cluster"},
    {"bench.launch", "bench.data"},
    {"bench.grid"},
    {"bench.speed_selectors", "bench.speed_grid"},
    {"bench.speed_report"},
    {"bench.glyphclip", "bench.speed"},
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}

HEAVY = {"torch", "torchvision", "ray", "timm", "open_clip"}
LIGHT_MODULES = [
    "bench.spec",
    "bench.store",
    "bench.runs",
    "bench.stats",
    "bench.plots",
    "bench.claims",
    "bench.published",
    "bench.report",
    "bench.terminal",
]


def sources() -> dict[str, Path]:
    found = {}
    for package in ("activekd", "bench"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(name: str) -> str | None:
    while name and name not in FLOOR:
        name = name.rpartition(".")[0]
    return name or None


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("name", sources())
def test_imports_go_down_only(name: str) -> None:
    own = room(name)
    assert own is not None, f"{name} has no floor"
    for imported in imports(sources()[name]):
        other = room(imported)
        if other is None or other == own or other in {"activekd", "bench"}:
            continue
        assert FLOOR[other] < FLOOR[own] or {own, other} <= {"activekd.bank", "activekd.datasets"}, (
            f"{name} imports {imported}"
        )


def test_ray_is_imported_in_cluster_alone() -> None:
    users = {name for name, path in sources().items() if {i.partition(".")[0] for i in imports(path)} & {"ray"}}
    assert users
    assert {name for name in users if room(name) != "bench.cluster"} == set()


def test_the_library_does_not_import_the_bench() -> None:
    users = {
        name
        for name, path in sources().items()
        if name.startswith("activekd")
        for i in imports(path)
        if i.partition(".")[0] == "bench"
    }
    assert users == set()


@pytest.mark.parametrize("name", LIGHT_MODULES)
def test_tables_and_reports_need_neither_torch_nor_ray(name: str) -> None:
    seen: set[str] = set()
    todo = [name]
    known = sources()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        for imported in imports(known[module]):
            assert imported.partition(".")[0] not in HEAVY, f"{name} reaches {imported} through {module}"
            todo.extend(m for m in (imported, imported.rpartition(".")[0]) if m in known)


def test_the_store_and_the_readers_of_the_bank_need_neither_torch_nor_tune() -> None:
    code = "import sys, bench.cluster.storing, bench.cluster.banking; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "ray" in loaded
    assert loaded & {"torch", "ray.tune", "pandas", "open_clip", "timm"} == set()


def test_train_labels_are_read_by_the_oracle_alone() -> None:
    readers = set()
    for name, path in sources().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "labels" and ast.unparse(node).endswith("train.labels"):
                readers.add(name)
    assert readers <= {"activekd.datasets", "activekd.diagnostics", "bench.trial", "bench.checks"}
