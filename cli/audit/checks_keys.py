"""Checks of keys, receipts and principals: what was answered stands in the ledger, once, for whom it was asked (I2, I3, I4, I13). Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from bus_schemas import codec, subjects
from bus_schemas.commands import Via
from bus_schemas.decisions import Position
from bus_schemas.ids import BadId, principal
from bus_schemas.reasons import Reason
from cli.audit import facts as f
from cli.audit.case import Case
from cli.audit.deeds import CommandCause, place_of, shown_place
from cli.audit.evidence import Call
from cli.audit.verdict import Finding

EXPIRED = Reason.EXPIRED.value
MISMATCH = Reason.IDEMPOTENCY_MISMATCH.value
TYPE_CHARS_KEPT = 64
"""Of a command's type, which may be anything; a longer one is cut, and its hash cannot be made again."""


def decided_once(case: Case) -> Iterator[Finding]:
    """I2: a key of a project is decided once. Asked again with another body it is refused as used; a refusal for being expired does not use it."""
    used: dict[tuple[str, str], tuple[str, str]] = {}
    for place, _, deed in case.history.commands:
        cause, action = deed.cause, deed.action
        assert type(cause) is CommandCause
        if action is None:
            yield Finding(shown_place(place), f"the command with key {cause.key!r} was decided without an action")
            continue
        known = used.get((cause.project, cause.key))
        if known is None:
            if action.reason_code == MISMATCH:
                yield Finding(shown_place(place), f"key {cause.key!r} is refused as used before, and it was not")
            elif action.reason_code != EXPIRED and cause.key:
                used[cause.project, cause.key] = (action.id, cause.body_hash)
        elif action.reason_code != MISMATCH:
            yield Finding(shown_place(place), f"key {cause.key!r} of {cause.project} is decided again, as {action.id}; it was {known[0]}")
        elif cause.body_hash == known[1]:
            yield Finding(shown_place(place), f"key {cause.key!r} is refused as used for another request; it is the same")


def bodies_are_hashed(case: Case) -> Iterator[Finding]:
    """I2: the hash that a key stands for is the one of the stored body."""
    for place, _, deed in case.history.commands:
        cause = deed.cause
        assert type(cause) is CommandCause
        if len(cause.type) >= TYPE_CHARS_KEPT:
            continue
        try:
            body_hash = codec.body_hash(cause.type, cause.body)
        except codec.Malformed as error:
            yield Finding(shown_place(place), f"the body of key {cause.key!r} cannot be hashed: {error}")
            continue
        if body_hash != cause.body_hash:
            yield Finding(shown_place(place), f"the body of key {cause.key!r} has another hash than the one recorded")


def _answered(case: Case) -> Iterator[Call]:
    return (call for call in case.calls if call.receipt is not None and call.outcome in ("ok", "refused") and not call.dry_run)


def _hash_of(call: Call) -> str | None:
    if call.body_hash is not None or call.body is None:
        return call.body_hash
    try:
        return codec.body_hash(call.verb, msgspec.Raw(msgspec.json.encode(call.body)))
    except codec.Malformed:
        return None


def answered_alike(case: Case) -> Iterator[Finding]:
    """I2: all who asked with one key and one body were told the same action, by the same words where those cannot change."""
    told: dict[tuple[str, str, str | None], Call] = {}
    for call in _answered(case):
        receipt = call.receipt
        assert receipt is not None
        if receipt.reason_code in (EXPIRED, MISMATCH):
            continue
        first = told.setdefault((call.project, call.key, _hash_of(call)), call).receipt
        assert first is not None
        for field in ("action", "type", "position", "requested_by", "orchestration"):
            one, other = getattr(first, field), getattr(receipt, field)
            if one != other and one and other:
                yield Finding(call.key, f"{call.client} was told {field} {other} for it, another was told {one}")
        if (first.status == "refused") is not (receipt.status == "refused"):
            yield Finding(call.key, f"{call.client} was told {receipt.status} for it, another was told {first.status}")


def acknowledged_is_there(case: Case) -> Iterator[Finding]:
    """I3: what a receipt says stands in the ledger: the action, at its position, for this key, with this answer."""
    for call in _answered(case):
        receipt = call.receipt
        assert receipt is not None
        judged = case.actions.get(receipt.action)
        if judged is None or judged.deed.action is None or type(judged.deed.cause) is not CommandCause:
            yield Finding(receipt.action, f"{call.client} was told of it for key {call.key!r}; the ledger has no such action")
            continue
        action, cause = judged.deed.action, judged.deed.cause
        if (cause.key, cause.project, cause.type) != (call.key, call.project, call.verb[:TYPE_CHARS_KEPT]):
            yield Finding(receipt.action, f"{call.client} asked {call.verb} with key {call.key!r}; the ledger has {cause.type} with {cause.key!r}")
        if receipt.position and _place(receipt.position) != judged.place:
            yield Finding(receipt.action, f"{call.client} was told position {receipt.position}; it stands at {shown_place(judged.place)}")
        if (receipt.status == "refused") is not (action.status == "refused"):
            yield Finding(receipt.action, f"{call.client} was told {receipt.status}; the ledger says {action.status}")
        elif receipt.status in ("completed", "failed") and case.outcomes.get(action.id) != receipt.status:
            yield Finding(receipt.action, f"{call.client} was told {receipt.status}; the ledger says {case.outcomes.get(action.id, 'accepted')}")
        if receipt.status == "refused" and receipt.reason_code != action.reason_code:
            yield Finding(receipt.action, f"{call.client} was told {receipt.reason_code}; the ledger says {action.reason_code}")
        if receipt.orchestration and receipt.orchestration != action.orchestration:
            yield Finding(receipt.action, f"{call.client} was told {receipt.orchestration}; the ledger says {action.orchestration}")


def _place(text: str) -> int | None:
    try:
        position = Position.parse(text)
    except ValueError:
        return None
    return place_of(position.seq, position.row)


def commands_were_sent(case: Case) -> Iterator[Finding]:
    """I4: each command in the ledger was sent by a client (where all clients wrote down what they sent), through a door that there is."""
    sent = {call.call_id for call in case.calls if call.outcome != "not-sent"}
    doors = set(Via)
    for place, _, deed in case.history.commands:
        cause = deed.cause
        assert type(cause) is CommandCause
        if case.circumstances.clients_complete and cause.id not in sent:
            yield Finding(shown_place(place), f"command {cause.id} ({cause.type}, key {cause.key!r}) was sent by nobody")
        if cause.via not in doors:
            yield Finding(shown_place(place), f"command {cause.id} came through {cause.via!r}, which is no door")


def principals(case: Case) -> Iterator[Finding]:
    """I13: a command is by a principal that there can be; what is recorded as said by somebody was said by who gave the command."""
    for place, _, deed in case.history.commands:
        cause = deed.cause
        assert type(cause) is CommandCause
        try:
            principal(cause.by)
        except BadId as error:
            yield Finding(shown_place(place), str(error))
        for event in deed.events:
            kind = type(event)
            said_by = cause.by
            if kind is f.GateResolved or kind is f.TaskInserted:
                said_by = event.by
            elif kind is f.CommentAdded:
                said_by = event.comment.author
            if said_by != cause.by:
                yield Finding(shown_place(place), f"{f.name_of(event)} is recorded as by {said_by}; the command is by {cause.by}")


def principals_of_clients(case: Case) -> Iterator[Finding]:
    """I13: a command is by the principal that its client was authenticated as, and so is its receipt."""
    by: dict[str, str] = {}
    for call in case.calls:
        if call.principal is not None:
            by[call.call_id] = call.principal
        if call.receipt is not None and call.receipt.requested_by and not call.dry_run:  # a preview has no action of its own
            judged = case.actions.get(call.receipt.action)
            if judged is not None and type(judged.deed.cause) is CommandCause and judged.deed.cause.by != call.receipt.requested_by:
                told = call.receipt.requested_by
                yield Finding(call.receipt.action, f"{call.client} was told that it is by {told}; the ledger says {judged.deed.cause.by}")
    for place, _, deed in case.history.commands:
        cause = deed.cause
        assert type(cause) is CommandCause
        if by.get(cause.id, cause.by) != cause.by:
            yield Finding(shown_place(place), f"command {cause.id} is recorded as by {cause.by}; its client is {by[cause.id]}")


class _Envelope(Struct):
    id: str = ""


_envelope = msgspec.json.Decoder(_Envelope)


def principals_of_subjects(case: Case) -> Iterator[Finding]:
    """I13: a command is by the principal of the subject it was published on, which the server enforced, and about that project."""
    said: dict[str, subjects.CommandSubject] = {}
    for stored in case.commands:
        try:
            said[_envelope.decode(stored.data).id] = subjects.parse_command(stored.subject)
        except (msgspec.MsgspecError, BadId):
            continue  # bytes that anybody can send: they go to the dead letters
    for place, _, deed in case.history.commands:
        cause = deed.cause
        assert type(cause) is CommandCause
        subject = said.get(cause.id)
        if subject is not None and (subject.principal, subject.project) != (cause.by, cause.project):
            found = f"command {cause.id} is recorded as by {cause.by} for {cause.project}"
            yield Finding(shown_place(place), f"{found}; it was published by {subject.principal} for {subject.project}")
