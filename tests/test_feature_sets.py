"""Feature files as data sets of arrays: small ones worked by hand, and the real ones."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from real import REAL, needs_real_data
from typer.testing import CliRunner

from activekd.datasets import load_dataset

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import feature_sets

    assert sys.modules["feature_sets"] is feature_sets
    return feature_sets


def features(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float16)


def written(folder: Path, name: str = "birds", **changed: Any) -> Path:
    """A feature file of four classes: class 1 has no test image, class 3 no image of train16."""
    content = {
        "val_f": features((1, 0), (0, 1), (0.5, 0.5), (0, 1), (1, 0)),
        "val_y": np.array([0, 2, 1, 3, 2], dtype=np.int16),
        "test_f": features((1, 0), (0, 1), (0, 1)),
        "test_y": np.array([2, 0, 3], dtype=np.int16),
        "train16_f": features((1, 0), (0, 1), (0, 1), (0.5, 0.5)),
        "train16_y": np.array([0, 0, 2, 1], dtype=np.int16),
        "classnames": np.array(["wren", "robin", "house_finch", "crow"]),
    }
    file = folder / "clip_vitb32" / f"{name}.npz"
    file.parent.mkdir(exist_ok=True)
    np.savez(file, **{key: value for key, value in (content | changed).items() if value is not None})  # pyright: ignore[reportArgumentType]
    return file


def test_classes_that_a_part_lacks_are_left_out_and_means_are_the_head(tool: Any, tmp_path: Path) -> None:
    made = tool.feature_set(written(tmp_path), tmp_path)
    arrays = {key: array.tolist() for key, array in made.arrays.items()}
    assert arrays == {
        "class_names": ["wren", "house finch"],
        "X": [[1, 0], [0, 1], [1, 0]],
        "y": [0, 1, 1],
        "X_test": [[1, 0], [0, 1]],
        "y_test": [1, 0],
        "teacher_features": [[1, 0], [0, 1], [1, 0]],
        "teacher_features_test": [[1, 0], [0, 1]],
        "text": [[0.5, 0.5], [0, 1]],
    }
    assert made.lines == (
        "2 classes, named by classnames",
        "left out 2 classes without an image in val or test or train16: robin, crow",
        "pool: 3 images of val",
        "test: 2 images of test",
        "teacher: means of 3 images of train16",
    )


def test_a_file_without_few_shots_has_no_teacher(tool: Any, tmp_path: Path) -> None:
    made = tool.feature_set(written(tmp_path, train16_f=None, train16_y=None, classnames=None), tmp_path)
    assert set(made.arrays) == {"class_names", "X", "y", "X_test", "y_test"}
    assert made.arrays["class_names"].tolist() == ["0", "2", "3"]
    assert made.lines[-1] == "no teacher, since there is no train16"


@pytest.mark.parametrize("place", ["splits", "dtd"])
def test_class_names_are_those_of_the_split_file(tool: Any, tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir()
    split = tmp_path / place / "split_zhou_DescribableTextures.json"
    items = [[f"{label}.jpg", label, f"texture_{label}"] for label in range(4)]
    split.write_text(json.dumps({"train": items, "val": items[:1], "test": []}), encoding="utf-8")
    made = tool.feature_set(written(tmp_path, "dtd"), tmp_path)
    assert made.arrays["class_names"].tolist() == ["texture 0", "texture 2"]
    split.write_text(json.dumps({"train": items[:2]}), encoding="utf-8")
    with pytest.raises(ValueError, match="labels up to 3, but 2 names in"):
        tool.feature_set(written(tmp_path, "dtd"), tmp_path)
    split.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected: lists of \[path, label, class\]"):
        tool.feature_set(written(tmp_path, "dtd"), tmp_path)


def test_the_command_writes_what_the_loader_reads(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEKD_DATA", str(tmp_path))
    written(tmp_path)
    np.savez(tmp_path / "clip_vitb32" / "birds_head.npz", W=np.eye(2))
    done = CliRunner().invoke(tool.app, ["--to", str(tmp_path / "sets")])
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "sets").iterdir()] == ["birds.npz"]
    dataset = load_dataset(f"arrays:{tmp_path / 'sets' / 'birds.npz'}", tmp_path)
    assert (len(dataset.train), len(dataset.test), dataset.lacking) == (3, 2, ())
    assert dataset.class_names == ("wren", "house finch")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"val_y": None}, "no val_y among"),
        ({"train16_y": None}, "no train16_y among"),
        ({"test_f": np.zeros(3)}, "test_f is float64 of shape (3,); expected: rows of features"),
        ({"val_y": np.zeros(4, dtype=int)}, "val_y is int64 of shape (4,); expected: whole numbers from 0"),
        ({"val_f": np.full((5, 2), np.nan)}, "X has values that are not finite in 3 rows"),
        (
            {"test_y": np.array([2, 2, 3])},
            "1 classes with an image in each of val, test, train16; expected: at least 2",
        ),
    ],
)
def test_faults_are_named(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], told: str
) -> None:
    monkeypatch.setenv("ACTIVEKD_DATA", str(tmp_path))
    written(tmp_path, **changed)
    done = CliRunner().invoke(tool.app, ["birds", "--to", str(tmp_path / "sets")])
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())
    assert not (tmp_path / "sets").exists()


def test_absent_files_are_named(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEKD_DATA", str(tmp_path))
    nothing = CliRunner().invoke(tool.app, [])
    assert "no feature file; expected: NAME.npz" in " ".join(nothing.stderr.split())
    written(tmp_path)
    other = CliRunner().invoke(tool.app, ["bird"])
    assert "no file bird.npz; known: birds" in " ".join(other.stderr.split())
    monkeypatch.delenv("ACTIVEKD_DATA")
    assert "$ACTIVEKD_DATA is not set" in CliRunner().invoke(tool.app, []).stderr


@needs_real_data
def test_the_real_files_become_data_sets(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEKD_DATA", str(REAL))
    done = CliRunner().invoke(tool.app, ["oxford_pets", "dtd", "--to", str(tmp_path)])
    assert done.exit_code == 0, done.output
    pets, dtd = (load_dataset(f"arrays:{tmp_path / name}.npz", tmp_path) for name in ("oxford_pets", "dtd"))
    assert (len(pets.train), len(pets.test), pets.n_classes, pets.lacking) == (736, 3669, 37, ())
    assert (len(dtd.train), len(dtd.test), dtd.n_classes) == (1128, 1692, 47)
    assert dtd.lacking == ("teacher_features", "teacher_features_test", "text")
    assert pets.embeddings is not None
    assert pets.test.features is not None
    assert pets.test.features.teacher is not None
    cosines = (
        pets.test.features.teacher.astype(np.float32)
        @ (pets.embeddings.text / np.linalg.norm(pets.embeddings.text, axis=1, keepdims=True)).T
    )
    assert round(float(np.mean(cosines.argmax(axis=1) == pets.test.labels)), 3) == 0.750
