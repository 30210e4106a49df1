"""Feeding a store without a service: prepare, write, one batch after the other."""

from __future__ import annotations

from collections.abc import Sequence

from bus.connection import Stored
from timeline.batch import Batch
from timeline.preparation import Preparation
from timeline.store import Store, WriteFailed


class Feeder:
    """Writes messages into a store, and keeps its preparation between batches as the service does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._preparation: Preparation | None = None

    def ingest(self, messages: Sequence[Stored]) -> Batch:
        preparation = self._preparation = self._preparation or self._store.preparation()
        read = preparation.read(messages)
        preparation.load(self._store.wanted(preparation.wanted(read)))
        prepared = preparation.make(read)
        try:
            self._store.write(prepared)
        except WriteFailed:
            self._preparation = None
            raise
        return prepared.batch


def ingest(store: Store, messages: Sequence[Stored]) -> Batch:
    """Write messages as a service does that has just started."""
    return Feeder(store).ingest(messages)
