"""Preparation: ledger messages → the columns that one transaction writes. Pure memory; it never looks at the file itself.

It runs ahead of the file by one batch, so that one core prepares while another writes. When a write fails, what was
prepared is worth nothing: a new preparation starts from what the file has.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow.lib as pa  # the package re-exports these without types

from bus.connection import Stored
from timeline.batch import Batch, Head, IngestPosition, Read, Wanted, make, read_all, wanted
from timeline.board import Board
from timeline.rows import DeadLetterRow, EventRow, HeadRow, TableRow


class Prepared(NamedTuple):
    """A batch, and what it writes to which table, as columns."""

    batch: Batch
    staged: list[tuple[type, pa.Table]]


class Preparation:
    """Where preparing stands: the position and the heads after the newest batch, and the board."""

    def __init__(self, position: IngestPosition, heads: dict[str, Head], schemas: dict[type, pa.Schema], rows: Iterable[TableRow]) -> None:
        """Start where the file is; `rows` are those that every batch may need."""
        self._position, self._heads, self._schemas = position, dict(heads), schemas
        self._board = Board()
        self._board.load(rows)

    def read(self, messages: Sequence[Stored]) -> list[Read]:
        """Return the messages decoded; those that were read before are passed over."""
        with _no_collection():
            return read_all(message for message in messages if message.seq > self._position.last_seq)

    def wanted(self, read: Sequence[Read]) -> Wanted:
        """Return what must be loaded before `make`."""
        return wanted(self._board, read)

    def load(self, rows: Iterable[TableRow]) -> None:
        """Take rows of the file; orchestrations before what is under them."""
        self._board.load(rows)

    def make(self, read: Sequence[Read]) -> Prepared:
        """Return what `read` writes, and stand behind it."""
        with _no_collection():
            batch = make(self._board, self._position, self._heads, read)
            rows: dict[type, Sequence[Any]] = {
                EventRow: batch.events,
                DeadLetterRow: batch.dead_letters,
                HeadRow: [HeadRow(subject, *head) for subject, head in batch.heads.items()],
            }
            for row in self._board.changed.values():
                rows.setdefault(type(row), []).append(row)  # type: ignore[attr-defined]
            staged = [(kind, self._columns(kind, several)) for kind, several in rows.items() if several]
        self._position = batch.position
        self._heads.update(batch.heads)
        self._board.written()
        return Prepared(batch, staged)

    def _columns(self, kind: type, rows: Sequence[Any]) -> pa.Table:
        schema = self._schemas[kind]
        columns = zip(*(rows if kind is EventRow else map(msgspec.structs.astuple, rows)), strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    # the garbage collector would walk all these rows again and again, a tenth of the time; none of them is in a cycle
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
