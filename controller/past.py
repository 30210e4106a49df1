"""The past: an orchestration as it stood after any decision, folded from the ledger.

Reads the LEDGER stream. Only what concerns the orchestration is folded, so that a long ledger costs its decoding and no more.
"""

from __future__ import annotations

from contextlib import aclosing

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from bus.connection import Bus
from bus.reader import Reader
from bus_schemas import codec, subjects
from bus_schemas import events as e
from bus_schemas.decisions import Decision, LedgerMessage, Position
from bus_schemas.ids import project_of
from controller.orchestration import Orchestration
from controller.project import Aggregate, fold_decision

_DESIGNS = (e.DesignAdded, e.DesignEdited)
TIME_LIMIT_S = 60.0


class TooLong(Exception):
    """The ledger is too long to be folded in the time that a query has."""


async def orchestration_at(bus: Bus, name: str, at: Position, newest_seq: int) -> Orchestration | None:
    """Return an orchestration as it stood after the decision at `at`; None when it was not launched yet.

    `newest_seq` is the newest message of its project. Raises TooLong, Unavailable, and Malformed.
    """
    project = project_of(name)
    last_seq = min(at.seq, newest_seq)
    state = Aggregate(project)
    if last_seq <= 0:
        return None
    reader = Reader(bus, subjects.LEDGER, (subjects.ledger(project),), 1)
    with anyio.move_on_after(TIME_LIMIT_S) as scope:
        async with aclosing(reader.batches()) as batches:
            async for batch in batches:
                for stored in batch:
                    if stored.seq > last_seq:
                        return state.orchestrations.get(name)
                    message = codec.decode_ledger(stored.data)
                    state = _fold(state, message, name, at.row if stored.seq == at.seq else None)
                    await anyio.lowlevel.checkpoint()
                if batch[-1].seq >= last_seq:
                    break
    if scope.cancelled_caught:
        raise TooLong(f"the ledger of {project} could not be folded up to {at} within {TIME_LIMIT_S:g} s")
    return state.orchestrations.get(name)


def _fold(state: Aggregate, message: LedgerMessage, name: str, last_row: int | None) -> Aggregate:
    """Return the state after those decisions of a message that begin at or before `last_row`; None: all of them."""
    row = 0
    for decision in message.decisions:
        if last_row is not None and row > last_row:
            break
        row += len(decision.events) + (decision.action is not None)
        state = fold_decision(state, _about(decision, name), None)
    return state


def _about(decision: Decision, name: str) -> Decision:
    """Return a decision with the events that the orchestration is made of."""
    events = tuple(event for event in decision.events if isinstance(event, _DESIGNS) or getattr(event, "orchestration", None) == name)
    return replace(decision, events=events)
