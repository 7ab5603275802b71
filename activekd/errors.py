"""Errors that a user can fix: which thing, what was found, what is expected; all at once. Standard library only."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

_T = TypeVar("_T")
_Name = TypeVar("_Name", bound=Hashable)


class InputError(ValueError):
    """A user's input is wrong; each message says which input, what was found and what is expected.

    Attributes:
        faults: the messages; the text of several is a list.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__(faults[0] if len(faults) == 1 else "\n  - ".join([f"{len(faults)} faults:", *faults]))
        self.faults = faults


class Faults:
    """Collects faults, so that all are reported at once; a fault that several names share is one message."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, None]] = {}

    def resolve(
        self, names: Iterable[_Name], registry: Callable[[_Name], _T], *, shown: Callable[[_Name], str] = str
    ) -> dict[_Name, _T]:
        """What ``registry`` returns for each distinct name, in order; collect its InputErrors.

        Args:
            names: keys of the registry.
            registry: from a key to a value.
            shown: a key as messages show it.
        """
        out = {}
        for name in dict.fromkeys(names):
            try:
                out[name] = registry(name)
            except InputError as fault:
                self.add(fault, shown(name))
        return out

    def add(self, fault: InputError, name: str = "") -> None:
        """Collect the messages of an error, which ``name`` caused."""
        for message in fault.faults:
            self._names.setdefault(message, {})[name] = None

    def refuse(self) -> None:
        """Raise the collected messages, if any, as one InputError."""
        if self._names:
            raise InputError(*(_naming(message, [*names]) for message, names in self._names.items()))


def _naming(message: str, names: Sequence[str]) -> str:
    """A message, with the names that caused it in front unless it names them."""
    return message if all(name in message for name in names) else f"{', '.join(names)}: {message}"


def reason(fault: OSError) -> str:
    """What the system said, without the number of the error and the path, which a message names itself.

    >>> reason(FileNotFoundError(2, "No such file or directory", "a/b"))
    'No such file or directory'
    """
    return fault.strerror or str(fault)


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that a registry lacks, with the nearest known name as a suggestion.

    Args:
        kind: the kind of thing that the name stands for, such as ``selector``.
        name: the unknown name.
        known: the names of the registry.

    >>> str(unknown("selector", "pcorset", ["pcoreset", "random"]))
    "unknown selector 'pcorset'; did you mean 'pcoreset'? known: pcoreset, random"
    """
    names = sorted(known)
    folded = {known_name.casefold(): known_name for known_name in names}
    close = get_close_matches(name.casefold(), folded, n=1)
    hint = f" did you mean '{folded[close[0]]}'?" if close else ""
    return InputError(f"unknown {kind} '{name}';{hint} known: {', '.join(names)}")
