"""Decisions: what the ledger holds, and the receipts made from them. Pure.

One ledger message is one compare-and-set and holds one or more decisions of one project. A decision is the answer to
one cause (a command, a report, a beat, a timer): the action it records, if it was asked for by somebody, and its events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from bus_schemas.events import Event
from bus_schemas.ids import shown

CORE_VERSION = 1
"""Of the rules in `decide` and `evolve`; a snapshot made by another version is not used."""

_POSITION = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?")


class ActionStatus(StrEnum):
    """How far an action is. `accepted` means applied: the state changed in the same message."""

    REFUSED = "refused"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    FAILED = "failed"


class Position(NamedTuple):
    """A place in the ledger: the message's sequence and the row inside it; printed `418.3`."""

    seq: int
    row: int

    def __str__(self) -> str:
        """Return `seq.row`."""
        return f"{self.seq}.{self.row}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position written as `418.3` or `418` (its first row). Raises ValueError."""
        match = _POSITION.fullmatch(text)
        if match is None:
            raise ValueError(f"position {shown(text)} is not valid: expected something like 418.3")
        return cls(int(match[1]), int(match[2] or 0))


class CommandCause(Struct, frozen=True, tag="command", tag_field="cause", omit_defaults=True):
    """A command. `by` is the principal that the server authenticated; `received_at` is when the stream stored it."""

    id: str
    type: str
    key: str
    by: str
    via: str
    project: str
    received_at: datetime
    body_hash: str
    body: msgspec.Raw
    reason: str | None = None
    trace: str | None = None


class ReportCause(Struct, frozen=True, tag="report", tag_field="cause", omit_defaults=True):
    """A report of a node."""

    node: str
    run: str
    attempt: int
    kind: str
    stored_at: datetime


class BeatCause(Struct, frozen=True, tag="beat", tag_field="cause"):
    """A beat of a node that describes it differently than before."""

    node: str


class TimerCause(Struct, frozen=True, tag="timer", tag_field="cause"):
    """The controller itself; `name` says which of its duties."""

    name: str


Cause = CommandCause | ReportCause | BeatCause | TimerCause


class Action(Struct, frozen=True, omit_defaults=True):
    """A request as decided: refused with a code, or accepted; with what it was about."""

    id: str
    status: ActionStatus
    reason_code: str | None = None
    message: str = ""
    warnings: tuple[str, ...] = ()
    design: str | None = None
    ticket: str | None = None
    orchestration: str | None = None
    node: str | None = None
    task: str | None = None
    revision: int | None = None


class Decision(Struct, frozen=True, omit_defaults=True):
    """The answer to one cause. `because` is the action that led to it, for causes that are not commands themselves."""

    at: datetime
    cause: Cause
    action: Action | None = None
    because: str | None = None
    events: tuple[Event, ...] = ()


class LedgerMessage(Struct, frozen=True, omit_defaults=True):
    """What one ledger message holds.

    `prev` is the hash of the stored body before it on the same subject; `plane_seq` the `plane` message it was decided
    against; `batch` tells the writer after an unknown outcome whether this message is its own.
    """

    v: int
    type: str
    project: str
    batch: str
    by: str
    prev: str
    plane_seq: int
    core: int
    decisions: Annotated[tuple[Decision, ...], Meta(min_length=1)]


class Change(Struct, frozen=True):
    """A field with its old and new value, as text: `flow.budget_usd`, `2.3.subject` (phase, task, field)."""

    path: str
    before: str
    after: str


class Diff(Struct, frozen=True):
    """What a command would change: the queue of pending tasks (`phase.task`) before and after, and every changed field."""

    queue_before: tuple[str, ...] = ()
    queue_after: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


class Receipt(Struct, frozen=True):
    """The answer to a command, as often as it is asked for."""

    action: str
    type: str
    status: ActionStatus
    project: str
    idempotency_key: str
    requested_by: str
    received_at: datetime
    duplicate: bool = False
    design: str | None = None
    ticket: str | None = None
    orchestration: str | None = None
    node: str | None = None
    task: str | None = None
    warnings: tuple[str, ...] = ()
    reason_code: str | None = None
    message: str = ""
    position: str | None = None
    revision: int | None = None
    reason: str | None = None
    via: str = "cli"
    accepted_at: datetime | None = None
    completed_at: datetime | None = None
    diff: Diff | None = None
    """Of a dry run only."""


def receipt_of(decision: Decision, cause: CommandCause, action: Action, position: Position | None) -> Receipt:
    """Return the receipt of a decided command."""
    return Receipt(
        action=action.id,
        type=cause.type,
        status=action.status,
        project=cause.project,
        idempotency_key=cause.key,
        requested_by=cause.by,
        received_at=cause.received_at,
        design=action.design,
        ticket=action.ticket,
        orchestration=action.orchestration,
        node=action.node,
        task=action.task,
        warnings=action.warnings,
        reason_code=action.reason_code,
        message=action.message,
        position=None if position is None else str(position),
        revision=action.revision,
        reason=cause.reason,
        via=cause.via,
        accepted_at=None if action.status is ActionStatus.REFUSED else decision.at,
    )


class Row(NamedTuple):
    """One row of a ledger message: a decision's action (event is None), or one of its events."""

    position: Position
    decision: Decision
    event: Event | None


def rows(message: LedgerMessage, seq: int) -> Iterator[Row]:
    """Yield the rows of a message in order; the index counts every action and every event, so a position names one row."""
    index = 0
    for decision in message.decisions:
        if decision.action is not None:
            yield Row(Position(seq, index), decision, None)
            index += 1
        for event in decision.events:
            yield Row(Position(seq, index), decision, event)
            index += 1
