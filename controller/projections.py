"""State to views. Pure."""

from __future__ import annotations

from datetime import datetime

from bus_schemas import views
from bus_schemas.design import MARKERS
from bus_schemas.entities import Comment, Design, Node, Project, Ticket
from bus_schemas.reports import Beat
from controller.launch import readiness_problems
from controller.orchestration import Hold, Orchestration, Phase, Run, Task
from controller.project import Aggregate


def number(id_: str) -> tuple[str, int]:
    """Return a key that sorts ids by project and number."""
    head, _, tail = id_.rpartition("-")
    return head, int(tail[1:]) if tail[1:].isdecimal() else 0


def project(entity: Project, state: Aggregate) -> views.ProjectView:
    """Return the view of a project."""
    return views.ProjectView(
        id=entity.id,
        name=entity.name,
        repo=entity.repo,
        default_branch=entity.default_branch,
        check=entity.check,
        designs=len(state.designs),
        tickets=len(state.tickets),
        orchestrations=state.orchestration_count,
        live=len(state.live_slugs),
        created_at=entity.created_at,
    )


def design(entity: Design, *, body: bool = False, comments: tuple[Comment, ...] = ()) -> views.DesignView:
    """Return the view of a design."""
    return views.DesignView(
        id=entity.id,
        project=entity.project,
        title=entity.title,
        status=entity.status.value,
        complexity=entity.complexity.value,
        required_markers=MARKERS[entity.complexity],
        completed_markers=entity.completed_markers,
        phase_count=entity.phase_count,
        revision=entity.revision,
        problems=readiness_problems(entity),
        created_at=entity.created_at,
        updated_at=entity.updated_at,
        body=entity.body if body else None,
        comments=comments,
    )


def ticket(entity: Ticket, *, body: bool = False, comments: tuple[Comment, ...] = ()) -> views.TicketView:
    """Return the view of a ticket."""
    return views.TicketView(
        id=entity.id,
        project=entity.project,
        design=entity.design,
        title=entity.title,
        status=entity.status.value,
        priority=entity.priority.value,
        created_at=entity.created_at,
        updated_at=entity.updated_at,
        body=entity.body if body else None,
        comments=comments,
    )


def hold(value: Hold) -> views.HoldView:
    """Return the view of a hold."""
    return views.HoldView(value.kind.value, value.reason, value.since, value.reason_code)


def task(phase: str, value: Task) -> views.TaskView:
    """Return the view of a task."""
    return views.TaskView(
        phase=phase,
        number=value.number,
        subject=value.subject,
        description=value.description,
        status=value.status.value,
        model=value.model,
        depends_on=value.depends_on,
        revision=value.revision,
        order=value.order,
        inserted_by=value.inserted_by,
        attempts=value.attempts,
        rejections=value.rejections,
        git_range=value.git_range,
        reason_code=value.reason_code,
    )


def phase(value: Phase) -> views.PhaseView:
    """Return the view of a phase, its tasks in their order."""
    tasks = tuple(task(value.id, known) for known in sorted(value.tasks, key=lambda known: known.order))
    return views.PhaseView(value.id, value.status.value, value.revision, value.repairs, value.verify, tasks)


def orchestration(o: Orchestration, position: str, *, whole: bool = False) -> views.OrchestrationView:
    """Return the view of an orchestration; with `whole` also its plan and policies."""
    shown = o.shown_hold()
    return views.OrchestrationView(
        id=o.id,
        project=o.project,
        design=o.design,
        design_revision=o.design_revision,
        feature=o.feature,
        slug=o.slug,
        branch=o.branch,
        node=o.node,
        status=o.status.value,
        hold=None if shown is None else hold(shown),
        holds=tuple(hold(known) for known in o.holds),
        phase=o.phase,
        total_phases=o.total_phases,
        design_only=o.design_only,
        tickets=o.tickets,
        preset_origin=o.preset_origin,
        policy_snapshot_hash=o.policy_hash,
        policy_revision=o.policy_revision,
        requested_by=o.requested_by,
        action=o.action,
        reason_code=o.reason_code,
        message=o.message,
        head=o.heads[0] if len(o.heads) == 1 else None,
        cost_usd=o.usd,
        tokens=o.tokens,
        created_at=o.created_at,
        ended_at=o.ended_at,
        position=position,
        policy_snapshot=o.policy if whole else None,
        active_policy=o.active_policy if whole else None,
        plan=tuple(phase(known) for known in o.phases) if whole else (),
    )


def run(value: Run) -> views.RunView:
    """Return the view of a run."""
    assert value.queued_at is not None
    return views.RunView(
        run=value.id,
        attempt=value.attempt,
        kind=value.kind.value,
        role=value.role,
        model=value.model,
        node=value.node,
        status=value.status.value,
        phase=value.phase,
        task=value.task,
        policy_revision=value.policy_revision,
        queued_at=value.queued_at,
        started_at=value.started_at,
        ended_at=value.ended_at,
        reason_code=value.reason_code,
        detail=value.detail,
    )


def gate(o: Orchestration) -> views.GateView | None:
    """Return the view of the gate an orchestration waits at, or None."""
    if o.gate is None:
        return None
    return views.GateView(o.id, o.project, o.gate.kind.value, o.gate.phase, o.gate.subject, o.gate.since, o.feature)


def node(entity: Node, beat: Beat | None, online: bool, seen_at: datetime | None) -> views.NodeView:
    """Return the view of a node."""
    running = () if beat is None or not online else tuple(f"{known.run}.{known.attempt}" for known in beat.running)
    return views.NodeView(
        id=entity.id,
        online=online,
        cordoned=entity.cordoned,
        capacity=entity.capacity,
        labels=entity.labels,
        agents=entity.agents,
        running=running,
        last_seen=seen_at,
        registered_at=entity.registered_at,
        draining=entity.draining,
    )
