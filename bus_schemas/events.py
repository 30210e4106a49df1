"""Events: what has happened, as the ledger keeps it. Pure.

Published events are never edited: an optional field may be added, anything else is a new event. A reader ignores fields
it does not know. Each event belongs to one decision, which says when, by whom and why.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bus_schemas.entities import Comment, Complexity, Design, DesignStatus, Node, Priority, Project, Ticket, TicketStatus
from bus_schemas.orders import Issue, RunKind
from bus_schemas.policy import Policy
from bus_schemas.reports import Finding, Outcome, PlannedTask, Result, Usage, Verdict
from bus_schemas.statuses import GateKind as GateKind
from bus_schemas.statuses import HoldKind as HoldKind
from bus_schemas.statuses import OrchestrationStatus as OrchestrationStatus
from bus_schemas.statuses import PhaseStatus as PhaseStatus
from bus_schemas.statuses import RunStatus as RunStatus
from bus_schemas.statuses import TaskStatus as TaskStatus


class _Event(Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """What all events share."""


class FlagChanged(_Event, tag="flag-changed", frozen=True):
    """A feature flag was turned on or off."""

    flag: str
    on: bool
    previous: bool = False


class NodeRegistered(_Event, tag="node-registered", frozen=True):
    """A node's first beat, or a beat that describes it differently."""

    node: Node


class RecordedHead(Struct, frozen=True):
    """The newest ledger message of a project at some moment, and the SHA-256 of its stored body."""

    project: str
    seq: int
    sha256: str


class HeadsRecorded(_Event, tag="heads-recorded", frozen=True):
    """The newest message of each project whose ledger went on since the last record, by name; in `plane` alone.

    Where the ledger does not hold one of them any more, acknowledged decisions were lost or changed.
    """

    heads: tuple[RecordedHead, ...]


class NodeCordonChanged(_Event, tag="node-cordon-changed", frozen=True):
    """A node takes no new work, or takes it again; one that is drained gives its orchestrations to other nodes."""

    node: str
    cordoned: bool
    draining: bool = False


class ProjectAdded(_Event, tag="project-added", frozen=True):
    """A project was registered."""

    project: Project


class ProjectEdited(_Event, tag="project-edited", frozen=True):
    """A project was changed; it now is as given."""

    project: Project


class DesignAdded(_Event, tag="design-added", frozen=True):
    """A design was added."""

    design: Design


class DesignEdited(_Event, tag="design-edited", frozen=True):
    """A design was changed; None means: as before."""

    design: str
    revision: int
    title: str | None = None
    body: str | None = None
    complexity: Complexity | None = None
    phase_count: int | None = None


class DesignMarked(_Event, tag="design-marked", frozen=True):
    """A marker was set or cleared."""

    design: str
    marker: str
    completed: bool
    revision: int


class DesignMoved(_Event, tag="design-moved", frozen=True):
    """A design has another status."""

    design: str
    status: DesignStatus
    previous: DesignStatus
    revision: int


class TicketAdded(_Event, tag="ticket-added", frozen=True):
    """A ticket was added."""

    ticket: Ticket


class TicketEdited(_Event, tag="ticket-edited", frozen=True):
    """A ticket was changed; None means: as before."""

    ticket: str
    title: str | None = None
    body: str | None = None
    design: str | None = None
    priority: Priority | None = None


class TicketMoved(_Event, tag="ticket-moved", frozen=True):
    """A ticket has another status; `orchestration` is set when a launch moved it."""

    ticket: str
    status: TicketStatus
    previous: TicketStatus
    orchestration: str | None = None


class CommentAdded(_Event, tag="comment-added", frozen=True):
    """A comment was added."""

    comment: Comment


class OrchestrationLaunched(_Event, tag="orchestration-launched", frozen=True):
    """A launch was accepted. The design's text is the one of `design_revision` at this place of the ledger."""

    orchestration: str
    design: str
    design_revision: int
    feature: str
    slug: str
    branch: str
    node: str
    total_phases: int
    policy: Policy
    policy_hash: str
    preset_origin: str
    tickets: tuple[str, ...] = ()
    design_only: bool = False


class OrchestrationMoved(_Event, tag="orchestration-moved", frozen=True):
    """An orchestration has another status; a failed one has a reason code."""

    orchestration: str
    status: OrchestrationStatus
    previous: OrchestrationStatus
    phase: str | None = None
    reason_code: str | None = None
    message: str = ""


class WorkspaceReady(_Event, tag="workspace-ready", frozen=True):
    """`init` made the clone: the commit it starts from and the branch that `finalize` will write."""

    orchestration: str
    base: str
    path: str
    branch: str


class HeadsMoved(_Event, tag="heads-moved", frozen=True):
    """The newest commits of the work: what the next run starts from."""

    orchestration: str
    heads: tuple[str, ...]


class ValidationRecorded(_Event, tag="validation-recorded", frozen=True):
    """What the validator said of the design."""

    orchestration: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()


class PhaseMoved(_Event, tag="phase-moved", frozen=True):
    """A phase has another status; a phase not known before is added (`N.5` after `N`)."""

    orchestration: str
    phase: str
    status: PhaseStatus
    reason_code: str | None = None
    message: str = ""


class PhasePlanned(_Event, tag="phase-planned", frozen=True):
    """Tasks were appended to a phase, numbered as they stand here; its plan has a new revision."""

    orchestration: str
    phase: str
    revision: int
    tasks: tuple[PlannedTask, ...]


class RepairStarted(_Event, tag="repair-started", frozen=True):
    """A phase with gaps is planned again."""

    orchestration: str
    phase: str
    repair: int


class IssuesRaised(_Event, tag="issues-raised", frozen=True):
    """What the next plan (or, with `task`, the next run of that task) must answer; kept until it is used."""

    orchestration: str
    phase: str
    issues: tuple[Issue, ...]
    task: int | None = None


class VerifyRecorded(_Event, tag="verify-recorded", frozen=True):
    """The project's check: passed, failed, or skipped because the project has none."""

    orchestration: str
    phase: str
    status: str
    exit_code: int | None = None


class VerdictRecorded(_Event, tag="verdict-recorded", frozen=True):
    """What a reviewer said of a phase or of a task, after the policy's rules were applied."""

    orchestration: str
    phase: str
    reviewer: str
    verdict: Verdict
    task: int | None = None
    findings: tuple[Finding, ...] = ()
    model: str | None = None


class TaskMoved(_Event, tag="task-moved", frozen=True):
    """A task has another status. `git_range` are its commits; `rejected` counts a review that sent it back."""

    orchestration: str
    phase: str
    task: int
    status: TaskStatus
    revision: int
    git_range: tuple[str, str] | None = None
    rejected: bool = False
    reason_code: str | None = None
    message: str = ""
    plan_revision: int | None = None


class PolicyChanged(_Event, tag="policy-changed", frozen=True):
    """The active policy has a new revision. `policy` is the whole of it, `changed` names the fields as `section.field`."""

    orchestration: str
    revision: int
    policy: Policy
    changed: tuple[str, ...] = ()


class TaskEdited(_Event, tag="task-edited", frozen=True):
    """A pending task has other text or another model; None means: as before. An empty `model` is the policy's again."""

    orchestration: str
    phase: str
    task: int
    revision: int
    plan_revision: int
    subject: str | None = None
    description: str | None = None
    model: str | None = None


class TaskInserted(_Event, tag="task-inserted", frozen=True):
    """A task was added behind task `after` (0: first); those in `blocks` now depend on it."""

    orchestration: str
    phase: str
    plan_revision: int
    task: PlannedTask
    after: int
    blocks: tuple[int, ...] = ()
    by: str = ""


class NodeAssigned(_Event, tag="node-assigned", frozen=True):
    """An orchestration goes on on another node."""

    orchestration: str
    node: str
    previous: str
    reason: str


class RunQueued(_Event, tag="run-queued", frozen=True):
    """An attempt of a run is to be done. The work order is derived from this and the state it stands in."""

    orchestration: str
    run: str
    attempt: int
    nonce: str
    kind: RunKind
    node: str
    role: str
    model: str
    policy_revision: int
    phase: str | None = None
    task: int | None = None
    base: tuple[str, ...] = ()
    reviewer: str | None = None
    previous_error: str | None = None


class RunDispatched(_Event, tag="run-dispatched", frozen=True):
    """The order of an attempt was published to its node; recorded with the next decision."""

    orchestration: str
    run: str
    attempt: int


class RunStarted(_Event, tag="run-started", frozen=True):
    """The node claimed an attempt and spawns it."""

    orchestration: str
    run: str
    attempt: int
    node: str
    queue_ms: float = 0.0


class RunWithdrawn(_Event, tag="run-withdrawn", frozen=True):
    """An attempt was taken back before it started; it can never start, and does not count."""

    orchestration: str
    run: str
    attempt: int


class RunEnded(_Event, tag="run-ended", frozen=True):
    """An attempt ended. `counts` says whether it used up an attempt (its process had started)."""

    orchestration: str
    run: str
    attempt: int
    node: str
    outcome: Outcome
    counts: bool = True
    reason_code: str | None = None
    detail: str = ""
    exit_code: int | None = None
    signal: int | None = None
    duration_ms: float = 0.0
    tail: str = ""
    result: Result | None = None
    head: str | None = None
    agent: str | None = None
    model: str | None = None
    session: str | None = None
    usage: Usage | None = None


class ReportStale(_Event, tag="report-stale", frozen=True):
    """A report came that no longer fits where things stand; it changed nothing."""

    orchestration: str
    run: str
    attempt: int
    kind: str
    message: str


class HoldSet(_Event, tag="hold-set", frozen=True):
    """An orchestration is held. It continues exactly where it stands when the hold is cleared.

    `stop` says that running runs are to be stopped instead of let end; at `until` the controller clears it by itself.
    """

    orchestration: str
    hold: HoldKind
    reason: str
    reason_code: str | None = None
    stop: bool = False
    until: datetime | None = None


class HoldCleared(_Event, tag="hold-cleared", frozen=True):
    """A hold is gone."""

    orchestration: str
    hold: HoldKind


class GateOpened(_Event, tag="gate-opened", frozen=True):
    """A human must judge `subject`."""

    orchestration: str
    gate: GateKind
    phase: str | None
    subject: str


class GateResolved(_Event, tag="gate-resolved", frozen=True):
    """A human judged: approved, or rejected with feedback."""

    orchestration: str
    gate: GateKind
    phase: str | None
    approved: bool
    by: str
    text: str = ""


class ActionOpened(_Event, tag="action-opened", frozen=True):
    """An accepted action of this orchestration has its outcome still to come; `kind` is its command's type."""

    orchestration: str
    action: str
    kind: str


class ActionCompleted(_Event, tag="action-completed", frozen=True):
    """What an accepted action asked for is done."""

    action: str


class ActionFailed(_Event, tag="action-failed", frozen=True):
    """What an accepted action asked for will not be done."""

    action: str
    reason_code: str
    message: str = ""


Event = (
    FlagChanged
    | HeadsRecorded
    | NodeRegistered
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

EVENT_TYPES: dict[str, type[Struct]] = {str(kind.__struct_config__.tag): kind for kind in Event.__args__}


def type_of(event: Event) -> str:
    """Return the wire name of an event."""
    return str(type(event).__struct_config__.tag)
