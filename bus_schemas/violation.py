"""Something that evidence, a ledger or an export gets wrong. Pure."""

from __future__ import annotations

from msgspec import Struct

VIOLATIONS_MAX = 1000
"""Kept of each invariant: enough to see what is wrong."""


class Violation(Struct, frozen=True):
    """An invariant that does not hold: where (a position, an id, a key, a file) and what was found there."""

    invariant: str
    where: str
    text: str
