"""The shelf: one SQLite file in which a controller keeps what it knows of the ledger. Owns the file and its lock.

A cache of the ledger that may be deleted at any time. One transaction carries keys, ended things, the state of all that is
live, and the position up to which all of that is true, so they never disagree; after a power cut the file may be behind, and
is never wrong. One connection reads, in the event loop, and one writes, in whatever thread calls `write`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rpds import HashTrieMap

from bus_schemas.decisions import CORE_VERSION, Receipt
from bus_schemas.ids import PLANE
from controller import shelf_codec
from controller.idempotency import Known
from controller.orchestration import Orchestration
from controller.project import Aggregate
from controller.shelf_rows import NUMBER_BITS, ProjectNumbers, SharedTexts, known_of

_PRAGMAS = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-{kib}; PRAGMA wal_autocheckpoint=8000; PRAGMA mmap_size=0;"
READ_CACHE_KIB, WRITE_CACHE_KIB = 16 * 1024, 32 * 1024

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE heads (project INTEGER PRIMARY KEY, seq INTEGER NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE keys (digest BLOB PRIMARY KEY, body_hash BLOB NOT NULL, action INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE texts (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE things (kind TEXT NOT NULL, project INTEGER NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, project, name));
CREATE TABLE orchestrations (id INTEGER PRIMARY KEY, project INTEGER NOT NULL, at INTEGER NOT NULL, status TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX orchestrations_at ON orchestrations (at);
CREATE INDEX orchestrations_project ON orchestrations (project, at);
CREATE INDEX orchestrations_status ON orchestrations (status, at);
CREATE INDEX orchestrations_project_status ON orchestrations (project, status, at);
CREATE TABLE actions (
    id INTEGER PRIMARY KEY, project INTEGER NOT NULL, at INTEGER NOT NULL, status TEXT NOT NULL, orchestration INTEGER, command TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX actions_at ON actions (at);
CREATE INDEX actions_project ON actions (project, at);
CREATE INDEX actions_status ON actions (status, at);
CREATE INDEX actions_project_status ON actions (project, status, at);
CREATE INDEX actions_orchestration ON actions (orchestration, at) WHERE orchestration IS NOT NULL;
"""


class Unusable(Exception):
    """The file cannot be read, or is of another format or core: it is moved aside, and the ledger is folded from its start."""


class Head(NamedTuple):
    """The newest message of a subject: its sequence and the hash of its body."""

    seq: int
    sha256: str


class Place(NamedTuple):
    """Up to where a shelf knows the ledger: which stream, which sequence, and the newest message of each project."""

    created: str
    seq: int
    heads: dict[str, Head]


class Filter(NamedTuple):
    """Which ended things a page shows; None: all. `orchestration` and `since` are for actions alone."""

    project: str | None = None
    status: str | None = None
    orchestration: str | None = None
    since: datetime | None = None


class Shelf:
    """The file, open, for one controller."""

    def __init__(self, path: Path, lock: int) -> None:
        """Use `path`, whose lock is held by the open file `lock`. Raises Unusable, sqlite3.Error."""
        self.path, self.lock = path, lock
        self.failed: str | None = None
        """Why it could not be read, once that has happened."""
        fresh = not path.exists()
        if fresh:
            # what a deleted file left beside itself must not be taken for a part of the new one
            for suffix in ("-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        self.writer = self._connect(WRITE_CACHE_KIB)
        if fresh:
            self._create()
        self._reader = self._connect(READ_CACHE_KIB)
        self._check_format()
        self.numbers = ProjectNumbers(self.writer)
        self._texts = SharedTexts(self._reader)

    def _connect(self, cache_kib: int) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=256)
        connection.executescript(_PRAGMAS.format(kib=cache_kib))
        return connection

    def _create(self) -> None:
        os.chmod(self.path, 0o600)
        meta = {"format": shelf_codec.format_of(), "core": str(CORE_VERSION), "created": "", "seq": "0"}
        self.writer.executescript(f"BEGIN; {SCHEMA}")
        self.writer.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        self.writer.execute("COMMIT")

    def _check_format(self) -> None:
        try:
            meta = self._meta()
        except sqlite3.Error as error:
            raise Unusable(f"it cannot be read: {error}") from error
        expected = {"format": shelf_codec.format_of(), "core": str(CORE_VERSION)}
        for name, value in expected.items():
            if meta.get(name) != value:
                raise Unusable(f"its {name} is {meta.get(name)}, and this controller's is {value}")

    def _meta(self) -> dict[str, str]:
        return dict(self._reader.execute("SELECT name, value FROM meta").fetchall())

    def close(self) -> None:
        """Close the file and let go of its lock."""
        self._reader.close()
        self.writer.close()
        os.close(self.lock)

    # ── at the start ─────────────────────────────────────────────────────────────────────────────────────────────────

    def place(self) -> Place:
        """Return up to where the ledger is known. Raises Unusable."""
        try:
            meta = self._meta()
            heads = {self.numbers.name(number): Head(seq, sha256) for number, seq, sha256 in self._reader.execute("SELECT * FROM heads")}
            return Place(meta["created"], int(meta["seq"]), heads)
        except (sqlite3.Error, KeyError, ValueError) as error:
            raise Unusable(f"it cannot be read: {error}") from error

    def load(self) -> dict[str, Aggregate]:
        """Return the state of every project: all that is live. Raises Unusable."""
        try:
            return self._load()
        except (sqlite3.Error, msgspec.MsgspecError, KeyError, ValueError) as error:
            raise Unusable(f"it cannot be read: {error}") from error

    def _load(self) -> dict[str, Aggregate]:
        parts: dict[str, dict[str, dict[str, Any]]] = {}
        for kind, number, name, body in self._reader.execute("SELECT kind, project, name, body FROM things ORDER BY rowid"):
            value = self._whole(body) if kind == "orchestrations" else shelf_codec.decode_thing(kind, body)
            parts.setdefault(self.numbers.name(number), {}).setdefault(kind, {})[name] = value
        states = {project: _aggregate(project, found) for project, found in parts.items()}
        return {PLANE: Aggregate(PLANE), **states}

    # ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def find_key(self, digest: bytes) -> Known | None:
        """Return what a key was used for, or None. Raises Unusable."""
        row = self._one("SELECT body_hash, action FROM keys WHERE digest = ?", digest)
        return None if row is None else known_of(row[0], self.numbers.name(row[1] >> NUMBER_BITS), row[1])

    def orchestration(self, name: str) -> Orchestration | None:
        """Return an ended orchestration, or None. Raises Unusable."""
        number = self.numbers.of_id(name)
        row = None if number is None else self._one("SELECT body FROM orchestrations WHERE id = ?", number)
        found = None if row is None else self._whole(row[0])
        return found if found is not None and found.id == name else None

    def receipt(self, action: str) -> tuple[Receipt, str] | None:
        """Return the receipt of an action whose outcome stands, with the id of its command, or None. Raises Unusable."""
        number = self.numbers.of_id(action)
        row: Any = None if number is None else self._one("SELECT body, command FROM actions WHERE id = ?", number)
        found = None if row is None else shelf_codec.decode_receipt(row[0])
        return (found, row[1]) if found is not None and found.action == action else None

    def orchestrations(self, wanted: Filter, after: tuple[int, int] | None) -> Iterator[Orchestration]:
        """Yield ended orchestrations, newest first, from behind the place `after` on. Raises Unusable."""
        for _, _, body in self._rows("orchestrations", wanted, after):
            yield self._whole(body)

    def receipts(self, wanted: Filter, place: tuple[int, int] | None, *, newer: bool = False) -> Iterator[Receipt]:
        """Yield receipts whose outcome stands, newest first, from behind `place` on; `newer`: oldest first, from ahead of it on. Raises Unusable."""
        for _, _, body in self._rows("actions", wanted, place, newer=newer):
            yield shelf_codec.decode_receipt(body)

    def _rows(self, table: str, wanted: Filter, place: tuple[int, int] | None, *, newer: bool = False) -> Iterator[tuple[int, int, bytes]]:
        sql, values = self.selecting(table, wanted, place, newer=newer)
        with self._reading():
            yield from self._reader.execute(sql, values)

    def selecting(self, table: str, wanted: Filter, place: tuple[int, int] | None, *, newer: bool = False) -> tuple[str, list[Any]]:
        """Return the statement that finds what is wanted in order, and its values. Whatever is wanted, an index has it in that order."""
        conditions: list[tuple[str, Any]] = []
        if wanted.orchestration is not None:
            # it names its project; and of a status there may be millions, of which the planner knows nothing
            conditions.append(("orchestration = ?", self.numbers.of_id(wanted.orchestration)))
        elif wanted.project is not None:
            conditions.append(("project = ?", self.numbers.get(wanted.project)))
        if wanted.status is not None:
            conditions.append((f"{'+' if wanted.orchestration is not None else ''}status = ?", wanted.status))
        if wanted.since is not None:
            conditions.append(("at >= ?", shelf_codec.microseconds(wanted.since)))
        values = [value for _, value in conditions]
        texts = [text for text, _ in conditions]
        if place is not None:
            texts.append(f"(at, id) {'>' if newer else '<'} (?, ?)")
            values += place
        where = f" WHERE {' AND '.join(texts)}" if texts else ""
        return f"SELECT at, id, body FROM {table}{where} ORDER BY {'at, id' if newer else 'at DESC, id DESC'}", values

    def _one(self, sql: str, value: bytes | int) -> Any:
        with self._reading():
            return self._reader.execute(sql, (value,)).fetchone()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError, KeyError) as error:
            self.failed = f"it cannot be read: {error}"
            raise Unusable(f"{self.path}: {self.failed}") from error

    def _whole(self, body: bytes) -> Orchestration:
        with self._reading():
            return self._texts.whole(body)

    def rank(self, name: str) -> int:
        """Return what orders an orchestration or an action among those of the same moment, as the file does."""
        return self.numbers.of_id(name) or 1 << 62

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing. Raises sqlite3.Error."""
        self.writer.execute("BEGIN IMMEDIATE")
        try:
            yield self.writer
            self.writer.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self.writer.execute("ROLLBACK")
            raise


def _aggregate(project: str, found: dict[str, dict[str, Any]]) -> Aggregate:
    counters = found.get("counters", {}).get("", shelf_codec.counters_of(Aggregate(project)))
    receipts: dict[str, shelf_codec.OpenReceipt] = found.get("actions", {})
    orchestrations: dict[str, Orchestration] = found.get("orchestrations", {})
    maps: dict[str, Any] = {kind: HashTrieMap(found.get(kind, {})) for kind in shelf_codec.THINGS if kind not in ("counters", "actions")}
    return Aggregate(
        project=project,
        **msgspec.structs.asdict(counters),
        **maps,
        actions=HashTrieMap({name: open_.receipt for name, open_ in receipts.items()}),
        commands=HashTrieMap({name: open_.command for name, open_ in receipts.items()}),
        orchestrations=HashTrieMap(orchestrations),
        live_slugs=HashTrieMap({o.slug: o.id for o in orchestrations.values() if o.is_live}),
    )
