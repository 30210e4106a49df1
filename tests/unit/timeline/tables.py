"""All tables of a timeline file as plain values, to compare two of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from timeline.rows import TABLES

NAMES = (*TABLES.values(), "ingest_position")


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of every table, in an order of their own."""
    connection = duckdb.connect(str(path), read_only=True)
    try:
        return {name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in NAMES}
    finally:
        connection.close()


def difference(one: Path, other: Path) -> dict[str, tuple[int, int]]:
    """Return for each table how many rows are only in one and only in the other; empty when they are the same."""
    connection = duckdb.connect()
    try:
        connection.execute(f"ATTACH '{one}' AS one (READ_ONLY); ATTACH '{other}' AS other (READ_ONLY)")
        found = {}
        for name in NAMES:
            counts = []
            for left, right in (("one", "other"), ("other", "one")):
                sql = f"SELECT count(*) FROM (FROM {left}.{name} EXCEPT ALL FROM {right}.{name})"
                counts.append(connection.execute(sql).fetchall()[0][0])
            if any(counts):
                found[name] = (counts[0], counts[1])
        return found
    finally:
        connection.close()
