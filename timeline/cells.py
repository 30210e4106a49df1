"""Cells: values that DuckDB gave as values that JSON can hold. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

INTEGER_MAX = 2**63


def cell(value: Any) -> Any:
    """Return a value as an answer holds it: times as UTC, decimals and intervals (seconds) as numbers, what JSON cannot say as text or None."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if -INTEGER_MAX <= value < INTEGER_MAX else str(value)
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value
        case Decimal():
            return float(value) if value.is_finite() else None
        case timedelta():
            return value.total_seconds()
        case list() | tuple():
            return [cell(item) for item in value]
        case dict():
            return {str(key): cell(item) for key, item in value.items()}
        case _:
            return value


def cells(rows: list[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    """Return rows with every value as an answer holds it."""
    return tuple(tuple(cell(value) for value in row) for row in rows)
