"""Shape checks of the library's annotations, and small fixtures that tests share."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ["HF_HUB_OFFLINE"] = "1"

with install_import_hook("activekd", "beartype.beartype"):
    from folders import paint

    import activekd.datasets
    import activekd.diagnostics
    import activekd.loop  # noqa: F401

SPEC = """
name = "tiny"
selectors = ["random", "pcoreset"]
seeds = [0]

[[block]]
datasets = ["digits"]
teachers = ["none", "glyphclip+clap"]
students = ["resnet6_mini@16"]
rounds = 3
recipe = "short"
views = "two"

[views.two]
count = 2
scale = [0.8, 1.0]
ratio = [1.0, 1.0]
flip = 0.0

[recipes.short]
lr = 0.01
weight_decay = 0.0
steps = 3
step_rule = "fixed"
schedule = "linear"
warmup = 0.0
batch_labeled = 8
batch_unlabeled = 8
weight_ce = 0.5
weight_kd_labeled = 0.5
weight_kd_unlabeled = 0.5
temperature = 2.0
label_weight = 0.5
distill_temperature = 1.0
single_view = "targets"
clap = { lr = 0.01, momentum = 0.9, epochs = 3, batch = 8, warmup = 0.1 }
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that the whole session shares."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny_spec(tmp_path: Path) -> Path:
    """A spec of four trials of three rounds, seconds long."""
    path = tmp_path / "tiny.toml"
    path.write_text(SPEC, encoding="utf-8")
    return path


@pytest.fixture
def ok(tmp_path: Path) -> Path:
    """A folder of three classes with twelve images each."""
    for name in ("ant", "bee", "cat"):
        paint(tmp_path / "ok" / name, 12)
    return tmp_path / "ok"
