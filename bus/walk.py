"""The walk along a ledger that is in use, and what it finds wrong with it.

Owns nothing; reads over the connection that it is given. A million messages take some ten seconds of one core.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from bus.connection import Bus, Stored
from bus.reader import Hole, read_up_to, stream_state
from bus_schemas.chain import SEQUENCE, Chain, Expected, Notes, Rolling
from bus_schemas.subjects import LEDGER
from bus_schemas.views import AuditView
from bus_schemas.violation import Violation

TIMELINE = "the timeline"


async def timeline_view(ask: Callable[..., Awaitable[Any]]) -> AuditView:
    """Return what the timeline has read, all pages of it in one view. Raises what `ask` raises."""
    first = page = msgspec.convert(await ask("audit"), AuditView, strict=False)
    items = list(first.items)
    while page.next is not None:
        page = msgspec.convert(await ask("audit", after=page.next), AuditView, strict=False)
        items += page.items
    return msgspec.structs.replace(first, items=tuple(items))


def noted_by_timeline(view: AuditView) -> Notes:
    """Return the heads that the timeline says it has read (all pages in one view)."""
    heads = tuple(Expected(head.project, head.seq, head.sha256, TIMELINE, head.rows) for head in view.items)
    return Notes(heads, (Rolling(view.last_seq, view.rolling_hash, TIMELINE),))


async def walk(bus: Bus, chain: Chain, take: Callable[[Stored], None] | None, progress: Callable[[str], None]) -> list[Violation]:
    """Take the whole ledger up to now into `chain` and `take`; return what kept us from reading all. Raises Unavailable, ApiFailure."""
    last_seq = (await stream_state(bus, LEDGER)).last_seq
    found: list[Violation] = []
    try:
        async with aclosing(read_up_to(bus, LEDGER, ("qd.ledger.*",), 1, last_seq)) as batches:
            async for batch in batches:
                for stored in batch:
                    chain.take(stored.seq, stored.subject, stored.data)
                    if take is not None:
                        take(stored)
                progress(f"message {chain.last_seq} of {last_seq}")
    except Hole as hole:
        found.append(Violation(SEQUENCE, f"message {chain.last_seq + 1}", str(hole)))
    chain.finish(last_seq)
    return found
