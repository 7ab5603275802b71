"""The benchmark's data sets on disk: every layout read, every fault named, the command line."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from trees import CLASSES, PER_PART, WORDNET, build, publish
from typer.testing import CliRunner

from activekd.datasets import load_dataset
from activekd.datasets.audit import audit
from activekd.datasets.benchmark import drawn
from activekd.datasets.catalog import CATALOG
from activekd.datasets.choices import choices_of
from activekd.datasets.coop import Part, read_listing
from activekd.datasets.fetch import ORIGINS, archives_kept_inside, arrange
from activekd.errors import InputError
from bench.data import app

N = PER_PART * len(CLASSES)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("ACTIVEKD_DATA", str(folder))
    return folder


def rewrite_split(folder: Path, change: dict[str, object]) -> None:
    file = folder / str(CATALOG["dtd"].split)
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **change}), encoding="utf-8")


@pytest.mark.parametrize("name", CATALOG)
def test_every_layout_is_read_and_found_whole(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(name, monkeypatch)
    build(name, data)
    found = audit(name, data)
    assert found.faults == ()
    assert {what: n for what, n, _ in found.counts}["classes"] == 3
    dataset = load_dataset(name, data / "cache")
    assert dataset.class_names == tuple(
        kind if name in {"imagenet", "fgvc_aircraft"} else kind.replace("_", " ") for kind in CLASSES
    )
    assert (len(dataset.train), len(dataset.test)) == (N, N)
    assert len(dataset.val) == (0 if name == "imagenet" else N)
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.train.pixels[0].shape == (30, 24, 3)
    assert dataset.prompts == CATALOG[name].prompts


@pytest.mark.parametrize("name", CATALOG)
def test_every_layout_names_what_it_lacks(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(name, monkeypatch)
    folder = build(name, data)
    if CATALOG[name].images != ".":
        shutil.rmtree(folder / CATALOG[name].images)
        assert any(f.startswith("missing directory: ") for f in audit(name, data).faults)
    lists = [path for path in folder.iterdir() if path.is_file()]
    assert lists
    for file in lists:
        file.unlink()
    assert {f"missing file: {file}" for file in lists} <= set(audit(name, data).faults)
    shutil.rmtree(folder)
    assert audit(name, data).faults == (f"missing directory: {folder}",)
    with pytest.raises(InputError, match=str(folder)):
        load_dataset(name, data / "cache")


def test_each_kind_of_fault_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("dtd", monkeypatch)
    folder = build("dtd", data)
    images = folder / "images"
    (images / "first_kind" / "train_0.jpg").unlink()
    (images / "first_kind" / "train_1.jpg").write_bytes(b"")
    whole = (images / "second_kind" / "test_0.jpg").read_bytes()
    (images / "second_kind" / "test_0.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "second_kind" / "unlisted.jpg").write_bytes(whole)
    split = json.loads((folder / str(CATALOG["dtd"].split)).read_text(encoding="utf-8"))
    rewrite_split(folder, {"val": [*split["val"][:-1], split["train"][3]]})
    monkeypatch.setitem(
        CATALOG, "dtd", CATALOG["dtd"].__class__(**{**vars(CATALOG["dtd"]), "n_classes": 4, "n_test": 7})
    )
    found = audit("dtd", data)
    faults = "\n".join(found.faults)
    assert "classes: found 3; expected: 4" in faults
    assert "test images: found 6; expected: 7" in faults
    assert "missing image: first_kind/train_0.jpg" in faults
    assert "train_1.jpg: cannot identify image file" in faults
    assert "test_0.jpg: image file is truncated" in faults
    assert "listed more than once: second_kind/train_1.jpg" in faults
    assert len(found.faults) == 6
    assert found.unlisted == ("second_kind/unlisted.jpg", "third_kind/val_1.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected: train, val and test as lists"),
        ('{"train": [], "val": []}', "KeyError.*test"),
        (
            '{"train": [["a.jpg", 0, "a"]], "val": [["b.jpg", 0, "b"]], "test": []}',
            "label 0 is 'a' and, for b.jpg, 'b'",
        ),
        ('{"train": [["a.jpg", 0, "a"]], "val": [["b.jpg", 2, "b"]], "test": []}', "expected: 0 to 1, each used"),
    ],
)
def test_split_files_that_are_refused(text: str, message: str, data: Path) -> None:
    folder = build("dtd", data)
    (folder / str(CATALOG["dtd"].split)).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_listing("dtd", data)
    assert len(audit("dtd", data).faults) == 1


def test_lists_that_are_refused(data: Path) -> None:
    folder = build("fgvc_aircraft", data)
    (folder / "images_variant_val.txt").write_text("100 Concorde\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1: variant 'Concorde'"):
        read_listing("fgvc_aircraft", data)
    folder = build("imagenet", data)
    shutil.rmtree(folder / "images" / "val" / WORDNET[1])
    with pytest.raises(InputError, match=f"1 class folders are missing: .*val/{WORDNET[1]}"):
        read_listing("imagenet", data)
    (folder / "classnames.txt").write_text("n01440764\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 'n01440764'; expected: WORDNET_ID NAME"):
        read_listing("imagenet", data)


def test_loading_refuses_other_counts_and_absent_images(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build("dtd", data)
    with pytest.raises(
        InputError, match="dtd: its lists name 3 classes where 47 are published, 6 train images where 2820"
    ):
        load_dataset("dtd", data / "cache")
    publish("dtd", monkeypatch)
    (folder / "images" / "third_kind" / "train_1.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 12 images are not in .*, such as third_kind/train_1.jpg"):
        load_dataset("dtd", data / "cache")


def test_a_pool_smaller_than_its_split_is_drawn(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("imagenet", monkeypatch)
    build("imagenet", data)
    first = load_dataset("imagenet?size=4", data / "cache").train
    again = load_dataset("imagenet?size=4&draw=0", data / "other-cache").train
    assert first.names == again.names
    assert first.names is not None
    assert len(set(first.names)) == 4
    whole = load_dataset("imagenet?size=all", data / "cache").train
    assert whole.names is not None
    assert set(first.names) < set(whole.names)
    with pytest.raises(InputError, match="a pool of 7 from 6 images"):
        load_dataset("imagenet?size=7", data / "cache")


@pytest.mark.parametrize(("pool", "test", "unread"), [("val", "train", "test"), ("train", "val", "test")])
def test_accuracy_can_be_measured_on_the_split_that_is_no_pool(
    pool: str, test: str, unread: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published test images are not even on disk."""
    publish("dtd", monkeypatch)
    images = build("dtd", data) / "images"
    for file in images.glob(f"*/{unread}_*.jpg"):
        file.unlink()
    dataset = load_dataset(f"dtd?pool={pool}&test={test}", data / "cache")
    assert dataset.train.names == tuple(f"{kind}/{pool}_{k}.jpg" for kind in CLASSES for k in range(PER_PART))
    assert dataset.test.names == tuple(f"{kind}/{test}_{k}.jpg" for kind in CLASSES for k in range(PER_PART))
    assert len(dataset.val) == 0
    assert dataset.notes == (f"accuracy is measured on the {test} split, to choose by; the test split is not read",)
    with pytest.raises(InputError, match="6 of 12 images are not in"):
        load_dataset(f"dtd?pool={pool}", data / "cache")


def test_classes_and_prompts_are_chosen_on_every_split(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("dtd", monkeypatch)
    build("dtd", data)
    np.savez(data / "two.npz", class_idx=np.array([2, 0]))
    dataset = load_dataset("dtd?pool=val&test=train&classes=two.npz&size=3", data / "cache")
    assert dataset.class_names == ("third kind", "first kind")
    assert len(dataset.train) == 3
    assert dataset.test.names == tuple(f"{kind}/train_{k}.jpg" for kind in CLASSES[::2] for k in range(PER_PART))
    assert dataset.test.labels.tolist() == [1, 1, 0, 0]


def test_the_imagenet_pool_has_100000_images() -> None:
    n = CATALOG["imagenet"].n_train
    pool = drawn(Part(tuple(map(str, range(n))), np.arange(n) % 1000), choices_of("imagenet"))
    rows = np.array([int(path) for path in pool.paths])
    assert len(rows) == 100_000
    assert len(np.unique(rows)) == 100_000
    assert (pool.labels == rows % 1000).all()
    assert abs(rows.mean() / n - 0.5) < 0.01


def test_data_folder_is_named_when_it_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ACTIVEKD_DATA", raising=False)
    with pytest.raises(InputError, match="ACTIVEKD_DATA is not set"):
        load_dataset("dtd", tmp_path)
    monkeypatch.setenv("ACTIVEKD_DATA", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="absent: no such folder"):
        load_dataset("dtd", tmp_path)


def test_check_command(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("dtd", monkeypatch)
    publish("eurosat", monkeypatch)
    build("dtd", data)
    folder = build("eurosat", data)
    runner = CliRunner()
    told = runner.invoke(app, ["check"], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    assert told.output.count("as it should be") == 2
    (folder / "2750" / "first_kind" / "val_0.jpg").unlink()
    told = runner.invoke(app, ["check", "eurosat", "--json", str(data / "found.json")], env={"COLUMNS": "200"})
    assert told.exit_code == 1
    assert "missing image: first_kind/val_0.jpg" in told.output
    assert json.loads((data / "found.json").read_text(encoding="utf-8"))[0]["missing"] == ["first_kind/val_0.jpg"]
    told = runner.invoke(app, ["check", "eurosatt"])
    assert told.exit_code == 2
    assert "did you mean 'eurosat'" in told.stderr


def test_check_command_without_any_data(data: Path) -> None:
    told = CliRunner().invoke(app, ["check"], env={"COLUMNS": "400"})
    assert told.exit_code == 1
    assert "imagenet" in told.output


@pytest.mark.parametrize("name", [name for name, origin in ORIGINS.items() if origin.torchvision])
def test_downloads_are_arranged_into_the_layout(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(name, monkeypatch)
    folder = build(name, data)
    origin, staging = ORIGINS[name], data / "staging"
    for source, target in origin.moves:
        goal = staging / source
        if target == ".":
            goal.parent.mkdir(parents=True, exist_ok=True)
            for file in folder.glob(Path(source).name):
                file.rename(goal.parent / file.name)
        elif (folder / target).exists():
            goal.parent.mkdir(parents=True, exist_ok=True)
            (folder / target).rename(goal)
        elif "." in target:
            goal.write_bytes(b"labels")
        else:
            goal.mkdir(parents=True)
    assert audit(name, data).faults
    arrange(staging, folder, origin)
    assert audit(name, data).faults == ()
    with pytest.raises(InputError, match=r"exists already|no .* in what torchvision"):
        arrange(staging, folder, origin)


def test_fetch_says_what_to_get_from_where(data: Path) -> None:
    told = CliRunner().invoke(app, ["fetch", "ucf101"], env={"COLUMNS": "400"})
    assert told.exit_code == 0
    assert "from https://drive.google.com/file/d/" in told.output
    assert f"to   {data / 'ucf101' / 'UCF-101-midframes'}" in told.output
    assert set(ORIGINS) == set(CATALOG)


def test_fetch_tells_when_there_is_no_connection(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    def offline(root: str, download: bool) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torchvision.datasets, "DTD", offline)
    told = CliRunner().invoke(app, ["fetch", "dtd"])
    assert told.exit_code == 2
    assert "torchvision.datasets.DTD could not be downloaded: no route" in told.stderr
    assert "split_zhou_DescribableTextures.json" in told.output


def test_archives_cannot_write_outside_of_their_folder(tmp_path: Path) -> None:
    """Extraction by torchvision of an archive with a member outside its folder."""
    from torchvision.datasets.utils import extract_archive

    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as out:
        member = tarfile.TarInfo("../outside.txt")
        member.size = 4
        out.addfile(member, io.BytesIO(b"evil"))
    target = tmp_path / "inside"
    with archives_kept_inside(), pytest.raises(tarfile.OutsideDestinationError):
        extract_archive(str(archive), str(target))
    assert not (tmp_path / "outside.txt").exists()


def test_lists_with_a_byte_order_mark_are_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dtd", "fgvc_aircraft", "imagenet"):
        publish(name, monkeypatch)
        folder = build(name, data)
        before = read_listing(name, data)
        for file in [*folder.glob("*.txt"), *folder.glob("*.json")]:
            file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8-sig")
        after = read_listing(name, data)
        assert after.class_names == before.class_names
        assert {part: files.paths for part, files in after.parts.items()} == {
            part: files.paths for part, files in before.parts.items()
        }


def test_lists_in_another_encoding_are_named_by_line(data: Path) -> None:
    folder = build("fgvc_aircraft", data)
    (folder / "variants.txt").write_bytes("707\nCitroën\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"variants.txt, line 2: byte 0xeb is not UTF-8"):
        read_listing("fgvc_aircraft", data)


@pytest.mark.parametrize("row", [["a.jpg", "0", "a"], ["a.jpg", 0.5, "a"], ["a.jpg", True, "a"], [7, 0, "a"], ["a", 0]])
def test_rows_of_a_split_file_have_their_types(data: Path, row: list[object]) -> None:
    rewrite_split(build("dtd", data), {"val": [row]})
    with pytest.raises(InputError, match="expected: train, val and test as lists of"):
        read_listing("dtd", data)


def test_class_names_of_lists_are_distinct(data: Path) -> None:
    folder = build("dtd", data)
    rewrite_split(folder, {"val": [["x.jpg", 3, "First kind"], ["y.jpg", 4, "second_kind"]]})
    with pytest.raises(InputError, match=r"2 faults:\n.*'second_kind' stands twice.*\n.*'first_kind' and 'First kind'"):
        read_listing("dtd", data)
    folder = build("fgvc_aircraft", data)
    (folder / "variants.txt").write_text("first_kind\nsecond_kind\nfirst_kind\n", encoding="utf-8")
    with pytest.raises(InputError, match="class name 'first_kind' stands twice"):
        read_listing("fgvc_aircraft", data)


def test_an_image_in_two_lists_and_an_absent_one_are_refused_at_once(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("dtd", monkeypatch)
    folder = build("dtd", data)
    split = json.loads((folder / str(CATALOG["dtd"].split)).read_text(encoding="utf-8"))
    rewrite_split(folder, {"test": [split["train"][0], *split["test"][1:]]})
    (folder / "images" / "third_kind" / "train_1.jpg").unlink()
    with pytest.raises(InputError) as caught:
        load_dataset("dtd", data / "cache")
    assert "its lists name 1 images more than once, such as first_kind/train_0.jpg" in str(caught.value)
    assert "1 of 12 images are not in" in str(caught.value)


def test_imagenet_leaves_out_what_is_no_image(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("imagenet", monkeypatch)
    folder = build("imagenet", data)
    for name in ("._train_0.JPEG", ".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / "images" / "train" / WORDNET[0] / name).write_bytes(b"")
    assert audit("imagenet", data).faults == ()
    assert len(load_dataset("imagenet?size=all", data / "cache").train) == N
    twice = "\n".join(f"{wordnet} missile" for wordnet in WORDNET)
    (folder / "classnames.txt").write_text(twice, encoding="utf-8")
    assert load_dataset("imagenet?size=all", data / "cache").source_notes == ("class names that stand twice: missile",)


def test_equal_pictures_of_the_lists_are_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("dtd", monkeypatch)
    images = build("dtd", data) / "images"
    shutil.copy(images / "first_kind" / "train_0.jpg", images / "first_kind" / "test_1.jpg")
    line = "1 of 6 test images also stand in train, such as first_kind/test_1.jpg = first_kind/train_0.jpg"
    assert load_dataset("dtd", data / "cache").notes == (line,)
    assert audit("dtd", data).notes == (line,)


def test_links_in_a_circle_do_not_stop_the_audit(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("dtd", monkeypatch)
    images = build("dtd", data) / "images"
    (images / "first_kind" / "loop").symlink_to(images)
    found = audit("dtd", data)
    assert found.faults == ()
    assert found.notes == ("left out: 1 x link to a folder above it (first_kind/loop)",)
