"""Views on the host and on a device: equal batches, what a worker keeps, and what leaves when room is short."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from activekd.bank import views as viewing
from activekd.bank.held import HELD_SHARE, UNBOUNDED, Held, Slab
from activekd.bank.views import RenderedViews, Views, ViewSource
from activekd.datasets import load_dataset
from activekd.errors import InputError
from activekd.images.pixels import Images
from activekd.images.rendering import render
from activekd.recipes import ViewGeometry

GEOMETRY = ViewGeometry(3, (0.5, 1.0), (0.75, 1.3333), 0.5)
DEVICE = "cpu:0"
"""A device of torch that is not ``cpu`` by name, and so takes the way of a card."""

ROWS = np.array([[5, 9, 5, 0], [1, 2, 3, 4], [9, 9, 5, 0]])
VIEWS = np.array([[1, 2, 1, 2], [1, 1, 2, 2], [2, 2, 1, 1]])


class User:
    """Keeps an entry."""


def held(free: float, limit: int = UNBOUNDED) -> Held:
    """At most HELD_SHARE of ``free`` bytes, of which the entries take theirs."""
    out = Held(DEVICE, lambda: int(free) - out.n_bytes, limit)
    return out


def images(n: int = 10) -> Images:
    shapes = np.array([[12 + k, 20 - k] for k in range(n)], dtype=np.int64)
    return Images(shapes, np.random.default_rng(0).integers(0, 256, 3 * shapes.prod(axis=1).sum(), dtype=np.uint8))


def rendered(device: str, memory: Held | None = None, *, of: Images | None = None) -> RenderedViews:
    return RenderedViews(of or images(), GEOMETRY, 8, "bilinear", device, memory or held(1e9))


def calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """The second argument of each call of a function of the module of views."""
    original, seen = getattr(viewing, name), []

    def counted(*arguments: Any, **named: Any) -> Any:
        seen.append(arguments[1])
        return original(*arguments, **named)

    monkeypatch.setattr(viewing, name, counted)
    return seen


def test_the_entry_used_least_recently_leaves_first() -> None:
    memory, made = held(100 / HELD_SHARE), []

    def get(key: str, n_bytes: int, user: object) -> str | None:
        return memory.get(key, user, n_bytes, lambda: made.append(key) or key)

    first, second = User(), User()
    assert [get("a", 40, first), get("b", 40, first), get("a", 40, first)] == ["a", "b", "a"]
    assert made == ["a", "b"]
    # Both are in use: there is no room, and nothing leaves.
    assert get("c", 40, second) is None
    del first
    gc.collect()
    assert get("c", 40, second) == "c"
    assert (memory.find("b", second), memory.find("a", second)) == (None, "a")
    assert get("d", 101, second) is None
    assert memory.n_bytes == 80


def test_a_lack_of_memory_is_told_after_what_nobody_uses_has_left() -> None:
    memory = held(1000)
    memory.get("a", User(), 200, lambda: "a")
    gc.collect()
    memory.require(900, "a batch")
    assert memory.n_bytes == 0
    with pytest.raises(InputError, match=r"a batch takes 2\.00 GB on cpu:0, which has 0\.00 GB free; expected: "):
        memory.require(2 * 10**9, "a batch")


def test_a_slab_renders_each_view_once_while_it_has_room() -> None:
    asked: list[tuple[int, int]] = []

    def draw(rows: np.ndarray, views: np.ndarray) -> torch.Tensor:
        asked.extend(zip(rows.tolist(), views.tolist(), strict=True))
        return torch.from_numpy(10 * rows + views).to(torch.uint8)[:, None]

    slab = Slab(5, 3, 3, (1,), torch.device("cpu"))

    def gather(rows: list[int], views: list[int]) -> list[int]:
        return slab.gather(np.array(rows), np.array(views), draw).flatten().tolist()

    assert gather([4, 1, 4], [1, 1, 1]) == [41, 11, 41]
    assert gather([1, 4], [1, 1]) == [11, 41]
    assert asked == [(1, 1), (4, 1)]
    # One place is left, for the first of two; the other is rendered at every use.
    assert gather([4, 2, 3, 2], [1, 2, 2, 2]) == [41, 22, 32, 22]
    assert gather([3, 2, 1], [2, 2, 1]) == [32, 22, 11]
    assert asked == [(1, 1), (4, 1), (2, 2), (3, 2), (3, 2)]


def test_features_are_equal_on_the_host_in_a_table_and_streamed() -> None:
    arrays = tuple(np.random.default_rng(view).normal(size=(10, 4)).astype(np.float16) for view in range(3))
    memory = held(1e6)
    sources = [Views(arrays), Views(arrays, DEVICE, "key", memory), Views(arrays, DEVICE, "key", held(100))]
    for source in sources:
        assert isinstance(source, ViewSource)
        batches = list(source.batches(ROWS, VIEWS))
        assert len(batches) == 3
        for rows, views, batch in zip(ROWS, VIEWS, batches, strict=True):
            assert batch.dtype == torch.float16
            assert torch.equal(batch, source.gather(rows, views))
            np.testing.assert_array_equal(batch, [arrays[view][row] for row, view in zip(rows, views, strict=True)])
    assert memory.n_bytes == 3 * 10 * 4 * 2


def test_a_table_of_features_is_uploaded_once_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, memory = (np.arange(8, dtype=np.float16).reshape(4, 2),), held(1e6)
    rows, views = np.array([3, 0]), np.array([0, 0])
    uploads = calls(monkeypatch, "upload")
    for key, expected in (("a", 2), ("a", 1), ("b", 2), ("", 2), ("", 2)):
        before = len(uploads)
        assert Views(arrays, DEVICE, key, memory).gather(rows, views).tolist() == [[6, 7], [0, 1]]
        assert len(uploads) - before == expected, key


def test_pixels_on_the_host_are_those_of_torchvision_and_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    of, seen = images(), calls(monkeypatch, "render")
    source = rendered("cpu", of=of)
    assert isinstance(source, ViewSource)
    assert (source.shape, source.n_rows) == ((3, 8, 8), 10)
    for _ in range(2):
        for rows, views, batch in zip(ROWS, VIEWS, source.batches(ROWS, VIEWS), strict=True):
            assert torch.equal(batch, render(of, rows, views, GEOMETRY, size=8, interpolation="bilinear"))
    assert sum(map(len, seen)) == len({*zip(ROWS.ravel(), VIEWS.ravel(), strict=True)})
    # Another trial of the worker finds them, and its evaluation views, rendered.
    all_rows = np.arange(10)
    first = source.gather(all_rows, np.zeros_like(all_rows))
    asked = len(seen)
    again = RenderedViews(of, GEOMETRY, 8, "bilinear", "cpu", source.held)
    assert torch.equal(again.gather(all_rows, np.zeros_like(all_rows)), first)
    assert torch.equal(again.gather(ROWS[0], VIEWS[0]), source.gather(ROWS[0], VIEWS[0]))
    assert len(seen) == asked
    assert torch.equal(first, render(of, all_rows, 0, GEOMETRY, size=8, interpolation="bilinear"))


def test_views_of_both_kinds_in_one_batch() -> None:
    rows, views = np.array([1, 7, 1, 2]), np.array([0, 1, 2, 0])
    for device in ("cpu", DEVICE):
        source = rendered(device)
        alone = [source.gather(rows[k : k + 1], views[k : k + 1]) for k in range(4)]
        assert torch.equal(source.gather(rows, views), torch.cat(alone))
        (batch,) = source.batches(rows[None], views[None])
        assert torch.equal(batch, torch.cat(alone))


def test_pixels_do_not_depend_on_what_a_device_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held, streamed, or with room for some of the evaluation views: the same, within a grey level of torchvision."""
    of = images()
    uploads, streams = calls(monkeypatch, "upload_images"), calls(monkeypatch, "stream")
    all_rows = np.arange(10)

    def answers(memory: Held) -> list[torch.Tensor]:
        source = rendered(DEVICE, memory, of=of)
        evaluated = [source.gather(all_rows, np.zeros_like(all_rows)) for _ in range(2)]
        return [*source.batches(ROWS, VIEWS), source.gather(ROWS[1], VIEWS[1]), *evaluated]

    wanted = answers(held(1e6))
    assert len(uploads) == 1
    assert len(streams) == 1, "evaluation views are rendered once, from images that are not held for that"
    host = rendered("cpu", of=of)
    on_host = [*host.batches(ROWS, VIEWS), host.gather(ROWS[1], VIEWS[1])]
    for found, reference in zip(wanted, on_host, strict=False):
        assert (found.int() - reference.int()).abs().max() <= 1
    bytes_of_view = 3 * 8 * 8
    for limit in (0, 4 * bytes_of_view, of.n_bytes):
        for found, expected in zip(answers(held(1e6, limit)), wanted, strict=True):
            assert torch.equal(found, expected)
    assert len(uploads) == 1, "no room beside the evaluation views"


def test_a_worker_uploads_the_images_of_a_data_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    of, memory = images(), held(1e6)
    uploads = calls(monkeypatch, "upload_images")
    for _ in range(3):
        assert len(list(rendered(DEVICE, memory, of=of).batches(ROWS, VIEWS))) == 3
    assert len(uploads) == 1
    # Another data set takes its place when there is no room for both and no trial reads the first.
    gc.collect()
    other = replace(of, source=255 - np.asarray(of.source))
    small = held(1e6, of.n_bytes)
    for each in (of, other, of):
        list(rendered(DEVICE, small, of=each).batches(ROWS, VIEWS))
        gc.collect()
    assert len(uploads) == 4
    assert small.n_bytes == of.n_bytes


def test_a_device_with_too_little_memory_is_told_before_the_first_step() -> None:
    with pytest.raises(InputError, match=r"a batch of 4 decoded images takes .* GB on cpu:0, which has 0.00 GB free; "):
        next(rendered(DEVICE, held(100)).batches(ROWS, VIEWS))
    of = images()
    one = int(3 * of.shapes.prod(axis=1).max())
    with pytest.raises(InputError, match=r"rendering 1 images at 8 px takes .*; expected: a device with more"):
        next(rendered(DEVICE, held(one + 100), of=of).batches(ROWS[:1, :1], VIEWS[:1, :1]))


def test_a_single_view_is_trained_on_and_evaluated_alike() -> None:
    geometry = replace(GEOMETRY, count=1)
    zeros = np.zeros_like(ROWS)
    for device in ("cpu", DEVICE):
        source = RenderedViews(images(), geometry, 8, "bicubic", device, held(1e6))
        for rows, batch in zip(ROWS, source.batches(ROWS, zeros), strict=True):
            assert torch.equal(batch, source.gather(rows, zeros[0]))


def test_an_embedded_data_set_is_rendered_on_the_host(cache: Path) -> None:
    source = RenderedViews(load_dataset("digits", cache).train.pixels, GEOMETRY, 16, "bilinear")
    assert source.gather(np.array([0, 3]), np.array([2, 0])).shape == (2, 3, 16, 16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_cuda_are_near_those_of_the_host() -> None:
    arrays = tuple(np.random.default_rng(view).normal(size=(10, 4)).astype(np.float16) for view in range(3))
    for source in (Views(arrays, "cuda"), Views(arrays, "cuda", "key", Held("cuda", lambda: 0))):
        for batch, wanted in zip(source.batches(ROWS, VIEWS), Views(arrays).batches(ROWS, VIEWS), strict=True):
            assert torch.equal(batch.cpu(), wanted)
    of = images()
    streamed = RenderedViews(of, GEOMETRY, 8, "bilinear", "cuda", Held("cuda", lambda: 10**9, 0))
    holding = RenderedViews(of, GEOMETRY, 8, "bilinear", "cuda")
    host = rendered("cpu", of=of)
    for first, second, wanted in zip(*(s.batches(ROWS, VIEWS) for s in (streamed, holding, host)), strict=True):
        assert torch.equal(first, second)
        assert (first.cpu().int() - wanted.int()).abs().max() <= 1
