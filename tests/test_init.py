"""A new spec from an image folder: what it finds, what it suggests, and what it refuses."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from folders import paint
from PIL import Image
from typer.testing import CliRunner

from activekd.datasets.sizes import Sizes
from activekd.defaults import VIEWS
from activekd.errors import InputError
from activekd.networks.vision_language import WEIGHTS
from bench.grid import app
from bench.plan.count import estimate
from bench.spec import read_spec
from bench.specs.file import Block
from bench.specs.writing import described_keys, rounds_of, student_of, write_spec


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("ACTIVEKD_WEIGHTS", str(folder))
    return folder


def test_a_written_spec_states_what_was_found_and_has_a_plan(ok: Path, tmp_path: Path) -> None:
    """Three classes of twelve images of 8 px: 7 of 12 are train, 3 val, 2 test (60 / 20 / 20 of 12, rounded)."""
    path = tmp_path / "my.images.toml"
    (ok / "notes.md").write_text("no image", encoding="utf-8")
    written = CliRunner().invoke(app, ["init", str(path), "--data", str(ok)])
    assert written.exit_code == 0, written.output
    text = path.read_text(encoding="utf-8")
    for line in (
        "3 classes: ant, bee, cat",
        "21 train images (the pool), 9 val, 6 test; 7 train images in each class",
        "shorter side of all images: 8 px (median; 8 to 8)",
        "left out: 1 x .md (notes.md)",
    ):
        assert line in written.output
        assert f"#   {line}" in text
    spec = read_spec(str(path))
    assert spec.name == "my.images"
    assert {t.dataset for t in spec.trials} == {f"folder:{ok}"}
    assert {(t.teacher, t.student) for t in spec.trials} == {("none", "adapter:efficientnet_lite0@48")}
    assert {(t.rounds, t.views) for t in spec.trials} == {(3, VIEWS["photos"])}
    assert estimate(spec.trials, tmp_path / "cache").sizes[f"folder:{ok}"].n_pool == 21


def test_a_teacher_is_a_comment_until_its_weights_are_there(ok: Path, tmp_path: Path, no_weights: Path) -> None:
    path = tmp_path / "my.toml"
    write_spec(path, str(ok), replace=False)
    text = path.read_text(encoding="utf-8")
    assert '\n# teachers = ["none", "clip_vitb16+zeroshot"]\nteachers = ["none"]\n' in text
    assert "$ACTIVEKD_WEIGHTS/clip_vitb16.safetensors" in text
    (no_weights / "clip_rn50.safetensors").write_bytes(b"")
    write_spec(path, f"folder:{ok}", replace=True)
    assert {t.teacher for t in read_spec(str(path)).trials} == {"none", "clip_rn50+zeroshot"}


def test_every_commented_key_is_one_of_a_block_with_its_default(ok: Path, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    write_spec(path, str(ok), replace=False)
    before, text = read_spec(str(path)).trials, path.read_text(encoding="utf-8")
    assert described_keys().keys() == Block.model_fields.keys()
    commented = re.findall(r'^# ((\w+) = ["\[\dtf].*)', text, re.MULTILINE)
    assert {key for _, key in commented} | tomllib.loads(text).keys() == {*Block.model_fields, "name"}
    kept = [line for line, key in commented if key not in {"teachers", "views", "initial_labels"}]
    path.write_text("\n".join([text, *kept, ""]), encoding="utf-8")
    assert [t.id for t in read_spec(str(path)).trials] == [t.id for t in before]
    assert {t.recipe_name for t in read_spec(str(path)).trials} == {t.recipe_name for t in before}


@pytest.mark.parametrize(
    ("names", "mirrored"),
    [(("left hand", "right hand"), True), (("3", "8"), True), (("b", "d"), True), (("leftover", "bright"), False)],
)
def test_flips_are_off_where_class_names_tell_sides_or_are_characters(
    names: tuple[str, ...], mirrored: bool, tmp_path: Path
) -> None:
    for name in names:
        paint(tmp_path / "data" / name, 5)
    write_spec(tmp_path / "my.toml", str(tmp_path / "data"), replace=False)
    assert {t.views.flip for t in read_spec(str(tmp_path / "my.toml")).trials} == {0.0 if mirrored else 0.5}
    assert "flip = 0" in (tmp_path / "my.toml").read_text(encoding="utf-8")


def test_without_a_folder_it_is_a_spec_of_digits(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["init", str(tmp_path / "first.toml")]).exit_code == 0
    trials = read_spec(str(tmp_path / "first.toml")).trials
    assert {t.dataset for t in trials} == {"digits"}
    assert {t.teacher for t in trials} == {"none", "glyphclip+zeroshot"}
    assert {t.views for t in trials} == {VIEWS["digits"]}
    assert (WEIGHTS / "glyphclip.safetensors").is_file()


def test_every_fault_is_named_at_once_and_nothing_is_written(ok: Path, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("mine", encoding="utf-8")
    refused = CliRunner().invoke(app, ["init", str(path), "--data", str(tmp_path / "absent")])
    assert refused.exit_code == 2
    assert "2 faults:" in refused.stderr
    assert f"{path} exists; expected: another name, or --force to replace it" in refused.stderr
    assert f"folder:{tmp_path / 'absent'}: no such folder; expected: folder:PATH with class folders" in refused.stderr
    assert path.read_text(encoding="utf-8") == "mine"
    assert CliRunner().invoke(app, ["init", str(path), "--data", str(ok), "--force"]).exit_code == 0
    assert read_spec(str(path)).trials
    with pytest.raises(InputError, match=r"expected: a name that ends in \.toml"):
        write_spec(tmp_path / "my", str(ok), replace=False)
    with pytest.raises(InputError, match="No such file or directory; expected: a file that can be written"):
        write_spec(tmp_path / "none" / "my.toml", str(ok), replace=False)


def test_a_folder_that_is_no_data_set_has_the_faults_of_its_check(tmp_path: Path) -> None:
    paint(tmp_path / "data" / "ant", 5)
    (tmp_path / "data" / "bee").mkdir()
    with pytest.raises(InputError, match=r"no image in .*bee; expected: at least one per class"):
        write_spec(tmp_path / "my.toml", str(tmp_path / "data"), replace=False)
    assert not (tmp_path / "my.toml").exists()


def test_sizes_are_those_of_the_headers_and_broken_ones_are_named(ok: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((300, 400, 3), dtype=np.uint8)).save(ok / "ant" / "0.png")
    (ok / "bee" / "0.png").write_bytes(b"no image")
    found = "\n".join(write_spec(tmp_path / "my.toml", str(ok), replace=False))
    assert "shorter side of 35 images: 8 px (median; 8 to 300)" in found
    assert "images without a readable header: bee/0.png; `activekd data check folder:" in found


def test_the_suggestions_fit_sizes_and_budgets() -> None:
    """Half of 21 images of 3 classes are 3 rounds of 3 labels; a pool of one image a class has one round."""
    assert [student_of(p).partition("@")[2] for p in (None, 8, 48, 49, 160, 161, 500)] == [
        "",
        "48",
        "48",
        "64",
        "160",
        "",
        "",
    ]
    sizes = [Sizes(3, n, 1, 1, True) for n in (3, 6, 9, 21, 3000)]
    assert [rounds_of(size) for size in sizes] == [1, 2, 2, 3, 8]
