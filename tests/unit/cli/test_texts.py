"""Durations, times, harmless text, and tables in a width."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cli.durations import parse_duration_s, short
from cli.table import Column, Table, drawn, marked, painted
from cli.text import ago, between, cell, harmless, instant, money, short_hash

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("24h", 86_400), ("7d", 604_800), ("250ms", 0.25), ("12", 12), ("1h30m", 5400)]
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "0", "1y", "1h 30m", "10s!", "9999999d", "1.5.2s"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(("seconds", "text"), [(0.41, "0.4s"), (12.2, "12s"), (184, "3m04s"), (7500, "2h05m"), (277_200, "3d5h"), (-3, "0.0s")])
def test_a_duration_is_written_with_two_units_at_most(seconds: float, text: str) -> None:
    assert short(seconds) == text


def test_times_are_told_as_ages_and_missing_ones_as_a_dash() -> None:
    assert ago("2026-11-23T11:56:56Z", NOW) == "3m04s ago"
    assert between("2026-11-23T11:59:50Z", None, NOW) == "10s"
    assert between(None, None, NOW) == ago(None, NOW) == "-"
    assert instant("not a time") is None
    assert instant(NOW - timedelta(days=1)) == NOW - timedelta(days=1)


def test_nothing_known_of_cost_is_not_the_same_as_nothing_spent() -> None:
    assert money(None) == "-"
    assert money(0) == "$0.00"


def test_a_hash_is_cut_where_it_still_tells_apart() -> None:
    assert short_hash("sha256-" + "ab" * 32) == "sha256-abababab"
    assert short_hash("0123456789") == "01234567"
    assert short_hash(None) == "-"


@given(st.text())
def test_a_cell_never_holds_a_control_character(text: str) -> None:
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in cell(text))


def test_output_of_agents_keeps_lines_and_colours_and_cannot_move_the_cursor() -> None:
    assert harmless("a\n\x1b[31mred\x1b[0m") == "a\n\x1b[31mred\x1b[0m"
    assert "\x1b" not in harmless("\x1b]0;title\x07\x1b[2J\x1b[1;1H")
    assert "\u202e" not in harmless("\u202egnp.exe")


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=5), st.integers(30, 120))
def test_a_table_fits_its_width_and_never_cuts_an_id(rows: list[tuple[str, str]], width: int) -> None:
    ids = [f"shop-o{n}" for n in range(len(rows))]
    cells = tuple((i, cell(a), cell(b)) for i, (a, b) in zip(ids, rows, strict=True))
    lines = drawn(Table((Column("ID", "id"), Column("A"), Column("B")), cells), width)
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.startswith(i) for line, i in zip(lines[1:], ids, strict=True))


def test_an_id_longer_than_the_terminal_is_still_whole() -> None:
    long = "a" * 30 + "-o123456"
    assert long in drawn(Table((Column("ID", "id"), Column("T")), ((long, "some text that is long"),)), 20)[1]


def test_numbers_stand_right() -> None:
    assert drawn(Table((Column("N", "number"),), (("1",), ("100",))), 80) == ["  N", "  1", "100"]


def test_a_status_has_a_sign_that_says_the_same_without_colour() -> None:
    assert marked("complete") == "✓ complete"
    assert marked("executing") == "▶ executing"
    assert marked(None) == ""
    assert painted("✗ failed  x", "") == "\x1b[31m✗ failed\x1b[0m  x"
    assert painted("plain", "bold green") == "\x1b[1;32mplain\x1b[0m"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (1.5, "1.5"),
        (2.0, "2"),
        (0.12345, "0.123"),
        (7, "7"),
        ([1, "a", None], "1, a, "),
        ({"os": "linux", "gpu": True}, "os=linux,gpu=yes"),
        ("a\tb\n\nc\x1b[2J", "a b c·[2J"),
    ],
)
def test_a_value_in_a_cell_is_one_line_of_harmless_text(value: object, shown: str) -> None:
    assert cell(value) == shown
