"""How ids stand as numbers in the index file, and what is shared by many rows. Owns nothing: it reads and writes through a connection.

The number of an orchestration or an action is its project's number and its own in one integer, so rows of a project lie together.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

from bus_schemas.canonical import HASH_PREFIX
from bus_schemas.policy import Policy
from controller import shelf_codec
from controller.idempotency import Known
from controller.orchestration import Orchestration

NUMBER_BITS = 40
"""Ids have at most twelve decimal digits."""

CACHED_MAX = 2048
"""Shared texts and policies kept as values; the designs of live work, so far more than are in use at a time."""

_HASH_CHARS = 64


class ProjectNumbers:
    """The number of each project in the file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Read what is there."""
        self._names: dict[int, str] = dict(connection.execute("SELECT id, name FROM projects").fetchall())
        self._numbers = {name: number for number, name in self._names.items()}

    def get(self, project: str) -> int | None:
        """Return the number of a project, or None."""
        return self._numbers.get(project)

    def name(self, number: int) -> str:
        """Return the project of a number. Raises KeyError."""
        return self._names[number]

    def assign(self, connection: sqlite3.Connection, project: str) -> int:
        """Return the number of a project; a new one is written at once."""
        number = self._numbers.get(project)
        if number is None:
            number = int(connection.execute("INSERT INTO projects (name) VALUES (?) RETURNING id", (project,)).fetchone()[0])
            self._names[number] = project
            self._numbers[project] = number
        return number

    def of_id(self, name: str) -> int | None:
        """Return the number of an orchestration or an action, or None: what is not an id, or of no project in the file."""
        project, _, tail = name.rpartition("-")
        number = self._numbers.get(project)
        if number is None or not tail[1:].isdecimal() or len(tail) > 13:
            return None
        return number << NUMBER_BITS | int(tail[1:])


def known_of(body_hash: bytes | str, project: str, number: int) -> Known:
    """Return what a key was used for, from its row."""
    text = body_hash if isinstance(body_hash, str) else HASH_PREFIX + body_hash.hex()
    return Known(text, project, f"{project}-a{number & (1 << NUMBER_BITS) - 1}")


def packed_hash(body_hash: str) -> bytes | str:
    """Return a body's hash in half the room."""
    digits = body_hash.removeprefix(HASH_PREFIX)
    if len(digits) != _HASH_CHARS or not body_hash.startswith(HASH_PREFIX):
        return body_hash
    return bytes.fromhex(digits)


class SharedTexts:
    """What many orchestrations share, read: each text and each policy is one value in memory, however often it is used."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Read through `connection`."""
        self._connection = connection
        self._texts: dict[int, str] = {}
        self._policies: dict[int, Policy] = {}

    def _body(self, number: int) -> bytes:
        row: tuple[bytes] | None = self._connection.execute("SELECT body FROM texts WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise sqlite3.DatabaseError(f"text {number} is missing")
        return row[0]

    def _text(self, number: int) -> str:
        found = self._texts.get(number)
        if found is None:
            found = _room(self._texts)[number] = self._body(number).decode()
        return found

    def _policy(self, number: int) -> Policy:
        found = self._policies.get(number)
        if found is None:
            found = _room(self._policies)[number] = shelf_codec.decode_policy(self._body(number))
        return found

    def whole(self, body: bytes) -> Orchestration:
        """Return the orchestration that was written as `body`. Raises sqlite3.Error, msgspec.MsgspecError."""
        shares, rest = shelf_codec.decode_orchestration(body)
        policy, active_policy = self._policy(shares.policy), self._policy(shares.active_policy)
        return shelf_codec.whole(rest, self._text(shares.design_body), policy, active_policy)


class WrittenTexts:
    """What many orchestrations share, written: each text once, under a number."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Write through `connection`, inside its transaction."""
        self._connection = connection
        self._known: dict[str | bytes, int] = {}

    def forget(self) -> None:
        """Forget which numbers were given: the transaction was undone."""
        self._known.clear()

    def _number(self, known_as: str | bytes, body: bytes) -> int:
        digest = hashlib.blake2b(body, digest_size=16).digest()
        self._connection.execute("INSERT OR IGNORE INTO texts (digest, body) VALUES (?, ?)", (digest, body))
        number = int(self._connection.execute("SELECT id FROM texts WHERE digest = ?", (digest,)).fetchone()[0])
        _room(self._known)[known_as] = number
        return number

    def body_of(self, o: Orchestration) -> bytes:
        """Return an orchestration as bytes, with what it shares written."""
        text = self._known.get(o.design_body)
        if text is None:
            text = self._number(o.design_body, o.design_body.encode())
        policy = self._policy(o.policy)
        active = policy if o.active_policy is o.policy else self._policy(o.active_policy)
        return shelf_codec.encode_orchestration(o, shelf_codec.Shares(text, policy, active))

    def _policy(self, policy: Policy) -> int:
        body = shelf_codec.encode_policy(policy)
        return self._known.get(body) or self._number(body, body)


def _room(cache: dict[Any, Any]) -> dict[Any, Any]:
    if len(cache) >= CACHED_MAX:
        cache.clear()
    return cache
