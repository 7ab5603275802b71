"""Image folders, prompts, class names and the messages of the checks: faults that once passed in silence."""

import csv
import io
from pathlib import Path

import pytest
from folders import load, paint, refusal, size
from typer.testing import CliRunner

from activekd.errors import InputError
from bench.checks import resolve
from bench.data import app
from bench.plan.count import estimate
from bench.spec import read_spec


def test_case_01_the_split_of_a_flat_folder_is_listed(ok: Path) -> None:
    listed = CliRunner().invoke(app, ["list", f"folder:{ok}"])
    assert listed.exit_code == 0, listed.output
    rows = [tuple(row) for row in csv.reader(io.StringIO(listed.output), delimiter="\t")]
    dataset = load(ok)
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    assert rows == [(part, name) for part, split in splits.items() for name in split.names or ()]
    assert len(rows) == 36
    assert dataset.train.names is not None
    assert dataset.train.names[0].startswith("ant/")
    assert all((ok / path).is_file() for _, path in rows)


def test_case_01_names_in_train_and_test_begin_with_the_split(tmp_path: Path) -> None:
    for part in ("train", "test"):
        paint(tmp_path / "data" / part / "ant", 1)
        paint(tmp_path / "data" / part / "bee", 1)
    dataset = load(tmp_path / "data")
    assert dataset.train.names == ("train/ant/0.png", "train/bee/0.png")
    assert dataset.test.names == ("test/ant/0.png", "test/bee/0.png")


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("Train", "Test"), ("TRAIN", "test"), ("train_set", "test_set"), ("train", "eval")],
)
def test_case_03_splits_of_other_names_are_not_classes(tmp_path: Path, train: str, test: str) -> None:
    for part, n in ((train, 4), (test, 2)):
        paint(tmp_path / "data" / part / "ant", n)
        paint(tmp_path / "data" / part / "bee", n)
    message = refusal(tmp_path / "data")
    assert "expected: the names train/, test/ and val/" in message
    for name in {train, test} - {"train", "test"}:
        assert f"{name}/" in message


def test_case_03_class_folders_with_images_in_sub_folders_alone(tmp_path: Path) -> None:
    for name in ("north", "south"):
        paint(tmp_path / "data" / name / "ant", 4)
        paint(tmp_path / "data" / name / "bee", 4)
    message = refusal(tmp_path / "data")
    assert "no image directly in the class folders north/, south/" in message
    assert "train/ and test/" in message


@pytest.mark.parametrize("wrapped", ["data/ant", "ant/images", "train/data/ant"])
def test_case_03_one_folder_too_many(tmp_path: Path, wrapped: str) -> None:
    other = wrapped.replace("ant", "bee")
    for part in ("train", "test") if wrapped.startswith("train") else ("train",):
        paint(tmp_path / "root" / wrapped.replace("train", part), 4)
        paint(tmp_path / "root" / other.replace("train", part), 4)
    assert "no image directly in the class folders" in refusal(tmp_path / "root")


def test_case_03_a_class_may_have_sub_folders_beside_its_images(ok: Path) -> None:
    paint(ok / "ant" / "close", 3, first=20)
    assert size(load(ok)) == 39


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git/objects"])
def test_case_04_hidden_copies_are_left_out(ok: Path, hidden: str) -> None:
    paint(ok / "ant" / hidden, 5)
    (ok / "bee" / "._3.png").write_bytes(b"AppleDouble")
    (ok / "Thumbs.db").write_bytes(b"")
    dataset = load(ok)
    assert size(dataset) == 36
    assert dataset.class_names == ("ant", "bee", "cat")
    assert dataset.source_notes == (
        f"left out: 3 x hidden or system entry (Thumbs.db, ant/{hidden.split('/')[0]} and 1 more)",
    )


def test_case_05_links_are_followed_and_the_rest_is_said(ok: Path, tmp_path: Path) -> None:
    paint(tmp_path / "elsewhere", 20)
    (ok / "ant" / "more").symlink_to(tmp_path / "elsewhere")
    for number in range(3):
        (ok / "bee" / f"{number}.heic").write_bytes(b"")
    (ok / "cat" / "labels").write_text("", encoding="utf-8")
    (ok / "stray.png").write_bytes((ok / "ant" / "0.png").read_bytes())
    dataset = load(ok)
    assert size(dataset) == 56
    assert dataset.notes == (
        "left out: 3 x .heic (bee/0.heic, bee/1.heic and 1 more), 1 x file without an extension (cat/labels), "
        "1 x image outside the class folders (stray.png)",
    )


def test_case_05_a_link_to_a_class_and_single_linked_images(ok: Path, tmp_path: Path) -> None:
    paint(tmp_path / "elsewhere", 5)
    (ok / "dog").symlink_to(tmp_path / "elsewhere")
    (ok / "cat" / "x.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "elsewhere.png").write_bytes((tmp_path / "elsewhere" / "0.png").read_bytes())
    dataset = load(ok)
    assert dataset.class_names == ("ant", "bee", "cat", "dog")
    assert size(dataset) == 36 + 5 + 1


def test_case_05_links_in_a_circle_end(ok: Path) -> None:
    (ok / "ant" / "loop").symlink_to(ok / "ant")
    (ok / "bee" / "up").symlink_to(ok)
    (ok / "cat" / "again.png").symlink_to(ok / "cat" / "0.png")
    dataset = load(ok)
    assert size(dataset) == 36
    assert dataset.source_notes == (
        "left out: 2 x link to a folder above it (ant/loop, bee/up), 1 x second link within a class (cat/again.png)",
    )


def test_case_05_links_that_cannot_be_followed_are_refused(ok: Path) -> None:
    (ok / "ant" / "gone.png").symlink_to(ok / "absent.png")
    (ok / "bee" / "a").symlink_to(ok / "bee" / "b")
    (ok / "bee" / "b").symlink_to(ok / "bee" / "a")
    (ok / "cat" / "ants").symlink_to(ok / "ant")
    message = refusal(ok)
    assert "broken links: ant/gone.png, bee/a, bee/b" in message
    assert "two classes or splits: cat/ants = ant" in message


def test_case_05_links_into_a_folder_of_all_images(ok: Path) -> None:
    """Split folders of links to one store of images beside them."""
    for part, numbers in (("train", range(8)), ("test", range(8, 12))):
        for name in ("ant", "bee"):
            (ok / part / name).mkdir(parents=True)
            for number in numbers:
                (ok / part / name / f"{number}.png").symlink_to(ok / name / f"{number}.png")
    dataset = load(ok)
    assert (len(dataset.train), len(dataset.test)) == (16, 8)
    assert dataset.source_notes == ("left out: 3 x folder beside train/ and test/ (ant, bee and 1 more)",)
    (ok / "test" / "bee" / "9.png").unlink()
    (ok / "test" / "bee" / "9.png").symlink_to(ok / "train" / "bee" / "0.png")
    assert "two classes or splits" in refusal(ok)


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled", "unlabeled_images", "unsup", "unknown", "not_annotated"])
def test_case_06_unlabeled_images_are_no_class(ok: Path, name: str) -> None:
    paint(ok / name, 5)
    message = refusal(ok)
    assert f"folders {name}/ beside the classes; expected: labeled images only" in message


def test_case_09_a_byte_order_mark_is_no_part_of_a_prompt(ok: Path) -> None:
    (ok / "prompts.txt").write_text("a photo of a {}.\r\n\r\na {{drawn}} {}\n", encoding="utf-8-sig")
    dataset = load(ok)
    assert dataset.prompts == ("a photo of a {}.", "a {{drawn}} {}")
    assert dataset.source_notes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a {}\na {name}\n", "line 2: 'a {name}': field {name}"),
        (b"a {!r}\n", "line 1: 'a {!r}': field {!r}"),
        (b"a {:>10}\n", "line 1: 'a {:>10}': field {:>10}"),
        (b"a {0}\n", "line 1: 'a {0}': field {0}"),
        (b"a {} and {}\n", "line 1: 'a {} and {}': 2 fields {}"),
        (b"\na photo\n", "line 2: 'a photo': 0 fields {}"),
        (b"a {} {\n", "line 1: 'a {} {': "),
        (b"a {} }\n", "line 1: 'a {} }': "),
        (b"a {}\nb {}\na {}\n", "line 3: 'a {}': line 1 has the same template"),
        ("a {}\nein süßer {}\n".encode("latin-1"), "line 2: byte 0xfc is not UTF-8"),
        ("a {}\n".encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
        ("a {}\n".encode("utf-16-le"), "line 1: "),
        (b"\n \n", "no line; expected: one template per line"),
    ],
)
def test_case_09_templates_that_are_refused_by_line(ok: Path, content: bytes, message: str) -> None:
    (ok / "prompts.txt").write_bytes(content)
    assert f"{ok / 'prompts.txt'}, {message}".replace(", no line", ": no line") in refusal(ok)


def test_case_09_prompts_in_a_file_of_another_name(ok: Path) -> None:
    (ok / "Prompts.TXT").write_text("a {}\n", encoding="utf-8")
    assert "Prompts.TXT would not be read; expected: prompt templates in prompts.txt" in refusal(ok)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("big_cat", "big cat"),
        ("big_cat", "big__cat"),
        ("Cat", "cAT"),
        ("caf\u00e9", "cafe\u0301"),
        ("cat\u200b", "CAT"),
        ("salt &amp; pepper", "salt & pepper"),
        ("dog's ear", "dog\u2019s ear"),
        ("AB", "\uff21\uff22"),
    ],
)
def test_case_10_two_spellings_of_a_class_are_refused(ok: Path, one: str, other: str) -> None:
    paint(ok / one, 4)
    paint(ok / other, 4)
    message = refusal(ok)
    assert "differ only in case, '_', white space" in message
    for part in ("train", "test"):
        for name in (one, other):
            paint(ok.parent / "parts" / part / name, 2)
    assert "differ only in case, '_', white space" in refusal(ok.parent / "parts")


def test_case_10_names_of_every_script_load_unharmed(tmp_path: Path) -> None:
    names = ["$x^2$ birds", "<b>bold<b> & co", "[red]", "{}", "x² + y₃", "Ελλάδα", "日本", "नमस्ते", "50% \\alpha", "😀"]
    for name in names:
        paint(tmp_path / "data" / name, 3)
    dataset = load(tmp_path / "data")
    assert dataset.class_names == tuple(sorted(names))
    assert dataset.prompts[0].format("{}") == "a photo of a {}."


def test_case_10_names_without_a_letter(ok: Path) -> None:
    paint(ok / "__", 4)
    paint(ok / "bell\a", 4)
    message = refusal(ok)
    assert "class names '__' have no letter" in message
    assert r"control or invisible characters in class names 'bell\x07'" in message


def test_case_45_a_fault_of_many_data_sets_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ACTIVEKD_DATA", raising=False)
    spec = read_spec("paper")
    with pytest.raises(InputError) as caught:
        resolve(spec.trials, tmp_path, lambda name, done, total: None)
    message = str(caught.value)
    assert message.count("$ACTIVEKD_DATA is not set") == 1
    assert all(t.dataset in message for t in spec.trials)
    assert "\n" not in message


def test_case_47_faults_of_all_splits_and_of_the_prompts_come_at_once(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for part in ("train", "val", "test"):
        paint(root / part / "ant", 2)
        paint(root / part / "bee", 2)
    (root / "train" / "empty").mkdir()
    (root / "test" / "cat" / "inner").mkdir(parents=True)
    paint(root / "test" / "cat" / "inner", 1)
    paint(root / "val" / "Bee", 1)
    (root / "test" / "gone.png").symlink_to(root / "nowhere")
    (root / "prompts.txt").write_text("{x}\n{\n", encoding="utf-8")
    message = refusal(root)
    for part in (
        f"no image in {root / 'train' / 'empty'};",
        f"{root / 'test'}: no image directly in the class folders cat/",
        f"{root / 'test'}: classes differ from those of train: cat, empty;",
        f"{root / 'val'}: classes differ from those of train: Bee, empty;",
        "broken links: test/gone.png",
        "line 1: '{x}': field {x}",
        "line 2: '{': ",
    ):
        assert part in message, message
    assert message.startswith("7 faults:\n  - ")


def test_case_47_images_of_every_split_are_tried_before_the_message(tmp_path: Path) -> None:
    for part in ("train", "test"):
        paint(tmp_path / "data" / part / "ant", 2)
        paint(tmp_path / "data" / part / "bee", 2)
        (tmp_path / "data" / part / "bee" / "9.png").write_bytes(b"")
    message = refusal(tmp_path / "data")
    assert "2 of 10 images cannot be decoded" in message
    assert "train/bee/9.png" in message
    assert "test/bee/9.png" in message


def test_case_47_a_plan_tells_all_faults_at_once(ok: Path, tiny_spec: Path, tmp_path: Path) -> None:
    (ok / "dog").mkdir()
    text = tiny_spec.read_text(encoding="utf-8").replace('"digits"', f'"folder:{ok}", "digitss"')
    tiny_spec.write_text(text.replace('"pcoreset"', '"pcorset"'), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        estimate(read_spec(str(tiny_spec)).trials, tmp_path / "cache")
    for part in ("3 faults:", "no image in", "did you mean 'digits'?", "did you mean 'pcoreset'?"):
        assert part in str(caught.value)
