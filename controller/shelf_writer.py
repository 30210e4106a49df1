"""Writing to the index file: what changed since the last time, in one transaction. Owns the file's one writing connection.

Runs in any thread, one call at a time; it touches nothing but the file and frozen values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, NamedTuple

from bus_schemas.decisions import LedgerMessage, Receipt
from controller import index_changes, shelf_codec
from controller.idempotency import Known
from controller.index_changes import ACTIONS, ORCHESTRATIONS, Ended, Touched
from controller.project import Aggregate
from controller.shelf import Place, Shelf
from controller.shelf_rows import WrittenTexts, packed_hash

_PUT_THING = "INSERT INTO things VALUES (?, ?, ?, ?) ON CONFLICT (kind, project, name) DO UPDATE SET body = excluded.body"
_DROP_THING = "DELETE FROM things WHERE kind = ? AND project = ? AND name = ?"
_PUT_KEY = "INSERT OR IGNORE INTO keys VALUES (?, ?, ?)"
_PUT_HEAD = "INSERT OR REPLACE INTO heads VALUES (?, ?, ?)"
_PUT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_PUT_ORCHESTRATION = "INSERT OR REPLACE INTO orchestrations VALUES (?, ?, ?, ?, ?)"
_DROP_ORCHESTRATION = "DELETE FROM orchestrations WHERE id = ?"
_PUT_ACTION = "INSERT OR REPLACE INTO actions VALUES (?, ?, ?, ?, ?, ?, ?)"


class Piece(NamedTuple):
    """What is to be written: the messages since the last time, and how all stands after them."""

    messages: list[LedgerMessage]
    states: dict[str, Aggregate]
    keys: dict[bytes, Known]
    place: Place


class ShelfWriter:
    """Writes pieces, each whole or not at all."""

    def __init__(self, shelf: Shelf) -> None:
        """Write to `shelf`."""
        self._shelf = shelf
        self._texts = WrittenTexts(shelf.writer)

    def write(self, piece: Piece) -> dict[str, Ended]:
        """Write a piece; return the ended things in it, which memory need not keep. Raises sqlite3.Error: nothing was written."""
        touched = index_changes.touched_by(piece.messages, piece.states)
        for project in touched:
            self._shelf.numbers.assign(self._shelf.writer, project)
        try:
            with self._shelf.transaction() as connection:
                ended = {project: self._project(connection, piece, project, found) for project, found in touched.items()}
                self._keys(connection, piece.keys)
                connection.executemany(_PUT_META, [("created", piece.place.created), ("seq", str(piece.place.seq))])
        except BaseException:
            self._texts.forget()
            raise
        return ended

    def _keys(self, connection: sqlite3.Connection, keys: dict[bytes, Known]) -> None:
        numbers = self._shelf.numbers
        rows = [(digest, packed_hash(known.body_hash), numbers.of_id(known.action)) for digest, known in keys.items()]
        # in the order of the tree: neighbours go into the same page
        rows.sort(key=itemgetter(0))
        connection.executemany(_PUT_KEY, rows)

    def _project(self, connection: sqlite3.Connection, piece: Piece, project: str, touched: Touched) -> Ended:
        state, number = piece.states[project], self._shelf.numbers.assign(connection, project)
        head = piece.place.heads[project]
        connection.execute(_PUT_HEAD, (number, head.seq, head.sha256))
        things: list[tuple[str, int, str, bytes]] = [("counters", number, "", shelf_codec.encode_thing(shelf_codec.counters_of(state)))]
        dropped: list[tuple[str, int, str]] = []
        for kind, names in touched.items():
            if kind not in (ACTIONS, ORCHESTRATIONS):
                found = getattr(state, kind)
                things += [(kind, number, name, shelf_codec.encode_thing(found[name])) for name in names if name in found]
        receipts = self._actions(connection, state, number, touched.get(ACTIONS, ()), things, dropped)
        orchestrations = self._orchestrations(connection, state, number, touched.get(ORCHESTRATIONS, ()), things, dropped)
        connection.executemany(_DROP_THING, dropped)
        connection.executemany(_PUT_THING, things)
        return Ended(orchestrations, receipts)

    def _actions(
        self,
        connection: sqlite3.Connection,
        state: Aggregate,
        number: int,
        names: Iterable[str],
        things: list[tuple[str, int, str, bytes]],
        dropped: list[tuple[str, int, str]],
    ) -> dict[str, Receipt]:
        ended: dict[str, Receipt] = {}
        rows: list[tuple[Any, ...]] = []
        for name in names:
            receipt = state.actions.get(name)
            if receipt is None:
                continue
            command = state.commands.get(name) or ""
            if not index_changes.is_answered(receipt):
                things.append((ACTIONS, number, name, shelf_codec.encode_thing(shelf_codec.OpenReceipt(receipt, command))))
                continue
            ended[name] = receipt
            dropped.append((ACTIONS, number, name))
            at = shelf_codec.microseconds(receipt.received_at)
            about = self._about(state.project, receipt)
            rows.append((self._shelf.numbers.of_id(name), number, at, receipt.status.value, about, command, shelf_codec.encode_receipt(receipt)))
        connection.executemany(_PUT_ACTION, rows)
        return ended

    def _about(self, project: str, receipt: Receipt) -> int | None:
        """Return the number of the orchestration that an action is about; what a refused one named may be anything."""
        name = receipt.orchestration
        return self._shelf.numbers.of_id(name) if name is not None and name.startswith(f"{project}-o") else None

    def _orchestrations(
        self,
        connection: sqlite3.Connection,
        state: Aggregate,
        number: int,
        names: Iterable[str],
        things: list[tuple[str, int, str, bytes]],
        dropped: list[tuple[str, int, str]],
    ) -> dict[str, Any]:
        ended: dict[str, Any] = {}
        rows: list[tuple[Any, ...]] = []
        live: list[tuple[int | None]] = []
        for name in names:
            o = state.orchestrations.get(name)
            if o is None:
                continue
            body = self._texts.body_of(o)
            if not index_changes.is_over(o):
                things.append((ORCHESTRATIONS, number, name, body))
                live.append((self._shelf.numbers.of_id(name),))
                continue
            ended[name] = o
            dropped.append((ORCHESTRATIONS, number, name))
            rows.append((self._shelf.numbers.of_id(name), number, shelf_codec.microseconds(o.created_at), o.status.value, body))
        connection.executemany(_DROP_ORCHESTRATION, live)
        connection.executemany(_PUT_ORCHESTRATION, rows)
        return ended
