"""Cells: what DuckDB gives, as JSON can say it."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from timeline.cells import cell, cells


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, b"null"),
        (True, b"true"),
        (3, b"3"),
        (2**63 - 1, b"9223372036854775807"),
        (2**63, b'"9223372036854775808"'),
        (1.5, b"1.5"),
        (float("nan"), b"null"),
        (float("-inf"), b"null"),
        (Decimal("0.160000"), b"0.16"),
        ("x", b'"x"'),
        (datetime(2026, 11, 23, 9, 0), b'"2026-11-23T09:00:00Z"'),
        (datetime(2026, 11, 23, 9, 0, tzinfo=UTC), b'"2026-11-23T09:00:00Z"'),
        (date(2026, 11, 23), b'"2026-11-23"'),
        (timedelta(minutes=1, milliseconds=500), b"60.5"),
        (b"\x00\x01", b'"AAE="'),
        (uuid.UUID(int=0), b'"00000000-0000-0000-0000-000000000000"'),
        ([datetime(2026, 1, 1), None], b'["2026-01-01T00:00:00Z",null]'),
        ({1: Decimal("1.5")}, b'{"1":1.5}'),
    ],
)
def test_a_value_is_shown_as(value: Any, shown: bytes) -> None:
    assert msgspec.json.encode(cell(value)) == shown


def test_rows_are_shown_value_by_value() -> None:
    assert cells([(1, float("nan")), (Decimal("1.5"), None)]) == ((1, None), (1.5, None))
