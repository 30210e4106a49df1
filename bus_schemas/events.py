"""Events: what has happened, as the ledger keeps it. Pure.

Published events are never edited: an optional field may be added, anything else is a new event. A reader ignores fields
it does not know. Each event belongs to one decision, which says when, by whom and why.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bus_schemas.orders import Issue, RunKind
from bus_schemas.policy import Policy
from bus_schemas.registry_events import CommentAdded as CommentAdded
from bus_schemas.registry_events import DesignAdded as DesignAdded
from bus_schemas.registry_events import DesignEdited as DesignEdited
from bus_schemas.registry_events import DesignMarked as DesignMarked
from bus_schemas.registry_events import DesignMoved as DesignMoved
from bus_schemas.registry_events import EventBase
from bus_schemas.registry_events import FlagChanged as FlagChanged
from bus_schemas.registry_events import HeadsRecorded as HeadsRecorded
from bus_schemas.registry_events import NodeCordonChanged as NodeCordonChanged
from bus_schemas.registry_events import NodeRegistered as NodeRegistered
from bus_schemas.registry_events import ProjectAdded as ProjectAdded
from bus_schemas.registry_events import ProjectEdited as ProjectEdited
from bus_schemas.registry_events import RecordedHead as RecordedHead
from bus_schemas.registry_events import TicketAdded as TicketAdded
from bus_schemas.registry_events import TicketEdited as TicketEdited
from bus_schemas.registry_events import TicketMoved as TicketMoved
from bus_schemas.reports import Finding, Outcome, PlannedTask, Result, Usage, Verdict
from bus_schemas.statuses import GateKind as GateKind
from bus_schemas.statuses import HoldKind as HoldKind
from bus_schemas.statuses import OrchestrationStatus as OrchestrationStatus
from bus_schemas.statuses import PhaseStatus as PhaseStatus
from bus_schemas.statuses import RunStatus as RunStatus
from bus_schemas.statuses import TaskStatus as TaskStatus


class OrchestrationLaunched(EventBase, tag="orchestration-launched", frozen=True):
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


class OrchestrationMoved(EventBase, tag="orchestration-moved", frozen=True):
    """An orchestration has another status; a failed one has a reason code."""

    orchestration: str
    status: OrchestrationStatus
    previous: OrchestrationStatus
    phase: str | None = None
    reason_code: str | None = None
    message: str = ""


class WorkspaceReady(EventBase, tag="workspace-ready", frozen=True):
    """`init` made the clone: the commit it starts from and the branch that `finalize` will write."""

    orchestration: str
    base: str
    path: str
    branch: str


class HeadsMoved(EventBase, tag="heads-moved", frozen=True):
    """The newest commits of the work: what the next run starts from."""

    orchestration: str
    heads: tuple[str, ...]


class ValidationRecorded(EventBase, tag="validation-recorded", frozen=True):
    """What the validator said of the design."""

    orchestration: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()


class PhaseMoved(EventBase, tag="phase-moved", frozen=True):
    """A phase has another status; a phase not known before is added (`N.5` after `N`)."""

    orchestration: str
    phase: str
    status: PhaseStatus
    reason_code: str | None = None
    message: str = ""


class PhasePlanned(EventBase, tag="phase-planned", frozen=True):
    """Tasks were appended to a phase, numbered as they stand here; its plan has a new revision."""

    orchestration: str
    phase: str
    revision: int
    tasks: tuple[PlannedTask, ...]


class RepairStarted(EventBase, tag="repair-started", frozen=True):
    """A phase with gaps is planned again."""

    orchestration: str
    phase: str
    repair: int


class IssuesRaised(EventBase, tag="issues-raised", frozen=True):
    """What the next plan (or, with `task`, the next run of that task) must answer; kept until it is used."""

    orchestration: str
    phase: str
    issues: tuple[Issue, ...]
    task: int | None = None


class VerifyRecorded(EventBase, tag="verify-recorded", frozen=True):
    """The project's check: passed, failed, or skipped because the project has none."""

    orchestration: str
    phase: str
    status: str
    exit_code: int | None = None


class VerdictRecorded(EventBase, tag="verdict-recorded", frozen=True):
    """What a reviewer said of a phase or of a task, after the policy's rules were applied."""

    orchestration: str
    phase: str
    reviewer: str
    verdict: Verdict
    task: int | None = None
    findings: tuple[Finding, ...] = ()
    model: str | None = None


class TaskMoved(EventBase, tag="task-moved", frozen=True):
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


class PolicyChanged(EventBase, tag="policy-changed", frozen=True):
    """The active policy has a new revision. `policy` is the whole of it, `changed` names the fields as `section.field`."""

    orchestration: str
    revision: int
    policy: Policy
    changed: tuple[str, ...] = ()


class TaskEdited(EventBase, tag="task-edited", frozen=True):
    """A pending task has other text or another model; None means: as before. An empty `model` is the policy's again."""

    orchestration: str
    phase: str
    task: int
    revision: int
    plan_revision: int
    subject: str | None = None
    description: str | None = None
    model: str | None = None


class TaskInserted(EventBase, tag="task-inserted", frozen=True):
    """A task was added behind task `after` (0: first); those in `blocks` now depend on it."""

    orchestration: str
    phase: str
    plan_revision: int
    task: int
    after: int
    subject: str
    description: str = ""
    depends_on: tuple[int, ...] = ()
    model: str | None = None
    blocks: tuple[int, ...] = ()
    by: str = ""


class NodeAssigned(EventBase, tag="node-assigned", frozen=True):
    """An orchestration goes on on another node."""

    orchestration: str
    node: str
    previous: str
    reason: str


class RunQueued(EventBase, tag="run-queued", frozen=True):
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


class RunDispatched(EventBase, tag="run-dispatched", frozen=True):
    """The order of an attempt was published to its node; recorded with the next decision."""

    orchestration: str
    run: str
    attempt: int


class RunStarted(EventBase, tag="run-started", frozen=True):
    """The node claimed an attempt and spawns it."""

    orchestration: str
    run: str
    attempt: int
    node: str
    queue_ms: float = 0.0


class RunWithdrawn(EventBase, tag="run-withdrawn", frozen=True):
    """An attempt was taken back before it started; it can never start, and does not count."""

    orchestration: str
    run: str
    attempt: int


class RunEnded(EventBase, tag="run-ended", frozen=True):
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


class ReportStale(EventBase, tag="report-stale", frozen=True):
    """A report came that no longer fits where things stand; it changed nothing."""

    orchestration: str
    run: str
    attempt: int
    kind: str
    message: str


class HoldSet(EventBase, tag="hold-set", frozen=True):
    """An orchestration is held. It continues exactly where it stands when the hold is cleared.

    `stop` says that running runs are to be stopped instead of let end; at `until` the controller clears it by itself.
    """

    orchestration: str
    hold: HoldKind
    reason: str
    reason_code: str | None = None
    stop: bool = False
    until: datetime | None = None


class HoldCleared(EventBase, tag="hold-cleared", frozen=True):
    """A hold is gone."""

    orchestration: str
    hold: HoldKind


class GateOpened(EventBase, tag="gate-opened", frozen=True):
    """A human must judge `subject`."""

    orchestration: str
    gate: GateKind
    phase: str | None
    subject: str


class GateResolved(EventBase, tag="gate-resolved", frozen=True):
    """A human judged: approved, or rejected with feedback."""

    orchestration: str
    gate: GateKind
    phase: str | None
    approved: bool
    by: str
    text: str = ""


class ActionOpened(EventBase, tag="action-opened", frozen=True):
    """An accepted action of this orchestration has its outcome still to come; `kind` is its command's type."""

    orchestration: str
    action: str
    kind: str


class ActionCompleted(EventBase, tag="action-completed", frozen=True):
    """What an accepted action asked for is done."""

    action: str


class ActionFailed(EventBase, tag="action-failed", frozen=True):
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
