"""Projection: a ledger row → the event row and the rows of the other tables that it makes or changes. Pure.

`changes` looks at the board and never writes it; who calls puts what it yields. So a rebuild is the same code as
following, and the tables depend on the ledger alone, not on how it was cut into batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from bus_schemas import events as e
from bus_schemas.decisions import Action, ActionStatus, BeatCause, CommandCause, Decision, LedgerMessage, ReportCause, TimerCause
from timeline import summaries
from timeline.board import Board
from timeline.changes import CHANGES, Place, ms_between
from timeline.reading import AnyEvent, UnknownEvent
from timeline.rows import ActionRow, EventRow, TableRow

PROJECTION_VERSION = 1
"""Of the rules here and of the sentences in `summaries`; a file made by another version is made again."""

BODY_BYTES_MAX = 16 * 1024
"""Of a command's body in an action's payload; larger ones (designs) stand in the event they led to."""

CONTROLLER = "controller"

_RUN_EVENTS = (
    e.RunQueued,
    e.RunDispatched,
    e.RunStarted,
    e.RunWithdrawn,
    e.RunEnded,
    e.ReportStale,
    e.WorkspaceReady,
    e.HeadsMoved,
    e.ValidationRecorded,
    e.VerifyRecorded,
    e.VerdictRecorded,
)
_ACTION_EVENTS = (e.ActionOpened, e.ActionCompleted, e.ActionFailed)

_EPOCH, _EPOCH_UTC = datetime(1970, 1, 1), datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


class Projected(NamedTuple):
    """A ledger row as the timeline keeps it, with the rows it makes or changes."""

    event: EventRow
    known: bool
    changed: tuple[TableRow, ...]


def utc(time: datetime) -> datetime:
    """Return a time as the tables keep it: UTC, without a zone. One that has no zone counts as UTC."""
    if time.tzinfo is None:
        return time
    return _EPOCH + (time - _EPOCH_UTC)  # several times faster than `replace`


def key_hash(key: str) -> str:
    """Return the hash by which the tables know an idempotency key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def project(board: Board, message: LedgerMessage, seq: int, stored_at: datetime) -> Iterator[Projected]:
    """Yield each row of a message, and put what it changes on the board, so that the next row finds it.

    Rows are counted as `bus_schemas.decisions.rows` counts them: each action, then each of its events.
    """
    stored = utc(stored_at)
    idx = 0
    for decision in message.decisions:
        principal, via, reason = _told_by(decision)
        at = utc(decision.at)
        because = decision.because if decision.action is None else decision.action.id
        items: tuple[AnyEvent | None, ...] = decision.events if decision.action is None else (None, *decision.events)
        for event in items:
            place = Place(seq, idx, at, stored, message.project, principal, via, because, reason)
            projected = _of_action(decision, place) if event is None else _of_event(board, event, place)
            for row in projected.changed:
                board.put(row)
            yield projected
            idx += 1


def _told_by(decision: Decision) -> tuple[str | None, str | None, str | None]:
    """Return principal, door and reason of a decision."""
    match decision.cause:
        case CommandCause() as cause:
            return cause.by, cause.via, cause.reason
        case ReportCause() | BeatCause() as cause:
            return cause.node, "node", None
        case TimerCause():
            return CONTROLLER, "timer", None
    return None, None, None  # a cause that only a newer version knows


# ── actions ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_action(decision: Decision, place: Place) -> Projected:
    action, cause = decision.action, decision.cause
    assert action is not None
    command = cause if isinstance(cause, CommandCause) else None
    kind = "unknown" if command is None else command.type
    hashed = None if command is None else key_hash(command.key)
    event = EventRow(
        place.seq,
        place.idx,
        place.at,
        place.stored_at,
        place.project,
        action.orchestration,
        None,
        None,
        None,
        None,
        action.node,
        action.id,
        "action",
        kind,
        place.principal,
        place.via,
        hashed,
        action.status.value,
        action.reason_code,
        action.revision,
        None,
        summaries.of_action(action, kind, place.reason),
        _action_payload(action, command),
    )
    if command is None or hashed is None:
        return Projected(event, False, ())
    return Projected(event, True, (_action_row(action, command, hashed, place),))


def _action_payload(action: Action, command: CommandCause | None) -> str:
    fields: dict[str, Any] = {"action": action}
    if command is not None:
        body = bytes(command.body)
        fields["command"] = command.id
        fields["reason"] = command.reason
        fields["body"] = command.body if 0 < len(body) <= BODY_BYTES_MAX else None
        fields["body_bytes"] = len(body)
    return _encode(fields).decode()


def _action_row(action: Action, command: CommandCause, hashed: str, place: Place) -> ActionRow:
    received_at = utc(command.received_at)
    refused = action.status is ActionStatus.REFUSED
    accept_ms = None if refused else ms_between(received_at, place.stored_at)
    return ActionRow(
        seq=place.seq,
        idx=place.idx,
        id=action.id,
        type=command.type,
        project=command.project,
        orchestration=action.orchestration,
        design=action.design,
        ticket=action.ticket,
        node=action.node,
        task=action.task,
        requested_by=command.by,
        via=command.via,
        key_hash=hashed,
        reason=command.reason,
        status=action.status.value,
        reason_code=action.reason_code,
        message=action.message,
        revision=action.revision,
        received_at=received_at,
        accepted_at=None if refused else place.at,
        completed_at=None,
        accept_ms=accept_ms,
        complete_ms=None,
        total_ms=None,
    )


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_COLUMNS = ("orchestration", "phase", "task", "run", "attempt", "node", "action", "status", "reason_code", "revision", "duration_ms")
"""Columns of an event row that an event fills from its fields of the same name."""

_TEXTS = frozenset({"orchestration", "phase", "run", "node", "action", "status", "reason_code"})
_NODE, _STATUS = _COLUMNS.index("node"), _COLUMNS.index("status")

_STATUS_OF: dict[type[Struct], Callable[[Any], str]] = {
    e.OrchestrationLaunched: lambda event: "launching",
    e.RunQueued: lambda event: "queued",
    e.RunDispatched: lambda event: "dispatched",
    e.RunStarted: lambda event: "started",
    e.RunWithdrawn: lambda event: "withdrawn",
    e.RunEnded: lambda event: event.outcome,
    e.ReportStale: lambda event: "stale",
    e.ValidationRecorded: lambda event: event.verdict,
    e.VerdictRecorded: lambda event: event.verdict,
    e.GateOpened: lambda event: "open",
    e.GateResolved: lambda event: "approved" if event.approved else "rejected",
    e.HoldSet: lambda event: event.hold,
    e.HoldCleared: lambda event: event.hold,
    e.FlagChanged: lambda event: "on" if event.on else "off",
    e.ActionCompleted: lambda event: "completed",
    e.ActionFailed: lambda event: "failed",
}
"""The status of events that have it under another name."""


class _Kind(NamedTuple):
    """What is known of a type of event before one is seen."""

    name: str
    category: str
    fields: tuple[tuple[int, str], ...]
    status: Callable[[Any], str] | None


def _kind(name: str, event_type: type[Struct]) -> _Kind:
    named = () if event_type is e.NodeRegistered else event_type.__struct_fields__  # there `node` is a whole node
    fields = tuple((slot, field) for slot, field in enumerate(_COLUMNS) if field in named)
    return _Kind(name, _category(event_type), fields, _STATUS_OF.get(event_type))


def _category(event_type: type[Struct]) -> str:
    if issubclass(event_type, _ACTION_EVENTS):
        return "action"
    return "run" if issubclass(event_type, _RUN_EVENTS) else "event"


_KINDS: dict[type[Struct], _Kind] = {event_type: _kind(name, event_type) for name, event_type in e.EVENT_TYPES.items()}


def _of_event(board: Board, event: AnyEvent, place: Place) -> Projected:
    if isinstance(event, UnknownEvent):
        row = _event_row(board, event, place, event.type, "event", _unknown_columns(event), event.fields)
        return Projected(row, False, ())
    kind = _KINDS[type(event)]
    columns: list[Any] = [None] * len(_COLUMNS)
    for slot, field in kind.fields:
        columns[slot] = getattr(event, field)
    if kind.status is not None:
        columns[_STATUS] = kind.status(event)
    if isinstance(event, e.NodeRegistered):
        columns[_NODE] = event.node.id
    change = CHANGES.get(type(event))
    changed = () if change is None else change(board, event, place)
    return Projected(_event_row(board, event, place, kind.name, kind.category, columns, event), True, changed)


def _unknown_columns(event: UnknownEvent) -> list[Any]:
    """Return those fields of an unknown event that are what our columns of the same name hold."""
    return [value if _fits(name, value) else None for name, value in ((name, event.fields.get(name)) for name in _COLUMNS)]


def _fits(name: str, value: Any) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _event_row(board: Board, event: AnyEvent, place: Place, name: str, category: str, columns: list[Any], payload: Any) -> EventRow:
    orchestration, phase, task, run, attempt, node, action, status, reason_code, revision, duration_ms = columns
    if run is not None and phase is None:
        row = board.run(orchestration or "", run, attempt or 0)
        if row is not None:
            phase, task, node = row.phase, row.task, node or row.node
    known_task = None if task is None or phase is None else board.task(orchestration or "", phase, task)
    return EventRow(
        place.seq,
        place.idx,
        place.at,
        place.stored_at,
        place.project,
        orchestration,
        phase,
        task,
        run,
        attempt,
        node,
        action or place.action,
        category,
        name,
        place.principal,
        place.via,
        None,
        status,
        reason_code,
        revision,
        duration_ms or None,
        summaries.of_event(event, None if known_task is None else known_task.subject, place.reason),
        _encode(payload).decode(),
    )
