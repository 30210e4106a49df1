"""Durations as operators write them (`30s`, `5m`, `24h`, `7d`, `250ms`) and as they read them. Pure."""

from __future__ import annotations

import re

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d|w)")
DURATION_S_MAX = 31_536_000.0


def parse_duration_s(text: str) -> float:
    """Return a duration in seconds; a bare number is seconds, parts add up (`1h30m`). Raises ValueError."""
    cleaned = text.strip().lower()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", cleaned):
        total_s = float(cleaned)
    else:
        parts = _PART.findall(cleaned)
        if not parts or "".join(number + unit for number, unit in parts) != cleaned:
            raise ValueError(f"{text[:40]!a} is not a duration: write 30s, 5m, 24h or 7d")
        total_s = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if not 0 < total_s <= DURATION_S_MAX:
        raise ValueError(f"{text[:40]!a} is not a duration that can be used: more than nothing, at most a year")
    return total_s


def short(seconds: float) -> str:
    """Return a duration for humans, two units at most: `0.4s`, `12s`, `3m04s`, `2h05m`, `3d4h`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600}h"
