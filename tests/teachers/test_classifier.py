"""Classifiers of fitted teachers: logits by hand, stacks and their members, what is refused."""

from math import exp

import numpy as np
import pytest
import torch

from activekd.errors import InputError
from activekd.teachers.classifier import Classifier, Kind, from_prototypes
from activekd.teachers.fixed import TIP_RESIDUAL_RATIO, TIP_SHARPNESS

DIM, CLASSES, LABELED = 19, 7, 11


def made(kind: Kind, seed: int) -> Classifier:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    tensors = {
        "prototypes": {"prototypes": normal(CLASSES, DIM)},
        "linear": {"weights": normal(CLASSES, DIM), "bias": normal(CLASSES)},
        "cache": {
            "text": normal(CLASSES, DIM),
            "keys": normal(LABELED, DIM),
            "values": torch.from_numpy(rng.integers(CLASSES, size=LABELED)),
        },
    }
    return Classifier(kind, 10.0, tensors[kind])


KINDS: list[Kind] = ["prototypes", "linear", "cache"]


def test_logits_by_hand() -> None:
    image = torch.tensor([[3.0, 4.0]], dtype=torch.float16)
    eye = torch.eye(2)
    assert from_prototypes(5 * eye, 10.0).logits(image)[0].tolist() == pytest.approx([6, 8])
    linear = Classifier("linear", 10.0, {"weights": 5 * eye, "bias": torch.tensor([1.0, -1.0])})
    assert linear.logits(image)[0].tolist() == pytest.approx([4, 3])
    # The cosine with the only key, which is labeled 1, is 0.8.
    cache = Classifier("cache", 10.0, {"text": eye, "keys": eye[1:], "values": torch.tensor([1])})
    more = TIP_RESIDUAL_RATIO * exp(-TIP_SHARPNESS * (1 - 0.8))
    assert cache.logits(image)[0].tolist() == pytest.approx([6, 8 + more])


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_has_the_same_logits_in_any_stack(kind: Kind) -> None:
    torch.set_num_threads(1)
    members = [made(kind, seed) for seed in range(4)]
    features = torch.from_numpy(np.random.default_rng(9).normal(size=(4, 5, DIM)).astype(np.float16))
    stack = Classifier.stack(members)
    assert (stack.shape, members[0].shape, stack.n_classes) == ((4,), (), CLASSES)
    together = stack.logits(features)
    for k, member in enumerate(members):
        alone = Classifier.stack([member]).logits(features[k : k + 1])
        assert torch.equal(alone[0], together[k])
        torch.testing.assert_close(member.logits(features[k]), together[k], rtol=1e-5, atol=1e-4)
    turned = Classifier.stack(members[::-1]).logits(features.flip(0))
    assert torch.equal(turned.flip(0), together)


@pytest.mark.parametrize("kind", KINDS)
def test_the_members_of_a_stack_are_those_that_made_it(kind: Kind) -> None:
    members = [made(kind, seed) for seed in range(3)]
    for one, other in zip(Classifier.stack(members).members(), members, strict=True):
        assert (one.kind, one.logit_scale, one.tensors.keys()) == (other.kind, other.logit_scale, other.tensors.keys())
        assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
        assert one.to("cpu").device == torch.device("cpu")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "prototypes",
            "prototypes",
            r"1 of 7 class prototypes, fitted on 3 labeled rows, are not finite, first in row 2",
        ),
        ("linear", "bias", r"1 of 7 class biases, fitted on 3 labeled rows, are not finite, first in row 2"),
        ("cache", "keys", r"1 of 11 cache keys, fitted on 3 labeled rows, are not finite.*; expected: luck"),
    ],
)
def test_numbers_that_are_not_finite_are_named(kind: Kind, name: str, message: str) -> None:
    broken = made(kind, 0)
    broken.check("fitted on 3 labeled rows", "luck")
    broken.tensors[name][2] = torch.nan
    with pytest.raises(InputError, match=message):
        broken.check("fitted on 3 labeled rows", "luck")


def test_a_class_prototype_without_a_direction_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 of 2 class prototypes, fitted, are of norm 0, first in row 1"):
        from_prototypes(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), 1.0).check("fitted", "another")


def test_autocast_does_not_round_the_logits() -> None:
    for kind in KINDS:
        features = torch.from_numpy(np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float32))
        plain = made(kind, 0).logits(features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(made(kind, 0).logits(features), plain)
