"""Names of what a user gives: image folders, arrays, features computed elsewhere. Standard library only."""

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
