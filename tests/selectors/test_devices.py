"""Every selector on a card and with deterministic algorithms: the picks of the CPU, and no mixing of both memories."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cards import Card, OnCard

from activekd.devices import deterministic_algorithms
from activekd.selectors import SELECTORS, selector
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.query import select
from activekd.streams import stream

COMPOSED = ["top:margin:40|pcoreset", "parts:3|badge", "switch:1|typiclust|margin", "refine:2:margin+badge|coreset"]


@pytest.mark.parametrize("name", [*SELECTORS, *COMPOSED])
def test_picks_on_a_card_are_those_of_the_cpu(name: str) -> None:
    strategy = selector(name)
    view = declared(made_up_view(), strategy)
    wanted = select(strategy, view, 9, rng=stream(0, "test"))
    with Card():
        there = replace(view, arrays={key: array.to("cuda") for key, array in view.arrays.items()})
        found = select(strategy, there, 9, rng=stream(0, "test"))
    with deterministic_algorithms(True):
        again = select(strategy, view, 9, rng=stream(0, "test"))
    assert again.tolist() == wanted.tolist()
    assert isinstance(found, np.ndarray)
    assert found.tolist() == wanted.tolist()


def test_the_card_is_strict() -> None:
    with Card():
        there = torch.ones(3).to("cuda")
        assert isinstance(there, OnCard)
        assert there.device.type == "cuda"
        assert there.is_cuda
        assert isinstance(there.sum(), OnCard)
        assert isinstance(torch.zeros(2, device="cuda"), OnCard)
        assert there.cpu().numpy().tolist() == [1, 1, 1]
        with pytest.raises(RuntimeError, match="of the card and of the CPU"):
            there.add(torch.ones(3))
        with pytest.raises(TypeError, match="to numpy"):
            there.numpy()
        with pytest.raises(TypeError, match="to numpy"):
            np.asarray(there)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", [*SELECTORS, *COMPOSED])
def test_picks_on_cuda_are_those_of_the_cpu(name: str) -> None:
    strategy = selector(name)
    view = declared(made_up_view(), strategy)
    there = replace(view, arrays={key: array.cuda() for key, array in view.arrays.items()})
    picks = [select(strategy, each, 9, rng=stream(0, "test")).tolist() for each in (view, there)]
    assert picks[0] == picks[1]
