"""Class names and prompt templates: one spelling of a name, and what is refused in either."""

import html
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Formatter

from activekd.errors import InputError

STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
"""Straight quotes in place of curled ones."""


INVISIBLE = "\u00ad\u200b\u2060\ufeff"
"""Soft hyphen, zero-width space, word joiner and byte-order mark: unseen, of no meaning, and tokens of their own."""


def class_name(written: str) -> str:
    """A class name as written, in Unicode's form NFC, with ``_`` and white space as single spaces.

    >>> class_name("sea_ anemone ")
    'sea anemone'
    """
    return " ".join(unicodedata.normalize("NFC", written).replace("_", " ").split())


def _compared(written: str) -> str:
    """A class name without what CLIP's tokenizer removes: case, HTML entities, curled quotes, full-width forms.

    Invisible characters are removed too.
    """
    text = html.unescape(html.unescape(written)).translate(STRAIGHT)
    characters = (unicodedata.normalize("NFKC", c) if unicodedata.east_asian_width(c) in "FH" else c for c in text)
    return class_name("".join(c for c in characters if unicodedata.category(c) != "Cf")).lower()


def class_name_faults(where: str, written: Sequence[str]) -> list[str]:
    """What is wrong with the class names of a data set: empty, invisible, or reading alike.

    Args:
        where: the folder or file of the names, for messages.
        written: the names as written, distinct.
    """
    groups = defaultdict[str, list[str]](list)
    for name in written:
        groups[_compared(name)].append(name)
    faults = [
        f"{where}: class names {' and '.join(_told_apart(names))} differ only in case, '_', white space, quotes, "
        f"HTML entities or Unicode form; expected: one folder or label per class, and distinct names"
        for key, names in groups.items()
        if len(names) > 1 and key
    ]
    if empty := groups.get(""):
        faults.append(f"{where}: class names {', '.join(map(repr, empty))} have no letter; expected: readable names")
    if control := [name for name in written if _has_control(class_name(name))]:
        faults.append(
            f"{where}: control or invisible characters in class names {', '.join(map(ascii, control))}; "
            f"expected: readable names"
        )
    return faults


def _told_apart(names: Sequence[str]) -> list[str]:
    """Names in quotes; with escapes where they would look the same."""
    composed = {unicodedata.normalize("NFC", name) for name in names}
    return [repr(name) if len(composed) == len(names) else ascii(name) for name in names]


def _has_control(text: str) -> bool:
    return any(c in INVISIBLE or unicodedata.category(c) in {"Cc", "Cs"} for c in text)


def read_text(file: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark.

    Raises:
        InputError: the file cannot be read, or a byte in a named line is not UTF-8.
    """
    try:
        content = file.read_bytes()
    except OSError as fault:
        reason = "no such file" if isinstance(fault, FileNotFoundError) else fault.strerror
        raise InputError(f"{file}: {reason}; expected: a text file in UTF-8") from fault
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise InputError(
            f"{file}, line {line}: byte 0x{content[fault.start]:02x} is not UTF-8; expected: a text file in UTF-8"
        ) from fault


def read_templates(file: Path) -> tuple[str, ...]:
    """The prompt templates of a file, one per line; empty lines are skipped.

    Raises:
        InputError: every fault at once, with its line: a template without exactly one ``{}``, with another field, a
            lone brace, a control or invisible character, or a template that an earlier line has; or the file has none.
    """
    lines = {n: line.strip() for n, line in enumerate(read_text(file).splitlines(), start=1) if line.strip()}
    first: dict[str, int] = {}
    faults = []
    for number, template in lines.items():
        reason = _template_fault(template)
        if template in first:
            reason = f"line {first[template]} has the same template"
        if reason:
            faults.append(f"{file}, line {number}: {template!r}: {reason}; expected: distinct templates with one {{}}")
        first.setdefault(template, number)
    if not lines:
        faults.append(f"{file}: no line; expected: one template per line, each with one {{}}")
    if faults:
        raise InputError(*faults)
    return tuple(first)


def _template_fault(template: str) -> str:
    try:
        fields = [
            (name, spec, conversion) for _, name, spec, conversion in Formatter().parse(template) if name is not None
        ]
    except ValueError as fault:
        return f"{str(fault).lower()} ({{{{ and }}}} stand for braces)"
    if odd := [_written(*field) for field in fields if field != ("", "", None)]:
        return f"field {', '.join(odd)}"
    if len(fields) != 1:
        return f"{len(fields)} fields {{}}"
    return "a control character, an invisible space or a byte-order mark" if _has_control(template) else ""


def _written(name: str, spec: str | None, conversion: str | None) -> str:
    return "{" + name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"


def repeated(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths that stand more than once, in the order of their first repetition."""
    seen, again = set[str](), dict[str, None]()
    for path in paths:
        if path in seen:
            again[path] = None
        seen.add(path)
    return tuple(again)
