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
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow.lib as pa  # the package re-exports these without types

from bus.failpoint import failpoint
from bus_schemas import codec
from bus_schemas.events import EVENT_TYPES
from timeline.batch import Head, IngestPosition, Wanted
from timeline.preparation import Preparation, Prepared
from timeline.projection import PROJECTION_VERSION
from timeline.rows import (
    KEYS,
    TABLES,
    ActionRow,
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

_NOT_THE_FILE = ("No space left on device", "Permission denied", "Read-only file system", "Too many open files", "Input/output error")

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
        self.position: IngestPosition | None = None
        self._memory_bytes = memory_bytes
        self._writes: duckdb.DuckDBPyConnection | None = None
        self._reads: duckdb.DuckDBPyConnection | None = None
        self._schemas: dict[type, pa.Schema] = {}

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> str | None:
        """Open the file, or move it aside and make a new one; return why it was moved, or None.

        Raises InUse, and duckdb.Error where it is the machine that refuses and not the file that is bad.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._connect()
        except (duckdb.Error, Unusable) as error:
            if any(sign in str(error) for sign in _NOT_THE_FILE):
                self.close()
                raise
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
        self._schemas = {kind: self._arrow_schema(table) for kind, table in TABLES.items()}
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

    def preparation(self) -> Preparation:
        """Return a preparation that goes on from what the file has. Raises Unusable."""
        assert self.position is not None, "begin first"
        try:
            nodes = self._found(NodeRow, self._write("FROM nodes"))
            heads = {subject: Head(seq, sha256) for subject, seq, sha256 in self._write("FROM ingest_heads")}
        except duckdb.Error as error:
            raise Unusable(str(error)) from error
        return Preparation(self.position, heads, self._schemas, nodes)

    def write(self, prepared: Prepared) -> None:
        """Write a prepared batch and its position, all or nothing. Raises WriteFailed and Unusable: what was prepared after it is worth nothing."""
        try:
            self._write("BEGIN")
            for kind, columns in prepared.staged:
                self._write_columns(kind, columns)
            fields = msgspec.structs.asdict(prepared.batch.position)
            self._write(f"UPDATE ingest_position SET {', '.join(f'{name} = ${name}' for name in fields)}", fields)
            failpoint("timeline.in-transaction")
            self._write("COMMIT")
            failpoint("timeline.committed")
        except duckdb.Error as error:
            self._roll_back()
            raise WriteFailed(str(error)) from error
        self.position = prepared.batch.position

    def _roll_back(self) -> None:
        """Leave the file as before. Raises Unusable."""
        try:
            with contextlib.suppress(duckdb.TransactionException):
                self._write("ROLLBACK")
            self._write("SELECT 1")
        except duckdb.Error as error:
            raise Unusable(str(error)) from error

    def _write_columns(self, kind: type, columns: pa.Table) -> None:
        assert self._writes is not None
        self._writes.register("staged", columns)
        table = TABLES[kind]
        if kind not in KEYS:
            self._write(f"INSERT INTO {table} BY NAME FROM staged")
            return
        same = " AND ".join(f"t.{name} = s.{name}" for name in KEYS[kind])
        self._write(f"MERGE INTO {table} t USING staged s ON {same} WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME")

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, sql: str, parameters: dict[str, Any] | None = None, *, limit: int = 10_000) -> Table:
        """Return what a statement of ours answers, at most `limit` rows. For the reading thread. Raises duckdb.Error."""
        assert self._reads is not None, "the store is closed"
        relation = self._reads.sql(sql, params=parameters or None)
        rows = relation.limit(limit + 1).fetchall()
        return Table(tuple(relation.columns), tuple(str(kind) for kind in relation.types), rows[:limit], len(rows) > limit)

    def wanted(self, wanted: Wanted) -> list[TableRow]:
        """Return rows that a batch may change, orchestrations before what is under them. For the reading thread. Raises duckdb.Error."""
        rows: list[TableRow] = []
        if wanted.actions:
            rows += self._of(ActionRow, "id", wanted.actions)
        if wanted.orchestrations:
            orchestrations = self._of(OrchestrationRow, "id", wanted.orchestrations)
            rows += orchestrations
            known = frozenset(row.id for row in orchestrations if isinstance(row, OrchestrationRow))
            for kind in (PhaseRow, TaskRow, RunRow, GateRow):
                rows += self._of(kind, "orchestration", known)
        return rows

    def _of(self, kind: type[TableRow], column: str, ids: frozenset[str]) -> list[TableRow]:
        assert self._reads is not None, "the store is closed"
        sql = f"SELECT * FROM {TABLES[kind]} WHERE {column} IN (SELECT unnest(?)) ORDER BY ALL"
        return self._found(kind, self._reads.execute(sql, [sorted(ids)]).fetchall())

    def _found(self, kind: type[TableRow], rows: list[tuple[Any, ...]]) -> list[TableRow]:
        return [kind(*row) for row in rows]

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
