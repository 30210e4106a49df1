"""The plan of a phase as an operator changes it: edited and inserted tasks, their order, and what a change would do. Pure.

The revision of a plan grows by one with each change of its tasks by an operator, and with each plan; never by a start.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from bus_schemas import events as e
from bus_schemas.decisions import Change, Diff
from bus_schemas.events import TaskStatus
from controller.orchestration import Orchestration, Phase, Task, with_phase, with_task

PHASES_WITH_PLAN = (e.PhaseStatus.PLANNED, e.PhaseStatus.EXECUTING, e.PhaseStatus.BLOCKED)
"""Where tasks may be inserted: there is a plan, and it is not done."""


def revised(o: Orchestration, phase_id: str, revision: int) -> Orchestration:
    """Return the orchestration with this revision of a phase's plan."""
    phase = o.find_phase(phase_id)
    return o if phase is None else with_phase(o, replace(phase, revision=revision))


def edited(o: Orchestration, event: e.TaskEdited) -> Orchestration:
    """Return the orchestration after a task got other text or another model."""
    phase = o.find_phase(event.phase)
    task = None if phase is None else phase.task(event.task)
    if task is None:
        return o
    changed = replace(
        task,
        subject=task.subject if event.subject is None else event.subject,
        description=task.description if event.description is None else event.description,
        model=task.model if event.model is None else event.model or None,
        revision=event.revision,
    )
    return revised(with_task(o, event.phase, changed), event.phase, event.plan_revision)


def inserted(o: Orchestration, event: e.TaskInserted) -> Orchestration:
    """Return the orchestration after a task was inserted: it takes the place behind `after`, and what it blocks depends on it."""
    phase = o.find_phase(event.phase)
    if phase is None:
        return o
    place = place_of(phase, event.after)
    new = Task(
        number=event.task,
        subject=event.subject,
        description=event.description,
        depends_on=event.depends_on,
        model=event.model,
        order=place + 1,
        inserted_by=event.by or None,
    )
    moved = tuple(
        replace(
            task,
            order=task.order + (task.order > place),
            depends_on=(*task.depends_on, new.number) if task.number in event.blocks else task.depends_on,
            revision=task.revision + (task.number in event.blocks),
        )
        for task in phase.tasks
    )
    return with_phase(o, replace(phase, tasks=(*moved, new), revision=event.plan_revision))


def place_of(phase: Phase, number: int) -> int:
    """Return the place of a task in the order; 0 for number 0, which stands before all."""
    task = phase.task(number)
    return 0 if task is None else task.order


def waiting(phase: Phase) -> list[Task]:
    """Return the pending tasks in the order in which they will be looked at."""
    return sorted((task for task in phase.tasks if task.status is TaskStatus.PENDING), key=lambda task: task.order)


def cycle(depends_on: Mapping[int, tuple[int, ...]]) -> list[int]:
    """Return the numbers of one cycle, or an empty list."""
    left = dict(depends_on)
    while left:
        free = [number for number, needs in left.items() if not any(need in left for need in needs)]
        if not free:
            path = [next(iter(left))]
            while path[-1] not in path[:-1]:
                path.append(next(need for need in left[path[-1]] if need in left))
            return path[path.index(path[-1]) :]
        for number in free:
            del left[number]
    return []


def diff(before: Orchestration, after: Orchestration) -> Diff:
    """Return what a change did: the queue of pending tasks before and after, and every field with its old and new value."""
    changes = [*_policy_changes(before, after)]
    for phase in after.phases:
        changes += _phase_changes(before.find_phase(phase.id), phase)
    return Diff(queue_before=_queue(before), queue_after=_queue(after), changes=tuple(changes))


def _queue(o: Orchestration) -> tuple[str, ...]:
    return tuple(f"{phase.id}.{task.number}" for phase in o.phases for task in waiting(phase))


def _phase_changes(before: Phase | None, after: Phase) -> list[Change]:
    changes: list[Change] = []
    for task in sorted(after.tasks, key=lambda task: task.order):
        known = None if before is None else before.task(task.number)
        fields = (
            ("subject", "description", "model", "status", "depends_on") if known is not None else ("subject", "description", "model", "depends_on")
        )
        for field in fields:
            old, new = "" if known is None else _text(getattr(known, field)), _text(getattr(task, field))
            if old != new:
                changes.append(Change(f"{after.id}.{task.number}.{field}", old, new))
    return changes


def _policy_changes(before: Orchestration, after: Orchestration) -> list[Change]:
    return [Change(path, old, new) for path, old, new in differences(before.active_policy, after.active_policy)]


def differences(before: object, after: object) -> list[tuple[str, str, str]]:
    """Return (section.field, old, new) for every field in which two policies differ."""
    found: list[tuple[str, str, str]] = []
    for section in ("model", "review", "flow"):
        old, new = getattr(before, section), getattr(after, section)
        for field in new.__struct_fields__:
            if getattr(old, field) != getattr(new, field):
                found.append((f"{section}.{field}", _text(getattr(old, field)), _text(getattr(new, field))))
    return found


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)
