"""The library against independent references: equations written out, other implementations, published files."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from real import REAL, needs_real_data
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from activekd.bank.views import Views
from activekd.datasets import Labeled, load_dataset
from activekd.datasets.benchmark import clip_ensemble
from activekd.datasets.catalog import CATALOG
from activekd.datasets.coop import read_listing
from activekd.images.pixels import Images
from activekd.losses import dual_head_loss
from activekd.recipes import ClapRecipe, Recipe, ViewGeometry
from activekd.starts.rows import balanced
from activekd.streams import stream
from activekd.students.fit import learning_rate
from activekd.teachers.clap import clap
from activekd.teachers.text_heads import TextHead
from bench.spec import read_spec
from bench.store.rows import stored_rows

COMMITTED = Path(__file__).parents[1] / "results" / "caltech-recipes"
ONE_VIEW = ViewGeometry(1, (1.0, 1.0), (1.0, 1.0), 0.0)
PAPER_PROMPTS = {
    "caltech101": ["a photo of a {}."],
    "oxford_pets": ["a photo of a {}, a type of pet."],
    "stanford_cars": ["a photo of a {}."],
    "oxford_flowers": ["a photo of a {}, a type of flower."],
    "food101": ["a photo of {}, a type of food."],
    "fgvc_aircraft": ["a photo of a {}, a type of aircraft."],
    "sun397": ["a photo of a {}."],
    "dtd": ["{} texture."],
    "eurosat": ["a centered satellite photo of {}."],
    "ucf101": ["a photo of a person doing {}."],
}
CLIP_NAMES = {
    "caltech101": "Caltech101",
    "oxford_pets": "OxfordPets",
    "stanford_cars": "StanfordCars",
    "oxford_flowers": "Flowers102",
    "food101": "Food101",
    "fgvc_aircraft": "FGVCAircraft",
    "sun397": "SUN397",
    "dtd": "DescribableTextures",
    "eurosat": "EuroSAT",
    "ucf101": "UCF101",
    "imagenet": "ImageNet",
}


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_gradients_of_the_loss_are_those_of_the_equations() -> None:
    """d CE / dz = (softmax(z) - y) / B; d T^2 KL(p || q) / dz = T (q - p) / B."""
    rng = np.random.default_rng(0)
    labeled, unlabeled, classes, temperature = 5, 7, 4, 2.0
    z_label, z_l, t_l = (rng.normal(size=(labeled, classes)) for _ in range(3))
    z_u, t_u = (rng.normal(size=(unlabeled, classes)) for _ in range(2))
    y = rng.integers(classes, size=labeled)
    weights = (0.5, 0.3, 0.7)
    leaves = [torch.tensor(z, requires_grad=True) for z in (z_label, z_l, z_u)]
    loss = dual_head_loss(
        leaves[0],
        torch.tensor(y),
        leaves[1],
        torch.tensor(t_l),
        leaves[2],
        torch.tensor(t_u),
        weights=weights,
        temperature=temperature,
    )
    loss.backward()

    def kl(t: np.ndarray, z: np.ndarray) -> float:
        p, q = softmax(t / temperature), softmax(z / temperature)
        return temperature**2 * float((p * np.log(p / q)).sum()) / len(z)

    value = -weights[0] * np.log(softmax(z_label)[np.arange(labeled), y]).mean()
    value += weights[1] * kl(t_l, z_l) + weights[2] * kl(t_u, z_u)
    assert loss.item() == pytest.approx(value, rel=1e-12)
    wanted = [
        weights[0] * (softmax(z_label) - np.eye(classes)[y]) / labeled,
        weights[1] * temperature * (softmax(z_l / temperature) - softmax(t_l / temperature)) / labeled,
        weights[2] * temperature * (softmax(z_u / temperature) - softmax(t_u / temperature)) / unlabeled,
    ]
    for leaf, gradient in zip(leaves, wanted, strict=True):
        assert leaf.grad is not None
        np.testing.assert_allclose(leaf.grad.numpy(), gradient, atol=1e-12)


def test_first_steps_of_clap_by_hand() -> None:
    """Three full-batch steps of SGD with momentum on CE + mean_c lambda_c ||w_c - t_c||^2, in float64 numpy."""
    rng = np.random.default_rng(1)
    n, classes, dim = 6, 3, 5
    features = rng.normal(size=(n, dim)).astype(np.float32)
    text = (3 * rng.normal(size=(classes, dim))).astype(np.float32)
    zero_shot = text / np.linalg.norm(text, axis=1, keepdims=True)
    labels = np.array([0, 1, 2, 0, 1, 2])
    recipe = ClapRecipe(lr=0.05, momentum=0.9, epochs=3, batch=n, warmup=0.34)
    found = clap(
        TextHead(zero_shot, text, 100.0),
        Views((features,)),
        ONE_VIEW,
        [Labeled(np.arange(n), labels)],
        recipe,
        [stream(0, "clap")],
    ).tensors["prototypes"][0]

    x = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    t = text.astype(np.float64)
    probabilities = softmax(100 * x @ zero_shot.T.astype(np.float64))
    multipliers = np.array([probabilities[labels == c, c].mean() for c in range(classes)])
    w, velocity = t.copy(), np.zeros_like(t)
    for rate in (0.05 * 1.0, 0.05 * 1.0, 0.05 * 0.5):
        norms = np.linalg.norm(w, axis=1, keepdims=True)
        direction = w / norms
        residual = (softmax(100 * x @ direction.T) - np.eye(classes)[labels]) / n
        pull = 100 * residual.T @ x
        gradient = (pull - (pull * direction).sum(axis=1, keepdims=True) * direction) / norms
        gradient += 2 * multipliers[:, None] * (w - t) / classes
        velocity = 0.9 * velocity + gradient
        w = w - rate * velocity
    assert not np.allclose(w, t, atol=1e-3)
    np.testing.assert_allclose(found.numpy(), w, atol=2e-4)


def recipe_of(spec: str, name: str) -> Recipe:
    return next(t.recipe for t in read_spec(spec).trials if t.recipe_name == name)


def test_linear_schedule_is_that_of_torch() -> None:
    recipe, steps = recipe_of("paper", "paper-ten"), 100
    optimiser = torch.optim.AdamW([torch.zeros(1)], lr=recipe.lr)
    rising = LinearLR(optimiser, start_factor=0.1, total_iters=9)
    falling = LinearLR(optimiser, start_factor=1.0, end_factor=0.0, total_iters=90)
    reference = SequentialLR(optimiser, [rising, falling], milestones=[10])
    optimiser.step()
    for step in range(steps):
        assert learning_rate(recipe, step, steps) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        reference.step()
    assert learning_rate(recipe, 55, steps) == pytest.approx(0.0005)


def test_cosine_schedule_is_that_of_torch() -> None:
    recipe, steps = recipe_of("paper", "paper-imagenet-clap"), 50
    optimiser = torch.optim.AdamW([torch.zeros(1)], lr=recipe.lr)
    reference = CosineAnnealingLR(optimiser, T_max=steps)
    optimiser.step()
    for step in range(steps):
        assert learning_rate(recipe, step, steps) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        reference.step()


def test_recipes_are_those_of_the_paper() -> None:
    ten = recipe_of("paper", "paper-ten")
    assert ten == recipe_of("full", "paper-ten")
    assert [ten.n_steps(n, 1000) for n in (47, 64, 65, 752)] == [200, 200, 400, 2400]
    zero_shot = recipe_of("paper", "paper-imagenet-zeroshot")
    few_shot = recipe_of("paper", "paper-imagenet-clap")
    assert (zero_shot.label_weight, few_shot.label_weight) == (0.4, 0.2)
    assert (zero_shot.distill_temperature, few_shot.distill_temperature) == (0.5, 0.5)
    assert zero_shot.n_steps(1000, 99_000) == 20 * 387


def test_initial_labels_are_k_of_each_class_and_uniform(cache: Path) -> None:
    dataset = load_dataset("digits", cache)
    members = np.flatnonzero(dataset.train.labels == 3)
    drawn = Counter()
    for seed in range(600):
        rows = np.array(balanced(dataset, 20, seed))
        assert (np.bincount(dataset.train.labels[rows], minlength=10) == 2).all()
        assert len(np.unique(rows)) == 20
        drawn.update(set(rows.tolist()) & set(members.tolist()))
    expected = 600 * 2 / len(members)
    chi_square = sum((drawn[m] - expected) ** 2 / expected for m in members.tolist())
    assert chi_square < len(members) + 5 * np.sqrt(2 * len(members))


@needs_real_data
@pytest.mark.parametrize("name", ["oxford_pets", "stanford_cars", "oxford_flowers", "dtd", "eurosat", "ucf101"])
def test_published_splits_are_read_row_by_row(name: str, tmp_path: Path) -> None:
    entry = CATALOG[name]
    file = REAL / "splits" / str(entry.split)
    folder = tmp_path / entry.folder
    folder.mkdir()
    (folder / str(entry.split)).symlink_to(file)
    listing = read_listing(name, tmp_path)
    content = json.loads(file.read_text(encoding="utf-8"))
    counts = {"train": entry.n_train, "val": entry.n_val, "test": entry.n_test}
    for part, items in content.items():
        assert len(items) == counts[part]
        assert list(listing.parts[part].paths) == [path for path, _, _ in items]
        assert listing.parts[part].labels.tolist() == [label for _, label, _ in items]
        assert {(label, kind.replace("_", " ")) for _, label, kind in items} <= set(enumerate(listing.class_names))
    assert len(listing.class_names) == entry.n_classes


def test_one_prompt_a_data_set_as_the_paper_has_it() -> None:
    assert {name: list(entry.prompts) for name, entry in CATALOG.items() if name != "imagenet"} == PAPER_PROMPTS


@needs_real_data
@pytest.mark.parametrize("name", CATALOG)
def test_ensembles_are_those_of_clip(name: str) -> None:
    file = REAL / "splits" / "clip_classnames_templates.json"
    published = json.loads(file.read_text(encoding="utf-8"))[CLIP_NAMES[name]]
    assert list(clip_ensemble(name)) == published["templates"]
    if name == "imagenet":
        assert len(CATALOG[name].prompts) == 7
        assert set(CATALOG[name].prompts) <= set(published["templates"])
    if name != "caltech101":
        assert len(published["classes"]) == CATALOG[name].n_classes


@needs_real_data
def test_renamed_classes_are_those_of_coop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listing = read_listing("caltech101", REAL)
    assert listing.class_names[:5] == ("face", "leopard", "motorbike", "accordion", "airplane")
    assert not {"BACKGROUND Google", "Faces easy"} & set(listing.class_names)
    folder = tmp_path / "eurosat"
    folder.mkdir()
    (folder / str(CATALOG["eurosat"].split)).symlink_to(REAL / "splits" / str(CATALOG["eurosat"].split))
    renamed = read_listing("eurosat", tmp_path).class_names
    assert renamed[:4] == ("Annual Crop Land", "Forest", "Herbaceous Vegetation Land", "Highway or Road")


@needs_real_data
def test_real_features_and_head_have_their_published_accuracy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from activekd.bank.given import given_features, read_features, read_head

    monkeypatch.setenv("ACTIVEKD_DATA", str(REAL))
    head_file = "clip_vitb32/caltech101_zeroshot_head.npz"
    dataset = load_dataset(f"caltech101?pool=val&classes={head_file}", tmp_path)
    assert (dataset.n_classes, len(dataset.train), len(dataset.test)) == (70, 1294, 1938)
    files = given_features(f"features:clip_vitb32/caltech101.npz:{head_file}")
    features = read_features(files, dataset.test, "test").astype(np.float32)
    head = read_head(files, dataset.class_names, features.shape[1])
    accuracy = float(((features @ head.T).argmax(axis=1) == dataset.test.labels).mean())
    assert accuracy == pytest.approx(0.933, abs=0.0005)


@needs_real_data
@pytest.mark.soak
def test_an_independent_implementation_agrees_on_the_same_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Heads trained by a plain loop, in torch alone, on the labels that the committed run bought at random."""
    import timm
    from torch.nn import functional as F
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as TF

    from activekd.networks.backbones import BACKBONES

    monkeypatch.setenv("ACTIVEKD_DATA", str(REAL))
    rows = [
        r
        for r in stored_rows(COMMITTED)
        if r["student"].startswith("frozen:") and r["recipe"] == "lr 0.001, one view" and r["selector"] == "random"
    ]
    dataset = load_dataset(rows[0]["dataset"], tmp_path)
    network: Any = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    lite = BACKBONES["efficientnet_lite0"]
    assert lite.find is not None
    saved = torch.load(lite.find(False), map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), saved.values(), strict=False)))
    network.eval()

    def features(images: Images) -> torch.Tensor:
        out = []
        with torch.inference_mode():
            for row in range(len(images)):
                pixels = torch.from_numpy(images[row].copy()).permute(2, 0, 1)
                square = TF.center_crop(pixels, [min(pixels.shape[1:])])
                view = TF.resize(square, [128, 128], interpolation=InterpolationMode.BICUBIC, antialias=True)
                out.append(network((view[None] / 255 - 0.498) / 0.502)[0])
        return torch.stack(out).clone()

    pool, test = features(dataset.train.pixels), features(dataset.test.pixels)
    labels, test_labels = torch.from_numpy(dataset.train.labels), torch.from_numpy(dataset.test.labels)

    def accuracy(bought: list[int]) -> float:
        chosen, generator = torch.tensor(bought), torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        head = torch.nn.Linear(pool.shape[1], dataset.n_classes)
        optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3)
        for step in range(300):
            optimiser.param_groups[0]["lr"] = 1e-3 * min((step + 1) / 30, (300 - step) / 270)
            batch = chosen[torch.randint(len(chosen), (64,), generator=generator)]
            optimiser.zero_grad()
            F.cross_entropy(head(pool[batch]), labels[batch]).backward()
            optimiser.step()
        with torch.inference_mode():
            return float((head(test).argmax(dim=1) == test_labels).float().mean())

    differences = []
    for seed in (0, 1, 2):
        bought = list(balanced(dataset, dataset.n_classes, seed))
        for row in sorted((r for r in rows if r["seed"] == seed), key=lambda r: r["round"]):
            differences.append(row["accuracy"] - accuracy(bought))
            bought += row["picked"]
    assert len(differences) == 21
    assert abs(float(np.mean(differences))) < 0.01
    assert max(abs(d) for d in differences) < 0.03
