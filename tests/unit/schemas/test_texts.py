"""Texts: every pattern is anchored and has words, and what is shown is plain."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect as shapes

from bus_schemas import texts
from bus_schemas.commands import COMMAND_TYPES, CommandEnvelope
from bus_schemas.decisions import LedgerMessage
from bus_schemas.reports import Beat, Report
from bus_schemas.texts import NO_NUL, NOT_BLANK, WORDS, explained, plain


def patterns(shape: Any, seen: set[type]) -> set[str]:
    """Return the patterns of all texts that a type is made of."""
    found: set[str] = set()
    match shape:
        case shapes.StrType():
            found = {shape.pattern} if shape.pattern else set()
        case shapes.StructType() if shape.cls not in seen:
            seen.add(shape.cls)
            found = set().union(*(patterns(field.type, seen) for field in shape.fields))
        case shapes.UnionType():
            found = set().union(*(patterns(inner, seen) for inner in shape.types))
        case shapes.VarTupleType():
            found = patterns(shape.item_type, seen)
        case shapes.DictType():
            found = patterns(shape.value_type, seen)
        case shapes.Metadata():
            found = patterns(shape.type, seen)
        case _:
            pass
    return found


def test_every_pattern_on_the_wire_has_its_words() -> None:
    seen: set[type] = set()
    roots = (*COMMAND_TYPES.values(), CommandEnvelope, LedgerMessage, Report, Beat)
    found = set().union(*(patterns(shapes.type_info(root), seen) for root in roots))
    assert found == set(WORDS)


GOOD = {
    texts.NOT_BLANK: "a",
    texts.ONE_LINE: "a b",
    texts.REPO: "/srv",
    texts.REF: "main",
    texts.NO_NUL: "a",
    texts.TOKEN: "a",
    texts.MODEL: "opus",
    texts.SEVERITY: "p0",
}


@pytest.mark.parametrize("pattern", WORDS)
def test_a_pattern_that_forbids_line_ends_is_not_passed_by_one_at_the_end(pattern: str) -> None:
    assert re.search(pattern, GOOD[pattern])
    for end in ("\n", "\r\n", "\0", "\n\n"):
        passes = re.search(pattern, GOOD[pattern] + end) is not None
        assert passes is (pattern == NOT_BLANK or (pattern == NO_NUL and "\0" not in end))


def test_what_a_decoder_says_is_put_in_words() -> None:
    error = ValueError(f"Expected `str` matching regex {texts.MODEL!r} - at `$.model`")
    assert explained(error) == "Expected `str` of letters, digits and . _ : / @ -, starting with a letter or digit - at `$.model`"


def test_what_is_plain_stays_as_it_is() -> None:
    assert plain("Größe 日本 – ok") == "Größe 日本 – ok"
    assert plain("a\n\x1b[31m\u202e\ud800", 60) == "a\\n\\x1b[31m\\u202e\\ud800"
    assert plain("x" * 600) == "x" * 600
    assert plain("x" * 601) == "x" * 597 + "..."
    assert plain("\n" * 10, 10) == "\\n\\n\\n\\..."


@given(st.text(st.characters()), st.integers(10, 100))
def test_what_is_shown_can_be_printed_and_has_a_bound(text: str, length: int) -> None:
    shown = plain(text, length)
    assert shown.isprintable()
    assert len(shown) <= length
    shown.encode()
