"""What a process has of the machine it runs on: its clock, its randomness, its disk's sync, its way to the bus.

Owns them, in one place, so that a simulation can give each of its hosts its own. Services take time, ids and connections from
here and from nowhere else; the pure core is given them as values.
"""

from __future__ import annotations

import os
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Protocol

from nats.aio.client import Client

from bus.client import ContainedClient


class Host(Protocol):
    """A machine, real or simulated."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC; it may be wrong and may jump."""
        ...

    def monotonic_s(self) -> float:
        """Return the seconds since some moment; they only grow."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Return `count` bytes that nobody can guess."""
        ...

    async def sync(self, descriptor: int) -> None:
        """Return when the data of an open file is on disk. Raises OSError."""
        ...

    def client(self) -> Client:
        """Return a new, unconnected client of the bus."""
        ...


class Machine:
    """The real machine."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return the seconds of the machine's monotonic clock."""
        return time.monotonic()

    def random_bytes(self, count: int) -> bytes:
        """Return bytes of the system's generator."""
        return os.urandom(count)

    async def sync(self, descriptor: int) -> None:
        """Sync in a worker thread: it takes milliseconds."""
        import anyio.to_thread  # here: a verb of the CLI that only reads need not load it

        await anyio.to_thread.run_sync(os.fdatasync, descriptor)

    def client(self) -> Client:
        """Return a client of nats-py, contained."""
        return ContainedClient()


current: ContextVar[Host] = ContextVar("host", default=Machine())  # noqa: B039 - the machine has no state
"""The host of the running task."""


def now() -> datetime:
    """Return the wall clock's time, in UTC."""
    return current.get().now()


def monotonic_s() -> float:
    """Return the seconds since some moment; they only grow."""
    return current.get().monotonic_s()


def random_bytes(count: int) -> bytes:
    """Return `count` bytes that nobody can guess."""
    return current.get().random_bytes(count)


def unique() -> str:
    """Return 32 hex digits that nothing else has."""
    return random_bytes(16).hex()


async def sync(descriptor: int) -> None:
    """Return when the data of an open file is on disk. Raises OSError."""
    await current.get().sync(descriptor)
