"""Facts: events of the ledger, as far as they are judged, in structs of this package's own. Pure.

Narrow on purpose: only what some invariant needs is decoded, which is several times faster than the whole. An event of a
type that is not known here is kept by its name, so that evidence of a newer version can be judged too.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class _Event(Struct, tag_field="type", gc=False):
    """What happened."""


class _OfOrchestration(_Event, gc=False):
    """What happened to an orchestration."""

    orchestration: str


class _OfRun(_OfOrchestration, gc=False):
    """What happened to an attempt of a run."""

    run: str
    attempt: int


# ── the registry and the catalogue ───────────────────────────────────────────────────────────────────────────────────


class Named(Struct, gc=False):
    """A thing of the catalogue by its id, with what a design and a ticket start with."""

    id: str
    phase_count: int = 0
    revision: int = 1
    status: str = ""


class CommentBy(Struct, gc=False):
    """Who remarked."""

    target: str
    author: str


class FlagChanged(_Event, tag="flag-changed", gc=False):
    """A flag."""

    flag: str
    on: bool
    previous: bool = False


class NodeRegistered(_Event, tag="node-registered", gc=False):
    """A node."""

    node: Named


class RecordedHead(Struct, gc=False):
    """The newest message of a project at some moment."""

    project: str
    seq: int
    sha256: str


class HeadsRecorded(_Event, tag="heads-recorded", gc=False):
    """The newest messages of projects, as the registry wrote them down."""

    heads: tuple[RecordedHead, ...]


class NodeCordonChanged(_Event, tag="node-cordon-changed", gc=False):
    """A node takes no new work, or takes it again."""

    node: str
    cordoned: bool
    draining: bool = False


class ProjectAdded(_Event, tag="project-added", gc=False):
    """A project."""

    project: Named


class ProjectEdited(_Event, tag="project-edited", gc=False):
    """A project that was changed."""

    project: Named


class DesignAdded(_Event, tag="design-added", gc=False):
    """A design."""

    design: Named


class DesignEdited(_Event, tag="design-edited", gc=False):
    """Its text."""

    design: str
    revision: int
    phase_count: int | None = None


class DesignMarked(_Event, tag="design-marked", gc=False):
    """Its marker."""

    design: str
    revision: int


class DesignMoved(_Event, tag="design-moved", gc=False):
    """Its status."""

    design: str
    status: str
    previous: str
    revision: int


class TicketAdded(_Event, tag="ticket-added", gc=False):
    """A ticket."""

    ticket: Named


class TicketEdited(_Event, tag="ticket-edited", gc=False):
    """Its text."""

    ticket: str


class TicketMoved(_Event, tag="ticket-moved", gc=False):
    """Its status."""

    ticket: str
    status: str
    previous: str
    orchestration: str | None = None


class CommentAdded(_Event, tag="comment-added", gc=False):
    """A remark."""

    comment: CommentBy


# ── orchestrations ───────────────────────────────────────────────────────────────────────────────────────────────────


class OrchestrationLaunched(_OfOrchestration, tag="orchestration-launched"):
    """A launch, with its policy as it is stored."""

    design: str
    design_revision: int
    slug: str
    node: str
    total_phases: int
    policy: msgspec.Raw
    policy_hash: str
    tickets: tuple[str, ...] = ()


class OrchestrationMoved(_OfOrchestration, tag="orchestration-moved", gc=False):
    """Its status."""

    status: str
    previous: str
    phase: str | None = None
    reason_code: str | None = None


class WorkspaceReady(_OfOrchestration, tag="workspace-ready", gc=False):
    """Its clone."""

    base: str


class HeadsMoved(_OfOrchestration, tag="heads-moved", gc=False):
    """Its newest commits."""

    heads: tuple[str, ...]


class ValidationRecorded(_OfOrchestration, tag="validation-recorded", gc=False):
    """What the validator said."""

    verdict: str


class PhaseMoved(_OfOrchestration, tag="phase-moved", gc=False):
    """The status of a phase."""

    phase: str
    status: str


class Planned(Struct, gc=False):
    """A task of a plan."""

    number: int
    subject: str
    description: str = ""
    depends_on: tuple[int, ...] = ()
    model: str | None = None


class PhasePlanned(_OfOrchestration, tag="phase-planned", gc=False):
    """The plan of a phase."""

    phase: str
    revision: int
    tasks: tuple[Planned, ...]


class RepairStarted(_OfOrchestration, tag="repair-started", gc=False):
    """A phase is planned again."""

    phase: str
    repair: int


class IssuesRaised(_OfOrchestration, tag="issues-raised", gc=False):
    """What has to be answered."""

    phase: str
    task: int | None = None


class VerifyRecorded(_OfOrchestration, tag="verify-recorded", gc=False):
    """What the check said."""

    phase: str
    status: str


class VerdictRecorded(_OfOrchestration, tag="verdict-recorded", gc=False):
    """What a reviewer said."""

    phase: str
    reviewer: str
    verdict: str
    task: int | None = None


class TaskMoved(_OfOrchestration, tag="task-moved", gc=False):
    """The status of a task."""

    phase: str
    task: int
    status: str
    revision: int
    git_range: tuple[str, str] | None = None
    rejected: bool = False
    plan_revision: int | None = None


class PolicyChanged(_OfOrchestration, tag="policy-changed"):
    """A revision of the active policy."""

    revision: int
    policy: msgspec.Raw
    changed: tuple[str, ...] = ()


class TaskEdited(_OfOrchestration, tag="task-edited", gc=False):
    """Other text, or another model."""

    phase: str
    task: int
    revision: int
    plan_revision: int
    subject: str | None = None
    description: str | None = None
    model: str | None = None


class TaskInserted(_OfOrchestration, tag="task-inserted", gc=False):
    """A task of an operator."""

    phase: str
    plan_revision: int
    task: int
    subject: str
    description: str = ""
    depends_on: tuple[int, ...] = ()
    model: str | None = None
    blocks: tuple[int, ...] = ()
    by: str = ""


class NodeAssigned(_OfOrchestration, tag="node-assigned", gc=False):
    """Another node."""

    node: str
    previous: str


class RunQueued(_OfRun, tag="run-queued", gc=False):
    """An attempt is to be done."""

    nonce: str
    kind: str
    node: str
    role: str
    model: str
    policy_revision: int
    phase: str | None = None
    task: int | None = None
    base: tuple[str, ...] = ()
    reviewer: str | None = None


class RunDispatched(_OfRun, tag="run-dispatched", gc=False):
    """Its order was published."""


class RunStarted(_OfRun, tag="run-started", gc=False):
    """It was claimed."""

    node: str


class RunWithdrawn(_OfRun, tag="run-withdrawn", gc=False):
    """It was taken back."""


class RunEnded(_OfRun, tag="run-ended", gc=False):
    """It ended."""

    node: str
    outcome: str
    counts: bool = True
    reason_code: str | None = None
    head: str | None = None


class ReportStale(_OfRun, tag="report-stale", gc=False):
    """A report that changed nothing."""

    kind: str


class HoldSet(_OfOrchestration, tag="hold-set", gc=False):
    """A hold."""

    hold: str


class HoldCleared(_OfOrchestration, tag="hold-cleared", gc=False):
    """A hold is gone."""

    hold: str


class GateOpened(_OfOrchestration, tag="gate-opened", gc=False):
    """A human must judge."""

    gate: str
    phase: str | None


class GateResolved(_OfOrchestration, tag="gate-resolved", gc=False):
    """A human judged."""

    gate: str
    phase: str | None
    approved: bool
    by: str


class ActionOpened(_OfOrchestration, tag="action-opened", gc=False):
    """The outcome of an action is still to come."""

    action: str
    kind: str


class ActionCompleted(_Event, tag="action-completed", gc=False):
    """An action is done."""

    action: str


class ActionFailed(_Event, tag="action-failed", gc=False):
    """An action will not be done."""

    action: str
    reason_code: str


class Unknown(Struct, gc=False):
    """An event of a type that is not known here."""

    type: str = ""


Known = (
    FlagChanged
    | NodeRegistered
    | HeadsRecorded
    | NodeCordonChanged
    | ProjectAdded
    | ProjectEdited
    | DesignAdded
    | DesignEdited
    | DesignMarked
    | DesignMoved
    | TicketAdded
    | TicketEdited
    | TicketMoved
    | CommentAdded
    | OrchestrationLaunched
    | OrchestrationMoved
    | WorkspaceReady
    | HeadsMoved
    | ValidationRecorded
    | PhaseMoved
    | PhasePlanned
    | RepairStarted
    | IssuesRaised
    | VerifyRecorded
    | VerdictRecorded
    | TaskMoved
    | PolicyChanged
    | TaskEdited
    | TaskInserted
    | NodeAssigned
    | RunQueued
    | RunDispatched
    | RunStarted
    | RunWithdrawn
    | RunEnded
    | ReportStale
    | HoldSet
    | HoldCleared
    | GateOpened
    | GateResolved
    | ActionOpened
    | ActionCompleted
    | ActionFailed
)
Event = Known | Unknown

NAMES: dict[type, str] = {kind: str(kind.__struct_config__.tag) for kind in Known.__args__}
"""The wire name of each type of event."""

OF_ORCHESTRATION: frozenset[type] = frozenset(kind for kind in NAMES if issubclass(kind, _OfOrchestration))


def name_of(event: Event) -> str:
    """Return the wire name of an event."""
    return NAMES.get(type(event)) or event.type  # type: ignore[union-attr]
