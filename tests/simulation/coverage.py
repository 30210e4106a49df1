"""What happened at least once: a simulation that never walks a branch proves nothing about it. Owns a counter of this process."""

from __future__ import annotations

from collections import Counter

seen: Counter[str] = Counter()


def notice(fact: str, holds: bool = True) -> None:
    """Note that something interesting happened."""
    if holds:
        seen[fact] += 1
