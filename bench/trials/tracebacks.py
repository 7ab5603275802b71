"""The traceback of a failing selector, from its call on: its author need not read the frames that led there."""

import sys
from collections.abc import Iterator
from traceback import FrameSummary, StackSummary, TracebackException
from types import TracebackType

from activekd.selectors import query


def show_from_selector_on(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception as ``from_selector_on`` does: a ``sys.excepthook``, so that debuggers still see all frames."""
    sys.stderr.write(from_selector_on(error))


def from_selector_on(error: BaseException) -> str:
    """The traceback of an exception without the frames before the call of a selector, with causes and notes.

    The whole traceback, where neither the exception nor a cause of it passed through the call of a selector.
    """
    whole = TracebackException.from_exception(error)
    parts = [*_chain(whole)]
    calls = [[i for i, frame in enumerate(part.stack) if _calls_selector(frame)] for part in parts]
    innermost = max((n for n, of_part in enumerate(calls) if of_part), default=-1)
    # Causes of the innermost are the selector's own; what is around it only adds to its message.
    for part, of_part in zip(parts[: innermost + 1], calls, strict=False):
        part.stack = StackSummary.from_list(list(part.stack)[of_part[-1] + 1 :] if of_part else [])
    return "".join(whole.format())


def _chain(whole: TracebackException) -> Iterator[TracebackException]:
    """An exception, and those that it came from, in that order."""
    part: TracebackException | None = whole
    while part is not None:
        yield part
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)


def _calls_selector(frame: FrameSummary) -> bool:
    return frame.filename == query.__file__ and frame.name == query.select.__name__
