"""Values as humans read them: times, money, identifiers, and text of others made harmless for a terminal. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Any

from cli.durations import short

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
_SGR = re.compile(r"\x1b\[[0-9;]{0,30}m")
_BLANKS = re.compile(r"[\t\n]+")


def cell(value: Any) -> str:
    """Return a value as one line without control characters; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value)
    if isinstance(value, dict):
        return ",".join(f"{cell(key)}={cell(item)}" for key, item in value.items())
    return _CONTROL.sub("·", _BLANKS.sub(" ", str(value)))


def harmless(text: str) -> str:
    """Return text of an agent for a terminal: lines and colours stay, everything else that could move a cursor is made visible."""
    kept = _SGR.findall(text)
    parts = _SGR.split(text)
    cleaned = [_CONTROL.sub("·", part.replace("\r\n", "\n")) for part in parts]
    return "".join(part + colour for part, colour in zip(cleaned, [*kept, ""], strict=True))


def instant(text: str | datetime | None) -> datetime | None:
    """Return a time of an answer as UTC, or None where there is none that can be read."""
    if isinstance(text, datetime):
        return text if text.tzinfo else text.replace(tzinfo=UTC)
    try:
        found = datetime.fromisoformat(text) if text else None
    except (ValueError, TypeError):
        return None
    return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)


def ago(text: str | datetime | None, now: datetime) -> str:
    """Return how long ago a time was, like `3m04s ago`; `-` where there is none."""
    at = instant(text)
    return "-" if at is None else f"{short((now - at).total_seconds())} ago"


def between(start: str | datetime | None, end: str | datetime | None, now: datetime) -> str:
    """Return how long something took, or takes so far; `-` where it has not begun."""
    begun = instant(start)
    return "-" if begun is None else short(((instant(end) or now) - begun).total_seconds())


def clock(text: str | datetime | None, zone: tzinfo | None) -> str:
    """Return the time of day in a zone (None: the machine's own); `-` where there is none."""
    at = instant(text)
    return "-" if at is None else at.astimezone(zone).strftime("%H:%M:%S")


def moment(text: str | datetime | None, zone: tzinfo | None) -> str:
    """Return date and time in a zone (None: the machine's own), with the zone's name; `-` where there is none."""
    at = instant(text)
    return "-" if at is None else at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def money(usd: float | None) -> str:
    """Return dollars; `-` where nothing is known, which is not the same as nothing spent."""
    return "-" if usd is None else f"${usd:.2f}"


def short_hash(text: str | None) -> str:
    """Return the beginning of a hash or commit that still tells it apart."""
    if not text:
        return "-"
    return text[: 7 + 8] if text.startswith("sha256-") else text[:8]
