"""The traceback of a selector that fails under --serial: its own frames, causes and notes."""

import pytest

from activekd.fitted import naming
from activekd.selectors.contract import made_up_view
from activekd.selectors.query import select
from activekd.selectors.selector import Query, Selector
from activekd.streams import stream
from bench.trials.tracebacks import from_selector_on


def deeper(fault: Exception) -> None:
    raise fault


def asked(query: Query) -> Exception:
    """What a run raises whose selector is this function."""
    chosen = Selector("mine:odd", query, frozenset())
    with pytest.raises(Exception, match="absent") as caught, naming(1):
        select(chosen, made_up_view(), 2, rng=stream(0, "select"))
    assert isinstance(caught.value, Exception)
    return caught.value


def frames(text: str) -> list[str]:
    return [line.rpartition(" in ")[2] for line in text.splitlines() if line.startswith("  File ")]


def test_only_the_frames_of_the_selector_are_shown_with_its_notes() -> None:
    def odd(view: object, query_size: int, *, rng: object) -> None:
        deeper(KeyError("absent"))

    text = from_selector_on(asked(odd))
    assert frames(text) == ["odd", "deeper"]
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith("KeyError: 'absent'\nselector 'mine:odd'\nround 1\n")


def test_causes_are_kept_and_messages_that_wrap_them_have_no_frames() -> None:
    def odd(view: object, query_size: int, *, rng: object) -> None:
        try:
            deeper(KeyError("first"))
        except KeyError as fault:
            raise ValueError("absent") from fault

    text = from_selector_on(asked(odd))
    assert "KeyError: 'first'" in text
    assert text.endswith("ValueError: round 1: selector 'mine:odd': absent\n")
    assert frames(text) == ["odd", "deeper", "odd"]
    assert text.count("Traceback (most recent call last)") == 2


def test_a_fault_outside_of_selectors_keeps_its_traceback() -> None:
    with pytest.raises(KeyError) as caught, naming(0):
        deeper(KeyError("absent"))
    assert "test_a_fault_outside_of_selectors_keeps_its_traceback" in frames(from_selector_on(caught.value))
