"""A book: the evidence of a chronicle opened for writing, and sealed again so that only what was planted is wrong.

A bug of the system leaves a ledger whose chain is whole and a timeline that agrees with it: after a change, sequences,
hashes, the timeline and the positions that clients were told are made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from bus_schemas import codec
from bus_schemas.ids import PLANE
from cli.audit.evidence import Evidence, Stored, TimelineRow, Witnessed

Json = dict[str, Any]


class Place(NamedTuple):
    """An event of the book: its message, its decision, its index in there, and the event itself."""

    message: Json
    decision: Json
    index: int
    event: Json


class Book:
    """The messages of a ledger as JSON, and the other evidence as lists."""

    def __init__(self, evidence: Evidence) -> None:
        """Open `evidence`, which stays as it is."""
        self.evidence = evidence
        self.messages: list[Json] = []
        plane: dict[int, Json] = {}
        for stored in evidence.ledger or ():
            message: Json = msgspec.json.decode(stored.data)
            message["_stored_at_s"], message["_subject"] = stored.stored_at_s, stored.subject
            message["_plane"] = plane.get(message["plane_seq"])
            if message["project"] == PLANE:
                plane[stored.seq] = message
            self.messages.append(message)
        self.reports: list[Stored] = list(evidence.reports or ())
        self.calls = list(evidence.calls or ())
        self.witness: list[Witnessed] = list(evidence.witness or ())

    # ── reading ──

    def decisions(self) -> Iterator[tuple[Json, Json]]:
        """Yield (message, decision)."""
        for message in self.messages:
            for decision in message["decisions"]:
                yield message, decision

    def events(self, *types: str) -> list[Place]:
        """Return the events of these types; of all types where none is named."""
        return [
            Place(message, decision, index, event)
            for message, decision in self.decisions()
            for index, event in enumerate(decision.get("events", ()))
            if not types or event["type"] in types
        ]

    def commands(self, *types: str, status: str | None = None) -> list[tuple[Json, Json]]:
        """Return (message, decision) of the commands of these types with this status."""
        return [
            (message, decision)
            for message, decision in self.decisions()
            if decision["cause"]["cause"] == "command"
            and (not types or decision["cause"]["type"] in types)
            and status in (None, decision["action"]["status"])
        ]

    def acknowledged(self) -> set[str]:
        """Return the actions that a client was told of."""
        return {call.receipt.action for call in self.calls if call.receipt is not None}

    # ── writing ──

    def drop(self, decision: Json) -> None:
        """Take a decision out of its message."""
        for message in self.messages:
            message["decisions"] = [known for known in message["decisions"] if known is not decision]

    def insert_after(self, decision: Json, new: Json) -> None:
        """Put a decision behind another one."""
        for message in self.messages:
            for index, known in enumerate(message["decisions"]):
                if known is decision:
                    message["decisions"].insert(index + 1, new)
                    return

    def rename(self, old: str, new: str) -> None:
        """Give a thing another id, everywhere in ledger and evidence."""

        def renamed(value: Any) -> Any:
            if isinstance(value, str):
                return new if value == old else value
            if isinstance(value, dict):
                return {key: item if key.startswith("_") else renamed(item) for key, item in value.items()}
            return [renamed(item) for item in value] if isinstance(value, list) else value

        for message in self.messages:
            message["decisions"] = renamed(message["decisions"])
        subject = f".{old}."
        self.reports = [report._replace(subject=report.subject.replace(subject, f".{new}.")) for report in self.reports]
        self.witness = [msgspec.structs.replace(seen, run=new) if seen.run == old else seen for seen in self.witness]

    # ── sealing ──

    def sealed(self) -> Evidence:
        """Return the evidence of a system that did what now stands in the book."""
        kept = [message for message in self.messages if message["decisions"]]
        seqs = {id(message): seq for seq, message in enumerate(kept, 1)}
        heads: dict[str, str] = {}
        newest: dict[str, int] = {}
        ledger: list[Stored] = []
        rows: list[TimelineRow] = []
        positions: dict[str, str] = {}
        for seq, message in enumerate(kept, 1):
            subject = message["_subject"]
            for event in (event for decision in message["decisions"] for event in decision.get("events", ()) if event["type"] == "heads-recorded"):
                for head in event["heads"]:
                    of = f"qd.ledger.{head['project']}"
                    if of in heads and "false" not in head:
                        head["seq"], head["sha256"] = newest[of], heads[of]
            body = {key: value for key, value in message.items() if not key.startswith("_")}
            body["prev"] = heads.get(subject, codec.ZERO_HASH)
            body["plane_seq"] = message.get("_plane_seq", _seq_of(message["_plane"], seqs, kept, seq))
            data = msgspec.json.encode(body)
            heads[subject] = hashlib.sha256(data).hexdigest()
            newest[subject] = seq
            ledger.append(Stored(seq, subject, message["_stored_at_s"], data))
            for row, action in _rows(message, seq):
                rows.append(row)
                if action is not None:
                    positions.setdefault(action, f"{row.seq}.{row.idx}")
        calls = [
            call
            if call.receipt is None
            else msgspec.structs.replace(
                call, receipt=msgspec.structs.replace(call.receipt, position=positions.get(call.receipt.action, call.receipt.position))
            )
            for call in self.calls
        ]
        return self.evidence._replace(ledger=ledger, timeline=rows, calls=calls, reports=self.reports, witness=self.witness)


def _seq_of(plane: Json | None, seqs: dict[int, int], kept: list[Json], below: int) -> int:
    """Return the sequence of a registry message; where that one is gone, of the last one before."""
    if plane is None:
        return 0
    found = seqs.get(id(plane))
    if found is not None:
        return found
    return max((seq for seq, message in enumerate(kept[: below - 1], 1) if message["project"] == PLANE), default=0)


def _rows(message: Json, seq: int) -> Iterator[tuple[TimelineRow, str | None]]:
    idx = 0
    for decision in message["decisions"]:
        action, cause = decision.get("action"), decision["cause"]
        because = decision.get("because") if action is None else action["id"]
        if action is not None:
            kind = cause.get("type", "unknown")
            yield TimelineRow(seq, idx, message["project"], kind, action.get("orchestration"), None, None, action["id"]), action["id"]
            idx += 1
        for event in decision.get("events", ()):
            named = [event.get(name) for name in ("orchestration", "run", "attempt")]
            yield TimelineRow(seq, idx, message["project"], event["type"], *named, because), None
            idx += 1
