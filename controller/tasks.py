"""The tasks of a phase: which a plan gives, which are ready, how one starts and ends. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from bus_schemas import events as e
from bus_schemas.entities import Node
from bus_schemas.events import TaskStatus
from bus_schemas.orders import Issue, RunKind
from bus_schemas.reports import PlannedTask
from bus_schemas.routing import agent_for, offered
from controller import plan
from controller.draft import Draft
from controller.orchestration import Orchestration, Phase, Task

DONE = (TaskStatus.COMPLETED, TaskStatus.SKIPPED)


def numbered(phase: Phase, planned: tuple[PlannedTask, ...]) -> tuple[tuple[PlannedTask, ...], list[str]]:
    """Return the tasks numbered after the highest of the phase, and what is wrong with the plan (empty: nothing).

    A number in `depends_on` means a task of the same plan, else one that the phase already has.
    """
    if not planned:
        return (), ["it has no tasks"]
    highest = max((task.number for task in phase.tasks), default=0)
    numbers = [task.number for task in planned]
    problems = [f"task {number} stands more than once" for number in sorted({n for n in numbers if numbers.count(n) > 1})]
    place = {number: highest + index for index, number in enumerate(numbers, 1)}
    known = {task.number for task in phase.tasks if task.status is TaskStatus.COMPLETED}
    result: list[PlannedTask] = []
    for task in planned:
        missing = [number for number in task.depends_on if number not in place and number not in known]
        problems += [f"task {task.number} depends on task {number}, which does not exist" for number in missing]
        depends_on = tuple(dict.fromkeys(place.get(number, number) for number in task.depends_on))
        result.append(replace(task, number=place[task.number], depends_on=depends_on))
    if not problems and (cycle := plan.cycle({task.number: task.depends_on for task in result})):
        problems.append(f"the dependencies form a cycle: {' → '.join(map(str, cycle))}")
    return tuple(result), problems


def unroutable(planned: tuple[PlannedTask, ...], node: Node | None) -> list[str]:
    """Return what is wrong with the models that tasks ask for."""
    offers = () if node is None else node.agents
    return [
        f"task {task.number} asks for model {task.model}, which its node does not offer (it offers {offered(offers)})"
        for task in planned
        if task.model is not None and agent_for(offers, task.model) is None
    ]


def ready(phase: Phase) -> list[Task]:
    """Return the pending tasks whose dependencies are done, in their order."""
    done = {task.number for task in phase.tasks if task.status in DONE}
    return sorted(
        (task for task in phase.tasks if task.status is TaskStatus.PENDING and all(need in done for need in task.depends_on)),
        key=lambda task: task.order,
    )


def start_ready(draft: Draft, o: Orchestration, phase: Phase) -> None:
    """Start as many ready tasks as the policy lets run at once."""
    running = sum(task.status is TaskStatus.IN_PROGRESS for task in phase.tasks)
    for task in ready(phase)[: max(0, o.active_policy.flow.max_parallel_tasks - running)]:
        draft.emit(e.TaskMoved(orchestration=o.id, phase=phase.id, task=task.number, status=TaskStatus.IN_PROGRESS, revision=task.revision + 1))
        _queue(draft, o, phase.id, task)


def _queue(draft: Draft, o: Orchestration, phase: str, task: Task) -> None:
    # work that was sent back goes on from its own commits
    base = (task.git_range[1],) if task.git_range else o.heads
    draft.queue(draft.orchestration(o.id), RunKind.TASK, phase=phase, task=task.number, base=base, model=task.model)


def complete(draft: Draft, o: Orchestration, phase: str, task: Task, git_range: tuple[str, str]) -> None:
    """End a task as completed: its newest commit takes the place of those it contains."""
    draft.emit(
        e.TaskMoved(orchestration=o.id, phase=phase, task=task.number, status=TaskStatus.COMPLETED, revision=task.revision, git_range=git_range)
    )
    head = git_range[1]
    heads = (*(known for known in o.heads if known not in task.contains and known != head), head)
    if heads != o.heads:
        draft.emit(e.HeadsMoved(orchestration=o.id, heads=heads))


def block(draft: Draft, o: Orchestration, phase: str, number: int, code: str, message: str) -> None:
    """End a task as blocked."""
    found = o.find_phase(phase)
    task = None if found is None else found.task(number)
    if task is not None:
        draft.emit(
            e.TaskMoved(
                orchestration=o.id,
                phase=phase,
                task=number,
                status=TaskStatus.BLOCKED,
                revision=task.revision,
                reason_code=code,
                message=message[:4000],
            )
        )


def send_back(draft: Draft, o: Orchestration, phase: str, task: Task, issues: tuple[Issue, ...]) -> None:
    """Give a rejected task a new run that answers the issues."""
    draft.emit(e.IssuesRaised(orchestration=o.id, phase=phase, task=task.number, issues=issues))
    draft.emit(e.TaskMoved(orchestration=o.id, phase=phase, task=task.number, status=TaskStatus.IN_PROGRESS, revision=task.revision, rejected=True))
    _queue(draft, draft.orchestration(o.id), phase, task)


def reset_blocked(draft: Draft, o: Orchestration, phase: Phase, only: int | None = None) -> None:
    """Make the blocked tasks of a phase (or one of them) pending again, with fresh attempts."""
    for task in phase.tasks:
        if task.status is TaskStatus.BLOCKED and only in (None, task.number):
            draft.emit(e.TaskMoved(orchestration=o.id, phase=phase.id, task=task.number, status=TaskStatus.PENDING, revision=task.revision + 1))


def skip_pending(draft: Draft, o: Orchestration, phase: Phase) -> None:
    """Skip the tasks of a plan that was rejected."""
    for task in phase.tasks:
        if task.status is TaskStatus.PENDING:
            draft.emit(e.TaskMoved(orchestration=o.id, phase=phase.id, task=task.number, status=TaskStatus.SKIPPED, revision=task.revision + 1))
