"""Why something does not move: for each thing that waits, what holds it and what frees it. Pure: from the state alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from bus_schemas.entities import Node
from bus_schemas.events import GateKind, HoldKind, OrchestrationStatus, PhaseStatus, RunStatus, TaskStatus
from bus_schemas.policy import OnNodeLoss
from bus_schemas.views import ObstacleView, WhyView
from controller import budgets, plan, tasks
from controller.orchestration import STOPPING, Hold, Orchestration, Phase, Run


class Surroundings(Struct, frozen=True):
    """What stands outside an orchestration: the nodes, which of them are seen, and how many orders are ahead of its own at each.

    `ahead` counts for a run the orders that its node gets before it, `load` the runs that each node has open.
    """

    nodes: Mapping[str, Node]
    online: frozenset[str]
    ahead: Mapping[str, int]
    load: Mapping[str, int]


def why(o: Orchestration, around: Surroundings) -> WhyView:
    """Return what an orchestration is doing, and everything that does not move with its reason and what frees it."""
    running = tuple(_running(run, around) for run in o.open_runs() if run.status is RunStatus.STARTED)
    found = (*_ended(o), *_holds(o, around), *_runs(o, around), *_tasks(o, around), *_phases(o))
    shown = o.shown_hold()
    return WhyView(o.id, o.status.value, None if shown is None else shown.kind.value, running, found)


def _ended(o: Orchestration) -> Iterator[ObstacleView]:
    if o.is_live:
        return
    done = o.status is OrchestrationStatus.COMPLETE
    reason = "it is complete" if done else f"it ended {o.status}{f': {o.message}' if o.message else ''}"
    frees = "nothing: the work is on branch " + o.branch if done else f"launch again: qd launch {o.design} --node auto"
    yield ObstacleView(o.id, reason, o.reason_code, o.ended_at, frees)


def _running(run: Run, around: Surroundings) -> str:
    place = "" if run.phase is None else f" of phase {run.phase}" + ("" if run.task is None else f", task {run.task}")
    away = "" if run.node in around.online else ", which cannot be reached"
    return f"{run.kind}{place} ({run.id}.{run.attempt}) runs on {run.node} with {run.model or 'no model'}{away}"


# ── holds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _holds(o: Orchestration, around: Surroundings) -> Iterator[ObstacleView]:
    for hold in o.holds_in_order():
        yield ObstacleView(o.id, f"{hold.kind}: {hold.reason}", hold.reason_code, hold.since, _frees(o, hold, around))


def _frees(o: Orchestration, hold: Hold, around: Surroundings) -> str:
    match hold.kind:
        case HoldKind.CANCELLING | HoldKind.PAUSING:
            return _frees_stopping(o, hold.kind, around)
        case HoldKind.PAUSED:
            return f"qd resume {o.id}"
        case HoldKind.NODE_LOST:
            return _frees_lost(o)
        case HoldKind.BLOCKED:
            return f"qd retry {o.id}, or qd cancel {o.id}"
        case HoldKind.GATE:
            what = " (pass)" if o.gate is not None and o.gate.kind is GateKind.CONSENSUS_DISAGREEMENT else ""
            return f"qd gate show {o.id}, then qd gate approve {o.id}{what} or qd gate reject {o.id} --feedback TEXT"
        case HoldKind.BUDGET:
            return f"qd policy set {o.id} flow.{budgets.field(o)}=N --if-revision {o.policy_revision}, then qd resume {o.id}"
        case HoldKind.QUOTA:
            until = f"by itself at {hold.until:%Y-%m-%d %H:%M} UTC, or " if hold.until is not None else ""
            return f"{until}qd resume {o.id}"


def _frees_stopping(o: Orchestration, kind: HoldKind, around: Surroundings) -> str:
    waits = ", ".join(f"{run.id}.{run.attempt} on {run.node}" for run in o.outstanding())
    lost = any(run.node not in around.online for run in o.outstanding())
    text = f"by itself when {waits} has ended" if waits else "by itself, at once"
    if lost and kind is HoldKind.CANCELLING:
        return f"{text}; its node is away: qd cancel {o.id} --abandon does not wait for it"
    return text if kind is HoldKind.CANCELLING else f"{text}; qd resume {o.id} ends the pause"


def _ends(o: Orchestration, holds: list[Hold], around: Surroundings) -> str:
    """Return what ends the holds that keep something from starting, all of them."""
    if o.hold(HoldKind.CANCELLING) is not None:
        return "nothing: it is being cancelled"
    return ", then ".join(f"qd resume {o.id}" if hold.kind is HoldKind.PAUSING else _frees(o, hold, around) for hold in holds)


def _frees_lost(o: Orchestration) -> str:
    match o.active_policy.flow.on_node_loss:
        case OnNodeLoss.WAIT:
            return f"by itself when node {o.node} is back; qd retry {o.id} gives its runs up and goes on elsewhere"
        case OnNodeLoss.RETRY:
            return f"by itself when node {o.node} is back; qd retry {o.id} goes on elsewhere"
        case OnNodeLoss.MOVE:
            return "by itself when a node comes online that offers its models"


# ── runs, tasks, phases ──────────────────────────────────────────────────────────────────────────────────────────────


def _runs(o: Orchestration, around: Surroundings) -> Iterator[ObstacleView]:
    for run in o.open_runs():
        if run.status is RunStatus.STARTED:
            continue
        name = f"{run.kind} ({run.id}.{run.attempt})"
        if run.held:
            holds = [hold for hold in o.holds_in_order() if hold.kind in STOPPING]
            yield ObstacleView(name, f"it is ordered when it is not held any more: {_kinds(holds)}", None, run.queued_at, _ends(o, holds, around))
        elif run.node not in around.online:
            yield ObstacleView(name, f"node {run.node} is offline", None, run.queued_at, f"start the node agent of {run.node}")
        else:
            yield _waiting_at_node(run, name, around)


def _kinds(holds: list[Hold]) -> str:
    return ", ".join(hold.kind for hold in holds)


def _waiting_at_node(run: Run, name: str, around: Surroundings) -> ObstacleView:
    node = around.nodes.get(run.node)
    capacity = 1 if node is None else node.capacity
    open_runs = around.load.get(run.node, 0)
    ahead = around.ahead.get(run.id)
    if ahead is not None:
        reason = f"it is in the queue of node {run.node}: {ahead} before it, {open_runs} open runs for a capacity of {capacity}"
        return ObstacleView(name, reason, None, run.queued_at, f"by itself; more capacity on {run.node}, or another node, makes it faster")
    reason = f"it was sent to node {run.node} and is not claimed yet ({open_runs} open runs for a capacity of {capacity})"
    return ObstacleView(name, reason, None, run.queued_at, "by itself when the node has a free place")


def _tasks(o: Orchestration, around: Surroundings) -> Iterator[ObstacleView]:
    phase = o.find_phase(o.phase)
    if phase is None or not o.is_live:
        return
    ready = {task.number for task in tasks.ready(phase)}
    running = sum(task.status is TaskStatus.IN_PROGRESS for task in phase.tasks)
    for task in sorted(phase.tasks, key=lambda task: task.order):
        name = f"task {task.number} of phase {phase.id}"
        if task.status is TaskStatus.BLOCKED:
            later = "" if o.hold(HoldKind.BLOCKED) is not None else ", when nothing else of the phase runs any more"
            yield ObstacleView(name, "it failed and has no attempt left", task.reason_code, None, f"qd retry {o.id} --task {task.number}{later}")
    holds = [hold for hold in o.holds_in_order() if hold.kind is not HoldKind.NODE_LOST]
    for task in plan.waiting(phase):
        name = f"task {task.number} of phase {phase.id}"
        if task.number not in ready:
            reason, frees = _unmet(phase, task.depends_on)
            yield ObstacleView(name, reason, None, None, frees)
        elif holds:
            yield ObstacleView(name, f"it is ready, and nothing starts while it is held: {_kinds(holds)}", None, None, _ends(o, holds, around))
        else:
            limit = o.active_policy.flow.max_parallel_tasks
            frees = f"by itself; qd policy set {o.id} flow.max_parallel_tasks={limit + 1} --if-revision {o.policy_revision}"
            yield ObstacleView(name, f"it is ready; {running} tasks run and max_parallel_tasks is {limit}", None, None, frees)


def _unmet(phase: Phase, depends_on: tuple[int, ...]) -> tuple[str, str]:
    """Return which tasks are waited for with their status, and when that is over."""
    known = {task.number: task.status for task in phase.tasks}
    unmet = [number for number in depends_on if known.get(number) not in tasks.DONE]
    waits = ", ".join(f"task {number} ({known.get(number, 'not there')})" for number in unmet)
    numbers = ", ".join(map(str, unmet))
    return f"it waits for {waits}", f"by itself when task {numbers} is done" if len(unmet) == 1 else f"by itself when tasks {numbers} are done"


def _phases(o: Orchestration) -> Iterator[ObstacleView]:
    if not o.is_live:
        return
    for phase in o.phases:
        if phase.status is PhaseStatus.PENDING:
            before = f"phase {o.phase}" if o.phase is not None else "the validation"
            yield ObstacleView(f"phase {phase.id}", f"it comes after {before}", None, None, "by itself")
