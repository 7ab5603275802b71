"""The one error a user can mend, worded as: which thing, what was found, what is allowed. Standard library only."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something given by the user is wrong; the message names it, what was found and what is allowed."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a registry, with the nearest known name as a suggestion.

    >>> str(unknown("selector", "pcorset", ["pcoreset", "random"]))
    "unknown selector 'pcorset'; did you mean 'pcoreset'? known: pcoreset, random"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f" did you mean '{close[0]}'?" if close else ""
    return InputError(f"unknown {kind} '{name}';{hint} known: {', '.join(names)}")
