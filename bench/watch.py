"""Watching the ledger: which `init` runs have ended, and when this process has seen it.

Owns a reader of the LEDGER stream. Both pipelines are watched by the same code, since both write the same messages.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import NamedTuple

import anyio
import msgspec
from msgspec import Struct

from bench import work
from bus.connection import Bus, Stored
from bus.reader import Reader
from bus_schemas import subjects

SEEN_TIMEOUT_S = 120.0


class _Event(Struct):
    """As much of an event as is watched: decoding the rest would cost the client as much as its launches."""

    type: str = ""
    orchestration: str = ""
    run: str = ""


class _Decision(Struct):
    events: tuple[_Event, ...] = ()


class _Message(Struct):
    decisions: tuple[_Decision, ...] = ()


_decoder = msgspec.json.Decoder(_Message)


class LedgerEntry(NamedTuple):
    """A ledger message: its sequence, when it was stored (seconds since 1970), and how many events it holds."""

    seq: int
    stored_at_s: float
    events: int


class Watch:
    """Init runs that have ended, by orchestration, each with the `time.perf_counter` of when that was seen. Use as a context manager."""

    def __init__(self, bus: Bus, start_seq: int) -> None:
        """Watch from ledger sequence `start_seq` on."""
        self.ended: dict[str, float] = {}
        self.entries: list[LedgerEntry] = []
        self.ended_twice = 0
        self.position_seq = start_seq - 1
        subject = subjects.ledger(work.PROJECT)
        self._batches: AsyncGenerator[list[Stored], None] = Reader(bus, subjects.LEDGER, (subject,), start_seq).batches()

    async def until(self, count: int) -> None:
        """Return when `count` runs have ended. Raises TimeoutError."""
        with anyio.fail_after(SEEN_TIMEOUT_S):
            while len(self.ended) < count:
                await self._more()

    async def until_ended(self, orchestration: str) -> None:
        """Return when the run of `orchestration` has ended. Raises TimeoutError."""
        with anyio.fail_after(SEEN_TIMEOUT_S):
            while orchestration not in self.ended:
                await self._more()

    async def _more(self) -> None:
        batch = await anext(self._batches)
        seen_at = time.perf_counter()
        for stored in batch:
            events = [event for decision in _decoder.decode(stored.data).decisions for event in decision.events]
            self.position_seq = stored.seq
            self.entries.append(LedgerEntry(stored.seq, stored.stored_at.timestamp(), len(events)))
            for event in events:
                if event.type == "run-ended" and event.run.endswith("-r1"):
                    self.ended_twice += event.orchestration in self.ended
                    self.ended[event.orchestration] = seen_at

    async def __aenter__(self) -> Watch:
        """Reading begins with the first wait."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop reading."""
        await self._batches.aclose()
