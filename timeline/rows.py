"""Rows: one frozen struct for each table that the ledger is projected to; fields are columns, in the order of `schema.sql`. Pure.

`seq` and `idx` name the ledger row that made a row of ours. Times are UTC without a zone, durations are milliseconds,
money is dollars with six decimals.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct


class EventRow(NamedTuple):
    """A row of the ledger: an action, or an event. A tuple, since there are so many of them."""

    seq: int
    idx: int
    occurred_at: datetime
    stored_at: datetime
    project: str
    orchestration: str | None
    phase: str | None
    task: int | None
    run: str | None
    attempt: int | None
    node: str | None
    action: str | None
    category: str
    type: str
    principal: str | None
    via: str | None
    key_hash: str | None
    status: str | None
    reason_code: str | None
    revision: int | None
    duration_ms: float | None
    summary: str
    payload: str


class ActionRow(Struct, frozen=True, gc=False):
    """A request and its outcome. `accept_ms` is from the command's store time to the ledger's; `complete_ms` from accepted to completed."""

    seq: int
    idx: int
    id: str
    type: str
    project: str
    orchestration: str | None
    design: str | None
    ticket: str | None
    node: str | None
    task: str | None
    requested_by: str
    via: str
    key_hash: str
    reason: str | None
    status: str
    reason_code: str | None
    message: str
    revision: int | None
    received_at: datetime
    accepted_at: datetime | None
    completed_at: datetime | None
    accept_ms: float | None
    complete_ms: float | None
    total_ms: float | None


class OrchestrationRow(Struct, frozen=True, gc=False):
    """An orchestration. `holds` are all its holds, comma-separated, the one that is shown first."""

    seq: int
    idx: int
    id: str
    project: str
    design: str
    design_revision: int
    feature: str
    slug: str
    branch: str
    node: str
    preset_origin: str
    policy_hash: str
    total_phases: int
    design_only: bool
    tickets: int
    requested_by: str | None
    action: str | None
    launched_at: datetime
    status: str
    phase: str | None = None
    hold: str | None = None
    holds: str = ""
    repairs: int = 0
    attempts: int = 0
    tokens: int = 0
    usd: Decimal | None = None
    reason_code: str | None = None
    message: str = ""
    ready_at: datetime | None = None
    ended_at: datetime | None = None
    duration_ms: float | None = None
    changed_at: datetime | None = None
    policy_revision: int = 1


class PhaseRow(Struct, frozen=True, gc=False):
    """A phase of an orchestration."""

    seq: int
    idx: int
    project: str
    orchestration: str
    phase: str
    status: str
    revision: int = 0
    tasks: int = 0
    repairs: int = 0
    verify: str | None = None
    reason_code: str | None = None
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_ms: float | None = None


class TaskRow(Struct, frozen=True, gc=False):
    """A task of a phase. `attempts` and `rejections` count all, also those before a retry."""

    seq: int
    idx: int
    project: str
    orchestration: str
    phase: str
    task: int
    subject: str
    model: str | None
    depends_on: str
    status: str
    revision: int = 1
    attempts: int = 0
    rejections: int = 0
    base: str | None = None
    head: str | None = None
    reason_code: str | None = None
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_ms: float | None = None


class RunRow(Struct, frozen=True, gc=False):
    """One attempt of a run. `queue_ms` is from queued to started, `run_ms` what the node measured."""

    seq: int
    idx: int
    project: str
    orchestration: str
    phase: str | None
    task: int | None
    run: str
    attempt: int
    kind: str
    role: str
    model: str
    reviewer: str | None
    node: str
    action: str | None
    policy_revision: int
    queued_at: datetime
    status: str
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    queue_ms: float | None = None
    run_ms: float | None = None
    counts: bool | None = None
    reason_code: str | None = None
    detail: str = ""
    exit_code: int | None = None
    signal: int | None = None
    agent: str | None = None
    agent_model: str | None = None
    head: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal | None = None


class GateRow(Struct, frozen=True, gc=False):
    """A gate that was opened. `status` is open, approved, rejected, or dropped when the orchestration ended first."""

    seq: int
    idx: int
    project: str
    orchestration: str
    gate: str
    phase: str | None
    subject: str
    opened_at: datetime
    status: str = "open"
    resolved_at: datetime | None = None
    principal: str | None = None
    text: str = ""
    wait_ms: float | None = None


class NodeRow(Struct, frozen=True, gc=False):
    """A node as it last described itself; `labels` and `agents` are JSON."""

    id: str
    capacity: int
    labels: str
    agents: str
    cordoned: bool
    registered_at: datetime
    changed_at: datetime


class FlagRow(Struct, frozen=True, gc=False):
    """A feature flag."""

    flag: str
    enabled: bool
    principal: str | None
    changed_at: datetime


class UsageRow(Struct, frozen=True, gc=False):
    """What one attempt used. `computed` marks a price that came from a table and not from the agent."""

    seq: int
    idx: int
    occurred_at: datetime
    project: str
    orchestration: str
    phase: str | None
    task: int | None
    run: str
    attempt: int
    kind: str
    role: str
    node: str
    model: str
    input_tokens: int
    output_tokens: int
    usd: Decimal | None
    computed: bool


class DeadLetterRow(Struct, frozen=True, gc=False):
    """A ledger message that did not decode, with its bytes."""

    seq: int
    subject: str
    stored_at: datetime
    error: str
    data: bytes


class HeadRow(Struct, frozen=True, gc=False):
    """The newest ledger message of a subject."""

    subject: str
    seq: int
    sha256: str


TableRow = ActionRow | OrchestrationRow | PhaseRow | TaskRow | RunRow | GateRow | NodeRow | FlagRow | UsageRow
"""A row that an event makes or changes."""

TABLES: dict[type, str] = {
    EventRow: "events",
    ActionRow: "actions",
    OrchestrationRow: "orchestrations",
    PhaseRow: "phases",
    TaskRow: "tasks",
    RunRow: "runs",
    GateRow: "gates",
    NodeRow: "nodes",
    FlagRow: "flags",
    UsageRow: "usage",
    DeadLetterRow: "dead_letter",
    HeadRow: "ingest_heads",
}

KEYS: dict[type[Struct], tuple[str, ...]] = {
    ActionRow: ("seq", "idx"),
    OrchestrationRow: ("seq", "idx"),
    PhaseRow: ("seq", "idx", "phase"),
    TaskRow: ("seq", "idx", "task"),
    RunRow: ("seq", "idx"),
    GateRow: ("seq", "idx"),
    NodeRow: ("id",),
    FlagRow: ("flag",),
    HeadRow: ("subject",),
}
"""What names a row that may change later. Numbers that only grow: the file finds them without an index."""
