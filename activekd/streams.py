"""Named random streams: each purpose and round has a separate generator, so no draw depends on earlier ones."""

import hashlib
import json

import numpy as np


def stream(seed: int, purpose: str, *keys: int | str) -> np.random.Generator:
    """The generator of one (seed, purpose, keys), always in its initial state.

    Streams of different names are independent; the same name gives the same draws in every process and on every
    machine. A resumed run therefore needs no saved generator state.

    Args:
        seed: the trial's seed, at least 0.
        purpose: what is drawn, such as ``"initial"``, ``"student"`` or ``"select"``.
        keys: further parts of the name, usually the round number.
    """
    name = json.dumps([purpose, *keys], separators=(",", ":")).encode()
    words = np.frombuffer(hashlib.sha256(name).digest(), dtype="<u4")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words.tolist()])))


def torch_seed(rng: np.random.Generator) -> int:
    """A torch seed drawn from a stream; use it under ``torch.random.fork_rng``, never globally."""
    return int(rng.integers(2**63 - 1))
