"""The embedded teacher: its card states measured numbers, and its training writes a checkpoint that loads."""

from pathlib import Path

import glyphclip
import glyphclip_training
import pytest

from activekd.networks.vision_language import WEIGHTS, VisionLanguageNetwork
from activekd.teachers.encoder import load_encoder


def test_card_states_what_is_measured_and_it_is_good_enough(cache: Path) -> None:
    figures = glyphclip.zero_shot_figures(glyphclip.MEASURED_ON, cache)
    assert [f.n for f in figures] == [1797, 5000]
    assert all(f.accuracy >= 0.55 for f in figures)
    card = glyphclip.CARD.read_text(encoding="utf-8")
    for line, f in zip(glyphclip.card_table(figures).splitlines()[2:], figures, strict=True):
        stated = next(row for row in card.splitlines() if row.startswith(f"| {f.dataset} |"))
        assert abs(float(stated.split("|")[3].strip(" %")) - 100 * f.accuracy) <= 0.15, line


def test_fonts_draw_every_character() -> None:
    names = [path.name for path in glyphclip_training.fonts()]
    assert len(names) >= 15
    assert "DejaVuSans.ttf" in names


@pytest.mark.soak
def test_training_writes_a_checkpoint_that_loads(tmp_path: Path) -> None:
    glyphclip.train(out=tmp_path, steps=20, threads=2, seed=0)
    network = VisionLanguageNetwork(
        "trained", "glyphclip", None, tmp_path / "glyphclip.safetensors", WEIGHTS / "glyphclip.json"
    )
    head = load_encoder(network).text_head(("0", "1"), ('a photo of the number: "{}".',))
    assert head.zero_shot.shape == head.text.shape == (2, 128)
