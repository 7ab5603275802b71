"""Strong views of pixels and of features: crop, colour and cut-out by hand; draws that company does not change."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_recipe import RECIPE

from activekd.datasets import Labeled
from activekd.errors import InputError
from activekd.objectives.strong import GREY, NUMBERS, feature_dropout, generators, strong
from activekd.recipes import ViewGeometry
from activekd.students.draws import draw

PLAIN = (1.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5)
"""The numbers of a strong view that changes nothing: the whole view, factors 1, a cut of side 0."""

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8))


def numbers(**changed: float) -> torch.Tensor:
    names = ("area", "x", "y", "brightness", "contrast", "saturation", "cut", "cut_x", "cut_y")
    assert len(names) == len(PLAIN) == NUMBERS
    row = [changed.get(name, value) for name, value in zip(names, PLAIN, strict=True)]
    return torch.tensor([row, PLAIN])


def test_numbers_in_the_middle_change_nothing() -> None:
    assert torch.equal(strong(IMAGES, numbers()), IMAGES)


def test_brightness_scales_and_clips() -> None:
    out = strong(IMAGES, numbers(brightness=1.0))
    assert torch.equal(out[0], (1.5 * IMAGES[0]).clamp(0, 255).round().to(torch.uint8))
    assert torch.equal(out[1], IMAGES[1])
    dark = strong(IMAGES, numbers(brightness=0.0))[0]
    assert torch.equal(dark, (0.5 * IMAGES[0]).round().to(torch.uint8))


def test_contrast_moves_to_the_mean_and_saturation_to_grey() -> None:
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    image = IMAGES[0].float()
    grey = (weights * image).sum(dim=0)
    flat = strong(IMAGES, numbers(contrast=0.0))[0]
    assert (flat.float() - (0.5 * image + 0.5 * grey.mean())).abs().max() <= 0.51
    pale = strong(IMAGES, numbers(saturation=0.0))[0]
    assert (pale.float() - (0.5 * image + 0.5 * grey)).abs().max() <= 0.51


def test_a_square_is_cut_out() -> None:
    out = strong(IMAGES, numbers(cut=1.0, cut_x=0.5, cut_y=0.25))[0]
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[0:4, 2:6] = True
    assert (out[:, inside] == GREY).all()
    assert torch.equal(out[:, ~inside], IMAGES[0][:, ~inside])


def test_a_crop_is_the_corner_that_it_says() -> None:
    """Half of the area of a ramp from left to right, at its left edge: the ramp up to sqrt(1/2) of its range."""
    ramp = torch.arange(0, 256, 8, dtype=torch.uint8).expand(1, 3, 32, 32).contiguous()
    for x, first in ((0.0, 0.0), (1.0, 1 - 0.5**0.5)):
        row = torch.tensor([[0.0, x, 0.5, *PLAIN[3:]]])
        out = strong(ramp, row)[0, 0, 16].float()
        places = (torch.arange(32) + 0.5) / 32
        expected = 256 * (first + 0.5**0.5 * places) - 4
        assert (out[1:-1] - expected[1:-1].clamp(0, 248)).abs().max() < 1.0


def test_a_strong_view_does_not_depend_on_its_batch() -> None:
    some = torch.from_numpy(np.random.default_rng(1).random((2, NUMBERS), dtype=np.float32))
    whole = strong(IMAGES, some)
    assert torch.equal(whole[1:], strong(IMAGES[1:], some[1:]))
    assert whole.dtype == torch.uint8
    assert not torch.equal(whole, IMAGES)


def test_dropout_of_a_member_is_its_own() -> None:
    features = torch.ones(3, 50, 8)
    together = feature_dropout(features, 0.25, generators([5, 6, 7], "cpu"))
    assert together.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (together == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    for member, seed in enumerate((5, 6, 7)):
        assert torch.equal(feature_dropout(features[0], 0.25, generators([seed], "cpu")), together[member])
    one = generators([5], "cpu")
    assert not torch.equal(feature_dropout(features[0], 0.25, one), feature_dropout(features[0], 0.25, one))
    assert feature_dropout(features, 0.0, one) is features


LABELED, UNLABELED = Labeled(np.arange(5), np.arange(5)), np.arange(5, 40)


@pytest.mark.parametrize(("count", "others"), [(2, {0}), (3, {1, 2}), (5, {1, 2, 3, 4})])
def test_a_strong_view_is_made_from_another_view(count: int, others: set[int]) -> None:
    geometry = ViewGeometry(count, (0.5, 1.0), (1.0, 1.0), 0.0)
    recipe = replace(RECIPE, objective="fixmatch", steps=40)
    drawn = draw(LABELED, UNLABELED, recipe, geometry, "none", features=True, rng=np.random.default_rng(0))
    n, u = drawn.n_labeled, drawn.n_unlabeled
    assert (n, u, drawn.rows.shape[1]) == (8, 16, 40)
    assert np.array_equal(drawn.rows[:, n : n + u], drawn.rows[:, n + u :])
    assert (drawn.views[:, n : n + u] != drawn.views[:, n + u :]).all()
    assert set(np.unique(drawn.views[:, n + u :])) == others
    assert drawn.numbers is None


def test_draws_of_labeled_and_unlabeled_images_are_those_of_every_objective() -> None:
    geometry = ViewGeometry(3, (0.5, 1.0), (1.0, 1.0), 0.0)

    def drawn(objective: str, distillation: str, *, features: bool = True) -> tuple[np.ndarray, ...]:
        recipe = replace(RECIPE, objective=objective)  # pyright: ignore[reportArgumentType]
        out = draw(LABELED, UNLABELED, recipe, geometry, distillation, features=features, rng=np.random.default_rng(0))  # pyright: ignore[reportArgumentType]
        assert (out.numbers is not None) == (not features)
        return out.rows, out.views, out.labels

    supervised, distilled = drawn("dual_head", "none"), drawn("dual_head", "both")
    for objective in ("pseudo_label", "softmatch"):
        semi = drawn(objective, "none")
        for one, other, third in zip(supervised, distilled, semi, strict=True):
            assert np.array_equal(one[:, :8], third[:, :8])
            assert np.array_equal(other, third[:, : other.shape[1]])
    assert np.array_equal(drawn("softmatch", "none")[1], drawn("softmatch", "none", features=False)[1])


def test_pixels_of_one_view_have_strong_views_and_features_have_none() -> None:
    alone = ViewGeometry(1, (1.0, 1.0), (1.0, 1.0), 0.0)
    recipe = replace(RECIPE, objective="uda")
    drawn = draw(LABELED, UNLABELED, recipe, alone, "none", features=False, rng=np.random.default_rng(0))
    assert (drawn.views == 0).all()
    with pytest.raises(InputError, match=r"objective 'uda' on features with one view; expected: a view geometry with"):
        draw(LABELED, UNLABELED, recipe, alone, "none", features=True, rng=np.random.default_rng(0))
    nobody = draw(LABELED, UNLABELED[:0], recipe, alone, "none", features=True, rng=np.random.default_rng(0))
    assert (nobody.n_unlabeled, nobody.rows.shape[1]) == (0, 8)
