"""Weights from a file into a network, checked against its architecture."""

import pickle
from pathlib import Path

from torch import Tensor, nn

from activekd.errors import InputError

SHOWN = 3


def load_into(network: nn.Module, file: Path, *, heads: tuple[str, ...]) -> None:
    """Load every weight of a network but its classifier from a file.

    Args:
        heads: names of the classifier's modules, which the file may have or not.

    Raises:
        InputError: a file that cannot be read, or whose names or shapes are those of another architecture.
    """
    from safetensors import SafetensorError
    from timm.models import load_state_dict

    try:
        saved: dict[str, Tensor] = load_state_dict(str(file), use_ema=False)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError, SafetensorError) as fault:
        raise InputError(
            f"weights {file}: {fault}; expected: a state dict as safetensors or from torch.save"
        ) from fault
    own = network.state_dict()

    def is_body(name: str) -> bool:
        return not any(name.startswith(f"{head}.") for head in heads)

    lacking = [name for name in own if is_body(name) and name not in saved and not name.endswith("num_batches_tracked")]
    strange = [name for name in saved if is_body(name) and name not in own]
    unlike = [
        f"{name} {tuple(saved[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if is_body(name) and name in saved and saved[name].shape != own[name].shape
    ]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
        for what, names in (("weights absent", lacking), ("unknown weights", strange), ("of another shape", unlike))
        if names
    ]
    if faults:
        raise InputError(f"weights {file} are of another architecture: {'; '.join(faults)}")
    network.load_state_dict({name: value for name, value in saved.items() if is_body(name)}, strict=False)
