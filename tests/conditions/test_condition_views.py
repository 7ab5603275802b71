"""Views of data sets with conditions: rows and views of the base's bank, and no class that is left out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_arrays import made_arrays, saved_arrays
from test_views import DEVICE, held

from activekd.bank.gathered import Gathered
from activekd.bank.views import MappedViews, RenderedViews, Views
from activekd.banked import banked_shards
from activekd.datasets import load_dataset
from activekd.datasets.row_map import RowMap
from activekd.defaults import VIEWS
from activekd.inputs import computed_inputs
from activekd.students.networks import student_network
from activekd.teachers import teacher

# Two views of three rows, and a split of five rows: rows 2, 0, 1 and near copies of rows 0 and 2.
BANK = (np.arange(6.0, dtype=np.float32).reshape(3, 2), 10 + np.arange(6.0, dtype=np.float32).reshape(3, 2))
MAP = RowMap(np.array([2, 0, 1, 0, 2]), np.array([-1.0, -1.0, -1.0, 0.0, 0.9]))
EVALUATED = [[4, 5], [0, 1], [2, 3], [10, 11], [14, 15]]
TRAINING = [[14, 15], [10, 11], [12, 13], [10, 11], [14, 15]]


@pytest.mark.parametrize("device", ["cpu", DEVICE])
def test_views_of_a_bank_by_hand(device: str) -> None:
    rows, memory = np.arange(5), held(1e9)
    views = Views(BANK, device, "bank", memory, MAP)
    assert (views.n_rows, len(views), views.shape) == (5, 2, (2,))
    assert views.gather(rows, np.zeros_like(rows)).tolist() == EVALUATED
    assert views.gather(rows, np.ones_like(rows)).tolist() == TRAINING
    pairs = views.batches(np.array([[3, 0], [4, 4]]), np.array([[0, 0], [1, 0]]))
    assert [batch.tolist() for batch in pairs] == [[[10, 11], [4, 5]], [[14, 15], [14, 15]]]
    # On a device, all that read one bank share one table.
    base = Views(BANK, device, "bank", memory)
    assert base.gather(np.array([2]), np.array([1])).tolist() == [[14, 15]]
    assert memory.n_bytes == (0 if device == "cpu" else sum(array.nbytes for array in BANK))


def test_rows_are_read_through_an_index_without_a_copy_of_the_array() -> None:
    evaluated = Views(BANK, row_map=MAP).arrays[0]
    assert isinstance(evaluated, Gathered)
    assert evaluated.arrays is BANK
    assert (len(evaluated), evaluated.shape, evaluated.dtype) == (5, (5, 2), np.float32)
    assert evaluated[1:4].tolist() == EVALUATED[1:4]
    assert evaluated[np.array([4, 0])].tolist() == [EVALUATED[4], EVALUATED[0]]
    assert np.asarray(evaluated, dtype=np.float64).tolist() == EVALUATED
    assert Views(BANK, row_map=MAP).arrays[1][:].tolist() == TRAINING
    with pytest.raises(ValueError, match="expected: a copy"):
        np.array(evaluated, copy=False)


def test_a_copy_is_exact_where_there_is_one_view() -> None:
    rows = np.arange(5)
    shown = Views(BANK[:1], row_map=MAP).gather(rows, np.zeros_like(rows)).tolist()
    assert shown == [[4, 5], [0, 1], [2, 3], [0, 1], [4, 5]]


def test_a_copy_shows_a_crop_of_its_image(cache: Path) -> None:
    images, geometry = load_dataset("digits", cache).train.pixels, VIEWS["digits"]
    base = RenderedViews(images, geometry, 16, "bilinear")
    mapped = MappedViews(base, RowMap(np.array([5, 5]), np.array([-1.0, 0.5])), geometry.count)
    rows, zeros = np.array([0, 1]), np.zeros(2, dtype=np.int64)
    shown = mapped.gather(rows, zeros)
    # Half of the way through the four training views is the third of them, view 3.
    assert torch.equal(shown, base.gather(np.array([5, 5]), np.array([0, 3])))
    assert not torch.equal(shown[0], shown[1])
    (batch,) = mapped.batches(rows[None], np.array([[2, 2]]))
    assert torch.equal(batch[0], batch[1])
    assert (mapped.n_rows, mapped.shape, mapped.device) == (2, (3, 16, 16), "cpu")


def test_a_teacher_knows_the_kept_classes_and_their_images_alone(tmp_path: Path, cache: Path) -> None:
    name = saved_arrays(tmp_path / "a.npz")
    dataset = load_dataset(f"{name}?open=0.34&draw=1", cache)
    of, text = dataset.conditioned, made_arrays()["text"]
    assert of is not None
    assert of.test is not None
    student, taught_by, geometry = student_network("adapter:given"), teacher("given+zeroshot"), VIEWS["single"]
    student_views, taught = computed_inputs(dataset, student, taught_by, geometry, cache)
    assert taught is not None
    assert taught.test is not None
    assert taught.head.text.shape == (2, 4)
    np.testing.assert_allclose(taught.head.text, text[of.classes], rtol=1e-6)
    assert (len(taught.test), student_views.test.n_rows, taught.train.n_rows) == (10, 10, 30)
    features = of.base.test.features
    assert features is not None
    assert features.teacher is not None
    np.testing.assert_array_equal(taught.test[:], features.teacher[of.test.rows])
    # The bank is that of the file itself, and its arrays are not copied.
    assert banked_shards(dataset, student, taught_by, geometry) == banked_shards(of.base, student, taught_by, geometry)
    assert of.base.train.features is not None
    assert taught.train.banked[0] is of.base.train.features.teacher
