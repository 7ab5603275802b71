"""A card that every machine has: tensors that claim ``cuda``, live on the CPU and refuse to mix with those of it."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda")

MIXING = {Tensor.__getitem__, Tensor.__setitem__, Tensor.copy_}
"""Functions that take tensors of the card and of the CPU together: an index, or what is copied."""

HOST = {Tensor.numpy, Tensor.__array__}
"""Functions that need the memory of the host."""


class OnCard(Tensor):
    """A tensor on the card."""


class Card(TorchFunctionMode):
    """Inside the block there is a card: ``to("cuda")``, ``device="cuda"``, ``cpu()``, and errors as a card has them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = _tensors([*args, *kwargs.values()])
        on_card = [t for t in tensors if isinstance(t, OnCard)]
        if func == Tensor.device.__get__ and on_card:  # pyright: ignore[reportAttributeAccessIssue]
            return CUDA
        if func == Tensor.is_cuda.__get__:  # pyright: ignore[reportAttributeAccessIssue]
            return bool(on_card)
        if func in HOST and on_card:
            raise TypeError("can't convert a tensor of the card to numpy; copy it to the CPU first")
        moved = func is Tensor.to and any(_is_card(a) for a in args[1:])
        made = _is_card(kwargs.get("device"))
        leaves = func is Tensor.cpu or (func is Tensor.to and any(str(a) == "cpu" for a in args[1:]))
        if on_card and not (moved or leaves) and func not in MIXING:
            strange = [t for t in tensors if not isinstance(t, OnCard) and t.as_subclass(Tensor).dim()]
            if strange:
                raise RuntimeError(f"{func}: tensors of the card and of the CPU")
        plain = func(
            *(("cpu" if _is_card(a) else _plain(a)) for a in args),
            **{name: "cpu" if _is_card(a) else _plain(a) for name, a in kwargs.items()},
        )
        return _placed(plain) if (made or moved or on_card) and not leaves else plain


def _is_card(value: Any) -> bool:
    return isinstance(value, str | torch.device) and str(value).startswith("cuda")


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, OnCard):
        return value.as_subclass(Tensor)
    if isinstance(value, list | tuple) and _tensors(value):
        return type(value)([_plain(v) for v in value])
    return value


def _placed(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.as_subclass(OnCard)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_placed(v) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(_placed(v) for v in value)
    return value
