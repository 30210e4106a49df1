"""The seam between a node's service and what it runs: an order goes in, the end report comes out.

The service claims, journals and reports; an executor does the work. A bench gives one that does nothing, to measure the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import anyio

from bus import host
from bus.failpoint import failpoint
from bus_schemas.orders import WorkOrder
from bus_schemas.reports import Ended
from bus_schemas.routing import AgentOffer
from node_agent.attempt import Held, ProcessId, Spawned, Spawning
from node_agent.journal import Journal


class Stopped(Exception):
    """The attempt was stopped by order while nothing of it ran."""


class RunContext:
    """What an executor has of the node while it does one attempt: the journal's knowledge, and word of a stop."""

    def __init__(self, held: Held, journal: Journal) -> None:
        """Hold an attempt; what the journal knows of it from a node agent before us is in `spawning` and `process`."""
        self.order = held.order
        self.key = held.key
        self.spawning = held.spawning
        self.process = held.process
        self.stop_reason: str | None = journal.book.stops.get(held.key)
        self._journal = journal
        self._scope: anyio.CancelScope | None = None
        self._on_stop: Callable[[], None] | None = None

    async def begin_spawn(self, head: str | None) -> None:
        """Write down that the process is about to be started; from here on it is never started again."""
        self.spawning = Spawning(self.key, head, host.now())
        await self._journal.append(self.spawning)
        failpoint("node.spawning")

    async def spawned(self, process: ProcessId) -> None:
        """Write down which process it is."""
        self.process = process
        await self._journal.append(Spawned(self.key, process), sync=False)
        failpoint("node.spawned")

    def request_stop(self, reason_code: str) -> None:
        """Stop the attempt, whatever it is doing; the first reason stands."""
        if self.stop_reason is None:
            self.stop_reason = reason_code
        if self._scope is not None:
            self._scope.cancel()
        if self._on_stop is not None:
            self._on_stop()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Do what a stop may cut off at any await. Raises Stopped when it did, or had come before."""
        if self.stop_reason is not None:
            raise Stopped
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                yield
            finally:
                self._scope = None
        if scope.cancelled_caught:
            raise Stopped

    @contextlib.contextmanager
    def passing_stops_to(self, stop: Callable[[], None]) -> Iterator[None]:
        """Call `stop` when a stop comes, or has come before."""
        self._on_stop = stop
        if self.stop_reason is not None:
            stop()
        try:
            yield
        finally:
            self._on_stop = None


class Executor(Protocol):
    """Does attempts."""

    @property
    def recovers(self) -> bool:
        """Whether an attempt leaves something to find after a crash, so that the node must keep a journal."""
        ...

    def offers(self) -> tuple[AgentOffer, ...]:
        """Return the agents of this node."""
        ...

    async def run(self, order: WorkOrder, context: RunContext) -> Ended:
        """Do an attempt, or find one again that was begun, and return its end."""
        ...

    async def forget(self, order: WorkOrder) -> None:
        """Clean up after an attempt whose end is on the bus."""
        ...

    def leave(self, contexts: list[RunContext]) -> None:
        """Deal with attempts that are still running when the node agent ends."""
        ...
