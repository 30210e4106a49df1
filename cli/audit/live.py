"""The walk along a ledger that is in use: what the bus gives, what the timeline says it has read, what the controller has stopped.

Owns nothing; reads over the connection that it is given. Memory holds what the invariants need of the history, or only the heads.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from bus.connection import Bus
from bus.connection import Stored as BusStored
from bus.reader import Hole, read_up_to, stream_state
from bus_schemas.subjects import LEDGER, REP
from bus_schemas.views import AlarmView, AuditView
from cli.audit.chain import SEQUENCE, Chain, Expected, Notes, Rolling
from cli.audit.evidence import Evidence, Stored
from cli.audit.exporter import last_seq_of
from cli.audit.history import History
from cli.audit.verdict import Violation
from cli.context import Ctx

TIMELINE = "the timeline"


class Witness(NamedTuple):
    """What the timeline says that it has read, and its alarm."""

    notes: Notes
    alarm: AlarmView | None
    view: AuditView


async def timeline_heads(ctx: Ctx) -> Witness:
    """Return what the timeline has read, all pages of it. Raises Failure."""
    first = page = msgspec.convert(await ctx.ask("audit"), AuditView, strict=False)
    items = list(first.items)
    while page.next is not None:
        page = msgspec.convert(await ctx.ask("audit", after=page.next), AuditView, strict=False)
        items += page.items
    heads = tuple(Expected(head.project, head.seq, head.sha256, TIMELINE, head.rows) for head in items)
    return Witness(Notes(heads, (Rolling(first.last_seq, first.rolling_hash, TIMELINE),)), first.alarm, first)


async def walk(bus: Bus, chain: Chain, history: History | None, progress: Callable[[str], None]) -> list[Violation]:
    """Take the whole ledger up to now into `chain` and `history`; return what kept us from reading all. Raises Unavailable, ApiFailure."""
    last_seq = (await stream_state(bus, LEDGER)).last_seq
    found: list[Violation] = []
    try:
        async with aclosing(read_up_to(bus, LEDGER, ("qd.ledger.*",), 1, last_seq)) as batches:
            async for batch in batches:
                for stored in batch:
                    chain.take(stored.seq, stored.subject, stored.data)
                    if history is not None:
                        history.take(_evidence(stored))
                progress(f"message {chain.last_seq} of {last_seq}")
    except Hole as hole:
        found.append(Violation(SEQUENCE, f"message {chain.last_seq + 1}", str(hole)))
    chain.finish(last_seq)
    return found


async def reports(bus: Bus) -> list[Stored] | None:
    """Return all stored reports, or None where old ones have been deleted. Raises Unavailable, ApiFailure."""
    state = await stream_state(bus, REP)
    if state.messages != state.last_seq:
        return None
    subjects = ("qd.rep.>",)
    messages = read_up_to(bus, REP, subjects, 1, await last_seq_of(bus, REP, subjects))
    return [_evidence(stored) async for batch in _closing(messages) for stored in batch]


async def _closing(batches: AsyncGenerator[list[BusStored], None]) -> AsyncGenerator[list[BusStored], None]:
    async with aclosing(batches) as found:
        async for batch in found:
            yield batch


def evidence_of(stored_reports: list[Stored] | None) -> Evidence:
    """Return the evidence beside a history that was read already."""
    return Evidence(reports=stored_reports)


def _evidence(stored: BusStored) -> Stored:
    return Stored(stored.seq, stored.subject, stored.stored_at.timestamp(), stored.data)
