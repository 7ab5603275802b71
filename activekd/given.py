"""Names of what a user gives: image folders, arrays, features computed elsewhere. Standard library only."""

import re

FOLDER = "folder:"
"""Prefix of the name of an image folder."""

ARRAYS = "arrays:"
"""Prefix of the name of a data set in an .npz file."""

IN_MEMORY = "arrays"
"""Name of a data set of arrays in memory."""

FEATURES = "features:"
"""Prefix of the name of a teacher network given by files of features."""

GIVEN = "given"
"""Name of the student's backbone and of the teacher's network whose features the data set has."""


PAIRS = re.compile(r"[a-z_]+=[^&/\\]*(?:&[a-z_]+=[^&/\\]*)*")
"""Choices after the last ``?`` of a path; other endings are part of the path."""


def split_name(name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The name of a data set without its choices, and the choices as (key, value); a missing value is empty.

    In the name of a path the choices are what follows its last ``?``, if these are KEY=VALUE pairs without a slash. A
    folder whose own name reads so is given with a slash at its end.

    >>> split_name("caltech101?pool=val&imbalance=10")
    ('caltech101', (('pool', 'val'), ('imbalance', '10')))
    >>> split_name("folder:what?"), split_name("folder:photos?noise=0.2")
    (('folder:what?', ()), ('folder:photos', (('noise', '0.2'),)))
    """
    is_path = name.startswith((FOLDER, ARRAYS))
    base, mark, choices = name.rpartition("?") if is_path else name.partition("?")
    if not mark or (is_path and not PAIRS.fullmatch(choices)):
        return name, ()
    return base, tuple((key, value) for key, _, value in (pair.partition("=") for pair in choices.split("&")))


def is_arrays(name: str) -> bool:
    """Whether the data set of that name is one of arrays, in a file or in memory.

    >>> is_arrays("arrays:study.npz"), is_arrays("digits")
    (True, False)
    """
    return name.startswith(ARRAYS) or name == IN_MEMORY


def split_teacher(name: str) -> tuple[str, str]:
    """The network and the adaptation in the name of a teacher; no network where no plus sign parts the two.

    Plus signs at the end belong to the adaptation.

    >>> split_teacher("clip_rn50+lp++"), split_teacher("features:a+b.npz+clap"), split_teacher("none")
    (('clip_rn50', 'lp++'), ('features:a+b.npz', 'clap'), ('', 'none'))
    """
    stem = name.rstrip("+")
    network, _, adaptation = stem.rpartition("+")
    return network, adaptation + name[len(stem) :]
