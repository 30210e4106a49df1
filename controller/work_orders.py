"""Work orders, derived from the state: what an attempt's node is told. Pure.

Derived, not stored: any controller can publish the order of an attempt again, with the nonce that the ledger holds.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from bus_schemas.codec import VERSION
from bus_schemas.entities import Project
from bus_schemas.events import HoldKind
from bus_schemas.ids import main_phase
from bus_schemas.orders import Inputs, Issue, RunKind, StopOrder, TaskBrief, TicketBrief, WorkOrder, Workspace
from bus_schemas.reasons import Reason
from controller.orchestration import Orchestration, Phase, Run, Task
from controller.project import Aggregate

PLAN_TASK_CHARS_MAX = 500
"""Of each task that a planner is told about: it is to know that the task is there, not to do it."""
ISSUES_BYTES_MAX = 64 * 1024
"""Of all issues of an order. Design, tickets (see `launch.TICKETS_BYTES_MAX`), task and issues fit into one message together."""


def order_of(state: Aggregate, project: Project, o: Orchestration, run: Run, now: datetime) -> WorkOrder:
    """Return the order of a run's newest attempt."""
    return WorkOrder(
        v=VERSION,
        type="work-order",
        run=run.id,
        attempt=run.attempt,
        nonce=run.nonce,
        kind=run.kind,
        project=o.project,
        orchestration=o.id,
        node=run.node,
        role=run.role,
        model=run.model,
        workspace=Workspace(repo=project.repo, slug=o.slug, branch=o.branch, default_branch=project.default_branch, base=run.base),
        inputs=_inputs(state, project, o, run),
        review=o.active_policy.review,
        policy_revision=run.policy_revision,
        timeout_s=float(o.active_policy.flow.run_timeout_s),
        action=run.action,
        issued_at=now,
        reviewer=run.reviewer,
    )


def _inputs(state: Aggregate, project: Project, o: Orchestration, run: Run) -> Inputs:
    phase = o.find_phase(run.phase)
    task = phase.task(run.task) if phase is not None and run.task is not None else None
    return Inputs(
        feature=o.feature,
        design_title=o.design_title,
        design_body=o.design_body,
        total_phases=o.total_phases,
        phase=run.phase,
        task=None if task is None or phase is None else _brief(phase, task),
        tasks=() if phase is None or run.kind is not RunKind.PLAN else tuple(_outline(phase, known) for known in phase.tasks),
        tickets=_tickets(state, o, run),
        issues=_bounded(task.issues if task is not None else phase.issues if phase is not None else ()),
        judge=_judge(run, phase, task),
        check=project.check if run.kind is RunKind.VERIFY else None,
        repair=0 if phase is None else _repair(o, phase),
        previous_error=run.previous_error,
    )


def _brief(phase: Phase, task: Task) -> TaskBrief:
    return TaskBrief(phase.id, task.number, task.subject, task.description, task.depends_on, task.status.value)


def _outline(phase: Phase, task: Task) -> TaskBrief:
    return replace(_brief(phase, task), description=task.description[:PLAN_TASK_CHARS_MAX])


def _bounded(issues: tuple[Issue, ...]) -> tuple[Issue, ...]:
    """Return the issues that fit, the first ones; the one that does not fit any more is cut."""
    kept: list[Issue] = []
    left = ISSUES_BYTES_MAX
    for issue in issues:
        text = issue.text.encode()[:left].decode(errors="ignore")
        if not text:
            break
        kept.append(replace(issue, text=text))
        left -= len(text.encode())
    return tuple(kept)


def _tickets(state: Aggregate, o: Orchestration, run: Run) -> tuple[TicketBrief, ...]:
    if run.kind not in (RunKind.PLAN, RunKind.TASK):
        return ()
    found = (state.tickets.get(ticket_id) for ticket_id in o.tickets)
    return tuple(TicketBrief(ticket.id, ticket.title, ticket.body) for ticket in found if ticket is not None)


def _judge(run: Run, phase: Phase | None, task: Task | None) -> tuple[str, str] | None:
    if run.kind is RunKind.TASK_REVIEW and task is not None:
        return task.git_range
    if run.kind is RunKind.REVIEW and phase is not None and phase.base and run.base:
        return (phase.base, run.base[0])
    return None


def _repair(o: Orchestration, phase: Phase) -> int:
    """Return how many times the main phase was planned again, its remediation phases included."""
    main = o.find_phase(str(main_phase(phase.id)))
    return (0 if main is None else main.repairs) + phase.id.count(".")


def stop_of(run: Run, attempt: int, now: datetime) -> StopOrder:
    """Return the order that stops an attempt of a run."""
    nonce, node = run.sent[attempt - 1]
    return StopOrder(
        v=VERSION,
        type="stop-order",
        run=run.id,
        attempt=attempt,
        nonce=nonce,
        node=node,
        reason_code=Reason.CANCELLED.value,
        issued_at=now,
    )


def stops(o: Orchestration) -> bool:
    """Return whether running runs are to be stopped, not only waited for."""
    return any(hold.stop and hold.kind in (HoldKind.PAUSING, HoldKind.CANCELLING) for hold in o.holds)


def is_outdated(o: Orchestration, run: Run) -> bool:
    """Return whether an attempt that has not started was ordered by an older policy, or for a node that is not its any more."""
    return run.policy_revision < o.policy_revision or run.node != o.node
