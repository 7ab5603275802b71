"""The look at image files: what it finds, how often it asks, and what it must notice."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from trees import build, publish

from activekd.datasets import load_dataset
from activekd.images.survey import Status, Survey


def test_sizes_times_and_reasons(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, content in (("a/1.png", b"12345"), ("a/2.png", b"1")):
        (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / "a/1.png", ns=(5, 7))
    (tmp_path / "link.png").symlink_to(tmp_path / "a/1.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe.png")
    wanted = ["a/1.png", "link.png", "broken.png", "a/3.png", "b/1.png", "a", "pipe.png"]
    found = Survey().statuses(tmp_path / name for name in wanted)
    absent = "No such file or directory"
    assert found == [(5, 7), (5, 7), absent, absent, absent, "Is a directory", "not a regular file"]


def test_a_file_is_asked_for_once(tmp_path: Path) -> None:
    survey = Survey()
    (tmp_path / "1.png").write_bytes(b"1")
    (tmp_path / "2.png").write_bytes(b"1")
    before = survey.statuses([tmp_path / "1.png"])
    (tmp_path / "1.png").write_bytes(b"123")
    (tmp_path / "2.png").write_bytes(b"123")
    first, second = survey.statuses([tmp_path / "1.png", str(tmp_path / "2.png")])
    assert first == before[0]
    assert second[0] == 3
    assert Survey().statuses([tmp_path / "1.png"])[0][0] == 3


@pytest.mark.parametrize("how", ["in place", "replaced", "added", "removed"])
def test_a_new_survey_notices_every_change_of_a_folder(how: str, ok: Path, tmp_path: Path) -> None:
    """An image that Pillow saves in place, one moved over it, one more, one less."""
    survey = Survey()
    before = load_dataset(f"folder:{ok}", tmp_path / "cache", survey=survey)
    image = next((ok / "ant").iterdir())
    if how == "removed":
        image.unlink()
    else:
        target = {"in place": image, "replaced": tmp_path / "new.png", "added": ok / "ant" / "new.png"}[how]
        Image.new("RGB", (40, 40), (1, 2, 3)).save(target)
        if how == "replaced":
            target.replace(image)
    assert load_dataset(f"folder:{ok}", tmp_path / "cache", survey=survey).fingerprint == before.fingerprint
    assert load_dataset(f"folder:{ok}", tmp_path / "cache").fingerprint != before.fingerprint


def test_draws_of_a_pool_share_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four draws of four images: a class folder is listed once for its names, and again where a draw has new files."""
    data = tmp_path / "data"
    build("imagenet", data)
    publish("imagenet", monkeypatch)
    monkeypatch.setenv("ACTIVEKD_DATA", str(data))
    listed, asked = Counter[str](), Counter[str]()
    scandir = os.scandir

    def counted(path: Any = ".") -> Any:
        listed[str(path)] += 1
        return scandir(path)

    class CountingSurvey(Survey):
        def statuses(self, files: Iterable[str | Path]) -> list[Status]:
            paths = [str(file) for file in files]
            asked.update(set(paths))
            return super().statuses(paths)

    survey = CountingSurvey()
    monkeypatch.setattr(os, "scandir", counted)
    datasets = [load_dataset(f"imagenet?size=4&draw={k}", tmp_path / "cache", survey=survey) for k in range(4)]
    assert len({dataset.fingerprint for dataset in datasets}) > 1
    assert max(asked.values()) >= 4 * 2
    inside = {path: n for path, n in listed.items() if path.startswith(str(data))}
    test_folders = {path: n for path, n in inside.items() if "/val/" in path}
    assert set(test_folders.values()) == {2}
    assert len(inside) == 6
    assert max(inside.values()) <= 3
