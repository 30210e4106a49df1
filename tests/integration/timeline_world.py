"""A world for the tests of the timeline: a real bus, a ledger written by a story, and a timeline that reads it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from bus.bootstrap import Sync, ensure_all
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus.errors import Unavailable
from bus.request import ask
from tests.unit.timeline.story import Story
from timeline.config import TimelineConfig
from timeline.service import serve

DEADLINE_S = 20.0


class World(NamedTuple):
    """A server, a client, and where the timeline's data lives."""

    server: EmbeddedServer
    bus: Bus
    data: Path

    def config(self, **more: Any) -> TimelineConfig:
        return TimelineConfig(server=self.server.url, token=self.server.credentials.token, data=self.data, **more)

    async def tell(self, story: Story, start: int = 0, end: int | None = None) -> int:
        """Append messages of a story to the ledger; return the last sequence."""
        seq = 0
        for subject, body in story.bodies[start:end]:
            seq = (await self.bus.append(subject, body)).seq
        return seq

    async def ask(self, query: str, **params: Any) -> dict[str, Any]:
        return await ask(self.bus, query, params, timeout_s=25.0)

    async def status(self, *, state: str) -> dict[str, Any]:
        """Return the status once the timeline is in this state."""
        return await self._status_once(lambda status: status["state"] == state)

    async def until_read(self, seq: int) -> None:
        """Return when the timeline has read this far."""
        await self._status_once(lambda status: int(status["position"].split(".")[0]) >= seq)

    async def until_it_answers(self) -> None:
        """Return when a timeline is there."""
        await self._status_once(lambda status: True)

    async def _status_once(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE_S
        status: dict[str, Any] = {}
        while time.monotonic() < deadline:
            with contextlib.suppress(Unavailable):  # the bus or the timeline may be about to start again
                status = await self.ask("timeline-status")
                if fits(status):
                    return status
            await anyio.sleep(0.02)
        raise AssertionError(f"not within {DEADLINE_S:g} s: {status}")


@contextlib.asynccontextmanager
async def built(folder: Path, *, sync: Sync | None = Sync.ALWAYS) -> AsyncIterator[World]:
    async with EmbeddedServer(folder / "bus") as server:
        bus = await connect(server.url, "test", server.credentials)
        try:
            await ensure_all(bus, sync=sync)
            yield World(server, bus, folder / "timeline")
        finally:
            await bus.close()


@contextlib.asynccontextmanager
async def running(world: World, **more: Any) -> AsyncIterator[None]:
    """Run a timeline in this process."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(serve, world.config(**more))
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def rebuilt(world: World, folder: Path) -> Path:
    """Return the file of a timeline that read the whole ledger of this world in one go."""
    other = world._replace(data=folder)
    last_seq = int((await world.bus.api("STREAM.INFO.LEDGER"))["state"]["last_seq"])
    async with running(other):
        await other.until_read(last_seq)
    return other.config().database
