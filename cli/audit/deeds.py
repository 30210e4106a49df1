"""Deeds: decisions of the ledger as they are judged, read from the bytes of its messages. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from cli.audit.facts import NAMES, Event, Known, Unknown

ROWS_OF_A_MESSAGE_MAX = 1 << 20
"""More than fit into a message; a place is sequence times this, plus the row."""


def place_of(seq: int, row: int) -> int:
    """Return a position as one number, which orders as positions do."""
    return seq * ROWS_OF_A_MESSAGE_MAX + row


def seq_of(place: int) -> int:
    """Return the sequence of the message of a place."""
    return place // ROWS_OF_A_MESSAGE_MAX


def shown_place(place: int) -> str:
    """Return a place as a position, `418.3`."""
    return f"{place // ROWS_OF_A_MESSAGE_MAX}.{place % ROWS_OF_A_MESSAGE_MAX}"


class CommandCause(Struct, tag="command", tag_field="cause", gc=False):
    """A command as the controller took it in."""

    id: str
    type: str
    key: str
    by: str
    via: str
    project: str
    body_hash: str
    body: msgspec.Raw
    reason: str | None = None


class ReportCause(Struct, tag="report", tag_field="cause", gc=False):
    """A report of a node."""

    node: str
    run: str
    attempt: int
    kind: str


class BeatCause(Struct, tag="beat", tag_field="cause", gc=False):
    """A beat."""

    node: str


class TimerCause(Struct, tag="timer", tag_field="cause", gc=False):
    """A duty of the controller."""

    name: str


class Action(Struct, gc=False):
    """A request as decided."""

    id: str
    status: str
    reason_code: str | None = None
    orchestration: str | None = None
    design: str | None = None
    revision: int | None = None


class Deed(Struct, gc=False):
    """A decision. Its events are `facts.Event`s (see `history.Fact`)."""

    at: datetime
    cause: CommandCause | ReportCause | BeatCause | TimerCause
    action: Action | None = None
    because: str | None = None
    events: tuple[Any, ...] = ()


class _KnownDeed(Struct, gc=False):
    at: datetime
    cause: CommandCause | ReportCause | BeatCause | TimerCause
    action: Action | None = None
    because: str | None = None
    events: tuple[Known, ...] = ()


class Head(Struct, gc=False):
    """What stands around the decisions of a message."""

    project: str
    batch: str
    prev: str
    plane_seq: int
    decisions: tuple[_KnownDeed, ...]


class _RawDeed(Struct, gc=False):
    at: datetime
    cause: CommandCause | ReportCause | BeatCause | TimerCause
    action: Action | None = None
    because: str | None = None
    events: tuple[msgspec.Raw, ...] = ()


class _RawHead(Struct, gc=False):
    project: str
    batch: str
    prev: str
    plane_seq: int
    decisions: tuple[_RawDeed, ...]


class Said(Struct, gc=False):
    """A ledger message as it is judged."""

    project: str
    batch: str
    prev: str
    plane_seq: int
    deeds: tuple[Any, ...]
    """Decisions: `Deed`, or what has the same fields."""


_head = msgspec.json.Decoder(Head)
_raw_head = msgspec.json.Decoder(_RawHead)
_event = msgspec.json.Decoder(Known)
_unknown = msgspec.json.Decoder(Unknown)


class Undecodable(ValueError):
    """Bytes that are no ledger message."""


def read(data: bytes) -> Said:
    """Return what a ledger message says. Raises Undecodable."""
    try:
        head = _head.decode(data)
        return Said(head.project, head.batch, head.prev, head.plane_seq, head.decisions)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        return _read_tolerantly(data, error)


def _read_tolerantly(data: bytes, first: Exception) -> Said:
    """Return a message with events of unknown types by their names. Raises Undecodable where it is not for that."""
    try:
        head = _raw_head.decode(data)
        deeds = tuple(Deed(deed.at, deed.cause, deed.action, deed.because, tuple(map(_any_event, deed.events))) for deed in head.decisions)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise Undecodable(str(first)) from error
    return Said(head.project, head.batch, head.prev, head.plane_seq, deeds)


_TAGS = frozenset(NAMES.values())


def _any_event(raw: msgspec.Raw) -> Event:
    unknown = _unknown.decode(raw)
    if unknown.type in _TAGS:
        known: Event = _event.decode(raw)
        return known
    return unknown
