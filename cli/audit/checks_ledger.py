"""Checks of the ledger as a log: its chain, its counters, its clock, and the timeline made of it (I10, I11, I20). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bus_schemas import codec
from bus_schemas.ids import PLANE
from bus_schemas.subjects import ledger
from cli.audit import facts as f
from cli.audit.case import Case
from cli.audit.deeds import CommandCause, Deed, place_of, seq_of, shown_place
from cli.audit.evidence import TimelineRow
from cli.audit.verdict import Finding


def decodable(case: Case) -> Iterator[Finding]:
    """I20: every message of the ledger decodes, and stands on the subject of its project."""
    for seq, subject, error in case.history.undecodable:
        yield Finding(str(seq), f"the message on {subject} does not decode: {error}")
    for message in case.history.messages:
        if message.subject != ledger(message.project):
            yield Finding(str(message.seq), f"a message of {message.project} stands on {message.subject}")


def sequence(case: Case) -> Iterator[Finding]:
    """I3, I20: nothing is ever deleted from the ledger, so its sequences are 1, 2, 3 and so on, each once, in order."""
    expected = 1
    for seq in case.history.stored_at_s:
        if seq != expected:
            yield Finding(str(seq), f"sequence {seq} stands where {expected} has to stand")
        expected = seq + 1


def chain(case: Case) -> Iterator[Finding]:
    """I20: each message holds the SHA-256 of the body before it on its subject, the first one zeros."""
    heads: dict[str, tuple[int, str]] = {}
    for message in case.history.messages:
        seq, sha256 = heads.get(message.subject, (0, codec.ZERO_HASH))
        if message.prev != sha256:
            yield Finding(str(message.seq), f"it does not follow {seq} on {message.subject}: prev {message.prev[:12]}, hash {sha256[:12]}")
        heads[message.subject] = (message.seq, message.sha256)


def recorded_heads(case: Case) -> Iterator[Finding]:
    """I20: a head that the registry wrote down was a message of its project before, and still is the same."""
    known = {message.seq: message for message in case.history.messages}
    for place, _, event in case.history.catalogue:
        if type(event) is not f.HeadsRecorded:
            continue
        for head in event.heads:
            message = known.get(head.seq)
            if message is None or (message.project, message.sha256) != (head.project, head.sha256) or head.seq >= seq_of(place):
                yield Finding(
                    shown_place(place), f"{head.seq} was the newest message of {head.project} by its hash {head.sha256[:12]}; it is not there"
                )


def batches(case: Case) -> Iterator[Finding]:
    """I20: a batch is stored once."""
    known: dict[str, int] = {}
    for message in case.history.messages:
        before = known.setdefault(message.batch, message.seq)
        if before != message.seq:
            yield Finding(str(message.seq), f"batch {message.batch} is stored at {before} too")


def registry_seen(case: Case) -> Iterator[Finding]:
    """I20: a message was decided against a registry that stood in the ledger before it, never an older one than the message before it."""
    plane: set[int] = {0}
    seen: dict[str, int] = {}
    for message in case.history.messages:
        if message.plane_seq not in plane:
            yield Finding(str(message.seq), f"plane_seq {message.plane_seq} is no message of {PLANE} before it")
        before = seen.get(message.project, 0)
        if message.plane_seq < before:
            yield Finding(str(message.seq), f"it was decided against {PLANE} as of {message.plane_seq}, the one before against {before}")
        seen[message.project] = max(before, message.plane_seq)
        if message.project == PLANE:
            plane.add(message.seq)


def clock(case: Case) -> Iterator[Finding]:
    """I10: the time of decisions never runs backwards in a project."""
    latest: dict[str, Deed] = {}
    for place, project, deed in case.history.judged:
        before = latest.get(project)
        if before is not None and deed.at < before.at:
            yield Finding(shown_place(place), f"decided at {deed.at.isoformat()}, after one of {before.at.isoformat()}")
        latest[project] = deed


_COUNTED: dict[type, tuple[str, str]] = {
    f.OrchestrationLaunched: ("o", "orchestration"),
    f.DesignAdded: ("d", "design"),
    f.TicketAdded: ("t", "ticket"),
}


def counters(case: Case) -> Iterator[Finding]:
    """I10: actions, orchestrations, designs and tickets of a project, and runs of an orchestration, are numbered 1, 2, 3."""
    counts: dict[str, int] = {}
    for place, owner, name in _numbered(case):
        number = counts[owner] = counts.get(owner, 0) + 1
        if name != f"{owner}{number}":
            yield Finding(shown_place(place), f"{name} stands where {owner}{number} has to stand")
            tail = name.rpartition(owner[-2:])[2]
            counts[owner] = int(tail) if tail.isdecimal() else number


def _numbered(case: Case) -> Iterator[tuple[int, str, str]]:
    """Yield where each name with a number stands, what the name has to be up to the number, and the name."""
    for place, project, deed in case.history.judged:
        if deed.action is not None:
            yield place, f"{project}-a", deed.action.id
    projects = {message.seq: message.project for message in case.history.messages}
    for place, _, event in case.history.numbered:
        kind = type(event)
        if kind is f.RunQueued:
            if event.attempt == 1:
                yield place, f"{event.orchestration}-r", event.run
        else:
            letter, noun = _COUNTED[kind]
            named = getattr(event, noun)
            yield place, f"{projects[seq_of(place)]}-{letter}", named if isinstance(named, str) else named.id


def timeline_is_ledger(case: Case) -> Iterator[Finding]:
    """I11: the timeline has exactly the rows of the ledger, each once, and says the same of them."""
    rows = iter(case.timeline)
    row = next(rows, None)
    for place, project, deed in case.history.judged:
        at = place
        for kind, about, because in _rows(deed):
            while row is not None and place_of(row.seq, row.idx) < at:
                yield Finding(f"{row.seq}.{row.idx}", f"the timeline has a row {row.type} that the ledger has not, or has it twice")
                row = next(rows, None)
            if row is None or place_of(row.seq, row.idx) != at:
                yield Finding(shown_place(at), f"the timeline lacks the row {kind} of the ledger")
            else:
                if row.type != kind or row.project != project or not _is_same(row, about, because):
                    yield Finding(shown_place(at), f"the timeline says {row}; the ledger has {kind} of {project}: {about}")
                row = next(rows, None)
            at += 1
    while row is not None:
        yield Finding(f"{row.seq}.{row.idx}", f"the timeline has a row {row.type} that the ledger has not")
        row = next(rows, None)


def _rows(deed: Deed) -> Iterator[tuple[str, Any, str | None]]:
    """Yield what each row of a decision is called, what it is about, and the action that led to it."""
    because = deed.because
    if deed.action is not None:
        because = deed.action.id
        yield deed.cause.type if type(deed.cause) is CommandCause else "unknown", deed.action, because
    for event in deed.events:
        yield f.name_of(event), event, because


def _is_same(row: TimelineRow, about: Any, because: str | None) -> bool:
    """Return whether a row of the timeline says nothing else than the ledger, as far as both say something."""
    if row.orchestration is not None and getattr(about, "orchestration", None) not in (None, row.orchestration):
        return False
    if row.run is not None and (getattr(about, "run", row.run) != row.run or getattr(about, "attempt", row.attempt) != row.attempt):
        return False
    return row.action is None or row.action in (because, getattr(about, "action", because), getattr(about, "id", because))
