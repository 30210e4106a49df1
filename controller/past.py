"""The past: an orchestration as it stood after any decision, or when a run was ordered, folded from the ledger.

Reads the LEDGER stream. Only what concerns the orchestration is folded, so that a long ledger costs its decoding and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from bus.connection import Bus
from bus.reader import Reader
from bus_schemas import codec, subjects
from bus_schemas import events as e
from bus_schemas.decisions import Decision, LedgerMessage, Position
from bus_schemas.ids import orchestration_of, project_of
from controller.orchestration import Orchestration
from controller.project import Aggregate, fold_decision

_CATALOGUE = (e.DesignAdded, e.DesignEdited, e.TicketAdded, e.TicketEdited)
TIME_LIMIT_S = 60.0


class TooLong(Exception):
    """The ledger is too long to be folded in the time that a query has."""


async def orchestration_at(bus: Bus, name: str, at: Position, newest_seq: int) -> tuple[Orchestration, datetime] | None:
    """Return an orchestration as it stood after the decision at `at`, and when its project was last decided on then; None before its launch.

    `newest_seq` is the newest message of its project. Raises TooLong, Unavailable, and Malformed.
    """
    project = project_of(name)
    state = Aggregate(project)

    def take(seq: int, message: LedgerMessage) -> bool:
        nonlocal state
        state = _fold(state, message, name, at.row if seq == at.seq else None)
        return False

    await _read(bus, project, min(at.seq, newest_seq), take)
    found = state.orchestrations.get(name)
    return None if found is None else (found, state.at or found.created_at)


async def when_ordered(bus: Bus, run: str, attempt: int, newest_seq: int) -> Aggregate | None:
    """Return the state that an attempt was ordered from, as far as its orchestration is made of it; None where it was never ordered.

    `newest_seq` is the newest message of its project. Raises TooLong, Unavailable, and Malformed.
    """
    project, name = project_of(run), orchestration_of(run)
    state, found = Aggregate(project), False

    def take(seq: int, message: LedgerMessage) -> bool:
        nonlocal state, found
        for decision in message.decisions:
            state = fold_decision(state, _about(decision, name), None)
            if any(isinstance(event, e.RunQueued) and (event.run, event.attempt) == (run, attempt) for event in decision.events):
                found = True
                return True
        return False

    await _read(bus, project, newest_seq, take)
    return state if found else None


async def _read(bus: Bus, project: str, last_seq: int, take: Callable[[int, LedgerMessage], bool]) -> None:
    """Give every message of a project's ledger up to `last_seq` to `take`, oldest first, until it returns that this is enough."""
    if last_seq <= 0:
        return
    reader = Reader(bus, subjects.LEDGER, (subjects.ledger(project),), 1)
    with anyio.move_on_after(TIME_LIMIT_S) as scope:
        async with aclosing(reader.batches()) as batches:
            async for batch in batches:
                for stored in batch:
                    if stored.seq > last_seq or take(stored.seq, codec.decode_ledger(stored.data)):
                        return
                    await anyio.lowlevel.checkpoint()
                if batch[-1].seq >= last_seq:
                    break
    if scope.cancelled_caught:
        raise TooLong(f"the ledger of {project} could not be folded within {TIME_LIMIT_S:g} s")


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
    events = tuple(event for event in decision.events if isinstance(event, _CATALOGUE) or getattr(event, "orchestration", None) == name)
    return replace(decision, events=events)
