"""Keeping REP bounded: what was reported more than a day ago of runs that have ended is deleted (bus §2).

Owns the purging of the REP stream. A start claim of a run that is still open is never deleted, however old: it is what
keeps that attempt from starting twice.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import anyio
import msgspec

from bus.connection import ApiFailure, Bus, Stored
from bus.errors import Unavailable
from bus.reader import stream_state
from bus_schemas import subjects
from controller.ledger import Ledger

log = logging.getLogger(__name__)

KEEP = timedelta(days=1)
EVERY_S = 3600.0
ANY_REPORT = "qd.rep.>"


class Janitor:
    """Deletes old reports, once an hour."""

    def __init__(self, bus: Bus, ledger: Ledger) -> None:
        """Judge by the state in `ledger`."""
        self._bus, self._ledger = bus, ledger

    async def run(self) -> None:
        """Clean for ever."""
        while True:
            try:
                await self.clean(await self._bus_time() - KEEP)
            except (Unavailable, ApiFailure) as error:
                log.warning("old reports were not deleted, next try in an hour: %s", error)
            await anyio.sleep(EVERY_S)

    async def _bus_time(self) -> datetime:
        """Return what time it is on the bus: our own clock may be days wrong, and a claim that goes too early may be taken again."""
        info = await self._bus.api(f"STREAM.INFO.{subjects.REP}")
        return msgspec.convert(info["ts"], datetime)

    async def clean(self, before: datetime) -> int:
        """Delete the reports stored before `before` that no open run needs; return how many. Raises Unavailable, ApiFailure."""
        first_kept = await self._first_since(before)
        for subject in self._open_claims():
            claim = await self._bus.last(subjects.REP, subject)
            if claim is not None:
                first_kept = min(first_kept, claim.seq)
        answer = await self._bus.api(f"STREAM.PURGE.{subjects.REP}", {"seq": first_kept})
        return int(answer.get("purged", 0))

    async def _first_since(self, before: datetime) -> int:
        """Return the first sequence stored at `before` or later, by halving."""
        state = await stream_state(self._bus, subjects.REP)
        low, high = state.first_seq, state.last_seq + 1
        while low < high:
            middle = (low + high) // 2
            found: Stored | None = await self._bus.next_after(subjects.REP, ANY_REPORT, middle - 1)
            if found is None or found.stored_at >= before:
                high = middle
            else:
                low = found.seq + 1
        return low

    def _open_claims(self) -> list[str]:
        return [
            subjects.report(run.node, state.project, run.id, run.attempt, run.nonce, "started")
            for state in self._ledger.states.values()
            for orchestration in state.live_slugs.values()
            for run in state.orchestrations[orchestration].open_runs()
        ]
