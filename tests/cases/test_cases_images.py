"""Cases of images and pools: depths, sizes, crops, faulty files, and the draws of a pool."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SPEC
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from trees import build, publish, write_image

from activekd.datasets import drawn_for, load_dataset
from activekd.datasets.catalog import CATALOG
from activekd.datasets.choices import choices_of
from activekd.datasets.sizes import dataset_sizes
from activekd.errors import InputError
from activekd.images.crops import view_boxes
from activekd.images.decoding import decode, decoded_side
from activekd.networks.vision_language import vision_language_network
from activekd.recipes import ViewGeometry
from bench.checks import resolve
from bench.plan.count import estimate
from bench.plan.work import Estimate
from bench.spec import read_spec
from bench.trials.resolved import ResolvedTrial, sources_of, with_shards

TWELVE_BITS = np.linspace(0, 4095, 24 * 40).reshape(24, 40).astype(np.uint16)
SIXTEEN_BITS = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)


def write_png_16(path: Path, samples: np.ndarray, colour_type: int) -> None:
    """A PNG file of 16 bits with any number of channels, which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = samples.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n"
    path.write_bytes(start + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


def write_deep(path: Path, kind: str, samples: np.ndarray) -> None:
    match kind:
        case "big-endian TIFF":
            Image.fromarray(samples.astype(">u2")).save(path, format="TIFF")
        case "TIFF":
            Image.fromarray(samples).save(path, format="TIFF")
        case "grey PNG":
            Image.fromarray(samples).save(path, format="PNG")
        case "PNG with colours":
            write_png_16(path, samples[:, :, None].repeat(3, axis=2), 2)
        case "PNG with transparency":
            opaque = np.full_like(samples, 65535)
            write_png_16(path, np.stack([samples, samples, samples, opaque], axis=2), 6)


DEEP = ("grey PNG", "TIFF", "big-endian TIFF", "PNG with colours", "PNG with transparency")


@pytest.mark.parametrize("kind", DEEP)
def test_case_08_of_16_bits_the_upper_8_are_kept(kind: str, tmp_path: Path) -> None:
    write_deep(tmp_path / "deep", kind, SIXTEEN_BITS)
    pixels = decode(tmp_path / "deep", 256)
    np.testing.assert_array_equal(pixels, (SIXTEEN_BITS >> 8)[:, :, None].repeat(3, axis=2))


@pytest.mark.parametrize("kind", DEEP)
def test_case_08_samples_that_do_not_state_their_range_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    write_deep(tmp_path / "deep", kind, TWELVE_BITS)
    with pytest.raises(InputError, match=r"deep: samples of 16 bits that leave the top bit unused"):
        decode(tmp_path / "deep", 256)


@pytest.mark.parametrize(
    ("samples", "tags", "message"),
    [
        (TWELVE_BITS.astype(np.int32), {}, "signed or 32-bit samples"),
        ((TWELVE_BITS / 4095).astype(np.float32), {}, "floating-point samples"),
        (SIXTEEN_BITS, {339: 2}, "signed or 32-bit samples"),
        (SIXTEEN_BITS, {262: 0}, "samples of 16 bits in which 0 is white"),
    ],
)
def test_case_08_samples_without_a_range_are_refused_by_name(
    samples: np.ndarray, tags: dict[int, int], message: str, tmp_path: Path
) -> None:
    Image.fromarray(samples).save(tmp_path / "deep.tif", tiffinfo=tags)
    content = bytearray((tmp_path / "deep.tif").read_bytes())
    for tag, value in tags.items():
        # An entry of the directory: tag, type (2 bytes each), count (4 bytes), value.
        place = content.index(struct.pack("<HHI", tag, 3, 1))
        content[place + 8 : place + 10] = struct.pack("<H", value)
    (tmp_path / "deep.tif").write_bytes(content)
    with pytest.raises(InputError, match=rf"deep\.tif: {message}"):
        decode(tmp_path / "deep.tif", 256)


@pytest.mark.parametrize(("magic", "channels"), [(b"P5", 1), (b"P6", 3)])
def test_case_08_ppm_states_its_range(magic: bytes, channels: int, tmp_path: Path) -> None:
    samples = TWELVE_BITS[:, :, None].repeat(channels, axis=2)
    (tmp_path / "deep.ppm").write_bytes(magic + b"\n40 24\n4095\n" + samples.astype(">u2").tobytes())
    pixels = decode(tmp_path / "deep.ppm", 256)
    assert np.abs(pixels[:, :, 0] - TWELVE_BITS * (255 / 4095)).max() <= 1


def test_case_25_images_are_decoded_for_the_largest_network_of_a_trial(tmp_path: Path) -> None:
    assert [decoded_side(pixels) for pixels in (16, 224, 256, 384, 448)] == [256, 256, 293, 439, 512]
    assert vision_language_network("open_clip:ViT-B-16-SigLIP-384/webli").size == 384
    students = '["resnet6_mini@16", "resnet6_mini@384"]'
    whole = trials_on(tmp_path, photographs(tmp_path / "data"), students)
    of = {t.student.name: t for t in whole}
    small, large = of["resnet6_mini@16"], of["resnet6_mini@384"]
    assert small.dataset.train.pixels.shapes.min(axis=1).tolist() == [256] * len(small.dataset.train)
    assert large.dataset.train.pixels.shapes.min(axis=1).tolist() == [439] * len(large.dataset.train)
    images = small.dataset.train.pixels.fingerprint
    assert images != large.dataset.train.pixels.fingerprint
    assert len(sources_of(whole).datasets) == 2
    alone = trials_on(tmp_path, f"folder:{tmp_path / 'data'}", '["resnet6_mini@16"]')
    assert {t.dataset.train.pixels.fingerprint for t in alone} == {images}


def decoded(made: Estimate) -> int:
    return sum(n for task, n in made.work.items() if task.part == "decode")


def test_case_25_a_large_teacher_counts_too(tmp_path: Path) -> None:
    teacher = '["open_clip:ViT-B-16-SigLIP-384/webli+zeroshot"]'
    data = photographs(tmp_path / "data")
    spec = write_spec(tmp_path, data, '["resnet6_mini@16"]', teachers=teacher)
    resolved = resolve(read_spec(str(spec)).trials, tmp_path / "cache", lambda name, done, total: None)
    assert {t.dataset.short_side for t in resolved} == {439}
    made = estimate(read_spec(str(spec)).trials, tmp_path / "cache")
    assert made.cache_bytes == decoded(made) * 3 * 375 * 500


def test_case_25_the_plan_counts_every_size_that_is_decoded(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, "caltech101", '["resnet6_mini@16", "resnet6_mini@32", "resnet6_mini@320"]')
    made = estimate(read_spec(str(spec)).trials, tmp_path)
    n = CATALOG["caltech101"].n_train + CATALOG["caltech101"].n_test
    assert decoded(made) == 2 * n
    assert made.cache_bytes == n * 3 * (256 * 341 + 366 * 488)


@pytest.mark.parametrize("scale", [(0.5, 1.0), (0.08, 1.0)])
def test_case_26_crops_are_distributed_as_those_of_torchvision(scale: tuple[float, float]) -> None:
    n, (height, width) = 8_000, (256, 384)
    geometry = ViewGeometry(2, scale, (3 / 4, 4 / 3), 0.5)
    boxes, _ = view_boxes(np.arange(n), 1, np.tile(np.array([[height, width]]), (n, 1)), geometry)
    image, (low, high) = torch.empty(1, height, width), scale
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(image, [low, high], [3 / 4, 4 / 3]) for _ in range(n)]
    theirs = np.array(drawn)
    full = (boxes[:, 2] == height).mean()
    assert abs(full - (theirs[:, 2] == height).mean()) < 0.01
    assert full < 0.06
    for ours, other in (
        (boxes[:, 2] * boxes[:, 3], theirs[:, 2] * theirs[:, 3]),
        (boxes[:, 3] / boxes[:, 2], theirs[:, 3] / theirs[:, 2]),
        (boxes[:, 0], theirs[:, 0]),
        (boxes[:, 1], theirs[:, 1]),
    ):
        # The largest difference of the distribution functions; 0.031 is its 0.1 % quantile for samples of 8,000.
        values = np.sort(np.concatenate([ours, other]))
        at = [np.searchsorted(np.sort(sample), values, side="right") / n for sample in (ours, other)]
        assert np.abs(at[0] - at[1]).max() < 0.031


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((1, 1), (0, 0, 1, 1)), ((1, 1000), (0, 499, 1, 1)), ((1000, 1), (499, 0, 1, 1)), ((30, 900), (0, 430, 30, 40))],
)
def test_case_26_what_never_fits_is_the_largest_central_crop(
    shape: tuple[int, int], wanted: tuple[int, int, int, int]
) -> None:
    shapes = np.array([shape], dtype=np.int64)
    boxes, _ = view_boxes(np.array([5]), 3, shapes, ViewGeometry(9, (0.9, 1.0), (3 / 4, 4 / 3), 0.5))
    assert boxes.tolist() == [list(wanted)]


def test_case_26_a_crop_is_a_pure_function_of_row_and_view() -> None:
    geometry = ViewGeometry(9, (0.5, 1.0), (3 / 4, 4 / 3), 0.5)
    shapes = np.random.default_rng(0).integers(1, 400, (200, 2))
    together, mirrored = view_boxes(np.arange(200), 4, shapes, geometry)
    rows = np.array([117, 3, 118])
    alone, flips = view_boxes(rows, 4, shapes[rows], geometry)
    np.testing.assert_array_equal(alone, together[rows])
    np.testing.assert_array_equal(flips, mirrored[rows])
    assert (together[:, :2] >= 0).all()
    assert (together[:, 2:] >= 1).all()
    assert (together[:, :2] + together[:, 2:] <= shapes).all()


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """ImageNet with six images, five of which are drawn as the pool."""
    monkeypatch.setenv("ACTIVEKD_DATA", str(tmp_path / "data"))
    publish("imagenet", monkeypatch)
    monkeypatch.setitem(CATALOG, "imagenet", replace(CATALOG["imagenet"], pool=5))
    build("imagenet", tmp_path / "data")
    return "imagenet"


def test_case_29_a_pool_is_drawn_for_each_seed_and_shared_by_all_of_one_seed(imagenet: str, tmp_path: Path) -> None:
    students = '["resnet6_mini@16", "resnet6_mini@32"]'
    resolved = trials_on(tmp_path, imagenet, students, seeds=range(6))
    pools = {(t.trial.seed, t.dataset.train.names) for t in resolved}
    assert len(pools) == 6
    assert len({names for _, names in pools}) > 2
    assert {t.trial.dataset for t in resolved} == {imagenet}
    assert {t.trial.identity["dataset"] for t in resolved} == {imagenet}
    for student in ("resnet6_mini@16", "resnet6_mini@32"):
        of = [t for t in resolved if t.student.name == student]
        assert len({t.dataset.test.pixels.fingerprint for t in of}) == 1
        by_pool = {(t.dataset.train.names, t.dataset.train.pixels.fingerprint) for t in of}
        assert len(by_pool) == len({names for _, names in pools})
    assert sources_of(resolved).datasets.keys() == {f"imagenet?draw={seed}" for seed in range(6)}


def test_case_29_a_fixed_pool_is_a_choice(imagenet: str, tmp_path: Path) -> None:
    resolved = trials_on(tmp_path, f"{imagenet}?draw=3", '["resnet6_mini@16"]', seeds=range(3))
    assert len({t.dataset.train.names for t in resolved}) == 1
    by_seed = load_dataset(drawn_for(imagenet, 3), tmp_path / "cache")
    assert resolved[0].dataset.train.names == by_seed.train.names
    assert load_dataset(imagenet, tmp_path / "cache").train.names == (
        load_dataset(f"{imagenet}?draw=0", tmp_path / "cache").train.names
    )


def test_case_29_the_plan_counts_each_pool_and_one_test_split(tmp_path: Path) -> None:
    sizes = dict.fromkeys(("imagenet", "imagenet?draw=0"), 0)
    for name in sizes:
        spec = write_spec(tmp_path, name, '["frozen:efficientnet_lite0"]', seeds=range(5))
        sizes[name] = decoded(estimate(read_spec(str(spec)).trials, tmp_path))
    assert sizes == {"imagenet": 5 * 100_000 + 50_000, "imagenet?draw=0": 100_000 + 50_000}


def test_only_pools_that_are_drawn_depend_on_the_seed() -> None:
    assert drawn_for("imagenet", 4) == "imagenet?draw=4"
    assert drawn_for("imagenet?prompts=clip", 4) == "imagenet?prompts=clip&draw=4"
    assert drawn_for("caltech101?size=500", 4) == "caltech101?size=500&draw=4"
    for name in ("imagenet?size=all", "imagenet?draw=0", "caltech101", "caltech101?pool=val", "digits", "folder:a?b"):
        assert drawn_for(name, 4) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("caltech101?pool=tset", "pool 'tset'; expected: train or val"),
        ("caltech101?size=-5", "size '-5'; expected: a positive number of images, or all"),
        ("caltech101?size=0", "size '0'; expected"),
        ("caltech101?size=many", "size 'many'; expected"),
        ("caltech101?size=1e3", "size '1e3'; expected"),
        ("caltech101?size=\u0665", "size '\u0665'; expected"),
        ("caltech101?size=5000", "a pool of 5000 from 4128 images; expected: at most 4128, or all"),
        ("caltech101?pool=val&size=4000", "a pool of 4000 from 1649 images"),
        ("caltech101?size=5&size=6", "size stands more than once; expected: each key once"),
        ("caltech101?sise=5", "did you mean 'size'"),
        ("caltech101?size", "size has no value"),
        ("caltech101?", "unknown choice"),
        ("caltech101?prompts=chip", "prompts 'chip'; expected: paper or clip"),
        ("caltech101?classes=head.txt", "classes 'head.txt'; expected: an .npz file"),
        ("caltech101?draw=0", "draw=0, but the pool is the whole train split"),
        ("imagenet?draw=-1", "draw '-1'; expected: the number of a draw, at least 0"),
        ("imagenet?pool=val", "imagenet has no val images; expected: pool=train"),
        ("caltech101?test=tset", "test 'tset'; expected: train, val or test"),
        ("caltech101?test=train", "the train split is the pool and tests too; expected: test=val, or no test"),
        ("caltech101?pool=val&test=val", "the val split is the pool and tests too; expected: test=train, or no test"),
        ("imagenet?test=val", "imagenet has no val images; expected: test=test"),
        ("caltech101?pool=tset&size=0", "pool 'tset'.*; .*size '0'"),
        ("caltech102", "did you mean 'caltech101'"),
    ],
)
def test_case_29_invalid_choices_are_refused_before_any_file_is_read(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        choices_of(name)
    with pytest.raises(InputError):
        dataset_sizes(name, tmp_path)


def test_case_34_one_message_names_every_faulty_file_of_a_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    photographs(folder)
    (folder / "test" / "ant" / "9.jpg").write_text("no image", encoding="utf-8")
    (folder / "train" / "ant" / "8.jpg").write_bytes(b"")
    Image.new("1", (14_000, 13_500)).save(folder / "train" / "bee" / "7.png")
    Image.new("1", (10_000, 9_500)).save(folder / "train" / "bee" / "6.png")
    with pytest.raises(InputError, match=r"4 of 20 images cannot be decoded") as told:
        load_dataset(f"folder:{folder}", tmp_path / "cache")
    message = str(told.value)
    assert all(name in message for name in ("ant/9.jpg", "ant/8.jpg", "bee/7.png", "bee/6.png"))
    assert message.count("more than 89,478,485 pixels (resize it, or allow more by $ACTIVEKD_IMAGE_PIXELS)") == 2


def test_case_34_the_user_may_allow_larger_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    folder = tmp_path / "data"
    photographs(folder)
    for number, side in enumerate((600, 900)):
        Image.new("RGB", (side, side)).save(folder / "train" / "bee" / f"large{number}.png")
    monkeypatch.setenv("ACTIVEKD_IMAGE_PIXELS", "300_000")
    with pytest.raises(
        InputError, match=r"large0\.png: more than 300,000 pixels .*large1\.png: more than 300,000 pixels"
    ):
        load_dataset(f"folder:{folder}", tmp_path / "cache")
    monkeypatch.setenv("ACTIVEKD_IMAGE_PIXELS", "810000")
    load_dataset(f"folder:{folder}", tmp_path / "cache")
    for wrong in ("many", "0", "-1", "1e6"):
        monkeypatch.setenv("ACTIVEKD_IMAGE_PIXELS", wrong)
        with pytest.raises(InputError, match=rf"\$ACTIVEKD_IMAGE_PIXELS is '{wrong}'; expected: a number of pixels"):
            load_dataset(f"folder:{folder}", tmp_path / "cache")


def trials_on(
    folder: Path, data: str, students: str, *, seeds: Sequence[int] = (0,), teachers: str = '["none"]'
) -> list[ResolvedTrial]:
    """The resolved trials, with their shards, of a small spec."""
    spec = write_spec(folder, data, students, seeds=seeds, teachers=teachers)
    return with_shards(resolve(read_spec(str(spec)).trials, folder / "cache", lambda name, done, total: None))


def write_spec(
    folder: Path, data: str, students: str, *, seeds: Sequence[int] = (0,), teachers: str = '["none"]'
) -> Path:
    """A spec of two rounds with one label per query."""
    text = SPEC.replace('["digits"]', f'["{data}"]').replace('["resnet6_mini@16"]', students)
    text = text.replace("seeds = [0]", f"seeds = {list(seeds)}").replace('["none", "glyphclip+clap"]', teachers)
    path = folder / "spec.toml"
    path.write_text(text.replace("rounds = 3", "rounds = 2\nquery_size = 1"), encoding="utf-8")
    return path


def photographs(folder: Path) -> str:
    """An image folder with train/ and test/, two classes and four images of 450 x 500 pixels in each."""
    for part in ("train", "test"):
        for seed, kind in enumerate(("ant", "bee")):
            for k in range(4):
                write_image(folder / part / kind / f"{k}.jpg", 10 * seed + k, (450, 500))
    return f"folder:{folder}"
