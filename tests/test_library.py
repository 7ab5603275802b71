"""Pool, streams, views, data sets, bank and the loop, on real images."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_recipe import RECIPE

from activekd.bank.shards import CHECKSUM, Shard, read_array, write_array
from activekd.bank.views import Views
from activekd.datasets import load_dataset, reveal
from activekd.errors import InputError
from activekd.images.crops import view_boxes
from activekd.images.pixels import from_grey
from activekd.images.rendering import render
from activekd.pool import Pool
from activekd.recipes import ClapRecipe, ViewGeometry
from activekd.starts.rows import balanced
from activekd.streams import stream
from activekd.students.fit import learning_rate

CROPS = ViewGeometry(count=4, scale=(0.5, 1.0), ratio=(0.75, 1.3333), flip=0.5)


def test_streams_are_named() -> None:
    first = stream(0, "select", 1).integers(1000, size=5)
    assert first.tolist() == stream(0, "select", 1).integers(1000, size=5).tolist()
    assert first.tolist() != stream(0, "select", 2).integers(1000, size=5).tolist()
    assert first.tolist() != stream(1, "select", 1).integers(1000, size=5).tolist()


def test_pool_partitions_its_rows() -> None:
    pool = Pool(5, (3,)).buy([1])
    assert pool.labeled == (3, 1)
    assert pool.unlabeled.tolist() == [0, 2, 4]
    with pytest.raises(ValueError, match="labeled twice"):
        pool.buy([3])
    with pytest.raises(ValueError, match="outside of the pool; expected: 0 to 4"):
        pool.buy([5])


def test_steps_and_learning_rate_by_hand() -> None:
    assert RECIPE.n_steps(n_labeled=17, n_unlabeled=100) == 4 * 3
    rates = [learning_rate(RECIPE, step, 4) for step in range(4)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.5])
    with pytest.raises(InputError, match=r"ClapRecipe.lr is 0.0; expected: more than 0"):
        ClapRecipe(lr=0.0, momentum=0.9, epochs=1, batch=1, warmup=0.0)


def test_view_zero_is_the_centred_square() -> None:
    boxes, flips = view_boxes(np.array([7]), 0, np.array([[10, 16]]), CROPS)
    assert boxes.tolist() == [[0, 3, 10, 10]]
    assert flips.tolist() == [False]


def test_views_are_a_pure_function_of_row_and_view_and_keep_to_the_geometry() -> None:
    rows = np.arange(2000)
    shapes = np.tile([[40, 40]], (2000, 1))
    boxes, flips = view_boxes(rows, 2, shapes, CROPS)
    alone, _ = view_boxes(rows[123:124], 2, shapes[:1], CROPS)
    assert boxes[123].tolist() == alone[0].tolist()
    other, _ = view_boxes(rows, 3, shapes, CROPS)
    assert (boxes != other).any(axis=1).mean() > 0.95
    top, left, height, width = boxes.T
    assert ((top >= 0) & (left >= 0) & (top + height <= 40) & (left + width <= 40)).all()
    area = height * width / 1600
    assert area.min() > 0.45
    assert area.max() <= 1.0
    assert area.mean() == pytest.approx(0.705, abs=0.01)
    assert flips.mean() == pytest.approx(0.5, abs=0.05)


def test_render_crops_and_flips_pixels() -> None:
    grey = np.zeros((1, 4, 6), dtype=np.uint8)
    grey[0, :, 1] = 255
    square = render(from_grey(grey), np.array([0]), 0, CROPS, size=4, interpolation="bilinear")
    assert square[0, 0, 0].tolist() == [255, 0, 0, 0]


def test_images_travel_and_read_back() -> None:
    grey = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    images = pickle.loads(pickle.dumps(from_grey(grey)))
    assert images[1][:, :, 2].tolist() == grey[1].tolist()
    assert images.fingerprint == from_grey(grey).fingerprint
    assert images.fingerprint != from_grey(grey[::-1].copy()).fingerprint


@pytest.mark.parametrize(("name", "n"), [("digits", 1797), ("mnist5k", 5000)])
def test_embedded_data_sets(name: str, n: int, cache: Path) -> None:
    dataset = load_dataset(name, cache)
    splits = (dataset.train, dataset.val, dataset.test)
    assert sum(len(s) for s in splits) == n
    for split in splits:
        counts = np.bincount(split.labels, minlength=10)
        assert counts.min() > 0.8 * counts.max()
        assert int(max(split.pixels[0].max(), split.pixels[1].max())) > 200


def test_oracle_and_initial_labels(cache: Path) -> None:
    dataset = load_dataset("digits", cache)
    rows = balanced(dataset, 20, 3)
    labeled = reveal(dataset, Pool(len(dataset.train), rows))
    assert np.bincount(labeled.labels).tolist() == [2] * 10
    spread = labeled.spread(len(dataset.train))
    assert (spread >= 0).sum() == 20
    assert rows == balanced(dataset, 20, 3)
    assert rows != balanced(dataset, 20, 4)


def paint_folder(root: Path, classes: dict[str, int]) -> None:
    for k, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (20 + i, 12), (40 * k, 10 * i, 0)).save(root / name / f"{i}.png")


def test_folder_without_parts_is_split(tmp_path: Path, cache: Path) -> None:
    paint_folder(tmp_path, {"big_cat": 10, "dog": 10})
    dataset = load_dataset(f"folder:{tmp_path}", cache)
    assert dataset.class_names == ("big cat", "dog")
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (12, 4, 4)
    assert dataset.train.pixels[0].shape[0] == 12


def test_folder_with_parts_and_prompts(tmp_path: Path, cache: Path) -> None:
    paint_folder(tmp_path / "train", {"a": 3, "b": 4})
    paint_folder(tmp_path / "test", {"a": 1, "b": 2})
    (tmp_path / "prompts.txt").write_text("a drawing of {}.\n", encoding="utf-8")
    dataset = load_dataset(f"folder:{tmp_path}", cache)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (7, 0, 3)
    assert dataset.prompts == ("a drawing of {}.",)
    again = load_dataset(f"folder:{tmp_path}", cache)
    assert again.fingerprint == dataset.fingerprint


def test_folder_faults_are_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_dataset(f"folder:{tmp_path / 'absent'}", cache)
    paint_folder(tmp_path / "one", {"only": 5})
    with pytest.raises(InputError, match=r"1 class \('only'\); expected: at least 2"):
        load_dataset(f"folder:{tmp_path / 'one'}", cache)
    paint_folder(tmp_path / "empty", {"a": 5, "b": 0})
    with pytest.raises(InputError, match=r"no image in .*empty/b"):
        load_dataset(f"folder:{tmp_path / 'empty'}", cache)
    paint_folder(tmp_path / "torn", {"a": 5, "b": 5})
    (tmp_path / "torn" / "a" / "9.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 of 11 images cannot be decoded: .*a/9.png"):
        load_dataset(f"folder:{tmp_path / 'torn'}", cache)
    paint_folder(tmp_path / "held-out" / "val", {"a": 2, "b": 2})
    with pytest.raises(InputError, match="found val/; expected: both train/ and test/"):
        load_dataset(f"folder:{tmp_path / 'held-out'}", cache)
    paint_folder(tmp_path / "odd" / "train", {"a": 2, "b": 2})
    paint_folder(tmp_path / "odd" / "test", {"a": 2, "c": 2})
    with pytest.raises(InputError, match="classes differ from those of train: b, c"):
        load_dataset(f"folder:{tmp_path / 'odd'}", cache)


def make_shard(view: int, geometry: ViewGeometry = CROPS) -> Shard:
    return Shard("digits", "train", view, "images", "frozen:net", "16", geometry)


def test_bank_shards_are_addressed_by_content() -> None:
    wider = ViewGeometry(count=9, scale=(0.5, 1.0), ratio=(0.75, 1.3333), flip=0.5)
    other = ViewGeometry(count=4, scale=(0.6, 1.0), ratio=(0.75, 1.3333), flip=0.5)
    assert make_shard(1).key == make_shard(1, wider).key
    assert make_shard(1).key != make_shard(1, other).key
    assert make_shard(0).key == make_shard(0, other).key
    assert make_shard(1).key != make_shard(2).key


def test_bank_files_are_whole_or_absent(tmp_path: Path, cache: Path) -> None:
    images = load_dataset("digits", cache).test.pixels
    array = render(images, np.arange(len(images)), 1, CROPS, size=16, interpolation="bilinear").numpy()
    shard = make_shard(1)
    assert read_array(shard.path(tmp_path)) is None
    write_array(shard.path(tmp_path), array)
    found = read_array(shard.path(tmp_path))
    assert found is not None
    assert np.array_equal(found, array)
    path = shard.path(tmp_path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-50] ^= 1
    for damaged in (whole[:-100], bytes(flipped), b""):
        path.write_bytes(damaged)
        assert read_array(shard.path(tmp_path)) is None
    path.write_bytes(whole)
    assert read_array(shard.path(tmp_path)) is not None
    path.with_suffix(CHECKSUM).unlink()
    assert read_array(shard.path(tmp_path)) is None


def test_gather_takes_each_row_from_its_own_view() -> None:
    views = Views((np.array([[0.0], [1.0]]), np.array([[10.0], [11.0]])))
    batch = views.gather(np.array([1, 0, 1]), np.array([0, 1, 1]))
    assert batch.squeeze(1).tolist() == [1.0, 10.0, 11.0]
