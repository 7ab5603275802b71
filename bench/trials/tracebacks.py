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
    calls = [max((i for i, frame in enumerate(part.stack) if _calls_selector(frame)), default=None) for part in parts]
    if any(call is not None for call in calls):
        for part, call in zip(parts, calls, strict=True):
            part.stack = StackSummary.from_list([] if call is None else list(part.stack)[call + 1 :])
    return "".join(whole.format())


def _chain(whole: TracebackException) -> Iterator[TracebackException]:
    """An exception and those before it, as a traceback shows them."""
    part: TracebackException | None = whole
    while part is not None:
        yield part
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)


def _calls_selector(frame: FrameSummary) -> bool:
    return frame.filename == query.__file__ and frame.name == query.select.__name__
