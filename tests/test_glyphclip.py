"""The embedded teacher: what its card says is what it does, and its training script makes a checkpoint that loads."""

from pathlib import Path

import pytest

from activekd import teachers
from tools import glyphclip


def test_card_states_what_is_measured_and_it_is_good_enough(cache: Path) -> None:
    measured = glyphclip.measure_on(glyphclip.MEASURED_ON, cache)
    assert [m.n for m in measured] == [1797, 5000]
    assert all(m.accuracy >= 0.55 for m in measured)
    card = glyphclip.CARD.read_text(encoding="utf-8")
    for line, m in zip(glyphclip.measured_block(measured).splitlines()[2:], measured, strict=True):
        stated = next(row for row in card.splitlines() if row.startswith(f"| {m.dataset} |"))
        assert abs(float(stated.split("|")[3].strip(" %")) - 100 * m.accuracy) <= 0.15, line


def test_fonts_draw_every_character() -> None:
    names = [path.name for path in glyphclip.fonts()]
    assert len(names) >= 15
    assert "DejaVuSans.ttf" in names


@pytest.mark.soak
def test_training_writes_a_checkpoint_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glyphclip.train(out=tmp_path, steps=20, threads=2, seed=0)
    file = tmp_path / "glyphclip.safetensors"
    network = teachers.Network("glyphclip", str(file), teachers.WEIGHTS / "glyphclip.json")
    monkeypatch.setitem(teachers.NETWORKS, "glyphclip", network)
    head = teachers.load_encoder("glyphclip").text_head(("0", "1"), ('a photo of the number: "{}".',))
    assert head.zero_shot.shape == head.text.shape == (2, 128)
