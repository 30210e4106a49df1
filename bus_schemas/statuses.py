"""Statuses: where an orchestration, a phase, a task and a run stand, why one is held, and what a gate waits for. Pure."""

from __future__ import annotations

from enum import StrEnum


class OrchestrationStatus(StrEnum):
    """Where an orchestration stands (domain §6)."""

    LAUNCHING = "launching"
    VALIDATING = "validating"
    PLANNING = "planning"
    EXECUTING = "executing"
    REVIEWING = "reviewing"
    FINALIZING = "finalizing"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PhaseStatus(StrEnum):
    """Where a phase stands."""

    PENDING = "pending"
    PLANNING = "planning"
    PLANNED = "planned"
    EXECUTING = "executing"
    REVIEWING = "reviewing"
    COMPLETE = "complete"
    SKIPPED = "skipped"
    BLOCKED = "blocked"


class TaskStatus(StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    BLOCKED = "blocked"


class RunStatus(StrEnum):
    """Where a run's newest attempt stands."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    WITHDRAWN = "withdrawn"


class HoldKind(StrEnum):
    """Why an orchestration does not move, in the order in which the first is shown."""

    CANCELLING = "cancelling"
    PAUSING = "pausing"
    PAUSED = "paused"
    NODE_LOST = "node_lost"
    BLOCKED = "blocked"
    GATE = "gate"
    BUDGET = "budget"
    QUOTA = "quota"


class GateKind(StrEnum):
    """What a gate waits for."""

    PLAN = "plan"
    REVIEW = "review"
    FINALIZE = "finalize"
    CONSENSUS_DISAGREEMENT = "consensus_disagreement"
