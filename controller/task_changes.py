"""Changes of the plan by an operator: edit, model, skip, insert (domain §7). Pure.

A start adds one to a task's revision as an edit does, so that an edit and a start exclude each other. Checked in this order: the
task exists, it is pending, it has the revision that was named.
"""

from __future__ import annotations

from bus_schemas import events as e
from bus_schemas.commands import TaskEdit, TaskInsert, TaskModelSet, TaskSkip
from bus_schemas.decisions import Action, ActionStatus
from bus_schemas.events import TaskStatus
from bus_schemas.ids import BadId, phase_id, shown
from bus_schemas.orders import RunKind
from bus_schemas.reasons import Reason
from bus_schemas.reports import TASKS_MAX
from bus_schemas.routing import agent_for, offered
from controller import plan, progress
from controller.draft import Draft, Refused
from controller.orchestration import Orchestration, Phase, Task

TaskCommand = TaskEdit | TaskModelSet | TaskSkip | TaskInsert


def decide_task(draft: Draft, command: TaskCommand) -> Action:
    """Apply a change of tasks; it is completed at once. Raises Refused."""
    o = draft.changeable(command.orchestration)
    phase = _phase(o, command.phase)
    number = _insert(draft, o, phase, command) if isinstance(command, TaskInsert) else _change(draft, o, phase, command)
    draft.emit(e.ActionCompleted(draft.action_id))
    if o.phase == phase.id:
        progress.go_on(draft, draft.orchestration(o.id))
    after = draft.orchestration(o.id).find_phase(phase.id)
    task = None if after is None else after.task(number)
    revision = phase.revision + 1 if isinstance(command, TaskInsert) or task is None else task.revision
    return Action(id=draft.action_id, status=ActionStatus.ACCEPTED, orchestration=o.id, task=f"{phase.id}.{number}", revision=revision)


def _phase(o: Orchestration, name: str) -> Phase:
    try:
        phase = o.find_phase(phase_id(name))
    except BadId as error:
        raise Refused(Reason.INVALID_PAYLOAD, str(error)) from error
    if phase is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"{o.id} has no phase {shown(name)}; it has {', '.join(known.id for known in o.phases)}")
    return phase


def _pending(phase: Phase, number: int, target_revision: int) -> Task:
    task = phase.task(number)
    if task is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"phase {phase.id} has no task {number}; it has {_numbers(phase)}")
    if task.status is not TaskStatus.PENDING:
        raise Refused(Reason.INVALID_STATE, f"task {number} of phase {phase.id} is {task.status}; only pending tasks can be changed")
    if task.revision != target_revision:
        raise Refused(
            Reason.REVISION_CONFLICT, f"task {number} of phase {phase.id} is at revision {task.revision}, not {target_revision}; read it again"
        )
    return task


def _numbers(phase: Phase) -> str:
    return ", ".join(str(task.number) for task in phase.tasks) or "none yet"


def _change(draft: Draft, o: Orchestration, phase: Phase, command: TaskEdit | TaskModelSet | TaskSkip) -> int:
    task = _pending(phase, command.task, command.target_revision)
    revision, plan_revision = task.revision + 1, phase.revision + 1
    match command:
        case TaskEdit():
            if command.subject is None and command.description is None:
                raise Refused(Reason.MISSING_FIELD, "nothing to change was named: subject or description")
            draft.emit(
                e.TaskEdited(
                    orchestration=o.id,
                    phase=phase.id,
                    task=task.number,
                    revision=revision,
                    plan_revision=plan_revision,
                    subject=command.subject,
                    description=command.description,
                )
            )
        case TaskModelSet():
            _routable(draft, o, command.model)
            draft.emit(
                e.TaskEdited(
                    orchestration=o.id,
                    phase=phase.id,
                    task=task.number,
                    revision=revision,
                    plan_revision=plan_revision,
                    model=command.model or "",
                )
            )
        case TaskSkip():
            draft.emit(
                e.TaskMoved(
                    orchestration=o.id,
                    phase=phase.id,
                    task=task.number,
                    status=TaskStatus.SKIPPED,
                    revision=revision,
                    message=f"skipped by {draft.by}",
                    plan_revision=plan_revision,
                )
            )
    return task.number


def _routable(draft: Draft, o: Orchestration, model: str | None) -> None:
    """Refuse a model that the orchestration's node does not offer."""
    node = draft.context.plane.nodes.get(o.node)
    offers = () if node is None else node.agents
    if model is not None and agent_for(offers, model) is None:
        raise Refused(Reason.MODEL_UNROUTABLE, f"node {o.node} does not offer {model}; it offers {offered(offers)}")


# ── insert ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _insert(draft: Draft, o: Orchestration, phase: Phase, command: TaskInsert) -> int:
    _open(draft, o, phase)
    if command.after and phase.task(command.after) is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"phase {phase.id} has no task {command.after} to insert after; it has {_numbers(phase)}")
    if phase.revision != command.target_revision:
        raise Refused(
            Reason.REVISION_CONFLICT, f"the plan of phase {phase.id} is at revision {phase.revision}, not {command.target_revision}; read it again"
        )
    if len(phase.tasks) >= TASKS_MAX:
        raise Refused(Reason.TOO_LARGE, f"phase {phase.id} has {len(phase.tasks)} tasks; at most {TASKS_MAX}")
    _routable(draft, o, command.model)
    number = max((task.number for task in phase.tasks), default=0) + 1
    blocks = _blocks(phase, command)
    problems = _dependency_problems(phase, command, number, blocks)
    if problems:
        raise Refused(Reason.DEPENDENCY_INVALID, "; ".join(problems))
    draft.emit(
        e.TaskInserted(
            orchestration=o.id,
            phase=phase.id,
            plan_revision=phase.revision + 1,
            task=number,
            after=command.after,
            subject=command.subject,
            description=command.description,
            depends_on=tuple(dict.fromkeys(command.depends_on)),
            model=command.model,
            blocks=blocks,
            by=draft.by or "",
        )
    )
    return number


def _open(draft: Draft, o: Orchestration, phase: Phase) -> None:
    """Refuse a phase that has no plan yet, or is done; take back a check of its tasks that was not sent yet."""
    if phase.status not in plan.PHASES_WITH_PLAN:
        raise Refused(Reason.INVALID_STATE, f"phase {phase.id} is {phase.status}; tasks are inserted while it is planned, executing or blocked")
    for run in o.open_runs():
        if run.kind is RunKind.VERIFY and run.phase == phase.id:
            if not run.held:
                raise Refused(Reason.INVALID_STATE, f"the tasks of phase {phase.id} are done and are being verified ({run.id})")
            draft.emit(e.RunWithdrawn(orchestration=o.id, run=run.id, attempt=run.attempt))


def _blocks(phase: Phase, command: TaskInsert) -> tuple[int, ...]:
    """Return what will depend on the new task: as named, or the pending tasks behind it that depend on `after`."""
    if command.blocks is not None:
        return tuple(dict.fromkeys(command.blocks))
    place = plan.place_of(phase, command.after)
    behind = [task for task in plan.waiting(phase) if task.order > place]
    return tuple(task.number for task in behind if (command.after in task.depends_on if command.after else not task.depends_on))


def _dependency_problems(phase: Phase, command: TaskInsert, number: int, blocks: tuple[int, ...]) -> list[str]:
    problems: list[str] = []
    for needed in dict.fromkeys(command.depends_on):
        task = phase.task(needed)
        if task is None:
            problems.append(f"it depends on task {needed}, which does not exist")
        elif task.status is TaskStatus.SKIPPED:
            problems.append(f"it depends on task {needed}, which is skipped")
    for blocked in blocks:
        task = phase.task(blocked)
        if task is None:
            problems.append(f"it blocks task {blocked}, which does not exist")
        elif task.status is not TaskStatus.PENDING:
            problems.append(f"it blocks task {blocked}, which is {task.status}: only a pending task can wait for it")
    if problems:
        return problems
    graph = {task.number: (*task.depends_on, *((number,) if task.number in blocks else ())) for task in phase.tasks}
    found = plan.cycle({**graph, number: tuple(command.depends_on)})
    return [f"the dependencies form a cycle: {' → '.join(map(str, found))}"] if found else []
