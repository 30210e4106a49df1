"""A timeline file that no service holds: its `events`, for whoever compares them with the ledger. Owns a read-only connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

CHUNK_ROWS = 10_000
_ROWS = 'SELECT seq, idx, project, "type", orchestration, run, attempt, "action" FROM events ORDER BY seq, idx'


def event_rows(path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield (seq, idx, project, type, orchestration, run, attempt, action) of every event, by position. Raises duckdb.Error."""
    connection = duckdb.connect(str(path), read_only=True, config={"enable_external_access": False, "lock_configuration": True})
    try:
        cursor = connection.execute(_ROWS)
        while chunk := cursor.fetchmany(CHUNK_ROWS):
            yield from chunk
    finally:
        connection.close()
