"""What is known of a simulated run afterwards, by whom: clients, streams, agents, journals, the active controller. Plain values.

Each part was written by a different party, so that one bug cannot hide itself.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from bus_schemas import codec, subjects
from bus_schemas.commands import Command
from bus_schemas.decisions import Decision, LedgerMessage, Receipt
from bus_schemas.events import Event
from bus_schemas.orders import WorkOrder
from controller.project import Aggregate
from tests.simulation.machine import Witnessed


class Call(NamedTuple):
    """A command as its client saw it; `outcome` is ok, refused, unknown, or nothing-sent (certain). `at_s` are virtual times."""

    client: str
    key: str
    project: str
    kind: str
    body_hash: str
    command: str
    sent_at_s: float
    done_at_s: float
    outcome: str
    receipt: Receipt | None
    dry_run: bool = False
    asked: Command | None = None
    """The command itself, where it was one."""


class Record(NamedTuple):
    """A stored message."""

    stream: str
    seq: int
    subject: str
    at_s: float
    data: bytes


class Entry(NamedTuple):
    """A decision of the ledger with the sequence and virtual time of its message."""

    seq: int
    at_s: float
    project: str
    decision: Decision


class Fact(NamedTuple):
    """An event of the ledger; `place` orders all of them."""

    place: int
    at_s: float
    project: str
    decision: Decision
    event: Event


class Evidence:
    """All of it, after the run. What is stored is decoded once, lazily; whoever reads it raises codec.Malformed where it does not decode."""

    def __init__(self, calls: list[Call], ledger: list[Record], stored: list[Record], witness: list[Witnessed], journals: dict[str, bytes]) -> None:
        """Take the ledger as the stream holds it at the end, and every message that was ever stored, also those deleted later."""
        self.calls, self.ledger, self.stored, self.witness, self.journals = calls, ledger, stored, witness, journals
        self.active: dict[str, Aggregate] = {}
        """What the active controller holds; empty where it was not asked."""
        self.resting: dict[str, Aggregate] = {}
        """The states when everything was quiet, before what was still held was cancelled; empty where it never was."""
        self.emptied: dict[str, float] = {}
        """When a machine lost its data folder the last time."""

    @functools.cached_property
    def messages(self) -> list[tuple[Record, LedgerMessage]]:
        """The ledger, decoded."""
        return [(record, codec.decode_ledger(record.data)) for record in self.ledger]

    @functools.cached_property
    def entries(self) -> list[Entry]:
        """Every decision of the ledger in order."""
        return [Entry(record.seq, record.at_s, message.project, decision) for record, message in self.messages for decision in message.decisions]

    @functools.cached_property
    def facts(self) -> list[Fact]:
        """Every event of the ledger in order."""
        pairs = [(entry, event) for entry in self.entries for event in entry.decision.events]
        return [Fact(place, entry.at_s, entry.project, entry.decision, event) for place, (entry, event) in enumerate(pairs)]

    @functools.cached_property
    def orders(self) -> list[tuple[Record, WorkOrder]]:
        """Every order that was ever published, decoded."""
        return [
            (record, codec.decode_order(record.data))
            for record in self.stored
            if record.stream == subjects.WORK and record.subject.startswith("qd.work.")
        ]


class Violation(NamedTuple):
    """An invariant that does not hold, and why."""

    invariant: str
    text: str
