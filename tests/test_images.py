"""Image files of every mode, the cache of decoded images, and files that cannot be decoded."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import write_image

from activekd.errors import InputError
from activekd.folders import keeps_decoded_images
from activekd.images.cache import decode_files, decode_splits, undecodable
from activekd.images.pixels import Images

HEIGHT, WIDTH = 24, 40


def gradient() -> np.ndarray:
    x = np.linspace(0, 255, WIDTH)[None, :].repeat(HEIGHT, axis=0)
    y = np.linspace(0, 255, HEIGHT)[:, None].repeat(WIDTH, axis=1)
    return np.stack([x, y, 255 - x], axis=2).astype(np.uint8)


def decode(path: Path, cache: Path, *, keep: bool = True) -> Images:
    return decode_files([path], cache, threads=1, keep=keep)


def save(path: Path, mode: str) -> np.ndarray:
    """An image of one mode; returns the RGB pixels that it stands for."""
    rgb = Image.fromarray(gradient())
    match mode:
        case "L":
            grey = rgb.convert("L")
            grey.save(path)
            return np.asarray(grey)[:, :, None].repeat(3, axis=2)
        case "LA" | "RGBA":
            alpha = rgb.convert(mode)
            alpha.putalpha(Image.new("L", rgb.size, 99))
            alpha.save(path)
            return np.asarray(alpha.convert("RGBA").convert("RGB"))
        case "P":
            palette = rgb.quantize(16)
            palette.save(path)
            return np.asarray(palette.convert("RGB"))
        case "1":
            bits = rgb.convert("1")
            bits.save(path)
            return np.asarray(bits.convert("RGB"))
        case "I;16":
            Image.fromarray(gradient()[:, :, 0].astype(np.uint16) * 257).save(path)
            return gradient()[:, :, [0, 0, 0]]
        case _:
            converted = rgb.convert(mode)
            converted.save(path)
            return np.asarray(converted.convert("RGB"))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", ".jpg"),
        ("L", ".png"),
        ("CMYK", ".jpg"),
        ("P", ".png"),
        ("P", ".gif"),
        ("RGBA", ".png"),
        ("LA", ".png"),
        ("1", ".png"),
        ("RGB", ".bmp"),
        ("I;16", ".png"),
    ],
)
def test_every_mode_becomes_rgb(mode: str, suffix: str, keep: bool, tmp_path: Path) -> None:
    wanted = save(tmp_path / f"image{suffix}", mode)
    images = decode(tmp_path / f"image{suffix}", tmp_path / "cache", keep=keep)
    assert images.shapes.tolist() == [[HEIGHT, WIDTH]]
    assert np.abs(images[0].astype(int) - wanted.astype(int)).mean() < 4


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int, keep: bool, tmp_path: Path) -> None:
    upright = gradient()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    images = decode(tmp_path / "photo.jpg", tmp_path / "cache", keep=keep)
    assert images.shapes.tolist() == [[HEIGHT, WIDTH]]
    assert np.abs(images[0].astype(int) - upright.astype(int)).mean() < 6


def test_large_images_are_kept_at_256_pixels(tmp_path: Path) -> None:
    write_image(tmp_path / "large.jpg", 0, (600, 900))
    assert decode(tmp_path / "large.jpg", tmp_path / "cache").shapes.tolist() == [[256, 384]]
    assert decode(tmp_path / "large.jpg", tmp_path / "cache", keep=False)[0].shape == (256, 384, 3)


def test_broken_files_are_named_and_poison_nothing(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.jpg" for name in ("good", "zero", "cut", "text")]
    write_image(files[0], 0)
    files[1].write_bytes(b"")
    files[2].write_bytes(files[0].read_bytes()[:300])
    files[3].write_text("no image")
    told: list[int] = []
    assert len(undecodable(files, threads=2, progress=told.append)) == 3
    assert told == [1, 2, 3, 4]
    with pytest.raises(InputError, match=r"3 of 4 images cannot be decoded: .*zero.jpg.*cut.jpg.*text.jpg"):
        decode_files(files, tmp_path / "cache", threads=2)
    assert not list((tmp_path / "cache" / "images").glob("*"))
    for file in files[1:]:
        write_image(file, 1)
    assert len(decode_files(files, tmp_path / "cache", threads=2)) == 4


def test_a_flipped_byte_in_the_cache_is_named_and_not_believed(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 0)
    first = decode(tmp_path / "a.jpg", tmp_path / "cache")[0].copy()
    (pixels,) = (tmp_path / "cache" / "images").glob("*.bin")
    content = bytearray(pixels.read_bytes())
    content[100] ^= 1
    pixels.write_bytes(content)
    with pytest.raises(
        InputError, match=f"image cache {pixels} is damaged at image 0; expected: remove the file, then run again"
    ):
        decode(tmp_path / "a.jpg", tmp_path / "cache")[0]
    pixels.unlink()
    assert np.array_equal(decode(tmp_path / "a.jpg", tmp_path / "cache")[0], first)


def test_a_truncated_cache_is_made_again(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 0)
    first = decode(tmp_path / "a.jpg", tmp_path / "cache")
    wanted = first[0].copy()
    (pixels,) = (tmp_path / "cache" / "images").glob("*.bin")
    pixels.write_bytes(pixels.read_bytes()[:-1])
    again = decode(tmp_path / "a.jpg", tmp_path / "cache")
    np.testing.assert_array_equal(again[0], wanted)
    assert again.fingerprint == first.fingerprint


def test_a_cache_that_another_process_made_meanwhile_stays(tmp_path: Path) -> None:
    """Its workers may read it already."""
    write_image(tmp_path / "a.jpg", 0)
    made: list[int] = []

    def other(done: int) -> None:
        images = decode(tmp_path / "a.jpg", tmp_path / "cache")
        assert isinstance(images.source, Path)
        made.append(images.source.stat().st_ino)

    images = decode_files([tmp_path / "a.jpg"], tmp_path / "cache", threads=1, progress=other)
    assert isinstance(images.source, Path)
    assert made == [images.source.stat().st_ino]
    assert images.fingerprint == decode(tmp_path / "a.jpg", tmp_path / "cache").fingerprint


def test_an_interrupted_build_leaves_nothing_behind(tmp_path: Path) -> None:
    files = [tmp_path / f"{k}.jpg" for k in range(5)]
    for k, file in enumerate(files):
        write_image(file, k)

    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_files(files, tmp_path / "cache", threads=2, progress=stop)
    assert not list((tmp_path / "cache" / "images").glob("*"))
    assert len(decode_files(files, tmp_path / "cache", threads=2)) == 5


def test_a_changed_file_is_decoded_again(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 0)
    before = decode(tmp_path / "a.jpg", tmp_path / "cache").fingerprint
    write_image(tmp_path / "a.jpg", 1)
    assert decode(tmp_path / "a.jpg", tmp_path / "cache").fingerprint != before


def test_a_file_that_changes_is_named_where_pixels_are_not_cached(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 0)
    images = decode(tmp_path / "a.jpg", tmp_path / "cache", keep=False)
    assert images.fingerprint == decode(tmp_path / "a.jpg", tmp_path / "cache").fingerprint
    write_image(tmp_path / "a.jpg", 1)
    with pytest.raises(InputError, match=r"a\.jpg: other pixels than when it was checked"):
        images[0]
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"a\.jpg: No such file"):
        images[0]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".jpg", ".png", ".ppm", ".tif", ".webp"])
def test_a_cut_file_of_every_format_is_named(suffix: str, keep: bool, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)).save(path)
    assert decode(path, tmp_path / "cache", keep=keep).shapes.tolist() == [[24, 40]]
    content = path.read_bytes()
    for share in (0.0, 0.05, 0.5, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=f"1 of 1 images cannot be decoded: .*image{suffix}: "):
            decode(path, tmp_path / "cache", keep=keep)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_exif_rotation_is_applied_once_in_every_format(suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"image{suffix}"
    Image.fromarray(np.ascontiguousarray(np.rot90(gradient(), 1))).save(path, exif=exif, lossless=True)
    np.testing.assert_array_equal(decode(path, tmp_path / "cache")[0], gradient())


@pytest.mark.parametrize("suffix", [".gif", ".png", ".tif", ".webp"])
def test_of_several_frames_the_first_is_read(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / f"frames{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    assert decode(tmp_path / f"frames{suffix}", tmp_path / "cache")[0][0, 0].tolist() == [255, 0, 0]


def test_the_colour_below_transparency_is_kept(tmp_path: Path) -> None:
    below = np.dstack([gradient(), np.zeros((HEIGHT, WIDTH), dtype=np.uint8)])
    below[3:9, 3:9, 3] = 255
    Image.fromarray(below).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png", tmp_path / "cache")[0], gradient())
    Image.fromarray(below).convert("PA").save(tmp_path / "b.tif")
    assert decode(tmp_path / "b.tif", tmp_path / "cache").shapes.tolist() == [[HEIGHT, WIDTH]]
    below[:, :, :3] = 0
    Image.fromarray(below).save(tmp_path / "c.png")
    with pytest.raises(InputError, match=r"c\.png: its shapes lie in its transparency alone"):
        decode(tmp_path / "c.png", tmp_path / "cache")


def test_other_colour_spaces_and_formats_are_named(tmp_path: Path) -> None:
    Image.new("LAB", (30, 20)).save(tmp_path / "lab.tif")
    (tmp_path / "page.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\nshowpage\n")
    with pytest.raises(InputError, match=r"lab\.tif: LAB colours.*page\.jpg: cannot identify"):
        decode_files([tmp_path / "lab.tif", tmp_path / "page.jpg"], tmp_path / "cache", threads=1)


def test_an_absent_file_is_named_with_the_others(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 0)
    (tmp_path / "b.jpg").write_text("no image", encoding="utf-8")
    splits = [[tmp_path / "a.jpg", tmp_path / "absent.jpg"], [tmp_path / "b.jpg"]]
    with pytest.raises(InputError, match=r"2 of 3 images cannot be decoded: .*absent\.jpg: No such.*b\.jpg: cannot"):
        decode_splits(splits, tmp_path / "cache", threads=1)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 0)
    (tmp_path / "cache").write_text("no folder", encoding="utf-8")
    with pytest.raises(InputError, match=r"cache .*cache: .*; expected: a writable folder with free space"):
        decode(tmp_path / "a.jpg", tmp_path / "cache")


def test_each_size_has_a_cache_of_its_own(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 0, (600, 900))
    for side, width in ((256, 384), (439, 658), (256, 384)):
        images = decode_files([tmp_path / "a.jpg"], tmp_path / "cache", threads=1, short_side=side)
        assert images[0].shape == (side, width, 3)
    assert len(list((tmp_path / "cache" / "images").glob("*.bin"))) == 2


def test_a_cache_that_disappears_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 0)
    images = decode(tmp_path / "a.jpg", tmp_path / "cache")
    (pixels,) = (tmp_path / "cache" / "images").glob("*.bin")
    pixels.unlink()
    with pytest.raises(InputError, match=f"image cache {pixels}: "):
        images[0]


def test_the_switch_of_the_cache_has_two_values(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, kept in (("off", False), ("on", True), ("", True)):
        monkeypatch.setenv("ACTIVEKD_IMAGE_CACHE", value)
        assert keeps_decoded_images() is kept
    monkeypatch.setenv("ACTIVEKD_IMAGE_CACHE", "0")
    with pytest.raises(InputError, match="ACTIVEKD_IMAGE_CACHE is '0'; expected: on or off"):
        keeps_decoded_images()
