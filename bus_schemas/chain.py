"""The walk along the ledger: every body names the hash of the one before it on its subject, and heads noted elsewhere are met on the way. Pure.

A chain shows that nothing in its middle was changed, left out or put in. It cannot show that its end is gone or that all of
it was made anew; for that there are heads which somebody else noted: the registry `plane`, the timeline, a sheet of paper.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from bus_schemas import codec
from bus_schemas.events import HeadsRecorded, RecordedHead
from bus_schemas.ids import PLANE
from bus_schemas.violation import VIOLATIONS_MAX, Violation

CHAIN, SEQUENCE, HEADS = "chain", "sequence", "heads"

RECENT_MAX = 100_000
"""Hashes kept for heads that `plane` records later; it records within a minute or so."""


class Head(NamedTuple):
    """The newest message of a project."""

    seq: int
    sha256: str


class Expected(NamedTuple):
    """A head that somebody noted, who that is, and how many rows of the project he counted up to it, if he counts."""

    project: str
    seq: int
    sha256: str
    by: str
    rows: int | None = None


class Rolling(NamedTuple):
    """The hash over all that a reader has read up to a message, as the timeline keeps it."""

    seq: int
    sha256: str
    by: str


class Notes(NamedTuple):
    """What was noted of a ledger elsewhere."""

    heads: tuple[Expected, ...] = ()
    rolling: tuple[Rolling, ...] = ()


NO_NOTES = Notes()


_NONE = msgspec.Raw(b"null")


class _Decision(Struct, gc=False):
    action: msgspec.Raw = _NONE
    events: tuple[msgspec.Raw, ...] = ()


class _Link(Struct):
    project: str
    prev: str
    decisions: tuple[_Decision, ...]


_link = msgspec.json.Decoder(_Link)
_recorded = msgspec.json.Decoder(HeadsRecorded)
_RECORDED_SIGN = b'"type":"heads-recorded"'


class Chain:
    """A walk over stored ledger messages in the order of their sequences. `findings` is what is wrong."""

    def __init__(self, *, first_seq: int = 1, projects: frozenset[str] | None = None, notes: Notes = NO_NOTES) -> None:
        """Start before `first_seq`. `projects`: only their messages are given; None: those of all, so that there may be no gap."""
        self.first_seq, self._projects = first_seq, projects
        self.messages = self.rows = self.met = self.unmet = 0
        self.last_seq = first_seq - 1
        self.heads: dict[str, Head] = {}
        self.rows_of: dict[str, int] = {}
        self.recorded: dict[str, RecordedHead] = {}
        self.findings: list[Violation] = []
        self.finding_count = 0
        self._expected = deque(sorted((head for head in notes.heads if self._covers(head)), key=lambda head: head.seq))
        self._rollings = deque(sorted(notes.rolling, key=lambda noted: noted.seq) if first_seq <= 1 and projects is None else ())
        self._rolling = codec.ZERO_HASH
        self._recent: dict[tuple[str, int], str] = {}

    def take(self, seq: int, subject: str, data: bytes) -> None:
        """Take the next message."""
        project = subject.rpartition(".")[2]
        if seq <= self.last_seq:
            self._found(SEQUENCE, project, seq, f"it comes after message {self.last_seq}: the order was changed, or it stands there twice")
        elif self._projects is None and seq != self.last_seq + 1:
            self._missing(self.last_seq + 1, seq - 1)
        sha256 = codec.body_sha256(data)
        self._follow(project, seq, data)
        self.messages += 1
        self.last_seq = max(self.last_seq, seq)
        self.heads[project] = Head(seq, sha256)
        self._remember(project, seq, sha256)
        self._meet(seq)
        if self._rollings:
            self._roll(seq, subject, sha256)

    def _covers(self, head: Expected) -> bool:
        return head.seq >= self.first_seq and (self._projects is None or head.project in self._projects)

    def finish(self, end_seq: int | None = None) -> None:
        """Take in that there is no more; `end_seq` is where the stream says that it ends."""
        if end_seq is not None and end_seq > self.last_seq and self._projects is None:
            self._missing(self.last_seq + 1, end_seq)
        self._meet(None)
        for noted in self._rollings:
            text = f"{noted.by} has read up to message {noted.seq}, and the ledger ends at {self.last_seq}: its tail was lost"
            self._add(HEADS, f"message {noted.seq}", text if noted.seq > self.last_seq else f"{noted.by} noted it, and there is no such message")

    # ── the chain ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _follow(self, project: str, seq: int, data: bytes) -> None:
        try:
            link = _link.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._found(CHAIN, project, seq, f"it does not decode, so it was changed: {error}")
            return
        self._count(project, link)
        if link.project != project:
            self._found(CHAIN, project, seq, f"it says that it is of project {link.project!r}")
        head = self.heads.get(project)
        if head is None:
            if link.prev != codec.ZERO_HASH and self.first_seq <= 1:
                self._found(CHAIN, project, seq, f"it is the first of its project and says that {link.prev} comes before it: the beginning is gone")
        elif link.prev != head.sha256:
            self._found(
                CHAIN,
                project,
                seq,
                f"it does not follow message {head.seq}: expected hash {link.prev}, found {head.sha256}; one of the two was changed,"
                " or what stood between them is gone",
            )
        if project == PLANE and _RECORDED_SIGN in data:
            self._compare_recorded(seq, link)

    def _count(self, project: str, link: _Link) -> None:
        rows = sum(len(decision.events) + (bytes(decision.action) != b"null") for decision in link.decisions)
        self.rows += rows
        self.rows_of[project] = self.rows_of.get(project, 0) + rows

    # ── heads ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _remember(self, project: str, seq: int, sha256: str) -> None:
        self._recent[project, seq] = sha256
        if len(self._recent) > RECENT_MAX:
            del self._recent[next(iter(self._recent))]

    def _compare_recorded(self, seq: int, link: _Link) -> None:
        for decision in link.decisions:
            for event in decision.events:
                if _RECORDED_SIGN in bytes(event):
                    for head in _heads_of(event):
                        self._compare(seq, head)

    def _compare(self, at_seq: int, recorded: RecordedHead) -> None:
        self.recorded[recorded.project] = recorded
        if recorded.seq < self.first_seq or (self._projects is not None and recorded.project not in self._projects):
            return
        found = self._recent.get((recorded.project, recorded.seq))
        head = self.heads.get(recorded.project, Head(0, codec.ZERO_HASH))
        if found is None and head.seq > recorded.seq and len(self._recent) >= RECENT_MAX:
            self.unmet += 1
            return
        self.met += 1
        if found != recorded.sha256:
            what = f"found {found}" if found is not None else f"there is no such message; the newest before is {head.seq}"
            text = f"`plane` recorded it in message {at_seq} with the hash {recorded.sha256}: {what}"
            self._found(HEADS, recorded.project, recorded.seq, text)

    def _meet(self, seq: int | None) -> None:
        """Compare the noted heads up to `seq`, or all that are left."""
        while self._expected and (seq is None or self._expected[0].seq <= seq):
            noted = self._expected.popleft()
            self.met += 1
            head = self.heads.get(noted.project)
            if head is None or head.seq != noted.seq:
                end = f"the ledger of {noted.project} ends at {head.seq}: its tail was lost" if seq is None and head else "there is no such message"
                self._found(HEADS, noted.project, noted.seq, f"{noted.by} noted the hash {noted.sha256}: {end}")
            elif head.sha256 != noted.sha256:
                self._found(HEADS, noted.project, noted.seq, f"{noted.by} noted the hash {noted.sha256}, found {head.sha256}: it was changed")
            elif noted.rows is not None and noted.rows != self.rows_of.get(noted.project, 0):
                counted = self.rows_of.get(noted.project, 0)
                self._found(HEADS, noted.project, noted.seq, f"{noted.by} has {noted.rows} rows up to it, and the ledger has {counted}")

    def _roll(self, seq: int, subject: str, sha256: str) -> None:
        self._rolling = hashlib.sha256(f"{self._rolling} {seq} {subject} {sha256}".encode()).hexdigest()
        while self._rollings and self._rollings[0].seq == seq:
            noted = self._rollings.popleft()
            self.met += 1
            if noted.sha256 != self._rolling:
                text = f"{noted.by} has the hash {noted.sha256} over all up to here, and the ledger gives {self._rolling}: they are not the same"
                self._add(HEADS, f"message {seq}", text)

    # ── what is wrong ────────────────────────────────────────────────────────────────────────────────────────────────

    def _missing(self, first: int, last: int) -> None:
        which = f"message {first}" if first == last else f"messages {first} to {last}"
        self._add(
            SEQUENCE, which, "missing from the ledger: they are damaged, or were taken out" if first < last else "missing: damaged or taken out"
        )

    def _found(self, check: str, project: str, seq: int, text: str) -> None:
        self._add(check, f"qd.ledger.{project} message {seq}", text)

    def _add(self, check: str, where: str, text: str) -> None:
        self.finding_count += 1
        if len(self.findings) < VIOLATIONS_MAX:
            self.findings.append(Violation(check, where, text))


def _heads_of(event: Any) -> tuple[RecordedHead, ...]:
    try:
        return _recorded.decode(event).heads
    except msgspec.MsgspecError:
        return ()  # text of somebody that looks like such an event
