"""Given features, teachers from files and fits that diverge: every fault is named, and nothing is ranked in silence."""

import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_recipe import RECIPE as SMALL
from typer.testing import CliRunner

from activekd.bank.given import given_features, read_features
from activekd.bank.views import Views
from activekd.datasets import Dataset, Split
from activekd.datasets.benchmark import kept_classes
from activekd.errors import InputError
from activekd.losses import teacher_logits
from activekd.networks.vision_language import NETWORKS, VisionLanguageNetwork, vision_language_network
from activekd.recipes import ViewGeometry
from activekd.selectors import selector
from activekd.selectors.selector import Selector
from activekd.selectors.view import PoolView
from activekd.starts import Start
from activekd.students.heads import AsFloat, Student
from activekd.students.networks import student_network
from activekd.teachers.encoder import load_encoder
from activekd.teachers.text_heads import TextHead, given_text_head
from activekd.teachers.zeroshot import zeroshot
from bench.grid import app
from bench.store.rows import stored_rows

CLASSES = ("ant", "bee", "cat")
PER_CLASS = 4
LABELS = np.repeat(np.arange(3), PER_CLASS)
NAMES = {
    part: tuple(f"{part}/{CLASSES[label]}/{k}.png" for k, label in enumerate(LABELS)) for part in ("train", "test")
}
GEOMETRY = ViewGeometry(count=1, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
RECIPE = replace(
    SMALL,
    lr=0.01,
    steps=3,
    step_rule="fixed",
    warmup=0.0,
    batch_labeled=4,
    batch_unlabeled=4,
    clap=replace(SMALL.clap, epochs=2),
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACTIVEKD_DATA", str(tmp_path))
    return tmp_path


def one_hot(labels: np.ndarray) -> np.ndarray:
    """A feature of each image that names its class, with a small part that names the image."""
    x = np.eye(3)[labels] + 0.05 * np.random.default_rng(0).normal(size=(len(labels), 3))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


SPELLINGS: dict[str, Callable[[str], str | bytes]] = {
    "relative to the folder": str,
    "relative to train": lambda name: name.partition("/")[2],
    "backslashes": lambda name: name.replace("/", "\\"),
    "bytes": str.encode,
    "with a dot": lambda name: f"./{name}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_case_01_permuted_rows_are_matched_by_name(spelling: str, data: Path) -> None:
    order = np.random.default_rng(1).permutation(len(LABELS))
    features, arrays = one_hot(LABELS), {}
    for part, names in NAMES.items():
        spelt = [SPELLINGS[spelling](names[row]) for row in order]
        arrays |= {f"{part}_f": features[order], f"{part}_path": np.array(spelt), f"{part}_y": LABELS[order] + 1}
    np.savez(data / "clip.npz", W=np.eye(3), **arrays)
    for part, names in NAMES.items():
        found = read_features(given_features("features:clip.npz"), Split(None, LABELS, names), part)
        np.testing.assert_array_equal(found, features)
        assert (found.argmax(axis=1) == LABELS).mean() == 1.0


def test_case_01_a_name_with_two_features_is_refused_and_with_equal_ones_taken(data: Path) -> None:
    features, names = one_hot(LABELS), NAMES["train"]
    split = Split(None, LABELS, names)
    twice = np.array([*names, names[5]])
    np.savez(data / "clip.npz", train_f=features[[*range(12), 5]], train_path=twice)
    np.testing.assert_array_equal(read_features(given_features("features:clip.npz"), split, "train"), features)
    np.savez(data / "clip.npz", train_f=features[[*range(12), 0]], train_path=twice)
    with pytest.raises(InputError, match=r"1 names stand twice with other features, such as train/bee/5\.png"):
        read_features(given_features("features:clip.npz"), split, "train")


def test_case_02_a_checkpoint_states_the_tag_of_its_inputs(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"weights")
    tagged = vision_language_network(f"open_clip:MobileCLIP-S1/datacompdr={file}")
    tagged.check_name()
    assert tagged.weights() == file
    assert tagged.preprocessing == {"mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "bilinear"}
    untagged = vision_language_network(f"open_clip:MobileCLIP-S1/{file}")
    for read in (untagged.check_name, lambda: untagged.fingerprint, lambda: load_encoder(untagged)):
        with pytest.raises(InputError, match=r"interpolation bilinear.*expected: open_clip:MobileCLIP-S1/TAG=.*dataco"):
            read()
    with pytest.raises(InputError, match="activation QuickGELU"):
        vision_language_network(f"open_clip:ViT-B-32/{file}").check_name()
    vision_language_network(f"open_clip:ViT-B-32-quickgelu/{file}").check_name()
    openai, laion = (
        vision_language_network(f"open_clip:ViT-B-32/{tag}={file}") for tag in ("openai", "laion2b_s34b_b79k")
    )
    assert (openai.quick_gelu, laion.quick_gelu) == (True, False)
    assert openai.fingerprint != laion.fingerprint


class Tagged(VisionLanguageNetwork):
    """A network whose tag has the preprocessing of MobileCLIP."""

    @property
    def preprocessing(self) -> dict[str, Any]:
        return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear"}


def test_case_02_the_preprocessing_of_a_tag_reaches_the_features_of_a_file() -> None:
    plain = NETWORKS["glyphclip"]
    tagged = Tagged(plain.name, plain.model, plain.tag, plain.file, plain.config)
    assert tagged.fingerprint != plain.fingerprint
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.manual_seed(0))
    ours, theirs = load_encoder(tagged), load_encoder(plain)
    assert (ours.interpolation, theirs.interpolation) == ("bilinear", "bicubic")
    with torch.inference_mode():
        assert not np.allclose(ours.encode(pixels), theirs.encode(pixels), atol=0.05)


def grid(spec: Path, out: Path, cache: Path) -> Any:
    return CliRunner().invoke(
        app,
        ["run", str(spec), "--serial", "--no-diagnostics", "--out", str(out)],
        env={"ACTIVEKD_CACHE": str(cache)},
    )


@pytest.mark.parametrize(
    ("rate", "only", "message"),
    [
        (
            "\nlr = 1e30",
            "none",
            r"round 0, student 'resnet6_mini@16': \d+ of \d+ .* on 10 labeled rows.*lr below 1e\+30",
        ),
        (
            "clap = { lr = 1e30",
            "glyphclip+clap",
            r"round 0, teacher 'glyphclip\+clap': 10 of 10 .*clap\.lr below 1e\+30",
        ),
    ],
)
def test_case_07_a_fit_that_diverges_fails_its_trial(
    rate: str, only: str, message: str, tiny_spec: Path, cache: Path, tmp_path: Path
) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace(rate.replace("1e30", "0.01"), rate)
    tiny_spec.write_text(text.replace('["none", "glyphclip+clap"]', f'["{only}"]'), encoding="utf-8")
    result = grid(tiny_spec, tmp_path / "out", cache)
    assert isinstance(result.exception, InputError | SystemExit)
    assert result.exit_code != 0
    with pytest.raises(InputError, match=message):
        raise result.exception if isinstance(result.exception, InputError) else InputError(result.output)
    assert stored_rows(tmp_path / "out") == []


def world() -> Dataset:
    split = Split(None, LABELS)
    return Dataset("world", CLASSES, ("{}",), split, Split(None, LABELS[:0]), split)


def rounds(
    chosen: Selector, *, features: np.ndarray | None = None, teacher: np.ndarray | None = None, **changed: Any
) -> list[Any]:
    """Two rounds of heads on given features, with a zero-shot teacher if its test features are given."""
    from activekd.loop import run_rounds
    from activekd.rounds import StudentViews, TeacherViews

    inputs = Views((one_hot(LABELS) if features is None else features,))
    guided = None
    if teacher is not None:
        eye = np.eye(3, dtype=np.float32)
        guided = TeacherViews("given+zeroshot", zeroshot, TextHead(eye, eye, 100.0), Views((one_hot(LABELS),)), teacher)
    return list(
        run_rounds(
            world(),
            StudentViews(student_network("frozen:efficientnet_lite0"), inputs, inputs),
            guided,
            chosen,
            replace(RECIPE, **{key: value for key, value in changed.items() if key != "query_size"}),
            GEOMETRY,
            rounds=2,
            start=Start(),
            query_size=changed.get("query_size", 2),
            distillation="none" if guided is None else "both",
            seed=0,
        )
    )


def not_finite() -> np.ndarray:
    out = one_hot(LABELS)
    out[[3, 7]] = np.nan
    return out


def test_case_07_predictions_that_are_not_finite_never_reach_a_selector() -> None:
    seen: list[PoolView] = []

    def watch(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        seen.append(view)
        return view.pool.unlabeled[:query_size]

    watched = Selector("watch", watch, frozenset({"student_probabilities"}))
    assert len(rounds(watched)) == 2
    assert len(seen) == 1
    message = r"round 0, student 'frozen:efficientnet_lite0'.*predictions of 2 of 12 rows are not finite"
    with pytest.raises(InputError, match=message):
        rounds(watched, features=not_finite(), steps=1)
    with pytest.raises(InputError, match=r"round 0.*student.*(weights|predictions of 12 of 12 rows) .*not finite"):
        rounds(watched, distill_temperature=1e-45, temperature=1e-45, teacher=one_hot(LABELS))
    assert len(seen) == 1


def test_case_07_teacher_probabilities_that_are_not_finite_name_the_teacher() -> None:
    with pytest.raises(InputError, match=r"round 0: teacher 'given\+zeroshot': probabilities of 2 of 12 rows"):
        rounds(selector("random"), teacher=not_finite())


def test_case_07_an_input_error_of_a_query_stays_one() -> None:
    with pytest.raises(InputError, match=r"round 0: selector 'random': query size 40 from 9 unlabeled images"):
        rounds(selector("random"), query_size=40)


def test_case_07_a_fit_needs_a_label() -> None:
    for rule in ("fixed", "per_label", "per_pool"):
        with pytest.raises(InputError, match="0 labeled images; expected: at least 1"):
            replace(RECIPE, step_rule=rule).n_steps(0, 10)
    for value in (float("inf"), float("nan")):
        with pytest.raises(InputError, match=r"Recipe.lr is (inf|nan); expected: more than 0, finite"):
            replace(RECIPE, lr=value)


def test_case_07_a_head_row_of_norm_0_is_named(data: Path) -> None:
    head = np.eye(3)
    head[1] = 0
    np.savez(data / "clip.npz", W=head)
    with pytest.raises(InputError, match=r"W has norm 0 in 1 of 3 rows, those of 'bee'"):
        given_text_head(given_features("features:clip.npz"), CLASSES, 3)


def test_case_07_weights_with_nan_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    from safetensors.torch import load_file

    from activekd.students.heads import pretrained

    monkeypatch.setenv("ACTIVEKD_WEIGHTS", str(tmp_path))
    state = {name: value.contiguous() for name, value in timm.create_model("test_resnet").state_dict().items()}
    first = next(iter(state))
    state[first][0] = torch.nan
    save_file(state, tmp_path / "test_resnet.r160_in1k.safetensors")
    with pytest.raises(InputError, match=rf"not finite in 1 of \d+ tensors \({first}\)"):
        pretrained("timm:test_resnet.r160_in1k")
    plain = NETWORKS["glyphclip"]
    broken = load_file(plain.weights())
    broken["visual.attnpool.q_proj.bias"][0] = torch.inf
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(
        InputError, match=r"'glyphclip'.*not finite in 1 of \d+ tensors \(visual.attnpool.q_proj.bias\)"
    ):
        load_encoder(replace(plain, file=tmp_path / "broken.safetensors"))


def test_case_28_a_network_has_its_trained_logit_scale(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    plain = NETWORKS["glyphclip"]
    state = load_file(plain.weights())
    assert load_encoder(plain).logit_scale == pytest.approx(100, rel=5e-4)
    state["logit_scale"] = torch.tensor(117.33).log()
    save_file(state, tmp_path / "warm.safetensors")
    warm = replace(plain, file=tmp_path / "warm.safetensors")
    head = load_encoder(warm).text_head(("0", "1"), ("{}",))
    assert head.logit_scale == pytest.approx(117.33, rel=1e-3)
    assert warm.fingerprint != plain.fingerprint
    head.write(tmp_path / "head.npy")
    again = TextHead.read(tmp_path / "head.npy")
    assert again is not None
    assert again.logit_scale == head.logit_scale
    np.testing.assert_array_equal(again.zero_shot, head.zero_shot)
    np.testing.assert_array_equal(again.text, head.text)
    logits = teacher_logits(torch.tensor([[3.0, 4.0]]), torch.eye(2), 50.0)
    assert logits.tolist()[0] == pytest.approx([30.0, 40.0])


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({}, None),
        ({"logit_scale": np.array([33.0])}, None),
        ({"logit_scale": 4.6052}, r"logit_scale is 4\.6052; expected: the factor .* \(networks store its logarithm"),
        ({"logit_scale": np.nan}, "logit_scale is nan"),
        ({"logit_scale": [100.0, 90.0]}, "one number"),
        ({"logit_scale": "100"}, "one number"),
    ],
)
def test_case_28_a_file_may_state_the_logit_scale(stated: dict[str, Any], message: str | None, data: Path) -> None:
    np.savez(data / "clip.npz", W=np.eye(3), **stated)
    files = given_features("features:clip.npz")
    if message is None:
        assert given_text_head(files, CLASSES, 3).logit_scale == (33.0 if stated else 100.0)
    else:
        with pytest.raises(InputError, match=message):
            given_text_head(files, CLASSES, 3)


def test_case_30_heads_and_teacher_logits_are_float32_inside_autocast() -> None:
    torch.manual_seed(0)
    student = Student(AsFloat(), 64, 3)
    x = torch.randn(500, 64).half()
    plain = student(x)
    seen = []
    student.label_head.register_forward_hook(lambda module, args, out: seen.append((args[0].dtype, out.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = student(x)
        logits = teacher_logits(x, torch.randn(3, 64), 100.0)
    assert seen == [(torch.float32, torch.float32)]
    assert logits.dtype == torch.float32
    for name in ("features", "label_logits", "distill_logits"):
        assert torch.equal(getattr(plain, name), getattr(inside, name)), name
    top = inside.label_logits.topk(2, dim=1).values
    assert len((top[:, 0] - top[:, 1]).unique()) > 490


def test_case_30_autocast_covers_the_backbone_alone() -> None:
    torch.manual_seed(0)
    student = Student(torch.nn.Linear(64, 32), 32, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = student(torch.randn(5, 64))
        assert student.backbone(torch.randn(5, 64)).dtype == torch.bfloat16
    assert {out.features.dtype, out.label_logits.dtype, out.distill_logits.dtype} == {torch.float32}


def as_npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.eye(3))
    return out.getvalue()


def as_torch() -> bytes:
    out = io.BytesIO()
    torch.save({"train_f": torch.eye(3)}, out)
    return out.getvalue()


def as_archive(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


WHOLE = as_archive(train_f=np.random.default_rng(0).normal(size=(200, 8)))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (as_npy(), r"a single array \(\.npy\)"),
        (b"", "an empty file"),
        (as_archive(), "no arrays"),
        (as_torch(), r"a zip archive with '.*data\.pkl'"),
        (pickle.dumps({"train_f": 1}), "not a zip archive"),
        (as_archive(train_f=np.array([{}], dtype=object)), "Object arrays cannot be loaded"),
        (WHOLE[: len(WHOLE) // 2], "not a zip archive"),
        (WHOLE[:400] + b"\0\0\0\0" + WHOLE[404:], "rror|CRC"),
    ],
)
def test_case_43_files_that_are_no_archives_of_arrays(content: bytes, found: str, data: Path) -> None:
    (data / "clip.npz").write_bytes(content)
    files = given_features("features:clip.npz")
    for read in (
        lambda: read_features(files, Split(None, LABELS), "train"),
        lambda: given_text_head(files, CLASSES, 3),
    ):
        with pytest.raises(InputError, match=f"clip.npz: .*({found}).*; expected: an .npz file of plain arrays"):
            read()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (as_npy(), r"a single array \(\.npy\)"),
        (b"", "an empty file"),
        (WHOLE, "no array class_idx"),
        (as_archive(class_idx=np.array([0.5, 1.0])), "class_idx is float64"),
    ],
)
def test_case_43_a_file_of_classes_is_an_archive_too(content: bytes, found: str, data: Path) -> None:
    (data / "classes.npz").write_bytes(content)
    with pytest.raises(InputError, match=rf"classes.npz: {found}"):
        kept_classes(data / "classes.npz", 3)
