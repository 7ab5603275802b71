"""Loading of a weight file into a network, checked against its architecture."""

import pickle
from pathlib import Path

from torch import Tensor, nn

from activekd.errors import InputError

SHOWN = 3


def load_into(network: nn.Module, file: Path, *, heads: tuple[str, ...]) -> None:
    """Load every weight of a network except its classifier from a file, in place.

    Args:
        network: the network, of the architecture of the file.
        file: a state dict as safetensors or from ``torch.save``.
        heads: names of the classifier's modules, which the file may omit.

    Raises:
        InputError: the file cannot be read, or its names or shapes belong to another architecture.
    """
    from safetensors import SafetensorError
    from timm.models import load_state_dict

    try:
        saved: dict[str, Tensor] = load_state_dict(str(file), use_ema=False)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError, SafetensorError) as fault:
        raise InputError(
            f"weights {file}: {fault}; expected: a state dict as safetensors or from torch.save"
        ) from fault
    wanted = network.state_dict()

    def is_body(name: str) -> bool:
        return not any(name.startswith(f"{head}.") for head in heads)

    lacking = [
        name for name in wanted if is_body(name) and name not in saved and not name.endswith("num_batches_tracked")
    ]
    strange = [name for name in saved if is_body(name) and name not in wanted]
    unlike = [
        f"{name} {tuple(saved[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if is_body(name) and name in saved and saved[name].shape != wanted[name].shape
    ]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
        for what, names in (("missing weights", lacking), ("unknown weights", strange), ("other shapes", unlike))
        if names
    ]
    if faults:
        raise InputError(
            f"weights {file} are of another architecture: {'; '.join(faults)}; "
            f"expected: weights of this {type(network).__name__}"
        )
    network.load_state_dict({name: value for name, value in saved.items() if is_body(name)}, strict=False)
