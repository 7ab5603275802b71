"""The files behind networks: a results folder refuses others than those of its rows."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from activekd.errors import InputError
from activekd.students.networks import student_network
from bench.launch import launch
from bench.settings import Options
from bench.spec import read_spec
from bench.store.folder import read_plan
from bench.store.rows import stored_rows
from bench.trials.resolved import networks_of

CLASSES = ("ant", "bee")


def features_file(file: Path, folder: Path, *, width: int) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.png"))
    labels = [CLASSES.index(name.split("/")[0]) for name in names]
    eye = np.eye(width, dtype=np.float32)
    np.savez(file, train_f=eye[labels], train_path=np.array(names), W=eye[: len(CLASSES)])


def test_features_edited_between_two_starts_are_refused(
    tiny_spec: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for index in range(10):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / name / f"{index}.png")
    text = tiny_spec.read_text(encoding="utf-8").replace('["digits"]', f'["folder:{folder}"]')
    text = text.replace('["none", "glyphclip+clap"]', '["features:net.npz+zeroshot"]')
    text = text.replace('["random", "pcoreset"]', '["random", "margin"]').replace("rounds = 3", "rounds = 1")
    tiny_spec.write_text(text, encoding="utf-8")
    monkeypatch.setenv("ACTIVEKD_CACHE", str(cache))
    monkeypatch.setenv("ACTIVEKD_DATA", str(tmp_path))
    spec, run, options = read_spec(str(tiny_spec)), tmp_path / "run", Options(serial=True, report=False)
    file = tmp_path / "net.npz"

    features_file(file, folder, width=2)
    before = file.read_bytes()
    assert launch(spec, "selector=random", run, options) == 0
    stored = stored_rows(run)
    assert read_plan(run)["networks"].keys() == {"features:net.npz"}
    assert {row["teacher_accuracy"] for row in stored} == {1.0}

    features_file(file, folder, width=3)
    with pytest.raises(InputError, match=r"the features or head, of features:net.npz changed since its rows were comp"):
        launch(spec, None, run, options)
    assert stored_rows(run) == stored

    assert launch(spec, "selector=random", run, options) == 0

    file.write_bytes(before)
    assert launch(spec, None, run, options) == 0
    assert len(stored_rows(run)) == 2 * len(stored)


def test_weights_count_by_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes and frozen backbones share a file; rows depend on those that their trials name."""
    monkeypatch.setenv("ACTIVEKD_WEIGHTS", str(tmp_path))
    file = tmp_path / "resnet18.tv_in1k.safetensors"
    left: Any = [
        SimpleNamespace(student=student_network(name), teacher=None)
        for name in ("resnet18@32", "frozen:resnet18@64", "resnet6_mini@16")
    ]
    for one in left:
        one.readers = (one,)
    with_rows: Any = [SimpleNamespace(student="resnet18@224", teacher="none", of_transfer=None)]
    hashes = []
    for content in (b"one", b"three"):
        file.write_bytes(content)
        networks, of_rows = networks_of(left, with_rows)
        assert networks.keys() == {"resnet18"}
        assert of_rows.networks == networks
        assert not networks_of(left, [])[1].networks
        hashes.append(networks["resnet18"])
    assert hashes[0] != hashes[1]
