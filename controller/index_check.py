"""Whether an index is of the ledger that is there. Reads the ledger over the bus; owns nothing.

A ledger that is further is what is expected. One that ends before the index, or holds another message where the index saw one, has
lost or changed what was acknowledged: that is for an operator to judge, and until then nothing may be decided on it.
"""

from __future__ import annotations

from typing import NamedTuple

import anyio

from bus.connection import Bus
from bus.reader import StreamState
from bus_schemas import codec, subjects
from bus_schemas.ids import PLANE
from controller.shelf import Head, Place

AT_ONCE = 16
"""Messages asked for at a time; each may have half a megabyte."""


class Difference(NamedTuple):
    """What does not agree: the whole ledger, or projects by their names; None and empty where all agrees."""

    whole: str | None
    projects: dict[str, str]


async def compared(bus: Bus, state: StreamState, place: Place) -> Difference:
    """Return what of an index at `place` is not in the ledger as it is. Raises Unavailable, ApiFailure."""
    if place.created and place.created != state.created.isoformat():
        return Difference(f"the ledger was made anew at {state.created.isoformat()}; the index is of the one made at {place.created}", {})
    projects: dict[str, str] = {}
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def compare(project: str, head: Head) -> None:
        async with limit:
            why = await _difference(bus, project, head)
        if why is not None:
            projects[project] = why

    async with anyio.create_task_group() as tasks:
        for project, head in place.heads.items():
            tasks.start_soon(compare, project, head)
    whole = projects.get(PLANE)
    return Difference(None if whole is None else f"the registry, on which all is decided, is not what it was: {whole}", projects)


async def _difference(bus: Bus, project: str, head: Head) -> str | None:
    stored = await bus.next_after(subjects.LEDGER, subjects.ledger(project), head.seq - 1)
    if stored is None:
        return f"the ledger ends before message {head.seq}, which was acknowledged: it has lost messages"
    if stored.seq != head.seq:
        return f"message {head.seq}, which was acknowledged, is not in the ledger any more"
    if codec.body_sha256(stored.data) != head.sha256:
        return f"message {head.seq} is not the one that was acknowledged"
    return None
