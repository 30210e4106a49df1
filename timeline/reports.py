"""Reports: the named queries of `reports.sql`, and the times and fields that may be asked of them. Pure.

The text that ran is part of every answer, so that it can be run again with `qd sql`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

_HEAD = re.compile(r"-- name: (?P<name>[a-z_ ]+)\n-- description: (?P<description>.+)\n(?P<sql>(?:.+\n)+)")
_AGO = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Report(NamedTuple):
    """A named query with its parameters `$since` and `$until`."""

    name: str
    description: str
    sql: str


class BadReport(ValueError):
    """A report, field or time that there is not; the message says what there is."""


def parse(text: str) -> dict[str, Report]:
    """Return the reports of a file by name."""
    return {found["name"]: Report(found["name"], found["description"], found["sql"].strip()) for found in _HEAD.finditer(text)}


REPORTS = parse(Path(__file__).with_name("reports.sql").read_text())


def find(name: Any, by: Any) -> Report:
    """Return the report `name`, told apart `by` a field or not (None). Raises BadReport."""
    names = sorted({known.split(" ")[0] for known in REPORTS})
    if name not in names:
        raise BadReport(f"no report is called {ascii(name)[:60]}; there are {', '.join(names)}")
    if by is None:
        return REPORTS[name]
    report = REPORTS.get(f"{name} by {by}")
    if report is None:
        fields = [known.split(" by ")[1] for known in REPORTS if known.startswith(f"{name} by ")]
        there_are = f"it can be told apart by {', '.join(fields)}" if fields else "it cannot be told apart by a field"
        raise BadReport(f"report {name} by {ascii(by)[:60]} does not exist: {there_are}")
    return report


def time_of(text: Any, now: datetime) -> datetime | None:
    """Return a time in UTC without a zone: of an ISO text, or of a length like `24h` before `now`; None for None. Raises BadReport."""
    if text is None:
        return None
    try:
        ago = _AGO.fullmatch(text)
        time = now - timedelta(**{_UNITS[ago["unit"]]: int(ago["number"])}) if ago else datetime.fromisoformat(text)
        return (time if time.tzinfo is None else time.astimezone(UTC)).replace(tzinfo=None)
    except (TypeError, ValueError, OverflowError) as error:
        allowed = "an ISO time like 2026-11-23T09:00:00Z, or a length like 90m, 24h or 7d"
        raise BadReport(f"time {ascii(text)[:60]} is not valid: {allowed}") from error


def with_values(sql: str, values: dict[str, datetime | None]) -> str:
    """Return the text of a report with its parameters filled in, as `qd sql` takes it."""
    for name, value in values.items():
        sql = sql.replace(f"${name}", "NULL" if value is None else f"TIMESTAMP '{value.isoformat(sep=' ')}'")
    return sql
