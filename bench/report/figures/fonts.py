"""Fonts of figures: which installed families have the characters that the figures' font lacks."""

from functools import lru_cache

from matplotlib.font_manager import fontManager, get_font

FONT = "DejaVu Sans"
"""The font of figures; it comes with matplotlib."""

LAST_RESORT = "Last Resort"
"""How the name of a font begins that has a box for every character; it comes with matplotlib too."""


@lru_cache(maxsize=1)
def fallbacks(text: str) -> tuple[tuple[str, ...], str]:
    """The installed families for the characters of a text that FONT lacks.

    Families with more of these characters come first, families of equally many in alphabetical order.

    Returns:
        The families, none where FONT has every character; and the characters that no family has, in the order of
        their code.
    """
    lacking = {character for character in text if not character.isspace()} - _characters(FONT)
    families: list[str] = []
    while lacking:
        names = sorted(name for name in fontManager.get_font_names() if not name.startswith(LAST_RESORT))
        counts = {name: len(lacking & _characters(name)) for name in names}
        best = max(counts, key=counts.__getitem__)
        if not counts[best]:
            break
        families.append(best)
        lacking -= _characters(best)
    return tuple(families), "".join(sorted(lacking))


@lru_cache
def _characters(family: str) -> frozenset[str]:
    files = [font.fname for font in fontManager.ttflist if font.name == family and font.style == "normal"]
    return frozenset(map(chr, get_font(files[0]).get_charmap())) if files else frozenset()
