"""Stores in files that no test shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from bus.connection import Stored
from tests.unit.timeline.feeding import ingest
from timeline.store import Store

CREATED = datetime(2026, 11, 1)
MEMORY_BYTES = 256 * 1024**2


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    opened: list[Store] = []

    def open_one(name: str = "timeline") -> Store:
        store = Store(tmp_path / name / "timeline.duckdb", memory_bytes=MEMORY_BYTES)
        assert store.open() is None
        store.begin("LEDGER", CREATED)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def filled(open_store: Callable[[str], Store]) -> Callable[[list[Stored]], Store]:
    def fill(messages: list[Stored]) -> Store:
        store = open_store("filled")
        assert ingest(store, messages).stopped is None
        return store

    return fill
