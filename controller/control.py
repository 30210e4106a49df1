"""Control of an orchestration: pause, resume, cancel, retry, and the gates (domain §7). Pure.

A pause or a cancel is honest: it is complete only when every order that may be on its way or running was withdrawn or
has ended. `standing.settle` is asked after each report whether that is so.
"""

from __future__ import annotations

from bus_schemas import events as e
from bus_schemas.commands import Cancel, GateApprove, GateReject, Pause, PauseMode, Resume, Retry
from bus_schemas.events import GateKind, HoldKind, OrchestrationStatus, PhaseStatus, RunStatus
from bus_schemas.orders import Issue, RunKind
from bus_schemas.reasons import Reason
from controller import budgets, leases, progress, standing, tasks
from controller.draft import Draft, Refused
from controller.orchestration import Gate, Orchestration, Phase

ControlCommand = Pause | Resume | Cancel | Retry | GateApprove | GateReject


def decide_control(draft: Draft, command: ControlCommand) -> str:
    """Apply a control command and return the orchestration's id. Raises Refused."""
    o = draft.state.orchestrations.get(command.orchestration)
    if o is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no orchestration {command.orchestration}")
    if not o.is_live:
        raise Refused(Reason.INVALID_STATE, f"{o.id} is {o.status}; it has ended")
    match command:
        case Pause():
            _pause(draft, o, command)
        case Resume():
            _resume(draft, o)
        case Cancel():
            _cancel(draft, o, command)
        case Retry():
            _retry(draft, o, command)
        case GateApprove():
            _approve(draft, o, command.note)
        case GateReject():
            _reject(draft, o, command.feedback)
    return o.id


def _not_cancelling(o: Orchestration) -> None:
    if o.hold(HoldKind.CANCELLING) is not None:
        raise Refused(Reason.INVALID_STATE, f"{o.id} is being cancelled")


def _pause(draft: Draft, o: Orchestration, command: Pause) -> None:
    _not_cancelling(o)
    for kind in (HoldKind.PAUSED, HoldKind.PAUSING):
        if o.hold(kind) is not None:
            raise Refused(Reason.INVALID_STATE, f"{o.id} is already {kind}; `qd resume {o.id}` goes on")
    _open(draft, o, "pause")
    stop = command.mode is PauseMode.STOP
    draft.emit(e.HoldSet(orchestration=o.id, hold=HoldKind.PAUSING, reason=f"paused ({command.mode}) by {draft.by}", stop=stop))
    standing.settle(draft, draft.orchestration(o.id))


def _resume(draft: Draft, o: Orchestration) -> None:
    _not_cancelling(o)
    held = [hold.kind for hold in o.holds if hold.kind in (HoldKind.PAUSING, HoldKind.PAUSED, HoldKind.BUDGET, HoldKind.QUOTA)]
    if not held:
        shown = o.shown_hold()
        raise Refused(Reason.INVALID_STATE, f"{o.id} is not paused{_instead(o, shown.kind) if shown else ''}")
    over = budgets.over(o)
    if over is not None:
        raise Refused(
            Reason.INVALID_STATE, f"{over}; raise it first: qd policy set {o.id} flow.{budgets.field(o)}=N --if-revision {o.policy_revision}"
        )
    for kind in held:
        draft.emit(e.HoldCleared(orchestration=o.id, hold=kind))
    for action in o.open_actions:
        if action.type == "pause":
            draft.emit(e.ActionFailed(action.id, Reason.INVALID_STATE.value, "resumed before everything had stopped"))
    draft.emit(e.ActionCompleted(draft.action_id))
    progress.resume(draft, draft.orchestration(o.id))


def _instead(o: Orchestration, kind: HoldKind) -> str:
    if kind is HoldKind.GATE and o.gate is not None:
        return f"; it waits at gate {o.gate.kind}: `qd gate approve {o.id}` or `qd gate reject {o.id} --feedback TEXT`"
    if kind is HoldKind.BLOCKED:
        return f"; it is blocked: `qd retry {o.id}` or `qd cancel {o.id}`"
    if kind is HoldKind.NODE_LOST:
        return f"; its node is lost: it goes on when the node is back, or `qd retry {o.id}`"
    if kind in (HoldKind.PAUSED, HoldKind.PAUSING):
        return f"; it is {kind}: `qd resume {o.id}`"
    return f"; it is held: {kind}"


def _of_a_task(o: Orchestration, number: int | None) -> str:
    """Say when a blocked task can be retried, where others of its phase still run."""
    phase = o.find_phase(o.phase)
    task = None if phase is None or number is None else phase.task(number)
    if phase is None or task is None or task.status is not e.TaskStatus.BLOCKED:
        return ""
    return f"; task {number} can be retried when nothing else of phase {phase.id} runs any more: `qd why {o.id}`"


def _cancel(draft: Draft, o: Orchestration, command: Cancel) -> None:
    lost = leases.unreachable(o, draft.context.online) if command.abandon and o.hold(HoldKind.NODE_LOST) is not None else ()
    if not lost:
        _not_cancelling(o)
    _open(draft, o, "cancel")
    if o.hold(HoldKind.CANCELLING) is None:
        draft.emit(e.HoldSet(orchestration=o.id, hold=HoldKind.CANCELLING, reason=f"cancelled by {draft.by}", stop=True))
    for run in lost:
        if run.status is RunStatus.STARTED:
            leases.end_as_lost(draft, draft.orchestration(o.id), run, f"given up by {draft.by} while node {run.node} was lost")
    standing.settle(draft, draft.orchestration(o.id))


def _open(draft: Draft, o: Orchestration, kind: str) -> None:
    draft.emit(e.ActionOpened(orchestration=o.id, action=draft.action_id, kind=kind))


def _retry(draft: Draft, o: Orchestration, command: Retry) -> None:
    _not_cancelling(o)
    if o.hold(HoldKind.NODE_LOST) is not None:
        _named(o, command, o.find_phase(o.phase))
        _open(draft, o, "retry")
        leases.retry_lost(draft, draft.orchestration(o.id))
        standing.settle(draft, draft.orchestration(o.id))  # what was given up may be the last that a pause waited for
        return
    if o.hold(HoldKind.BLOCKED) is None:
        shown = o.shown_hold()
        instead = _instead(o, shown.kind) if shown else _of_a_task(o, command.task)
        raise Refused(Reason.INVALID_STATE, f"{o.id} is {o.status} and not blocked{instead}")
    _named(o, command, o.find_phase(o.phase))
    if command.task is not None:
        _retry_task(draft, o, command.task)
        return
    draft.emit(e.HoldCleared(orchestration=o.id, hold=HoldKind.BLOCKED))
    _open(draft, o, "retry")
    o = draft.orchestration(o.id)
    match o.status:
        case OrchestrationStatus.VALIDATING:
            draft.queue(o, RunKind.VALIDATE, base=o.heads)
        case OrchestrationStatus.PLANNING:
            draft.queue(o, RunKind.PLAN, phase=o.current().id, base=o.heads)
        case OrchestrationStatus.EXECUTING if o.current().status is not PhaseStatus.COMPLETE:
            _retry_tasks(draft, o)
        case OrchestrationStatus.REVIEWING if o.current().status is PhaseStatus.REVIEWING:
            progress.review(draft, o)
        case OrchestrationStatus.FINALIZING:
            draft.queue(o, RunKind.FINALIZE, base=o.heads)
        case _:  # finalize was rejected: ask again
            draft.emit(e.ActionCompleted(draft.action_id))
            standing.open_gate(draft, o, GateKind.FINALIZE, None, f"all phases are done; finalize writes branch {o.branch}")


def _named(o: Orchestration, command: Retry, phase: Phase | None) -> None:
    """Refuse a retry that names another phase than the one that stands, or a task of it that is not blocked."""
    if command.phase is not None and (phase is None or command.phase != phase.id):
        stands = f"stands in phase {phase.id}" if phase is not None else "stands in no phase yet"
        raise Refused(Reason.INVALID_STATE, f"{o.id} {stands}; only what failed there can be retried, not phase {command.phase[:20]}")
    if command.task is None:
        return
    task = None if phase is None else phase.task(command.task)
    if phase is None or task is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no task {command.task} in the phase that {o.id} stands in")
    if task.status is not e.TaskStatus.BLOCKED:
        raise Refused(Reason.INVALID_STATE, f"task {task.number} of phase {phase.id} is {task.status}, not blocked")


def _retry_task(draft: Draft, o: Orchestration, number: int) -> None:
    """Run one blocked task again; the others stay blocked, and hold the phase again when nothing else can run."""
    phase = o.current()
    draft.emit(e.HoldCleared(orchestration=o.id, hold=HoldKind.BLOCKED))
    _open(draft, o, "retry")
    draft.emit(e.PhaseMoved(orchestration=o.id, phase=phase.id, status=PhaseStatus.EXECUTING))
    tasks.reset_blocked(draft, draft.orchestration(o.id), phase, only=number)
    progress.advance(draft, draft.orchestration(o.id))


def _retry_tasks(draft: Draft, o: Orchestration) -> None:
    phase = o.current()
    if any(task.status in (e.TaskStatus.BLOCKED, e.TaskStatus.PENDING) for task in phase.tasks):
        draft.emit(e.PhaseMoved(orchestration=o.id, phase=phase.id, status=PhaseStatus.EXECUTING))
        tasks.reset_blocked(draft, o, phase)
        progress.advance(draft, draft.orchestration(o.id))
    else:
        progress.verify(draft, o)


def _waiting_gate(o: Orchestration) -> Gate:
    _not_cancelling(o)
    if o.gate is None:
        raise Refused(Reason.INVALID_STATE, f"{o.id} is {o.status} and waits at no gate")
    return o.gate


def _resolve(draft: Draft, o: Orchestration, gate: Gate, approved: bool, text: str) -> Orchestration:
    draft.emit(e.GateResolved(orchestration=o.id, gate=gate.kind, phase=gate.phase, approved=approved, by=draft.by or "", text=text))
    draft.emit(e.HoldCleared(orchestration=o.id, hold=HoldKind.GATE))
    draft.emit(e.ActionCompleted(draft.action_id))
    return draft.orchestration(o.id)


def _approve(draft: Draft, o: Orchestration, note: str) -> None:
    gate = _waiting_gate(o)
    o = _resolve(draft, o, gate, True, note)
    match gate.kind:
        case GateKind.PLAN:
            progress.execute(draft, o)
        case GateKind.REVIEW | GateKind.CONSENSUS_DISAGREEMENT:
            progress.complete_phase(draft, o)
        case GateKind.FINALIZE:
            progress.finalize(draft, o)


def _reject(draft: Draft, o: Orchestration, feedback: str) -> None:
    gate = _waiting_gate(o)
    o = _resolve(draft, o, gate, False, feedback)
    issues = (Issue(text=feedback, source=draft.by or "operator", severity="p0"),)
    match gate.kind:
        case GateKind.PLAN:
            phase = o.current()
            tasks.skip_pending(draft, o, phase)
            progress.begin_phase(draft, draft.orchestration(o.id), phase.id, issues)
        case GateKind.REVIEW | GateKind.CONSENSUS_DISAGREEMENT:
            progress.gaps(draft, o, issues)
        case GateKind.FINALIZE:
            standing.block(draft, o, f"finalize was rejected by {draft.by}: {feedback[:1000]}", None)
