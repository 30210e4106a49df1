"""Kept histories of the core as evidence, and one check at a time over what was changed in them by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from msgspec.structs import replace

from bus_schemas import codec, subjects
from bus_schemas.decisions import CommandCause, Decision
from bus_schemas.ids import PLANE
from cli.audit.case import Case
from cli.audit.evidence import Answer, Call, Evidence, Stored
from cli.audit.history import History
from cli.audit.verdict import Finding
from tests.unit.audit.book import Book, Json, Place
from tests.unit.controller.stories import STORIES
from tests.unit.controller.world import World

Check = Callable[[Case], Iterator[Finding]]


@cache
def kept(name: str) -> Evidence:
    """Return the ledger of a kept history as it would stand in the stream."""
    return evidence_of(STORIES[name]())


def evidence_of(world: World) -> Evidence:
    """Return the ledger of a world: chained, each message decided against the newest registry, each body with its hash."""
    heads: dict[str, str] = {}
    plane = 0
    ledger: list[Stored] = []
    for seq, message in world.ledger:
        subject = subjects.ledger(message.project)
        decisions = tuple(map(_hashed, message.decisions))
        data = codec.encode(replace(message, prev=heads.get(subject, codec.ZERO_HASH), plane_seq=plane, decisions=decisions))
        heads[subject] = codec.body_sha256(data)
        plane = seq if message.project == PLANE else plane
        ledger.append(Stored(seq, subject, message.decisions[0].at.timestamp(), data))
    return Evidence(ledger=ledger)


def _hashed(decision: Decision) -> Decision:
    cause = decision.cause
    if not isinstance(cause, CommandCause):
        return decision
    return replace(decision, cause=replace(cause, body_hash=codec.body_hash(cause.type, cause.body)))


def found(check: Check, evidence: Evidence | Book) -> list[tuple[str, str]]:
    """Return what one check finds in evidence, or in a book after it was sealed."""
    sealed = evidence.sealed() if isinstance(evidence, Book) else evidence
    return [(finding.where, finding.text) for finding in check(Case(sealed, History(sealed.ledger or ())))]


def seq(book: Book, message: Json) -> int:
    """Return the sequence that a message has when the book is sealed."""
    return 1 + next(index for index, known in enumerate(book.messages) if known is message)


def where(book: Book, at: Place) -> str:
    """Return the position of an event in a message of one decision."""
    return f"{seq(book, at.message)}.{at.index + ('action' in at.decision)}"


def command(book: Book, type_: str, status: str | None = "accepted") -> tuple[str, Json]:
    """Return the position and the decision of the first command of a type with a status."""
    message, decision = book.commands(type_, status=status)[0]
    return f"{seq(book, message)}.0", decision


def event(book: Book, type_: str, **fields: Any) -> Place:
    """Return the first event of a type with these fields."""
    return next(at for at in book.events(type_) if all(at.event.get(name) == value for name, value in fields.items()))


def call(decision: Json, at: str, **changes: Any) -> Call:
    """Return the call of a client that was told what the decision at a position says; `changes` are of its receipt."""
    cause, action = decision["cause"], decision["action"]
    told = Answer(
        action=action["id"],
        status=action["status"],
        project=cause["project"],
        idempotency_key=cause["key"],
        requested_by=cause["by"],
        type=cause["type"],
        position=at,
        reason_code=action.get("reason_code"),
        orchestration=action.get("orchestration"),
    )
    return Call(
        client="qd-ana",
        at_s=1.0,
        call_id=cause["id"],
        project=cause["project"],
        verb=cause["type"],
        key=cause["key"],
        outcome="refused" if action["status"] == "refused" else "ok",
        principal=cause["by"],
        body_hash=cause["body_hash"],
        receipt=replace(told, **changes),
    )
