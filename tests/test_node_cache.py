"""Image caches that change under a run, and their copies on a node's own disk."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trees import write_image

from activekd.errors import InputError
from activekd.images import node
from activekd.images.cache import decode_files
from activekd.images.node import node_copy
from activekd.images.pixels import Images
from activekd.images.rendering import render
from activekd.recipes import ViewGeometry

GEOMETRY = ViewGeometry(2, (0.5, 1.0), (1.0, 1.0), 0.0)
ROOT = Path(__file__).parents[1]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Three images in a cache."""
    files = [tmp_path / f"{k}.jpg" for k in range(3)]
    for k, file in enumerate(files):
        write_image(file, k)
    return decode_files(files, tmp_path / "cache", threads=1)


def content_file(images: Images) -> Path:
    assert isinstance(images.source, Path)
    return images.source


def show(images: Images) -> None:
    render(images, np.array([0, 2]), 1, GEOMETRY, size=8, interpolation="bilinear")


def test_a_cache_is_checked_once_in_a_process(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[int] = []
    original = Images._is_whole
    monkeypatch.setattr(Images, "_is_whole", lambda self, row, pixels: sums.append(row) or original(self, row, pixels))
    for _ in range(3):
        show(images)
    assert sums == [0, 2]


@pytest.mark.parametrize("way", ["rewritten", "cut", "replaced", "removed"])
def test_a_cache_that_changes_under_a_run_is_told(images: Images, way: str) -> None:
    show(images)
    file = content_file(images)
    if way == "rewritten":
        with file.open("r+b") as out:
            out.write(b"other")
        os.utime(file, ns=(0, 0))
    elif way == "cut":
        with file.open("r+b") as out:
            out.truncate(100)
    elif way == "replaced":
        copy = file.with_suffix(".new")
        shutil.copy2(file, copy)
        copy.replace(file)
    else:
        file.unlink()
    told = "No such file" if way == "removed" else "changed while it was read; expected: a file that nothing writes"
    with pytest.raises(InputError, match=f"image cache {file}.*{told}"):
        show(images)


def test_a_cut_cache_is_told_at_its_first_read(images: Images) -> None:
    file = content_file(images)
    size = images.n_bytes
    with file.open("r+b") as out:
        out.truncate(size - 1)
    with pytest.raises(InputError, match=f"{size - 1:,} bytes; expected: {size:,}; remove the file"):
        show(images)


def test_a_copy_is_made_once_and_read_instead(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_copy(images) is images
    monkeypatch.setenv("ACTIVEKD_NODE_CACHE", str(tmp_path / "node"))
    copied = node_copy(images)
    target = content_file(copied)
    assert target.parent == tmp_path / "node" / "images"
    assert target.read_bytes() == content_file(images).read_bytes()
    assert copied.fingerprint == images.fingerprint
    before = target.stat()
    content_file(images).unlink()
    again = node_copy(pickle.loads(pickle.dumps(images)))
    assert target.stat() == before
    np.testing.assert_array_equal(again[1], copied[1])
    show(again)


def test_images_without_a_cache_file_are_not_copied(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIVEKD_NODE_CACHE", str(tmp_path / "node"))
    in_memory = Images(images.shapes, np.fromfile(content_file(images), dtype=np.uint8))
    assert node_copy(in_memory) is in_memory
    assert not (tmp_path / "node").exists()


def test_a_damaged_cache_is_not_copied(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEKD_NODE_CACHE", str(tmp_path / "node"))
    content = bytearray(content_file(images).read_bytes())
    content[-1] ^= 1
    content_file(images).write_bytes(content)
    with pytest.raises(InputError, match="is damaged at image 2"):
        node_copy(images)
    assert not list((tmp_path / "node" / "images").glob("*.bin*"))


def test_a_small_disk_keeps_the_cache_where_it_is_and_says_so_once(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("ACTIVEKD_NODE_CACHE", str(tmp_path / "node"))
    monkeypatch.setattr(node, "SPARE_BYTES", 2**62)
    with pytest.warns(UserWarning, match=r"node cache .*node/images: .* GB free; .* stay where they are; expected: "):
        assert node_copy(images) is images
    assert node_copy(images) is images
    assert len(recwarn) == 0


def test_a_folder_that_cannot_be_written_is_told(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node").write_text("a file")
    monkeypatch.setenv("ACTIVEKD_NODE_CACHE", str(tmp_path / "node"))
    with pytest.raises(InputError, match=r"node cache .*node: .*; expected: a folder on the node's own disk"):
        node_copy(images)


def test_workers_that_copy_at_once_make_one_copy(images: Images, tmp_path: Path) -> None:
    """Each copies the pickled images and prints the number of its file; what a killed worker left is removed."""
    left = tmp_path / "node" / "images" / f"{str(images.digest)[:32]}.bin.0.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"part")
    (tmp_path / "images.pickle").write_bytes(pickle.dumps(images))
    code = (
        "import pathlib, pickle, sys; from activekd.images.node import node_copy; "
        "images = node_copy(pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())); "
        "print(images.source.stat().st_ino, images[2].sum())"
    )
    environment = {**os.environ, "ACTIVEKD_NODE_CACHE": str(tmp_path / "node"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path / "images.pickle")]
    workers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {worker.communicate()[0] for worker in workers}
    assert len(answers) == 1
    assert answers.pop().split()[1] == str(images[2].sum())
    assert [path.suffix for path in sorted(left.parent.iterdir())] == [".bin", ".lock"]
