"""Weight files: read as named, finite tensors, and loaded into a network of their architecture."""

import pickle
from pathlib import Path

from torch import Tensor, nn

from activekd.errors import InputError

SHOWN = 3
EXPECTED = "a state dict as safetensors or from torch.save"


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights in a file by name, without a wrapper (``state_dict``, ``model``) or prefix (``module.``).

    Args:
        file: a state dict as safetensors (by its suffix) or from ``torch.save``; only tensors are unpickled.

    Raises:
        InputError: the file cannot be read, holds something other than named tensors, or weights that are not finite.
    """
    from safetensors import SafetensorError
    from timm.models import load_state_dict

    try:
        saved: dict[str, Tensor] = load_state_dict(str(file), use_ema=False, weights_only=True)
    except (
        *(OSError, RuntimeError, ValueError, KeyError, EOFError, AttributeError, TypeError),
        pickle.UnpicklingError,
        SafetensorError,
    ) as fault:
        raise InputError(f"weights {file}: {_first_line(fault)}; expected: {EXPECTED}") from fault
    foreign = [name for name, value in saved.items() if not isinstance(value, Tensor)]
    if foreign or not saved:
        found = f"{len(foreign)} entries are no tensors ({_few(foreign)})" if foreign else "no weights"
        raise InputError(f"weights {file}: {found}; expected: {EXPECTED}")
    broken = [name for name, value in saved.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise InputError(
            f"weights {file}: values that are not finite in {len(broken)} of {len(saved)} tensors ({_few(broken)}); "
            f"expected: finite weights, such as those of a checkpoint before its training diverged"
        )
    return saved


def load_into(network: nn.Module, saved: dict[str, Tensor], file: Path, *, heads: tuple[str, ...]) -> None:
    """Load every weight of a network except its classifier, in place.

    Args:
        network: the network, of the architecture of the weights.
        saved: the weights by name.
        file: of the weights, for the message.
        heads: names of the classifier's modules, whose weights may be missing.

    Raises:
        InputError: names or shapes belong to another architecture.
    """
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
        f"{len(names)} {what} ({_few(names)})"
        for what, names in (("missing weights", lacking), ("unknown weights", strange), ("other shapes", unlike))
        if names
    ]
    if faults:
        raise InputError(
            f"weights {file} are of another architecture: {'; '.join(faults)}; "
            f"expected: weights of this {type(network).__name__}"
        )
    network.load_state_dict({name: value for name, value in saved.items() if is_body(name)}, strict=False)


def check_sizes(network: nn.Module, saved: dict[str, Tensor], file: Path) -> None:
    """Check that weights of open_clip have the sizes of the network's weights of the same names.

    open_clip interpolates position embeddings of another image size or context length without a word. Older files name
    the weights of a text tower without ``text.``.

    Raises:
        InputError: sizes differ.
    """
    sizes = {name.removeprefix("text."): value.squeeze().shape for name, value in network.state_dict().items()}
    unlike = [
        f"{name} {tuple(value.shape)} for {tuple(sizes[plain])}"
        for name, value in saved.items()
        if (plain := name.removeprefix("text.")) in sizes and value.squeeze().shape != sizes[plain]
    ]
    if unlike:
        raise InputError(
            f"weights {file} are of another architecture: {len(unlike)} other shapes ({_few(unlike)}); "
            f"expected: weights of this {type(network).__name__}"
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _first_line(fault: Exception) -> str:
    if isinstance(fault.__cause__, pickle.UnpicklingError):
        return "another format, or Python objects other than tensors"
    return str(fault).splitlines()[0] if str(fault) else type(fault).__name__
