"""The error that a user can fix: which thing, what was found, what is expected. Standard library only."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A user's input is wrong; the message says which input, what was found and what is expected."""


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
    close = get_close_matches(name, names, n=1)
    hint = f" did you mean '{close[0]}'?" if close else ""
    return InputError(f"unknown {kind} '{name}';{hint} known: {', '.join(names)}")
