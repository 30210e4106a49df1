"""A batch: stored ledger messages → everything that one transaction writes, with the checks that keep it honest. Pure.

Sequences must follow each other and each body must name the hash of the one before it on its subject. Where that fails
the batch ends before the message in question and says why; nothing after it is taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from bus.connection import Stored
from bus_schemas import codec
from bus_schemas import events as e
from bus_schemas.decisions import LedgerMessage
from bus_schemas.ids import PLANE
from bus_schemas.views import AlarmView
from timeline.alarm import alarm, of_recorded
from timeline.board import Board
from timeline.projection import project
from timeline.reading import UnknownEvent, read
from timeline.rows import DeadLetterRow, EventRow


class IngestPosition(Struct, frozen=True):
    """How far the ledger was read. `created` names the stream beyond its name; `rolling_hash` stands for all that was read."""

    stream: str
    created: datetime
    last_seq: int = 0
    last_idx: int = 0
    last_sha256: str = codec.ZERO_HASH
    rolling_hash: str = codec.ZERO_HASH
    events: int = 0
    unknown_types: int = 0
    dead_letters: int = 0


class Head(NamedTuple):
    """The newest message of a subject."""

    seq: int
    sha256: str


class Read(NamedTuple):
    """A stored message as it was read: its message, or why there is none."""

    stored: Stored
    message: LedgerMessage | None
    error: str


class Wanted(NamedTuple):
    """Ids whose rows a batch may change and that are not on the board."""

    orchestrations: frozenset[str]
    actions: frozenset[str]


class Batch(NamedTuple):
    """What one transaction writes besides the changed rows of the board. `stopped` says why nothing more may follow."""

    events: list[EventRow]
    dead_letters: list[DeadLetterRow]
    position: IngestPosition
    heads: dict[str, Head]
    stopped: AlarmView | None


def pieces(messages: Sequence[Stored], bytes_max: int) -> Iterator[Sequence[Stored]]:
    """Yield the messages in order, in pieces of about `bytes_max` bytes and at least one message."""
    start = size_bytes = 0
    for index, message in enumerate(messages):
        size_bytes += len(message.data)
        if size_bytes >= bytes_max:
            yield messages[start : index + 1]
            start, size_bytes = index + 1, 0
    if start < len(messages):
        yield messages[start:]


def read_all(stored: Iterable[Stored]) -> list[Read]:
    """Return each message decoded, or with the error that kept it from it."""
    found = []
    for message in stored:
        try:
            found.append(Read(message, read(message.data), ""))
        except codec.Malformed as error:
            found.append(Read(message, None, str(error)[:2000]))
    return found


def wanted(board: Board, messages: Sequence[Read]) -> Wanted:
    """Return what must be loaded before the batch is made."""
    orchestrations: set[str] = set()
    actions: set[str] = set()
    made: set[str] = set()
    for message in messages:
        for decision in () if message.message is None else message.message.decisions:
            if decision.action is not None:
                made.add(decision.action.id)
            for event in decision.events:
                if isinstance(event, e.OrchestrationLaunched):
                    made.add(event.orchestration)
                elif isinstance(event, e.ActionCompleted | e.ActionFailed):
                    actions.add(event.action)
                elif not isinstance(event, UnknownEvent) and (orchestration := getattr(event, "orchestration", None)):
                    orchestrations.add(orchestration)
    return Wanted(frozenset(orchestrations - made - board.families.keys()), frozenset(actions - made - board.actions.keys()))


def make(board: Board, position: IngestPosition, heads: dict[str, Head], messages: Sequence[Read]) -> Batch:
    """Return what a transaction writes for `messages`, and put the changed rows on the board."""
    batch = Batch([], [], position, {}, None)
    seq, idx, sha256, rolling_hash = position.last_seq, position.last_idx, position.last_sha256, position.rolling_hash
    unknown, stopped = 0, None
    seen: dict[tuple[str, int], str] = {}
    for stored, message, error in messages:
        subject = stored.subject
        head = batch.heads.get(subject) or heads.get(subject) or Head(0, codec.ZERO_HASH)
        stopped = _problem(seq, head, stored, message) or _missed(message, heads, batch.heads, seen)
        if stopped is not None:
            break
        seq, idx, sha256 = stored.seq, 0, codec.body_sha256(stored.data)
        seen[subject.rpartition(".")[2], seq] = sha256
        if message is None:
            batch.dead_letters.append(DeadLetterRow(seq, subject, stored.stored_at, error, stored.data))
        else:
            for projected in project(board, message, seq, stored.stored_at):
                batch.events.append(projected.event)
                unknown += not projected.known
                idx = projected.event.idx
        rolling_hash = hashlib.sha256(f"{rolling_hash} {seq} {subject} {sha256}".encode()).hexdigest()
        batch.heads[subject] = Head(seq, sha256)
    position = replace(
        position,
        last_seq=seq,
        last_idx=idx,
        last_sha256=sha256,
        rolling_hash=rolling_hash,
        events=position.events + len(batch.events),
        unknown_types=position.unknown_types + unknown,
        dead_letters=position.dead_letters + len(batch.dead_letters),
    )
    return batch._replace(position=position, stopped=stopped)


def _problem(last_seq: int, head: Head, stored: Stored, message: LedgerMessage | None) -> AlarmView | None:
    if stored.seq != last_seq + 1:
        return alarm("missing", f"ledger message {last_seq + 1} is missing: {stored.seq} came after {last_seq}", seq=last_seq + 1)
    if message is not None and message.prev != head.sha256:
        project = stored.subject.rpartition(".")[2]
        text = f"project {project}: ledger message {stored.seq} does not follow {head.seq}: the chain of hashes is broken"
        return alarm("broken-chain", text, project=project, seq=stored.seq, expected=message.prev, found=head.sha256)
    return None


def _missed(message: LedgerMessage | None, before: dict[str, Head], new: dict[str, Head], seen: Mapping[tuple[str, int], str]) -> AlarmView | None:
    """Return the alarm of the first head that `plane` recorded in a message and the ledger does not have."""
    if message is None or message.project != PLANE:
        return None
    recorded = (head for decision in message.decisions for event in decision.events if isinstance(event, e.HeadsRecorded) for head in event.heads)
    for noted in recorded:
        subject = f"qd.ledger.{noted.project}"
        found = of_recorded(noted, new.get(subject) or before.get(subject) or Head(0, codec.ZERO_HASH), seen)
        if found is not None:
            return found
    return None
