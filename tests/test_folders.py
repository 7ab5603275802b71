"""Image folders: which files count, how classes and splits are read, and what is printed of them."""

import io
from pathlib import Path

import pytest
from folders import load, paint, refusal, size
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from activekd.datasets import load_dataset
from activekd.datasets.folder import read_folder
from activekd.datasets.sizes import dataset_sizes
from activekd.errors import InputError
from bench.checks import resolve
from bench.data import app
from bench.plan.count import estimate
from bench.plan.tables import print_plan
from bench.spec import read_spec
from bench.terminal import print_notes


def test_too_few_images_for_a_split_are_refused_before_decoding(ok: Path) -> None:
    (ok / "dog").mkdir()
    (ok / "dog" / "0.png").write_bytes(b"never decoded")
    assert "no test image of class 'dog'" in refusal(ok)


def test_equal_pictures_in_train_and_test_are_said(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("ant", "bee"):
        paint(root / "train" / name, 4)
        paint(root / "test" / name, 2, first=3)
    (root / "train" / "bee" / "copy.png").write_bytes((root / "train" / "ant" / "1.png").read_bytes())
    assert load(root).notes == (
        "2 of 4 test images also stand in train, such as test/ant/3.png = train/ant/3.png",
        "1 of 9 train images repeat an earlier train image, 1 of them under another class, such as "
        "train/bee/copy.png = train/ant/1.png",
    )


@pytest.mark.parametrize("suffix", [".jpeg", ".JPG", ".jfif", ".tif", ".TIFF", ".webp", ".bmp", ".ppm", ".gif"])
def test_every_extension_of_an_image_counts_and_the_content_decides(ok: Path, suffix: str) -> None:
    paint(ok / "dog", 4)
    for path in (ok / "dog").iterdir():
        path.rename(path.with_suffix(suffix))
    assert size(load(ok)) == 40


def test_a_folder_without_images_says_what_it_has(ok: Path) -> None:
    (ok / "dog").mkdir()
    for number in range(3):
        (ok / "dog" / f"{number}.HEIC").write_bytes(b"")
    assert f"no image in {ok / 'dog'} (3 x .heic); expected: at least one per class" in refusal(ok)


def test_images_without_class_folders_are_counted(tmp_path: Path) -> None:
    paint(tmp_path / "data", 5)
    assert "0 class (none), and 5 images directly in the folder; expected: at least 2" in refusal(tmp_path / "data")


@pytest.mark.parametrize(
    "name", ["folder:", "folder:~nobody-of-this-name/x", f"folder:/{'x' * 300}", "folder:/etc/hosts"]
)
def test_paths_that_are_no_folder_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected: folder:PATH"):
        load_dataset(name, tmp_path)


def test_images_are_not_cached_where_the_cache_is_off(ok: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEKD_IMAGE_CACHE", "off")
    dataset = load(ok)
    assert isinstance(dataset.train.pixels.source, tuple)
    assert dataset.train.pixels[0].shape == (8, 8, 3)


def test_names_that_are_not_utf8_are_refused(ok: Path) -> None:
    (ok / "ant" / "caf\udce9.png").write_bytes((ok / "ant" / "0.png").read_bytes())
    assert r"names that are not UTF-8: 'ant/caf\udce9.png'" in refusal(ok)
    (ok / "ant" / "caf\udce9.png").rename(ok / "ant" / "caf\udce9.heic")
    assert load(ok).notes == (r"left out: 1 x .heic ('ant/caf\udce9.heic')",)


def test_only_train_and_val_are_refused(tmp_path: Path) -> None:
    for part in ("train", "val"):
        paint(tmp_path / "data" / part / "ant", 2)
        paint(tmp_path / "data" / part / "bee", 2)
    assert "found train/, val/; expected: both train/ and test/" in refusal(tmp_path / "data")


def test_two_spellings_of_a_split_are_refused(tmp_path: Path) -> None:
    for part in ("train", "Train", "test"):
        paint(tmp_path / "data" / part / "ant", 2)
        paint(tmp_path / "data" / part / "bee", 2)
    assert "folders Train/ look like splits" in refusal(tmp_path / "data")


def test_images_of_test_without_class_folders(tmp_path: Path) -> None:
    paint(tmp_path / "data" / "train" / "ant", 2)
    paint(tmp_path / "data" / "train" / "bee", 2)
    paint(tmp_path / "data" / "test", 3)
    message = refusal(tmp_path / "data")
    assert "test: 0 class (none), and 3 images directly in the folder" in message
    assert "test: classes differ from those of train: ant, bee" in message


def test_a_folder_below_a_question_mark_has_sizes(tmp_path: Path) -> None:
    paint(tmp_path / "what?" / "ant", 5)
    paint(tmp_path / "what?" / "bee", 5)
    found = dataset_sizes(f"folder:{tmp_path / 'what?'}", tmp_path / "cache")
    assert (found.n_classes, found.n_pool, found.n_val, found.n_test) == (2, 6, 2, 2)


def test_a_class_may_be_called_valid(tmp_path: Path) -> None:
    paint(tmp_path / "data" / "valid", 4)
    paint(tmp_path / "data" / "invalid", 4)
    assert load(tmp_path / "data").class_names == ("invalid", "valid")


def test_notes_reach_the_terminal_once(ok: Path, tiny_spec: Path, tmp_path: Path) -> None:
    (ok / "bee" / "0.svg").write_text("", encoding="utf-8")
    note = f"folder:{ok}: left out: 1 x .svg (bee/0.svg)"
    tiny_spec.write_text(tiny_spec.read_text(encoding="utf-8").replace('"digits"', f'"folder:{ok}"'), encoding="utf-8")
    trials = read_spec(str(tiny_spec)).trials
    out = Console(file=io.StringIO(), width=40)
    print_plan("tiny", estimate(trials, tmp_path / "cache"), None, out)
    assert str(out.file.getvalue()).count(note) == 1  # pyright: ignore[reportAttributeAccessIssue]
    out = Console(file=io.StringIO(), width=40)
    resolved = resolve(trials, tmp_path / "cache", lambda name, done, total: None)
    print_notes({t.dataset.name: t.dataset.notes for t in resolved}, out)
    assert out.file.getvalue() == f"{note}\n"  # pyright: ignore[reportAttributeAccessIssue]


def test_check_command_takes_folders(ok: Path) -> None:
    (ok / "bee" / "0.svg").write_text("", encoding="utf-8")
    (ok / "bee" / "0.png").write_bytes(b"torn")
    told = CliRunner().invoke(app, ["check", f"folder:{ok}"], env={"COLUMNS": "300"})
    assert told.exit_code == 1
    assert "left out: 1 x .svg (bee/0.svg)" in told.output
    assert "bee/0.png: cannot identify image file" in told.output
    paint(ok.parent / "parts" / "train" / "ant", 2)
    paint(ok.parent / "parts" / "train" / "bee", 2)
    paint(ok.parent / "parts" / "test" / "ant", 2)
    paint(ok.parent / "parts" / "test" / "bee", 1, first=2)
    told = CliRunner().invoke(app, ["check", f"folder:{ok.parent / 'parts'}"], env={"COLUMNS": "300"})
    assert told.exit_code == 0, told.output
    assert "2 of 3 test images also stand in train, such as test/ant/0.png = train/ant/0.png" in told.output
    (ok / "Train").mkdir()
    told = CliRunner().invoke(app, ["check", f"folder:{ok}", "--no-decode"], env={"COLUMNS": "300"})
    assert told.exit_code == 1
    assert "folders Train/ look like splits" in told.output


def test_rows_are_in_the_order_of_path_components(tmp_path: Path) -> None:
    names = ("a b/1", "a b/10", "a b/2", "a/1", "a/sub/1", "a/z", "a.b/1", "a.b/2")
    for part in ("train", "test"):
        for name in names:
            path = tmp_path / "data" / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(path)
    expected = sorted((tmp_path / "data" / "train").rglob("*.png"))
    paths = read_folder(f"folder:{tmp_path / 'data'}").listing.parts["train"].paths
    assert paths == tuple(path.relative_to(tmp_path / "data").as_posix() for path in expected)
