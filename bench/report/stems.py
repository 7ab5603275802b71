"""Names of files made of names of a run: letters that every file system takes, and never the same twice."""

import re

MAX_NAME = 80
"""Characters of a file's name after its prefix."""


class Stems:
    """Distinct stems of files that begin with one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._taken: set[str] = set()

    def of(self, *names: str) -> str:
        """A stem for these names; other characters than Latin letters and digits become hyphens."""
        parts = [re.sub(r"[^A-Za-z0-9]+", "-", str(name)).strip("-") for name in names]
        stem = name = f"{self._prefix}_" + "_".join(parts)[-MAX_NAME:]
        while name in self._taken:
            name = f"{stem}-{len(self._taken)}"
        self._taken.add(name)
        return name
