"""How the things of an aggregate stand in the index file: bytes, and back. Pure.

Fields by position, without their names; what many orchestrations share (the text of a design, a policy) stands once and is named by a
number. `FORMAT` changes with the shape of anything that is written, so a file of another shape is never read.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct, defstruct
from msgspec.inspect import multi_type_info

from bus_schemas.decisions import Receipt
from bus_schemas.entities import Comment, Design, Node, Project, Ticket
from bus_schemas.events import RecordedHead
from bus_schemas.policy import Policy
from controller.orchestration import Orchestration
from controller.project import Aggregate, FlagChange

LAYOUT = 1
"""Of the tables, and of what this module does with the fields."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_SHARED = ("design_body", "policy", "active_policy")
_NOT_STORED = ("duplicate", "diff")
"""Of a receipt as it is kept they are never set."""


class Counters(Struct, frozen=True, array_like=True):
    """The plain fields of an aggregate."""

    at: datetime | None
    action_count: int
    design_count: int
    ticket_count: int
    orchestration_count: int


class OpenReceipt(Struct, frozen=True, array_like=True):
    """A receipt whose outcome is still to come, with the id of its command."""

    receipt: Receipt
    command: str


class Shares(Struct, frozen=True):
    """The numbers under which the shared parts of an orchestration stand."""

    design_body: int
    policy: int
    active_policy: int


def _row(name: str, kind: type[Struct], without: tuple[str, ...]) -> tuple[tuple[str, ...], type[Struct]]:
    fields = [field for field in msgspec.structs.fields(kind) if field.name not in without]
    # every field is required here: what is written is always whole
    return tuple(field.name for field in fields), defstruct(name, [(field.name, field.type) for field in fields], array_like=True, gc=False)


_O_FIELDS, _OrchestrationRow = _row("OrchestrationRow", Orchestration, _SHARED)
_R_FIELDS, _ReceiptRow = _row("ReceiptRow", Receipt, _NOT_STORED)
_o_values, _r_values = attrgetter(*_O_FIELDS), attrgetter(*_R_FIELDS)

_encoder = msgspec.msgpack.Encoder()
_orchestration = msgspec.msgpack.Decoder(tuple[Shares, _OrchestrationRow])  # type: ignore[valid-type]
_receipt = msgspec.msgpack.Decoder(_ReceiptRow)
_policy = msgspec.msgpack.Decoder(Policy)

THINGS: dict[str, Any] = {
    "counters": Counters,
    "designs": Design,
    "tickets": Ticket,
    "comments": tuple[Comment, ...],
    "projects": Project,
    "heads": RecordedHead,
    "nodes": Node,
    "flags": bool,
    "flag_changes": FlagChange,
    "actions": OpenReceipt,
}
"""Kinds of live things beside orchestrations; those that are maps of an aggregate have the map's name."""

_things: dict[str, msgspec.msgpack.Decoder[Any]] = {kind: msgspec.msgpack.Decoder(type_) for kind, type_ in THINGS.items()}


@cache  # it takes 10 ms, and each simulated controller opens an index
def format_of() -> str:
    """Return the name of the format: the layout, and a hash over the shape of all that is written."""
    shapes = repr(multi_type_info([Orchestration, Receipt, Policy, *THINGS.values()]))
    return f"{LAYOUT}-{hashlib.blake2b(shapes.encode(), digest_size=8).hexdigest()}"


def microseconds(moment: datetime) -> int:
    """Return a moment as whole microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def counters_of(state: Aggregate) -> Counters:
    """Return the plain fields of an aggregate."""
    return Counters(state.at, state.action_count, state.design_count, state.ticket_count, state.orchestration_count)


def encode_thing(value: Any) -> bytes:
    """Return a live thing as bytes."""
    return _encoder.encode(value)


def decode_thing(kind: str, data: bytes) -> Any:
    """Return a live thing. Raises msgspec.MsgspecError."""
    return _things[kind].decode(data)


def encode_orchestration(o: Orchestration, shares: Shares) -> bytes:
    """Return an orchestration as bytes, without what it shares."""
    return _encoder.encode((shares, _o_values(o)))


def decode_orchestration(data: bytes) -> tuple[Shares, Any]:
    """Return the numbers of what an orchestration shares, and the rest for `whole`. Raises msgspec.MsgspecError."""
    return _orchestration.decode(data)


def whole(rest: Any, design_body: str, policy: Policy, active_policy: Policy) -> Orchestration:
    """Return the orchestration with what it shares."""
    fields = dict(zip(_O_FIELDS, _o_values(rest), strict=True))
    return Orchestration(**fields, design_body=design_body, policy=policy, active_policy=active_policy)


def encode_policy(policy: Policy) -> bytes:
    """Return a policy as bytes."""
    return _encoder.encode(policy)


def decode_policy(data: bytes) -> Policy:
    """Return a policy. Raises msgspec.MsgspecError."""
    return _policy.decode(data)


def encode_receipt(receipt: Receipt) -> bytes:
    """Return a receipt as bytes."""
    return _encoder.encode(_r_values(receipt))


def decode_receipt(data: bytes) -> Receipt:
    """Return a receipt. Raises msgspec.MsgspecError."""
    return Receipt(**dict(zip(_R_FIELDS, _r_values(_receipt.decode(data)), strict=True)))
