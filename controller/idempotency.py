"""The idempotency index: which key was used for which body, for ever. A cache of the ledger, rebuilt from it.

Owns the keys that are not yet in the index file; all others are asked for there. The key's scope is the project that the command
named. The first use of a key stands; a refusal occupies its key too, except one for being expired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from bus_schemas.decisions import CommandCause, LedgerMessage
from bus_schemas.reasons import Reason

_DOES_NOT_OCCUPY = frozenset({Reason.EXPIRED.value, Reason.IDEMPOTENCY_MISMATCH.value})


class Known(NamedTuple):
    """What a key was used for: the body's hash, and the action with the ledger that holds it."""

    body_hash: str
    ledger: str
    action: str


def key_digest(project: str, key: str) -> bytes:
    """Return the 16 bytes under which a key is kept."""
    return hashlib.blake2b(f"{project}\0{key}".encode(), digest_size=16).digest()


class KeyIndex:
    """Answers whether a key was used."""

    def __init__(self, stored: Callable[[bytes], Known | None] | None = None) -> None:
        """Start empty: the fold of the ledger fills it. `stored` finds what the index file has; None: there is no file."""
        self._stored = stored
        self._known: dict[bytes, Known] = {}
        self._leaving: dict[bytes, Known] = {}

    def __len__(self) -> int:
        """Return how many keys are in memory: all, where there is no file."""
        return len(self._known) + len(self._leaving)

    def find(self, project: str, key: str) -> Known | None:
        """Return what a key was used for, or None. Raises Unusable: the file cannot be read."""
        digest = key_digest(project, key)
        known = self._leaving.get(digest) or self._known.get(digest)
        return known if known is not None or self._stored is None else self._stored(digest)

    def add(self, message: LedgerMessage) -> None:
        """Learn the keys of a ledger message."""
        for decision in message.decisions:
            cause, action = decision.cause, decision.action
            if action is None or not isinstance(cause, CommandCause) or not cause.key or action.reason_code in _DOES_NOT_OCCUPY:
                continue
            self._known.setdefault(key_digest(cause.project, cause.key), Known(cause.body_hash, message.project, action.id))

    def hand_over(self) -> dict[bytes, Known]:
        """Return what is to be written; it is known here until `written`, or again after `not_written`."""
        self._leaving, self._known = self._known, {}
        return self._leaving

    def written(self) -> None:
        """Leave what was handed over to the file."""
        self._leaving = {}

    def not_written(self) -> None:
        """Keep what was handed over for the next time."""
        self._known, self._leaving = {**self._known, **self._leaving}, {}
