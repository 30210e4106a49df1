"""How each event changes an orchestration. Pure and total: an event that names what is not there changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

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
    return _EVOLVE[type(event)](o, event, at, because)


def _workspace(o: Orchestration, event: e.WorkspaceReady, at: datetime, because: str | None) -> Orchestration:
    return replace(o, path=event.path, branch=event.branch, heads=(event.base,))


def _heads_moved(o: Orchestration, event: e.HeadsMoved, at: datetime, because: str | None) -> Orchestration:
    return replace(o, heads=event.heads)


def _task_edited(o: Orchestration, event: e.TaskEdited, at: datetime, because: str | None) -> Orchestration:
    return plan.edited(o, event)


def _task_inserted(o: Orchestration, event: e.TaskInserted, at: datetime, because: str | None) -> Orchestration:
    return plan.inserted(o, event)


def _assigned(o: Orchestration, event: e.NodeAssigned, at: datetime, because: str | None) -> Orchestration:
    return replace(o, node=event.node)


def _held(o: Orchestration, event: e.HoldSet, at: datetime, because: str | None) -> Orchestration:
    holds = tuple(hold for hold in o.holds if hold.kind is not event.hold)
    return replace(o, holds=(*holds, Hold(event.hold, event.reason, at, event.reason_code, event.stop, event.until)))


def _let_go(o: Orchestration, event: e.HoldCleared, at: datetime, because: str | None) -> Orchestration:
    return replace(o, holds=tuple(hold for hold in o.holds if hold.kind is not event.hold))


def _gate_opened(o: Orchestration, event: e.GateOpened, at: datetime, because: str | None) -> Orchestration:
    return replace(o, gate=Gate(event.gate, event.phase, event.subject, at))


def _gate_resolved(o: Orchestration, event: e.GateResolved, at: datetime, because: str | None) -> Orchestration:
    return replace(o, gate=None)


def _action_opened(o: Orchestration, event: e.ActionOpened, at: datetime, because: str | None) -> Orchestration:
    return replace(o, open_actions=(*o.open_actions, OpenAction(event.action, event.kind)))


def _noted(o: Orchestration, event: e.ValidationRecorded | e.ReportStale, at: datetime, because: str | None) -> Orchestration:
    return o


def _moved(o: Orchestration, event: e.OrchestrationMoved, at: datetime, because: str | None) -> Orchestration:
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


def _phase_moved(o: Orchestration, event: e.PhaseMoved, at: datetime, because: str | None) -> Orchestration:
    phase = o.find_phase(event.phase) or Phase(event.phase)
    base = phase.base
    if event.status is PhaseStatus.PLANNING:
        # planned anew: what was said of the work before no longer stands
        phase = replace(phase, verdicts=(), verify=None)
        base = base or (o.heads[0] if o.heads else None)
    return with_phase(o, replace(phase, status=event.status, base=base))


def _planned(o: Orchestration, event: e.PhasePlanned, at: datetime, because: str | None) -> Orchestration:
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


def _repaired(o: Orchestration, event: e.RepairStarted, at: datetime, because: str | None) -> Orchestration:
    phase = o.find_phase(event.phase)
    return o if phase is None else with_phase(o, replace(phase, repairs=event.repair))


def _verified(o: Orchestration, event: e.VerifyRecorded, at: datetime, because: str | None) -> Orchestration:
    phase = o.find_phase(event.phase)
    return o if phase is None else with_phase(o, replace(phase, verify=event.status))


def _judged(o: Orchestration, event: e.VerdictRecorded, at: datetime, because: str | None) -> Orchestration:
    phase = o.find_phase(event.phase)
    if phase is None or event.task is not None:
        return o
    others = tuple(known for known in phase.verdicts if known.reviewer != event.reviewer)
    return with_phase(o, replace(phase, verdicts=(*others, VerdictOf(event.reviewer, event.verdict, event.findings))))


def _issues_raised(o: Orchestration, event: e.IssuesRaised, at: datetime, because: str | None) -> Orchestration:
    phase = o.find_phase(event.phase)
    if phase is None:
        return o
    if event.task is None:
        return with_phase(o, replace(phase, issues=phase.issues + event.issues))
    task = phase.task(event.task)
    return o if task is None else with_task(o, phase.id, replace(task, issues=event.issues))


def _task_moved(o: Orchestration, event: e.TaskMoved, at: datetime, because: str | None) -> Orchestration:
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


def _attempt(o: Orchestration, event: e.RunDispatched | e.RunStarted | e.RunWithdrawn | e.RunEnded) -> Run | None:
    """Return the run of an event, if the event is about its newest attempt."""
    run = o.run(event.run)
    return run if run is not None and run.attempt == event.attempt else None


def _dispatched(o: Orchestration, event: e.RunDispatched, at: datetime, because: str | None) -> Orchestration:
    run = _attempt(o, event)
    return o if run is None or run.status is not RunStatus.QUEUED else with_run(o, replace(run, status=RunStatus.DISPATCHED))


def _started(o: Orchestration, event: e.RunStarted, at: datetime, because: str | None) -> Orchestration:
    run = _attempt(o, event)
    return o if run is None else _count_task_attempt(with_run(o, replace(run, status=RunStatus.STARTED, started_at=at)), run, 1)


def _withdrawn(o: Orchestration, event: e.RunWithdrawn, at: datetime, because: str | None) -> Orchestration:
    run = _attempt(o, event)
    return o if run is None else with_run(o, replace(run, status=RunStatus.WITHDRAWN, ended_at=at))


def _count_task_attempt(o: Orchestration, run: Run, by: int) -> Orchestration:
    phase = o.find_phase(run.phase)
    task = phase.task(run.task) if phase is not None and run.task is not None and run.kind is RunKind.TASK else None
    if phase is None or task is None:
        return o
    return with_task(o, phase.id, replace(task, attempts=task.attempts + by))


def _ended(o: Orchestration, event: e.RunEnded, at: datetime, because: str | None) -> Orchestration:
    run = _attempt(o, event)
    if run is None:
        return o
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


_EVOLVE: dict[type, Callable[[Orchestration, Any, datetime, str | None], Orchestration]] = {
    e.OrchestrationMoved: _moved,
    e.WorkspaceReady: _workspace,
    e.HeadsMoved: _heads_moved,
    e.ValidationRecorded: _noted,
    e.PhaseMoved: _phase_moved,
    e.PhasePlanned: _planned,
    e.RepairStarted: _repaired,
    e.IssuesRaised: _issues_raised,
    e.VerifyRecorded: _verified,
    e.VerdictRecorded: _judged,
    e.TaskMoved: _task_moved,
    e.TaskEdited: _task_edited,
    e.TaskInserted: _task_inserted,
    e.PolicyChanged: _policy_changed,
    e.NodeAssigned: _assigned,
    e.RunQueued: _queued,
    e.RunDispatched: _dispatched,
    e.RunStarted: _started,
    e.RunWithdrawn: _withdrawn,
    e.RunEnded: _ended,
    e.ReportStale: _noted,
    e.HoldSet: _held,
    e.HoldCleared: _let_go,
    e.GateOpened: _gate_opened,
    e.GateResolved: _gate_resolved,
    e.ActionOpened: _action_opened,
}
