"""Rendering of batches on a device against torchvision, and the streaming of images to a device."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from activekd.bank.computing import compute
from activekd.errors import InputError
from activekd.images import batched
from activekd.images.batched import crops_of, peak_bytes, render_crops
from activekd.images.cache import decode_files
from activekd.images.crops import view_boxes
from activekd.images.pixels import Images
from activekd.images.rendering import render
from activekd.images.streamed import stream, upload_images
from activekd.recipes import ViewGeometry

CROPS = ViewGeometry(4, (0.2, 1.0), (0.5, 2.0), 0.5)
TOLERANCE = {"bilinear": 1, "bicubic": 2}
SHAPES = {
    "one pixel": [[1, 1], [1, 1]],
    "lines": [[1, 9], [7, 1], [2, 3]],
    "small": [[8, 8], [16, 12], [13, 31]],
    "photographs": [[256, 341], [300, 256], [224, 224]],
    "panoramas": [[20, 700], [640, 30]],
}
CPU = torch.device("cpu")


def noise(shapes: list[list[int]], seed: int = 0) -> Images:
    sizes = np.array(shapes, dtype=np.int64)
    return Images(sizes, np.random.default_rng(seed).integers(0, 256, 3 * sizes.prod(axis=1).sum(), dtype=np.uint8))


def smooth(shapes: list[list[int]]) -> Images:
    parts = []
    for height, width in shapes:
        y, x = np.mgrid[:height, :width] + 0.5
        image = np.stack([255 * x / width, 255 * y / height, 127 + 120 * np.sin(x / 5 + y / 9)], axis=2)
        parts.append(image.astype(np.uint8).ravel())
    return Images(np.array(shapes, dtype=np.int64), np.concatenate(parts))


def on_device(images: Images, rows: np.ndarray, views: np.ndarray | int, size: int, interpolation: str) -> torch.Tensor:
    assert isinstance(images.source, np.ndarray)
    shapes = images.shapes[rows]
    crops = crops_of(images.offsets[rows] // 3, shapes, *view_boxes(rows, views, shapes, CROPS))
    return render_crops(torch.from_numpy(images.source).view(-1, 3), crops, size=size, interpolation=interpolation)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [1, 16, 32, 224])
@pytest.mark.parametrize("name", SHAPES)
def test_a_batch_is_rendered_as_torchvision_does(name: str, size: int, interpolation: str) -> None:
    """Enlarged or reduced, with views of both kinds in one batch; noise is the hardest image."""
    shapes = SHAPES[name]
    rows = np.tile(np.arange(len(shapes)), CROPS.count)
    views = np.repeat(np.arange(CROPS.count), len(shapes))
    for images in (noise(shapes), smooth(shapes)):
        wanted = render(images, rows, views, CROPS, size=size, interpolation=interpolation)
        found = on_device(images, rows, views, size, interpolation)
        assert (found.int() - wanted.int()).abs().max() <= TOLERANCE[interpolation]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", SHAPES)
def test_float16_is_precise_enough(name: str, interpolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On ``cuda`` the products have float16 factors and results, and sums in float32; so have they here on the CPU."""
    monkeypatch.setattr(batched, "working_type", lambda device: torch.float16)
    images, rows = noise(SHAPES[name]), np.arange(len(SHAPES[name]))
    for view in range(3):
        wanted = render(images, rows, view, CROPS, size=64, interpolation=interpolation)
        found = on_device(images, rows, view, 64, interpolation)
        assert (found.int() - wanted.int()).abs().max() <= TOLERANCE[interpolation]
        alone = [on_device(images, rows[k : k + 1], view, 64, interpolation) for k in range(len(rows))]
        assert torch.equal(found, torch.cat(alone))


def test_a_flip_mirrors_the_crop_and_a_crop_of_its_size_is_unchanged() -> None:
    images = noise([[6, 5]])
    assert isinstance(images.source, np.ndarray)
    pixels = torch.from_numpy(images.source).view(-1, 3)
    whole = pixels.view(6, 5, 3).permute(2, 0, 1)
    plain, mirrored = (np.array([[1 * 5 + 1, 5, 4, 4, flip]]) for flip in (0, 1))
    for interpolation in TOLERANCE:
        found = render_crops(pixels, plain, size=4, interpolation=interpolation)
        assert torch.equal(found[0], whole[:, 1:5, 1:5])
        found = render_crops(pixels, mirrored, size=4, interpolation=interpolation)
        assert torch.equal(found[0], whole[:, 1:5, 1:5].flip(2))


def test_a_reduction_by_hand() -> None:
    """Two pixels become one: the triangle of width 2 around the middle weighs them equally; halves are rounded up."""
    pixels = torch.tensor([[0, 10, 255], [5, 20, 255]], dtype=torch.uint8)
    crop = np.array([[0, 2, 1, 2, 0]])
    assert render_crops(pixels, crop, size=1, interpolation="bilinear").flatten().tolist() == [3, 15, 255]


def test_company_and_slices_do_not_change_a_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise([[256, 341], [9, 200], [1, 1], [300, 256], [31, 31]])
    rows, views = np.array([0, 1, 2, 3, 4, 0, 3]), np.array([1, 1, 2, 3, 0, 2, 1])
    for interpolation in TOLERANCE:
        together = on_device(images, rows, views, 32, interpolation)
        alone = [on_device(images, rows[k : k + 1], views[k : k + 1], 32, interpolation) for k in range(len(rows))]
        assert torch.equal(together, torch.cat(alone))
        with monkeypatch.context() as patch:
            patch.setattr(batched, "SLICE_BYTES", 3_000_000)
            assert torch.equal(on_device(images, rows, views, 32, interpolation), together)


def test_the_memory_of_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    crops = np.tile(np.array([[0, 400, 300, 400, 0]]), (64, 1))
    whole = peak_bytes(crops, 32, torch.float32)
    assert whole > 64 * 300 * 400 * 3 * 4
    monkeypatch.setattr(batched, "SLICE_BYTES", whole // 8)
    assert peak_bytes(crops, 32, torch.float32) < whole // 7
    assert peak_bytes(crops[:0], 32, torch.float32) == 0


def cached(tmp_path: Path, n: int = 5) -> Images:
    """The image cache of PNG files of several sizes."""
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{k}.png" for k in range(n)]
    for k, file in enumerate(files):
        Image.fromarray(rng.integers(0, 256, (20 + k, 30 - k, 3), dtype=np.uint8)).save(file)
    return decode_files(files, tmp_path / "cache", threads=1)


@pytest.mark.parametrize("threads", [1, 3])
def test_streamed_batches_hold_the_images_of_their_rows(tmp_path: Path, threads: int) -> None:
    images = cached(tmp_path)
    batches = [np.array([k % 5, (3 * k) % 5, 4]) for k in range(9)]
    for rows, (pixels, starts) in zip(batches, stream(images, batches, CPU, threads=threads), strict=True):
        for row, start in zip(rows.tolist(), starts.tolist(), strict=True):
            wanted = images[row].reshape(-1, 3)
            np.testing.assert_array_equal(pixels[start : start + len(wanted)], wanted)


def test_a_stream_can_be_left_before_its_end(tmp_path: Path) -> None:
    batches = iter([np.array([0]), np.array([1]), np.array([2]), np.array([3]), np.array([4])])
    streamed = stream(cached(tmp_path), batches, CPU, threads=1)
    next(streamed)
    streamed.close()
    assert next(batches).tolist() == [3]


def test_an_upload_is_all_images_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = cached(tmp_path)
    wanted = np.concatenate([images[row].reshape(-1, 3) for row in range(len(images))])
    for most in (1, 4000, 2**26):
        monkeypatch.setattr("activekd.images.streamed.UPLOAD_BYTES", most)
        np.testing.assert_array_equal(upload_images(images, CPU, threads=2), wanted)


def test_a_damaged_cache_stops_an_upload_and_a_stream(tmp_path: Path) -> None:
    images = cached(tmp_path)
    assert isinstance(images.source, Path)
    content = bytearray(images.source.read_bytes())
    content[int(images.offsets[3])] ^= 1
    images.source.write_bytes(content)
    fresh = decode_files([tmp_path / f"{k}.png" for k in range(5)], tmp_path / "cache", threads=1)
    with pytest.raises(InputError, match="is damaged at image 3"):
        upload_images(fresh, CPU, threads=2)
    with pytest.raises(InputError, match="is damaged at image 3"):
        list(stream(fresh, [np.array([0]), np.array([3])], CPU, threads=2))


class Means:
    """An encoder of two numbers: the mean of the first and of the last line, as means of its batches would not be."""

    size, interpolation = 8, "bilinear"

    def __init__(self, device: str) -> None:
        self.device = device

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[:, :, line].float().mean(dim=(1, 2)) for line in (0, -1)], dim=1).half()


def test_a_bank_is_computed_alike_view_by_view_and_on_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activekd.bank.computing.ENCODE_BATCH", 2)
    monkeypatch.setattr("activekd.bank.computing.DRAIN_BYTES", 16)
    images = cached(tmp_path)
    host, device = Means("cpu"), Means("cpu:0")
    together = compute(images, host, CROPS, [0, 2, 3])
    assert [array.shape for array in together] == [(5, 2)] * 3
    for encoder in (host, device):
        of_all = compute(images, encoder, CROPS, [0, 2, 3])
        for view, array in zip([0, 2, 3], of_all, strict=True):
            (alone,) = compute(images, encoder, CROPS, [view])
            np.testing.assert_array_equal(array, alone)
        np.testing.assert_allclose(np.stack(of_all), np.stack(together), atol=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_cuda_renders_as_torchvision_does(interpolation: str) -> None:
    for name, shapes in SHAPES.items():
        images, rows = noise(shapes), np.tile(np.arange(len(shapes)), 3)
        views = np.repeat([0, 1, 2], len(shapes))
        pixels = upload_images(images, torch.device("cuda"), threads=1)
        crops = crops_of(
            images.offsets[rows] // 3, images.shapes[rows], *view_boxes(rows, views, images.shapes[rows], CROPS)
        )
        for size in (16, 224):
            wanted = render(images, rows, views, CROPS, size=size, interpolation=interpolation)
            found = render_crops(pixels, crops, size=size, interpolation=interpolation)
            assert (found.cpu().int() - wanted.int()).abs().max() <= TOLERANCE[interpolation], name
            alone = [render_crops(pixels, crops[k : k + 1], size=size, interpolation=interpolation) for k in range(3)]
            assert torch.equal(found[:3], torch.cat(alone)), name
