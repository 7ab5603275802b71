"""Teacher networks by name: weights from a file, preprocessing, and the names that are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from activekd import inputs
from activekd.bank.views import Views
from activekd.datasets import Labeled, load_dataset
from activekd.errors import InputError
from activekd.losses import teacher_logits
from activekd.networks.checkpoints import UnreachableError
from activekd.networks.vision_language import NETWORKS, WEIGHTS, VisionLanguageNetwork, vision_language_network
from activekd.recipes import ClapRecipe, ViewGeometry
from activekd.streams import stream
from activekd.teachers import Teacher, teacher
from activekd.teachers.clap import clap
from activekd.teachers.encoder import load_encoder
from activekd.teachers.text_heads import TextHead

CLAP = ClapRecipe(lr=0.01, momentum=0.9, epochs=30, batch=8, warmup=0.1)
GLYPHCLIP = WEIGHTS / "glyphclip.safetensors"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACTIVEKD_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", NETWORKS)
def test_every_teacher_is_known_without_its_weights(name: str) -> None:
    assert teacher(f"{name}+zeroshot") == Teacher(f"{name}+zeroshot", NETWORKS[name], "zeroshot")
    assert teacher(f"{name}+clap").adapt is clap


def test_the_users_file_comes_before_the_hub(weights: Path) -> None:
    (weights / "clip_rn50.safetensors").write_bytes(b"")
    (weights / "ViT-B-32.openai.pt").write_bytes(b"")
    assert vision_language_network("clip_rn50").weights() == weights / "clip_rn50.safetensors"
    assert vision_language_network("open_clip:ViT-B-32/openai").weights() == weights / "ViT-B-32.openai.pt"


def test_missing_weights_name_the_file_to_put_where(weights: Path) -> None:
    with pytest.raises(
        UnreachableError, match=r"huggingface.co/timm/vit_base_patch16_clip_224.openai.*/clip_vitb16.safetensors"
    ):
        vision_language_network("clip_vitb16").weights(online=False)


def test_weights_of_another_architecture_are_named(weights: Path) -> None:
    (weights / "clip_rn50.safetensors").write_bytes(GLYPHCLIP.read_bytes())
    with pytest.raises(InputError, match=r"teacher network 'clip_rn50' cannot be loaded from .*clip_rn50.safetensors"):
        load_encoder(vision_language_network("clip_rn50"))
    (weights / "clip_rn50.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="teacher network 'clip_rn50' cannot be loaded"):
        load_encoder(vision_language_network("clip_rn50"))


def test_position_embeddings_of_another_size_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(GLYPHCLIP)
    state["positional_embedding"] = state["positional_embedding"][:12].clone()
    save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(
        InputError, match=r"another architecture: 1 other shapes \(positional_embedding \(12, 32\) for \(16"
    ):
        load_encoder(replace(NETWORKS["glyphclip"], file=tmp_path / "short.safetensors"))


def test_a_file_of_another_format_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no weights", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"text.pt: another format, or Python objects other .*; expected: a state dict"
    ):
        load_encoder(replace(NETWORKS["glyphclip"], file=tmp_path / "text.pt"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip_rn5+zeroshot", "unknown teacher network 'clip_rn5'; did you mean 'clip_rn50'"),
        ("clip_rn50+clop", "unknown teacher adaptation 'clop'; did you mean 'clap'"),
        ("clip_rn50", "unknown teacher 'clip_rn50'; did you mean 'clip_rn50"),
        ("open_clip:RN51/openai+clap", "unknown open_clip model 'RN51'; did you mean 'RN5"),
        ("open_clip:RN50/openia+clap", "unknown weights of RN50 'openia'; did you mean 'openai'"),
        ("open_clip:RN50/absent.pt+clap", "no checkpoint at absent.pt"),
        ("open_clip:RN50/openai=absent.pt+clap", "no checkpoint at absent.pt"),
        (f"open_clip:RN50/openia={GLYPHCLIP}+clap", "unknown weights of RN50 'openia'; did you mean 'openai'"),
        (f"open_clip:RN50/={GLYPHCLIP}+clap", "expected: open_clip:MODEL/TAG"),
        ("open_clip:RN50/openai=+clap", "expected: open_clip:MODEL/TAG"),
        (f"open_clip:ViT-B-16-SigLIP/{GLYPHCLIP}+clap", r"webli \(mean .0.5, 0.5, 0.5., std"),
        ("open_clip:RN50+clap", "expected: open_clip:MODEL/TAG, MODEL/TAG=FILE or MODEL/FILE"),
    ],
)
def test_teachers_that_are_refused(name: str, message: str) -> None:
    def resolve() -> None:
        network = teacher(name).network
        assert isinstance(network, VisionLanguageNetwork)
        network.check_name()

    with pytest.raises(InputError, match=message):
        resolve()


def test_teacher_logits_are_a_hundred_cosines() -> None:
    logits = teacher_logits(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]]), 100.0)
    assert logits.tolist()[0] == pytest.approx([60.0, 80.0])


def test_clap_learns_from_labels_and_stays_near_the_text() -> None:
    head = TextHead(np.eye(2, dtype=np.float32), 2 * np.eye(2, dtype=np.float32), 100.0)
    features = np.array([[0.8, 1.0], [1.0, 0.8]], dtype=np.float16)
    labeled = Labeled(np.array([0, 1]), np.array([0, 1]))
    geometry = ViewGeometry(count=1, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    views = Views((features,))
    before = teacher_logits(torch.from_numpy(features), torch.from_numpy(head.zero_shot), 100.0)
    assert before.argmax(dim=1).tolist() == [1, 0]
    (fitted,) = clap(head, views, geometry, [labeled], CLAP, [stream(0, "teacher", 0)]).members()
    prototypes = fitted.tensors["prototypes"]
    after = teacher_logits(torch.from_numpy(features), prototypes, 100.0)
    assert torch.equal(fitted.logits(torch.from_numpy(features)), after)
    assert after.argmax(dim=1).tolist() == [0, 1]
    assert prototypes.dtype == torch.float32


def test_glyphclip_checkpoint_is_small_and_half_precision() -> None:
    from safetensors.torch import load_file

    path = NETWORKS["glyphclip"].weights()
    assert path.stat().st_size < 8 * 2**20
    assert {t.dtype for t in load_file(path).values() if t.is_floating_point()} == {torch.float16}


def test_a_text_head_is_cached_on_disk_to_the_bit(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, network = load_dataset("digits", cache), NETWORKS["glyphclip"]
    assert inputs.cached_text_head(network, dataset, tmp_path) is None
    computed = inputs.compute_text_head(network, dataset, tmp_path)
    monkeypatch.setattr(inputs, "_teacher", None)
    cached = inputs.compute_text_head(network, dataset, tmp_path)
    assert np.array_equal(computed.zero_shot, cached.zero_shot)
    assert np.array_equal(computed.text, cached.text)
    assert not np.array_equal(cached.text, cached.zero_shot)
    other = replace(dataset, prompts=("a drawing of {}.",))
    assert inputs.cached_text_head(network, other, tmp_path) is None
    (file,) = (tmp_path / "heads").glob("*.npy")
    file.write_bytes(file.read_bytes()[:-4])
    assert inputs.cached_text_head(network, dataset, tmp_path) is None


@pytest.mark.soak
def test_a_tag_brings_its_activation_and_preprocessing_to_a_local_file(weights: Path) -> None:
    import open_clip
    from PIL import Image
    from safetensors.torch import save_file

    torch.manual_seed(0)
    reference, _, preprocess = open_clip.create_model_and_transforms("RN50-quickgelu")
    save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, weights / "clip_rn50.safetensors")
    encoder = load_encoder(vision_language_network("clip_rn50"))
    assert (encoder.size, encoder.interpolation) == (224, "bicubic")
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    with torch.inference_mode():
        found = encoder.encode(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        wanted = reference.eval().encode_image(preprocess(Image.fromarray(pixels))[None])  # pyright: ignore
    np.testing.assert_allclose(found, wanted.numpy(), rtol=0.02, atol=2e-3)
    head = encoder.text_head(["cat", "dog"], ["a photo of a {}."])
    assert head.zero_shot.shape == (2, 1024)
    np.testing.assert_allclose(np.linalg.norm(head.zero_shot, axis=1), 1, rtol=1e-5)


def test_a_prompt_that_reads_alike_for_two_classes_is_refused() -> None:
    """The network has 16 tokens: a class name behind the 15th is cut off."""
    encoder = load_encoder(NETWORKS["glyphclip"])
    long = "one of the many " + "very " * 12 + "{}"
    with pytest.raises(InputError, match=r"same tokens for 2 classes .* 'cat' and 'dog'; .*short enough \(16 tokens"):
        encoder.text_head(["cat", "dog", "cow"], ["a {}", long])
    with pytest.raises(InputError, match="same tokens for 1 classes"):
        encoder.text_head(["fish", "\ufb01sh"], ["{}"])
