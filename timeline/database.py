"""The database: the store for a service. Owns the two threads in which the store works, and says when something was written.

Reading and publishing never wait for a batch longer than it takes to commit; a batch waits for a publication only while
the file is brought up to date, not while it is copied.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from anyio import CapacityLimiter

from bus import host
from bus.connection import Stored
from bus_schemas.decisions import Position
from timeline.batch import Batch, IngestPosition
from timeline.preparation import Preparation, Prepared
from timeline.store import Store, Table, Unusable, WriteFailed, copy_frozen

T = TypeVar("T")

AGE_COPIES = 20.0
"""How old a copy may become for who does not need the newest: so many times as long as it took to make."""
TOUCHED_MAX = 10_000
"""Orchestrations of which we remember when they last changed: more than can wait for an answer at once."""


class Progress:
    """How far the file is, for those who wait for it to go on."""

    def __init__(self) -> None:
        """Nothing was written yet."""
        self.seq = 0
        self._touched: OrderedDict[str, int] = OrderedDict()
        self._moved = asyncio.Event()

    def move(self, batch: Batch) -> None:
        """Note what a batch wrote, and wake all who wait."""
        self.seq = batch.position.last_seq
        for event in batch.events:
            if event.orchestration is not None:
                self._touched[event.orchestration] = event.seq
                self._touched.move_to_end(event.orchestration)
        while len(self._touched) > TOUCHED_MAX:
            self._touched.popitem(last=False)
        self._moved.set()
        self._moved = asyncio.Event()

    async def until_seq(self, seq: int, timeout_s: float) -> bool:
        """Return True when `seq` was read, False when it was not within `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while self.seq < seq:
                await self._moved.wait()
        return self.seq >= seq

    async def until_touched(self, orchestration: str, after_seq: int, timeout_s: float) -> bool:
        """Return True when the orchestration changed after `after_seq`, False when it did not within `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while self._touched.get(orchestration, 0) <= after_seq:
                await self._moved.wait()
        return self._touched.get(orchestration, 0) > after_seq


class Database:
    """A store behind two threads and their locks."""

    def __init__(self, store: Store, published: Path) -> None:
        """Serve `store`; copies go into the folder `published`."""
        self.progress = Progress()
        self.published_position: Position | None = None
        self._published_s, self._copying_s = 0.0, 0.0
        self._store, self._published = store, published
        self._preparation: Preparation | None = None
        self._prepare_thread, self._write_thread = CapacityLimiter(1), CapacityLimiter(1)
        self._read_thread, self._copy_thread = CapacityLimiter(1), CapacityLimiter(1)
        self._writing, self._reading, self._publishing = anyio.Lock(), anyio.Lock(), anyio.Lock()

    @property
    def ingested(self) -> IngestPosition | None:
        """How far the ledger was read, or None before the stream is known."""
        return self._store.position

    @property
    def position(self) -> Position:
        """The newest row."""
        ingested = self._store.position
        return Position(0, 0) if ingested is None else Position(ingested.last_seq, ingested.last_idx)

    async def open(self) -> str | None:
        """Open the file again or for the first time; return why it was moved aside, or None. Raises InUse."""
        async with self._writing, self._reading:
            self._preparation = None
            await self._in_write_thread(self._store.close)
            return await self._in_write_thread(self._store.open)

    async def close(self) -> None:
        """Close the file; never raises."""
        async with self._writing, self._reading:
            await self._in_write_thread(self._store.close)

    async def begin(self, stream: str, created: datetime) -> IngestPosition:
        """Note which stream the file is made from, unless it is noted; return the position."""
        async with self._writing:
            position = await self._in_write_thread(partial(self._store.begin, stream, created))
        self.progress.seq = position.last_seq
        return position

    async def prepare(self, messages: Sequence[Stored], settled: Callable[[], Awaitable[None]]) -> Prepared:
        """Return what messages write. Needs `settled` to wait until nothing prepared is unwritten. Raises Unusable."""
        preparation = self._preparation
        if preparation is None:
            async with self._writing:
                self._preparation = preparation = await self._in_write_thread(self._store.preparation)
        read = await self._in_prepare_thread(partial(preparation.read, messages))
        wanted = preparation.wanted(read)
        if wanted.orchestrations or wanted.actions:
            await settled()
            async with self._reading:
                rows = await self._in_read_thread(partial(self._store.wanted, wanted))
            preparation.load(rows)
        return await self._in_prepare_thread(partial(preparation.make, read))

    async def write(self, prepared: Prepared) -> None:
        """Write what was prepared, all or nothing. Raises WriteFailed and Unusable; then prepare again from what the file has."""
        async with self._writing:
            try:
                await self._in_write_thread(partial(self._store.write, prepared))
            except (WriteFailed, Unusable):
                self._preparation = None
                raise
        self.progress.move(prepared.batch)

    def rewind(self) -> None:
        """Forget what was prepared and not written."""
        self._preparation = None

    async def read(self, sql: str, parameters: dict[str, Any] | None = None, *, limit: int = 10_000) -> Table:
        """Return what a statement of ours answers. Raises duckdb.Error."""
        async with self._reading:
            return await self._in_read_thread(partial(self._store.read, sql, parameters, limit=limit))

    async def publish(self, *, may_be_older: bool = False) -> Path:
        """Return the path of a copy that is as new as the file was when this was called, or a little older. Raises duckdb.Error and OSError."""
        async with self._publishing:
            age_s = host.monotonic_s() - self._published_s
            is_good = self.published_position is not None and may_be_older and age_s < AGE_COPIES * self._copying_s
            if not is_good and self.published_position != self.position:
                await self._publish()
            return self._published_file()

    def _published_file(self) -> Path:
        return self._published / self._store.path.name

    async def _publish(self) -> None:
        begun_s = host.monotonic_s()
        async with self._writing, self._reading:
            frozen = await self._in_write_thread(self._store.freeze)
        try:
            await anyio.to_thread.run_sync(partial(copy_frozen, self._store.path, self._published_file()), limiter=self._copy_thread)
        finally:
            with anyio.CancelScope(shield=True):
                async with self._writing:
                    await self._in_write_thread(self._store.thaw)
        self.published_position = Position(frozen.last_seq, frozen.last_idx)
        self._published_s = host.monotonic_s()
        self._copying_s = self._published_s - begun_s

    async def _in_prepare_thread(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._prepare_thread)

    async def _in_read_thread(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._read_thread)

    async def _in_write_thread(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._write_thread)
