"""How each event changes an orchestration. Pure and total: an event that names what is not there changes nothing."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from bus_schemas import events as e
from bus_schemas.entities import Design
from bus_schemas.events import OrchestrationStatus, PhaseStatus, RunStatus
from bus_schemas.orders import RunKind
from bus_schemas.reasons import Reason
from bus_schemas.reports import FinalizeResult, Outcome
from controller import plan
from controller.orchestration import (
    Gate,
    Hold,
    OpenAction,
    Orchestration,
    Phase,
    PolicyRevision,
    Run,
    Task,
    VerdictOf,
    with_phase,
    with_run,
    with_task,
)

OrchestrationEvent = (
    e.OrchestrationMoved
    | e.WorkspaceReady
    | e.HeadsMoved
    | e.ValidationRecorded
    | e.PhaseMoved
    | e.PhasePlanned
    | e.RepairStarted
    | e.IssuesRaised
    | e.VerifyRecorded
    | e.VerdictRecorded
    | e.TaskMoved
    | e.TaskEdited
    | e.TaskInserted
    | e.PolicyChanged
    | e.NodeAssigned
    | e.RunQueued
    | e.RunDispatched
    | e.RunStarted
    | e.RunWithdrawn
    | e.RunEnded
    | e.ReportStale
    | e.HoldSet
    | e.HoldCleared
    | e.GateOpened
    | e.GateResolved
    | e.ActionOpened
)

_ENDED: dict[Outcome, RunStatus] = {
    Outcome.SUCCEEDED: RunStatus.SUCCEEDED,
    Outcome.FAILED: RunStatus.FAILED,
    Outcome.TIMED_OUT: RunStatus.TIMED_OUT,
    Outcome.CANCELLED: RunStatus.CANCELLED,
    Outcome.LOST: RunStatus.LOST,
}


def launched(event: e.OrchestrationLaunched, design: Design | None, at: datetime, action: str, by: str, project: str) -> Orchestration:
    """Return a new orchestration. It keeps the design's text of this moment."""
    return Orchestration(
        id=event.orchestration,
        project=project,
        design=event.design,
        design_revision=event.design_revision,
        design_title="" if design is None else design.title,
        design_body="" if design is None else design.body,
        feature=event.feature,
        slug=event.slug,
        branch=event.branch,
        node=event.node,
        total_phases=event.total_phases,
        policy=event.policy,
        policy_hash=event.policy_hash,
        preset_origin=event.preset_origin,
        created_at=at,
        requested_by=by,
        action=action,
        active_policy=event.policy,
        tickets=event.tickets,
        design_only=event.design_only,
        phases=tuple(Phase(str(number)) for number in range(1, event.total_phases + 1)),
        open_actions=(OpenAction(action, "launch"),),
    )


def evolve(o: Orchestration, event: OrchestrationEvent, at: datetime, because: str | None) -> Orchestration:
    """Return the orchestration after an event."""
    match event:
        case e.OrchestrationMoved():
            return _moved(o, event, at)
        case e.WorkspaceReady():
            return replace(o, path=event.path, branch=event.branch, heads=(event.base,))
        case e.HeadsMoved():
            return replace(o, heads=event.heads)
        case e.PhaseMoved():
            return _phase_moved(o, event)
        case e.PhasePlanned():
            return _planned(o, event)
        case e.RepairStarted() | e.VerifyRecorded() | e.VerdictRecorded() | e.IssuesRaised():
            return _phase_noted(o, event)
        case e.TaskMoved():
            return _task_moved(o, event)
        case e.TaskEdited():
            return plan.edited(o, event)
        case e.TaskInserted():
            return plan.inserted(o, event)
        case e.PolicyChanged():
            return _policy_changed(o, event, at, because)
        case e.NodeAssigned():
            return replace(o, node=event.node)
        case e.RunQueued():
            return _queued(o, event, at, because)
        case e.RunDispatched() | e.RunStarted() | e.RunWithdrawn() | e.RunEnded():
            return _run_moved(o, event, at)
        case e.HoldSet():
            holds = tuple(hold for hold in o.holds if hold.kind is not event.hold)
            return replace(o, holds=(*holds, Hold(event.hold, event.reason, at, event.reason_code, event.stop, event.until)))
        case e.HoldCleared():
            return replace(o, holds=tuple(hold for hold in o.holds if hold.kind is not event.hold))
        case e.GateOpened():
            return replace(o, gate=Gate(event.gate, event.phase, event.subject, at))
        case e.GateResolved():
            return replace(o, gate=None)
        case e.ActionOpened():
            return replace(o, open_actions=(*o.open_actions, OpenAction(event.action, event.kind)))
        case e.ValidationRecorded() | e.ReportStale():
            return o


def _moved(o: Orchestration, event: e.OrchestrationMoved, at: datetime) -> Orchestration:
    ended = event.status in (OrchestrationStatus.COMPLETE, OrchestrationStatus.FAILED, OrchestrationStatus.CANCELLED)
    return replace(
        o,
        status=event.status,
        phase=event.phase if event.phase is not None else o.phase,
        reason_code=event.reason_code or o.reason_code,
        message=event.message or o.message,
        ended_at=at if ended else None,
        holds=() if ended else o.holds,
        gate=None if ended else o.gate,
    )


def _policy_changed(o: Orchestration, event: e.PolicyChanged, at: datetime, because: str | None) -> Orchestration:
    revision = PolicyRevision(event.revision, event.policy, at, because or "", event.changed)
    return replace(o, active_policy=event.policy, policy_revision=event.revision, policy_changes=(*o.policy_changes, revision))


def _phase_moved(o: Orchestration, event: e.PhaseMoved) -> Orchestration:
    phase = o.find_phase(event.phase) or Phase(event.phase)
    base = phase.base
    if event.status is PhaseStatus.PLANNING:
        # planned anew: what was said of the work before no longer stands
        phase = replace(phase, verdicts=(), verify=None)
        base = base or (o.heads[0] if o.heads else None)
    return with_phase(o, replace(phase, status=event.status, base=base))


def _planned(o: Orchestration, event: e.PhasePlanned) -> Orchestration:
    phase = o.find_phase(event.phase)
    if phase is None:
        return o
    place = max((task.order for task in phase.tasks), default=0)
    added = tuple(
        Task(
            number=task.number,
            subject=task.subject,
            description=task.description,
            depends_on=task.depends_on,
            model=task.model,
            order=place + index,
        )
        for index, task in enumerate(event.tasks, 1)
    )
    return with_phase(o, replace(phase, tasks=phase.tasks + added, revision=event.revision, issues=()))


def _phase_noted(o: Orchestration, event: e.RepairStarted | e.VerifyRecorded | e.VerdictRecorded | e.IssuesRaised) -> Orchestration:
    phase = o.find_phase(event.phase)
    if phase is None:
        return o
    match event:
        case e.RepairStarted():
            return with_phase(o, replace(phase, repairs=event.repair))
        case e.VerifyRecorded():
            return with_phase(o, replace(phase, verify=event.status))
        case e.VerdictRecorded():
            if event.task is not None:
                return o
            others = tuple(known for known in phase.verdicts if known.reviewer != event.reviewer)
            return with_phase(o, replace(phase, verdicts=(*others, VerdictOf(event.reviewer, event.verdict, event.findings))))
        case e.IssuesRaised():
            if event.task is None:
                return with_phase(o, replace(phase, issues=phase.issues + event.issues))
            task = phase.task(event.task)
            return o if task is None else with_task(o, phase.id, replace(task, issues=event.issues))


def _task_moved(o: Orchestration, event: e.TaskMoved) -> Orchestration:
    phase = o.find_phase(event.phase)
    task = None if phase is None else phase.task(event.task)
    if task is None:
        return o
    fresh = event.status is e.TaskStatus.PENDING
    moved = replace(
        task,
        status=event.status,
        revision=event.revision,
        git_range=event.git_range or task.git_range,
        rejections=0 if fresh else task.rejections + event.rejected,
        attempts=0 if fresh else task.attempts,
        reason_code=event.reason_code,
    )
    o = with_task(o, event.phase, moved)
    return o if event.plan_revision is None else plan.revised(o, event.phase, event.plan_revision)


def _queued(o: Orchestration, event: e.RunQueued, at: datetime, because: str | None) -> Orchestration:
    known = o.run(event.run)
    run = known or Run(
        id=event.run, kind=event.kind, role=event.role, model=event.model, policy_revision=event.policy_revision, action=because or o.action
    )
    run = replace(
        run,
        role=event.role,
        model=event.model,
        policy_revision=event.policy_revision,
        attempt=event.attempt,
        sent=(*run.sent, (event.nonce, event.node)),
        status=RunStatus.QUEUED,
        phase=event.phase,
        task=event.task,
        base=event.base,
        reviewer=event.reviewer,
        previous_error=event.previous_error,
        held=o.is_stopping,
        queued_at=at,
        started_at=None,
        ended_at=None,
        reason_code=None,
        detail="",
    )
    o = with_run(o, run)
    if event.kind is not RunKind.TASK or event.phase is None or event.task is None:
        return o
    phase = o.find_phase(event.phase)
    task = None if phase is None else phase.task(event.task)
    if task is None:
        return o
    contains = tuple(dict.fromkeys((*task.contains, *event.base)))
    return with_task(o, event.phase, replace(task, contains=contains))


def _run_moved(o: Orchestration, event: e.RunDispatched | e.RunStarted | e.RunWithdrawn | e.RunEnded, at: datetime) -> Orchestration:
    run = o.run(event.run)
    if run is None or run.attempt != event.attempt:
        return o
    match event:
        case e.RunDispatched():
            return with_run(o, replace(run, status=RunStatus.DISPATCHED)) if run.status is RunStatus.QUEUED else o
        case e.RunStarted():
            o = with_run(o, replace(run, status=RunStatus.STARTED, started_at=at))
            return _count_task_attempt(o, run, 1)
        case e.RunWithdrawn():
            return with_run(o, replace(run, status=RunStatus.WITHDRAWN, ended_at=at))
        case e.RunEnded():
            return _ended(o, run, event, at)


def _count_task_attempt(o: Orchestration, run: Run, by: int) -> Orchestration:
    phase = o.find_phase(run.phase)
    task = phase.task(run.task) if phase is not None and run.task is not None and run.kind is RunKind.TASK else None
    if phase is None or task is None:
        return o
    return with_task(o, phase.id, replace(task, attempts=task.attempts + by))


def _ended(o: Orchestration, run: Run, event: e.RunEnded, at: datetime) -> Orchestration:
    stopped = event.outcome is Outcome.CANCELLED or event.reason_code == Reason.QUOTA_EXHAUSTED
    did_not_start = not event.counts and event.outcome is not Outcome.SUCCEEDED and not stopped
    ended = replace(
        run,
        status=_ENDED[event.outcome],
        ended_at=at,
        reason_code=event.reason_code,
        detail=event.detail,
        counted=run.counted + event.counts,
        unstarted=run.unstarted + 1 if did_not_start else 0,
        malformed=run.malformed + (event.reason_code == Reason.OUTPUT_MALFORMED),
    )
    o = with_run(o, ended)
    if not event.counts and run.started_at is not None:
        o = _count_task_attempt(o, run, -1)  # stopped by a pause: that try is not held against the task
    if isinstance(event.result, FinalizeResult):
        # the node never moves a branch that is somebody else's: it may have written another than it was asked for
        o = replace(o, branch=event.result.branch)
    usage = event.usage
    if usage is None:
        return o
    usd = o.usd if usage.usd is None else (o.usd or 0.0) + usage.usd
    return replace(o, tokens=o.tokens + usage.input_tokens + usage.output_tokens, usd=usd)
