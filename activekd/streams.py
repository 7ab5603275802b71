"""Named random streams: every draw of a run has its own generator, so nothing depends on what was drawn before it."""

import hashlib
import json

import numpy as np


def stream(seed: int, purpose: str, *keys: int | str) -> np.random.Generator:
    """The generator of one (seed, purpose, keys), always in its initial state.

    Two streams of different names are independent; the same name gives the same draws in every process and on every
    machine. A resumed run therefore needs no saved generator state.

    Args:
        seed: the trial's seed, at least 0.
        purpose: what is drawn, such as ``"initial"``, ``"student"`` or ``"select"``.
        keys: what else sets the stream apart, usually the round number.
    """
    name = json.dumps([purpose, *keys], separators=(",", ":")).encode()
    words = np.frombuffer(hashlib.sha256(name).digest(), dtype="<u4")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words.tolist()])))


def torch_seed(rng: np.random.Generator) -> int:
    """A seed for torch drawn from a stream; used under ``torch.random.fork_rng``, never globally."""
    return int(rng.integers(2**63 - 1))
