"""The idempotency index: which key was used for which body, for ever. A cache of the ledger, rebuilt from it.

Owns a dictionary. The key's scope is the project that the command named. The first use of a key stands; a refusal occupies
its key too, except one for being expired.
"""

from __future__ import annotations

import hashlib
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

    def __init__(self) -> None:
        """Start empty: the fold of the ledger fills it."""
        self._known: dict[bytes, Known] = {}

    def __len__(self) -> int:
        """Return how many keys are known."""
        return len(self._known)

    def find(self, project: str, key: str) -> Known | None:
        """Return what a key was used for, or None."""
        return self._known.get(key_digest(project, key))

    def add(self, message: LedgerMessage) -> None:
        """Learn the keys of a ledger message."""
        for decision in message.decisions:
            cause, action = decision.cause, decision.action
            if action is None or not isinstance(cause, CommandCause) or not cause.key or action.reason_code in _DOES_NOT_OCCUPY:
                continue
            self._known.setdefault(key_digest(cause.project, cause.key), Known(cause.body_hash, message.project, action.id))
