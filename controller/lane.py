"""A lane: all decisions of one ledger subject, one message in flight at a time.

Owns nothing but its queue. While a batch is being stored, the next one is decided on the state that the first will lead
to, and takes in all that arrives meanwhile; it is sent as soon as the first is there. So one decision is stored when idle
and several under load, without a timer that delays. If the first is not there after all (another controller was faster),
both are decided again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

import anyio
import anyio.lowlevel

from bus import host
from bus.errors import Conflict
from bus.failpoint import failpoint
from bus_schemas.decisions import LedgerMessage
from bus_schemas.events import RunDispatched
from controller.batch import Batch, CommandItem, DutyItem, Item, ReportItem
from controller.draft import Context
from controller.ledger import Appended, Ledger

log = logging.getLogger(__name__)

CHUNK = 16
"""Decisions made without letting other work go on: a few milliseconds."""

After = Callable[[Batch, LedgerMessage | None], Awaitable[None]]
ContextOf = Callable[[datetime], Context]
Marks = Callable[[str], list[RunDispatched]]


class _Flight(NamedTuple):
    """A batch on its way into the ledger, and the items it was made of."""

    batch: Batch
    items: list[Item]
    stored: asyncio.Task[Appended]


class Lane:
    """The queue of one ledger subject and the loop that empties it."""

    def __init__(self, ledger: Ledger, project: str, context_of: ContextOf, marks: Marks, after: After) -> None:
        """`after` is told each batch once it is stored, with its ledger message; None where nothing had to be stored."""
        self.project = project
        self._ledger, self._context_of, self._marks, self._after = ledger, context_of, marks, after
        self._urgent: deque[Item] = deque()
        self._waiting: deque[Item] = deque()
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()

    def put(self, item: Item) -> None:
        """Queue an item; control commands and reports go before launches. Of a stopped project nothing waits here: it comes again."""
        if self._ledger.is_stopped(self.project):
            return
        urgent = isinstance(item, ReportItem | DutyItem) or (isinstance(item, CommandItem) and item.subject.control_lane)
        (self._urgent if urgent else self._waiting).append(item)
        self._arrived.set()

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._urgent) + len(self._waiting)

    async def room(self, limit: int) -> None:
        """Return when fewer than `limit` items wait, or none of them will be decided: other projects are not kept waiting for that."""
        while len(self) >= limit and not self._ledger.is_stopped(self.project):
            self._emptied.clear()
            await self._emptied.wait()

    async def run(self) -> None:
        """Decide for ever. A project whose ledger cannot be trusted is left waiting, loudly (see `Ledger.stopped`)."""
        flight: _Flight | None = None
        try:
            while True:
                if flight is None and (not len(self) or self._ledger.is_stopped(self.project)):
                    self._emptied.set()
                    self._arrived.clear()
                    await self._arrived.wait()
                    continue
                flight = await self._next(flight)
        finally:
            if flight is not None:
                flight.stored.cancel()

    async def _next(self, flight: _Flight | None) -> _Flight | None:
        """Decide the next batch while the one in flight is being stored; then send it, and only then answer the first."""
        batch = Batch(self._ledger, self.project, self._context_of(host.now()), None if flight is None else flight.batch)
        items: list[Item] = []
        await self._fill(batch, items, flight)
        stored = None
        if flight is not None:
            try:
                stored = await flight.stored
            except Conflict as conflict:
                log.info("%s; deciding %d items again", conflict, len(flight.items) + len(items))
                self._urgent.extendleft(reversed([*flight.items, *items]))
                return None
            batch.rebase(stored)
        following = self._send(batch, items) if batch.decisions else None
        if flight is not None:
            assert stored is not None
            await self._after(flight.batch, stored.message)
        if following is None and batch.answers:
            await self._after(batch, None)
        return following

    async def _fill(self, batch: Batch, items: list[Item], flight: _Flight | None) -> None:
        """Take what waits; while a batch is in flight also what arrives until it is stored."""
        left = len(self)
        while not batch.is_full:
            if flight is not None and flight.stored.done():
                return
            if not len(self):
                if flight is None:
                    return
                await self._arrival_or(flight)
                continue
            if flight is None and left <= 0:
                return
            for _ in range(min(CHUNK, len(self))):
                item = self._urgent.popleft() if self._urgent else self._waiting.popleft()
                items.append(item)
                batch.take(item)
            left -= CHUNK
            self._emptied.set()
            await anyio.lowlevel.checkpoint()
            batch.refresh(self._context_of(host.now()))

    async def _arrival_or(self, flight: _Flight) -> None:
        """Return when something arrives or the batch in flight is stored (or lost)."""
        self._arrived.clear()
        flight.stored.add_done_callback(self._wake)
        try:
            await self._arrived.wait()
        finally:
            flight.stored.remove_done_callback(self._wake)

    def _wake(self, _: asyncio.Task[Appended]) -> None:
        self._arrived.set()

    def _send(self, batch: Batch, items: list[Item]) -> _Flight:
        batch.mark_dispatched(self._marks(self.project))
        failpoint("controller.decided")
        append = self._ledger.append(self.project, batch.base, batch.decisions, batch.encoded, batch.state, batch.plane_seq)
        return _Flight(batch, items, asyncio.ensure_future(append))
