"""Which nodes are there: their newest beats.

Owns the reading of the BEAT stream. Online is computed, never stored; time in which we were not connected does not count
against a node, and neither does a wrong clock of ours: how old a beat is, is told by the bus alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import NamedTuple

import anyio
import msgspec

from bus import host
from bus.connection import ApiFailure, Bus, Stored
from bus.errors import Unavailable
from bus.reader import Reader
from bus_schemas import codec, ids, subjects
from bus_schemas.entities import NODE_OFFLINE_AFTER_S
from bus_schemas.reports import Beat

RETRY_S = 0.2


class _Backlog(NamedTuple):
    """The beats that were stored before we began to read: up to which sequence, and what time it was on the bus."""

    last_seq: int
    bus_time: datetime


class Presence:
    """The newest beat of each node and when it was seen."""

    def __init__(self, bus: Bus) -> None:
        """Nobody was seen yet."""
        self._bus = bus
        self.beats: dict[str, Beat] = {}
        self.seen_at: dict[str, datetime] = {}
        self._seen: dict[str, float] = {}
        self._reading: anyio.CancelScope | None = None
        bus.on_reconnect(self._after_reconnect)

    def _after_reconnect(self) -> None:
        """Count from now, and read from the start: the stream is in memory, so a restarted server begins a new one."""
        now = host.monotonic_s()
        self._seen = dict.fromkeys(self._seen, now)
        if self._reading is not None:
            self._reading.cancel()

    def online(self) -> frozenset[str]:
        """Return the nodes seen within 10 s; while we are not connected nobody goes offline."""
        if not self._bus.is_connected:
            return frozenset(self._seen)
        now = host.monotonic_s()
        return frozenset(node for node, seen in self._seen.items() if now - seen < NODE_OFFLINE_AFTER_S)

    async def follow(self, on_beat: Callable[[Beat], None]) -> None:
        """Take in beats for ever; `on_beat` is told each of them."""
        while True:
            with anyio.CancelScope() as self._reading:
                backlog = await self._backlog()
                async with aclosing(Reader(self._bus, subjects.BEAT, ("qd.beat.*",), 1).batches()) as batches:
                    async for batch in batches:
                        for stored in batch:
                            self._take(stored, backlog, on_beat)

    async def _backlog(self) -> _Backlog:
        while True:
            try:
                info = await self._bus.api(f"STREAM.INFO.{subjects.BEAT}")
                return _Backlog(info["state"]["last_seq"], msgspec.convert(info["ts"], datetime))
            except (Unavailable, ApiFailure):
                await anyio.sleep(RETRY_S)

    def _take(self, stored: Stored, backlog: _Backlog, on_beat: Callable[[Beat], None]) -> None:
        try:
            beat = codec.decode_beat(stored.data)
            ids.node_id(beat.node)
        except (codec.Malformed, ids.BadId):
            return  # a beat is only a sign of life; the next one comes in two seconds
        if stored.subject != subjects.beat(beat.node):
            return
        age_s = max(0.0, (backlog.bus_time - stored.stored_at).total_seconds()) if stored.seq <= backlog.last_seq else 0.0
        self._seen[beat.node] = host.monotonic_s() - age_s
        self.seen_at[beat.node] = stored.stored_at
        self.beats[beat.node] = beat
        on_beat(beat)
