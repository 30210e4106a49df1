"""The store: the one door to the DuckDB file. Owns `<data>/timeline.duckdb` and its published copy.

Nobody else opens that file. One thread writes, another reads, each with its own connection; a copy is published for
whoever wants to read without us. The file is a cache of the ledger: one that does not open is moved aside and made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow.lib as pa  # the package re-exports these without types

from bus.connection import Stored
from bus_schemas import codec
from bus_schemas.events import EVENT_TYPES
from timeline.batch import Batch, Head, IngestPosition, Wanted, make, read_all, wanted
from timeline.board import Board
from timeline.projection import PROJECTION_VERSION
from timeline.rows import (
    KEYS,
    TABLES,
    ActionRow,
    DeadLetterRow,
    EventRow,
    FlagRow,
    GateRow,
    NodeRow,
    OrchestrationRow,
    PhaseRow,
    RunRow,
    TableRow,
    TaskRow,
)

log = logging.getLogger(__name__)

CHECKPOINT_THRESHOLD = "64MB"
NO_CHECKPOINT = "1TB"

_SCHEMA = Path(__file__).with_name("schema.sql").read_text()
_VIEWS = Path(__file__).with_name("views.sql").read_text()

_ARROW: dict[str, pa.DataType] = {
    "UBIGINT": pa.uint64(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"),
    "DECIMAL(12,6)": pa.decimal128(12, 6),
    "BLOB": pa.binary(),
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
}


class InUse(Exception):
    """Another process has the file open."""


class Unusable(Exception):
    """The connection to the file is gone for good: close the store and open it again."""


class WriteFailed(Exception):
    """A transaction was rolled back; the same batch can be tried again."""


class Table(NamedTuple):
    """What a statement answered; `truncated` is set when there were more rows than asked for."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool


def schema_hash() -> str:
    """Return the hash of everything that shapes the tables; a file with another one is made again from the ledger."""
    parts = (_SCHEMA, str(PROJECTION_VERSION), str(codec.VERSION), *sorted(EVENT_TYPES))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Store:
    """The open file. `write` methods are for one thread, `read` for another."""

    def __init__(self, path: Path, *, memory_bytes: int) -> None:
        """Name the file; `open` opens it."""
        self.path = path
        self.board = Board()
        self.position: IngestPosition | None = None
        self.heads: dict[str, Head] = {}
        self._memory_bytes = memory_bytes
        self._writes: duckdb.DuckDBPyConnection | None = None
        self._reads: duckdb.DuckDBPyConnection | None = None
        self._arrow: dict[type, pa.Schema] = {}

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> str | None:
        """Open the file, or move it aside and make a new one; return why it was moved, or None. Raises InUse."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._connect()
        except InUse:
            raise
        except (duckdb.Error, OSError, Unusable) as error:
            why = f"{self.path} was moved aside and is made again from the ledger: {error}"
            log.critical("%s", why)
            self.close()
            self._move_aside()
            self._connect()
            return why
        return None

    def _connect(self) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": "2",
            "memory_limit": f"{self._memory_bytes // 1024**2}MiB",
            "temp_directory": str(self.path.parent / "spill"),
            "max_temp_directory_size": "4GiB",
            "checkpoint_threshold": CHECKPOINT_THRESHOLD,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
        }
        try:
            connection = duckdb.connect(str(self.path), config=config)
        except duckdb.IOException as error:
            if "lock" in str(error).lower():
                raise InUse(f"{self.path} is open in another process: {error}") from error
            raise
        self._writes = connection
        connection.execute("SET TimeZone='UTC'")
        connection.execute(_SCHEMA)
        connection.execute(_VIEWS)
        connection.execute("CHECKPOINT")  # DDL must not stand in a log that is replayed
        self._reads = connection.cursor()
        self._reads.execute("SET TimeZone='UTC'")
        self._arrow = {kind: self._arrow_schema(table) for kind, table in TABLES.items()}
        self.board = Board()
        self._recall()

    def _arrow_schema(self, table: str) -> pa.Schema:
        columns = self._write("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [table])
        return pa.schema([(name, _ARROW[data_type]) for name, data_type in columns])

    def _recall(self) -> None:
        found = self._write("SELECT * FROM ingest_position")
        self.position = None
        if found:
            *position, known_hash = found[0]
            if known_hash != schema_hash():
                raise Unusable("it was made by another version")
            self.position = IngestPosition(*position)
        self.heads = {subject: Head(seq, sha256) for subject, seq, sha256 in self._write("SELECT * FROM ingest_heads")}
        self.board.load(self._rows(NodeRow, "SELECT * FROM nodes"))
        self.board.load(self._rows(FlagRow, "SELECT * FROM flags"))

    def _move_aside(self) -> None:
        aside = self.path.with_name(f"{self.path.name}.aside")
        for suffix in ("", ".wal"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")

    def close(self) -> None:
        """Close the file, writing what is in its log; never raises."""
        for connection in (self._reads, self._writes):
            if connection is not None:
                with contextlib.suppress(duckdb.Error):
                    connection.close()
        self._reads = self._writes = None

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, sql: str, parameters: list[Any] | dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        assert self._writes is not None, "the store is closed"
        return self._writes.execute(sql, parameters).fetchall()

    def begin(self, stream: str, created: datetime) -> IngestPosition:
        """Note which stream this file is made from, unless it is noted; return the position."""
        if self.position is None:
            position = IngestPosition(stream=stream, created=created)
            self._write(f"INSERT INTO ingest_position VALUES ({','.join('?' * 10)})", [*msgspec.structs.astuple(position), schema_hash()])
            self.position = position
        return self.position

    def _load(self, wanted: Wanted) -> None:
        """Put rows on the board that the file has and a batch may change."""
        if wanted.actions:
            self.board.load(self._rows(ActionRow, "SELECT * FROM actions WHERE id IN (SELECT unnest(?))", [sorted(wanted.actions)]))
        if not wanted.orchestrations:
            return
        ids = [sorted(wanted.orchestrations)]
        self.board.load(self._rows(OrchestrationRow, "SELECT * FROM orchestrations WHERE id IN (SELECT unnest(?))", ids))
        known = [sorted(wanted.orchestrations & self.board.families.keys())]
        for kind in (PhaseRow, TaskRow, RunRow):
            self.board.load(self._rows(kind, f"SELECT * FROM {TABLES[kind]} WHERE orchestration IN (SELECT unnest(?))", known))
        self.board.load(self._rows(GateRow, "SELECT * FROM gates WHERE status = 'open' AND orchestration IN (SELECT unnest(?))", known))

    def _rows(self, kind: type[TableRow], sql: str, parameters: list[Any] | None = None) -> Iterable[TableRow]:
        return [kind(*row) for row in self._write(sql, parameters)]

    def ingest(self, messages: Sequence[Stored]) -> Batch:
        """Write what `messages` say, all or nothing, and return it. Raises WriteFailed (try the same again) and Unusable.

        Messages that were read before are passed over. The batch says when nothing after it may be read.
        """
        assert self.position is not None, "begin first"
        seq = self.position.last_seq
        read = read_all(message for message in messages if message.seq > seq)
        try:
            self._write("BEGIN")
            self._load(wanted(self.board, read))
            batch = make(self.board, self.position, self.heads, read)
            self._append(EventRow, batch.events)
            self._append(DeadLetterRow, batch.dead_letters)
            for kind, rows in self._changed().items():
                self._append(kind, rows) if kind not in KEYS else self._merge(kind, rows)
            self._move(batch)
            self._write("COMMIT")
        except duckdb.Error as error:
            self._roll_back()
            raise WriteFailed(str(error)) from error
        self.position = batch.position
        self.heads.update(batch.heads)
        self.board.written()
        return batch

    def _roll_back(self) -> None:
        """Forget the batch: the file is as before, and the board is loaded from it again. Raises Unusable."""
        try:
            with contextlib.suppress(duckdb.TransactionException):
                self._write("ROLLBACK")
            self.board = Board()
            self._recall()
        except duckdb.Error as error:
            raise Unusable(str(error)) from error

    def _changed(self) -> dict[type[TableRow], list[TableRow]]:
        changed: dict[type[TableRow], list[TableRow]] = {}
        for row in self.board.changed.values():
            changed.setdefault(type(row), []).append(row)
        return changed

    def _append(self, kind: type, rows: Sequence[Any]) -> None:
        if rows:
            self._stage(kind, rows)
            self._write(f"INSERT INTO {TABLES[kind]} BY NAME FROM staged")

    def _merge(self, kind: type, rows: Sequence[Any]) -> None:
        self._stage(kind, rows)
        same = " AND ".join(f"t.{name} = s.{name}" for name in KEYS[kind])
        self._write(f"MERGE INTO {TABLES[kind]} t USING staged s ON {same} WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME")

    def _stage(self, kind: type, rows: Sequence[Any]) -> None:
        assert self._writes is not None
        schema = self._arrow[kind]
        columns = zip(*(rows if kind is EventRow else map(msgspec.structs.astuple, rows)), strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        self._writes.register("staged", pa.Table.from_arrays(arrays, schema=schema))

    def _move(self, batch: Batch) -> None:
        for subject, head in batch.heads.items():
            if subject in self.heads:
                self._write("UPDATE ingest_heads SET seq = ?, sha256 = ? WHERE subject = ?", [*head, subject])
            else:
                self._write("INSERT INTO ingest_heads VALUES (?, ?, ?)", [subject, *head])
        fields = msgspec.structs.asdict(batch.position)
        self._write(f"UPDATE ingest_position SET {', '.join(f'{name} = ${name}' for name in fields)}", fields)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, sql: str, parameters: dict[str, Any] | None = None, *, limit: int = 10_000) -> Table:
        """Return what a statement of ours answers, at most `limit` rows. For the reading thread. Raises duckdb.Error."""
        assert self._reads is not None, "the store is closed"
        relation = self._reads.sql(sql, params=parameters or None)
        rows = relation.limit(limit + 1).fetchall()
        return Table(tuple(relation.columns), tuple(str(kind) for kind in relation.types), rows[:limit], len(rows) > limit)

    # ── publishing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def freeze(self) -> IngestPosition:
        """Bring the file up to date and keep it so: commits go to its log only, until `thaw`. For the writing thread, with nobody reading."""
        assert self.position is not None, "begin first"
        self._write("CHECKPOINT")
        self._write(f"SET checkpoint_threshold = '{NO_CHECKPOINT}'")
        return self.position

    def thaw(self) -> None:
        """Let the log be taken into the file again. For the writing thread."""
        self._write(f"SET checkpoint_threshold = '{CHECKPOINT_THRESHOLD}'")


def copy_frozen(source: Path, target: Path) -> None:
    """Copy a frozen file; whoever opens `target` finds the old copy or the new one, whole. For any thread. Raises OSError."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.new")
    shutil.copyfile(source, fresh)
    os.replace(fresh, target)
