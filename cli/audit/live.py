"""Evidence of a ledger that is in use: what the timeline says it has read, and the stored reports.

Owns nothing; reads over the connection that it is given.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from bus.connection import Bus
from bus.connection import Stored as BusStored
from bus.reader import read_up_to, stream_state
from bus.walk import noted_by_timeline, timeline_view
from bus_schemas.chain import Notes
from bus_schemas.subjects import REP
from bus_schemas.views import AlarmView, AuditView
from cli.audit.evidence import Evidence, Stored
from cli.audit.exporter import last_seq_of
from cli.context import Ctx


class Witness(NamedTuple):
    """What the timeline says that it has read, and its alarm."""

    notes: Notes
    alarm: AlarmView | None
    view: AuditView


async def timeline_heads(ctx: Ctx) -> Witness:
    """Return what the timeline has read, all pages of it. Raises Failure."""
    view = await timeline_view(ctx.ask)
    return Witness(noted_by_timeline(view), view.alarm, view)


async def reports(bus: Bus) -> list[Stored] | None:
    """Return all stored reports, or None where old ones have been deleted. Raises Unavailable, ApiFailure."""
    state = await stream_state(bus, REP)
    if state.messages != state.last_seq:
        return None
    subjects = ("qd.rep.>",)
    messages = read_up_to(bus, REP, subjects, 1, await last_seq_of(bus, REP, subjects))
    return [evidence(stored) async for batch in _closing(messages) for stored in batch]


async def _closing(batches: AsyncGenerator[list[BusStored], None]) -> AsyncGenerator[list[BusStored], None]:
    async with aclosing(batches) as found:
        async for batch in found:
            yield batch


def evidence_of(stored_reports: list[Stored] | None) -> Evidence:
    """Return the evidence beside a history that was read already."""
    return Evidence(reports=stored_reports)


def evidence(stored: BusStored) -> Stored:
    """Return a stored message as evidence."""
    return Stored(stored.seq, stored.subject, stored.stored_at.timestamp(), stored.data)
