"""The floors of the house: who imports whom, read from the sources."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLOORS = [
    {"activekd.aligned", "activekd.errors", "activekd.given", "activekd.memory", "activekd.streams", "activekd.pool"},
    {
        "activekd.recipes",
        "activekd.losses",
        "activekd.folders",
        "activekd.archives",
        "activekd.finite",
        "activekd.devices",
    },
    {"activekd.images", "activekd.networks", "activekd.objectives"},
    {"activekd.datasets"},
    {"activekd.bank"},
    {"activekd.teachers", "activekd.selectors"},
    {"activekd.students"},
    {"activekd.banked", "activekd.defaults", "activekd.diagnostics"},
    {"activekd.rounds"},
    {"activekd.fitted", "activekd.inputs"},
    {"activekd.fitting"},
    {"activekd.asking", "activekd.starts"},
    {"activekd.loop"},
    {"activekd.arguments", "activekd.predictor"},
    {"activekd.learner", "activekd.running"},
    {"activekd"},
    {"bench", "bench.columns", "bench.spec", "bench.cluster.address"},
    {"bench.settings", "bench.terminal", "bench.store", "bench.stats"},
    {"bench.report", "bench.trials", "bench.data", "bench.specs.listing", "bench.specs.writing"},
    {"bench.checks", "bench.plan", "bench.cluster"},
    {"bench.launch"},
    {"bench.grid"},
    {"bench.speed"},
    {"bench.__main__"},
]
"""Rooms from the ground up; a module imports only from its room and from lower floors."""

FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}

HEAVY = {"torch", "torchvision", "ray", "timm", "open_clip"}

LIGHT = [
    "activekd.arguments",
    "bench.spec",
    "bench.store.table",
    "bench.stats",
    "bench.report.pages",
    "bench.report.__main__",
    "bench.terminal",
    "bench.checks",
    "bench.launch",
    "bench.data",
    "bench.__main__",
    "bench.specs.writing",
    "bench.plan.count",
    "bench.plan.hours",
    "bench.plan.tables",
]
"""Modules whose import must load none of HEAVY: names, rows, statistics and reports."""

LABEL_READERS = {
    "activekd.datasets",
    "activekd.datasets.dataset",
    "activekd.datasets.conditioned",
    "activekd.datasets.repeats",
    "activekd.diagnostics",
}
"""Readers of the labels of a train split: the check of a source, the oracle, the conditions of a data set, the notes on
equal pictures under other classes, the diagnostics of a finished query."""


def sources() -> dict[str, Path]:
    found = {}
    for package in ("activekd", "bench"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = sources()


def room(name: str) -> str | None:
    while name and name not in FLOOR:
        name = name.rpartition(".")[0]
    return name or None


def imports(path: Path, *, at_import: bool = False) -> set[str]:
    """What a module imports; ``at_import`` leaves out the imports inside functions and for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_imports_go_down_only() -> None:
    climbs, users_of_ray, users_of_bench = [], set(), set()
    for name, path in SOURCES.items():
        own = room(name)
        assert own is not None, f"{name} has no floor"
        for imported in imports(path):
            top = imported.partition(".")[0]
            users_of_ray |= {name} if top == "ray" else set()
            users_of_bench |= {name} if top == "bench" and name.startswith("activekd") else set()
            other = room(imported)
            if other not in {None, own, "activekd", "bench"} and FLOOR[str(other)] >= FLOOR[own]:
                climbs.append(f"{name} imports {imported}")
    assert climbs == []
    assert users_of_bench == set()
    assert {name for name in users_of_ray if not name.startswith("bench.cluster.")} <= {"bench.speed.bare_tune"}


def test_names_rows_statistics_and_reports_need_neither_torch_nor_ray() -> None:
    for name in LIGHT:
        seen, todo = set(), [name]
        while todo:
            module = todo.pop()
            if module in seen:
                continue
            seen.add(module)
            for imported in imports(SOURCES[module], at_import=True):
                assert imported.partition(".")[0] not in HEAVY, f"{name} reaches {imported} through {module}"
                packages = [imported, imported.rpartition(".")[0]]
                todo.extend(m for m in packages if m in SOURCES)


def test_the_store_and_the_readers_of_the_bank_need_neither_torch_nor_tune() -> None:
    code = "import sys, bench.cluster.storing, bench.cluster.banking; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "ray" in loaded
    assert loaded & {"torch", "ray.tune", "open_clip", "timm"} == set()


def test_train_labels_are_read_by_the_oracle_alone() -> None:
    readers = set()
    for name, path in SOURCES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(("train.labels", "dataset.true_labels")):
                readers.add(name)
    assert readers <= LABEL_READERS


def test_at_most_ten_modules_stand_directly_in_bench() -> None:
    assert len([path for path in (ROOT / "bench").glob("*.py") if path.stem != "__init__"]) <= 10
