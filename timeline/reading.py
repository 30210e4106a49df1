"""Ledger bytes to decisions, tolerant of what this version does not know. Pure.

A known message is decoded whole, which is fast. One that has a type or value from a newer version is decoded piece by
piece: known pieces as usual, unknown events kept as they came. Bytes that are no ledger message raise `codec.Malformed`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import msgspec
from msgspec import Struct

from bus_schemas import codec
from bus_schemas.decisions import Action, BeatCause, Cause, CommandCause, Decision, LedgerMessage, ReportCause, TimerCause
from bus_schemas.events import EVENT_TYPES, Event


class UnknownEvent(Struct, frozen=True):
    """An event of a type, or with a value, that this version does not know: its fields as they came."""

    type: str
    fields: dict[str, Any]


class UnknownCause(Struct, frozen=True):
    """A cause of a kind that this version does not know."""

    cause: str = ""


AnyEvent = Event | UnknownEvent
AnyCause = Cause | UnknownCause


class _RawDecision(Struct):
    at: datetime
    cause: msgspec.Raw
    action: msgspec.Raw = msgspec.Raw(b"null")
    because: str | None = None
    events: tuple[msgspec.Raw, ...] = ()


class _RawMessage(Struct):
    v: int
    type: str
    project: str
    batch: str
    by: str
    prev: str
    plane_seq: int
    core: int
    decisions: tuple[_RawDecision, ...]


_raw_message = msgspec.json.Decoder(_RawMessage)
_action = msgspec.json.Decoder(Action | None)
_cause = msgspec.json.Decoder(CommandCause | ReportCause | BeatCause | TimerCause)
_events: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(kind) for name, kind in EVENT_TYPES.items()}


def read(data: bytes) -> LedgerMessage:
    """Return a ledger message; among its events may be `UnknownEvent`s. Raises codec.Malformed."""
    try:
        return codec.decode_ledger(data)
    except codec.Malformed as error:
        return _read_tolerantly(data, error)


def _read_tolerantly(data: bytes, first_error: codec.Malformed) -> LedgerMessage:
    try:
        raw = _raw_message.decode(data)
        if not codec.OLDEST_READ <= raw.v <= codec.VERSION or not raw.decisions:
            raise first_error
        decisions = tuple(_decision(decision) for decision in raw.decisions)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise first_error from error
    return LedgerMessage(
        v=raw.v,
        type=raw.type,
        project=raw.project,
        batch=raw.batch,
        by=raw.by,
        prev=raw.prev,
        plane_seq=raw.plane_seq,
        core=raw.core,
        decisions=decisions,
    )


def _decision(raw: _RawDecision) -> Decision:
    # `Decision` does not check what it is given, so the pieces that only we know of travel in it like the others
    return Decision(
        at=raw.at,
        cause=cast(Cause, _read_cause(raw.cause)),
        action=_action.decode(raw.action),
        because=raw.because,
        events=tuple(cast(Event, _read_event(event)) for event in raw.events),
    )


def _read_cause(raw: msgspec.Raw) -> AnyCause:
    try:
        cause: Cause = _cause.decode(raw)
        return cause
    except msgspec.ValidationError:
        fields = msgspec.json.decode(raw)
        return UnknownCause(str(fields.get("cause", "")) if isinstance(fields, dict) else "")


def _read_event(raw: msgspec.Raw) -> AnyEvent:
    fields = msgspec.json.decode(raw)
    kind = str(fields.get("type", "")) if isinstance(fields, dict) else ""
    decoder = _events.get(kind)
    if decoder is not None:
        try:
            event: Event = decoder.decode(raw)
            return event
        except msgspec.ValidationError:
            pass  # a value from a newer version: kept as it came
    return UnknownEvent(kind or "unknown", fields if isinstance(fields, dict) else {"value": fields})
