"""A simulated host: a machine with its own clock, randomness, disk and way to the bus, which can crash at any step.

Owns its clients. A process on it runs in tasks made by `run`, which find it in `bus.host.current`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Coroutine
from contextvars import copy_context
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from nats import errors
from nats.aio.client import Client

from bus import host as bus_host
from tests.simulation.client import SimClient
from tests.simulation.jetstream import EPOCH
from tests.simulation.link import Network
from tests.simulation.loop import SimLoop

T = TypeVar("T")

SYNC_S = (0.0002, 0.003)
KILL_ROUNDS_MAX = 200


class Killed(BaseException):
    """The process is dead: what runs in it goes no further. Raised where a crash is to happen, by `SimHost.die_here`."""


class SimHost:
    """One process on one simulated machine. After `kill` it is never used again: a new process is a new SimHost.

    `skew_s` is how far its wall clock is off; it may be changed at any time.
    """

    def __init__(self, loop: SimLoop, network: Network, name: str, *, skew_s: float = 0.0, data: Path | None = None) -> None:
        self.loop, self.network, self.name, self.skew_s, self.data = loop, network, name, skew_s, data
        self.alive = True
        self.chance = random.Random(loop.rng.random())
        self.clients: list[SimClient] = []
        self.sync_s = SYNC_S
        self.syncs = 0
        self._synced_bytes: dict[int, int] = {}
        self._frozen: dict[Path, bytes] = {}

    # ── the machine, as the services see it ──────────────────────────────────────────────────────────────────────────

    def now(self) -> datetime:
        """Return the wall clock's time."""
        return EPOCH + timedelta(seconds=self.loop.time() + self.skew_s)

    def monotonic_s(self) -> float:
        """Return the seconds since the simulation began."""
        return self.loop.time()

    def random_bytes(self, count: int) -> bytes:
        """Return bytes from the seed."""
        return self.chance.randbytes(count)

    async def sync(self, descriptor: int) -> None:
        """Take a disk's time. Raises OSError once the process is dead."""
        self.check_disk()
        size = os.fstat(descriptor).st_size
        await asyncio.sleep(self.loop.rng.uniform(*self.sync_s))
        self.check_disk()
        self.syncs += 1
        self._synced_bytes[os.fstat(descriptor).st_ino] = size

    def client(self) -> Client:
        """Return a new client."""
        return SimClient(self)

    def check(self) -> None:
        """Raise ConnectionClosedError once the process is dead."""
        if not self.alive:
            raise errors.ConnectionClosedError

    def check_disk(self) -> None:
        """Raise OSError once the process is dead."""
        if not self.alive:
            raise OSError(f"the process on {self.name} is dead")

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, main: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start a coroutine on this host; all that it starts belongs to the host too."""
        context = copy_context()
        context.run(bus_host.current.set, self)
        return self.loop.create_task(main, name=name, context=context)

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """What runs on this host, in the order of starting."""
        return [task for task, owner in self.loop.tasks.items() if owner is self]

    def die_here(self, *, power: bool = False) -> None:
        """Crash from within, as a failpoint does. Raises Killed; `buried` then waits for the rest."""
        self.crash(power=power)
        raise Killed(self.name)

    def crash(self, *, power: bool = False) -> None:
        """Be dead from this step on: nothing that still runs has an effect outside.

        Its files stay as they are now; with `power`, what was written after the last sync may be lost, and the server is not told.
        """
        if not self.alive:
            return
        self.alive = False
        for client in self.clients:
            client.vanish(silently=power)
        if self.data is not None and self.data.exists():
            for path in sorted(self.data.rglob("*")):
                if path.is_file():
                    self._frozen[path] = self._left_of(path, power)

    def _left_of(self, path: Path, power: bool) -> bytes:
        content = path.read_bytes()
        synced = self._synced_bytes.get(path.stat().st_ino)
        if not power or synced is None or synced >= len(content):
            return content
        return content[: self.loop.rng.randint(synced, len(content))]

    async def buried(self) -> None:
        """Return when nothing runs on this host any more, and its files are as the crash left them."""
        assert not self.alive
        current = asyncio.current_task()
        for _ in range(KILL_ROUNDS_MAX):
            tasks = [task for task in self.tasks if task is not current]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.01)
        assert not [task for task in self.tasks if task is not current], f"{self.name} does not die: {self.tasks}"
        for path, content in self._frozen.items():
            path.write_bytes(content)

    async def kill(self, *, power: bool = False) -> None:
        """Crash, from outside, and return when it is over."""
        self.crash(power=power)
        await self.buried()
