"""The start claim, and reports that are sent until the bus has them.

Owns the node's report subjects, each of which takes one message for ever. Whoever does not get the `started` write does
not run; an outcome that is not known is looked up, never guessed.
"""

from __future__ import annotations

import anyio

from bus import host
from bus.connection import Bus
from bus.errors import Rejected, Unavailable
from bus_schemas import codec, subjects
from bus_schemas.orders import WorkOrder
from bus_schemas.reports import Ended, Started
from node_agent.attempt import Taken

RETRY_S = 0.2
REJECTED_RETRY_S = 2.0
"""A stream that is full takes writes again when somebody made room."""


def _subject(order: WorkOrder, kind: str) -> str:
    return subjects.report(order.node, order.project, order.run, order.attempt, order.nonce, kind)


async def win(bus: Bus, taken: Taken, boot: str) -> bool:
    """Return whether this node may start the attempt: its claim is the one that is stored. Waits until that is known."""
    subject = _subject(taken.order, "started")
    claim = codec.encode(Started(v=codec.VERSION, boot=boot, claim=taken.claim, at=host.now()))
    while True:
        try:
            if await bus.write_once(subject, claim):
                return True
            stored = await bus.read_back(subjects.REP, subject)
            if stored is not None:
                return _is_ours(stored, taken.claim)
        except Unavailable:
            pass  # whether it was stored is found out by trying again
        except Rejected:
            await anyio.sleep(REJECTED_RETRY_S)
        await anyio.sleep(RETRY_S)


def _is_ours(stored: bytes, claim: str) -> bool:
    try:
        report = codec.decode_report(stored)
    except codec.Malformed:
        return False
    return isinstance(report, Started) and report.claim == claim


async def deliver(bus: Bus, order: WorkOrder, ended: Ended) -> None:
    """Return when the bus has the end report of an attempt, from this call or an earlier one."""
    subject, data = _subject(order, "ended"), codec.encode(ended)
    while True:
        try:
            await bus.write_once(subject, data)
            return
        except Unavailable:
            await anyio.sleep(RETRY_S)
        except Rejected:
            await anyio.sleep(REJECTED_RETRY_S)
