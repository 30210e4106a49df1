"""Control of an orchestration: pause, resume, cancel, retry, and the gates (domain §7). Pure.

A pause or a cancel is honest: it is complete only when every order that may be on its way or running was withdrawn or
has ended. `settle` is asked after each report whether that is so.
"""

from __future__ import annotations

from bus_schemas import events as e
from bus_schemas.commands import Cancel, GateApprove, GateReject, Pause, PauseMode, Resume, Retry
from bus_schemas.events import GateKind, HoldKind, OrchestrationStatus, PhaseStatus
from bus_schemas.orders import Issue, RunKind
from bus_schemas.reasons import Reason
from controller import progress, tasks
from controller.draft import Draft, Refused
from controller.orchestration import Gate, Orchestration

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
            _cancel(draft, o)
        case Retry():
            _retry(draft, o)
        case GateApprove():
            _approve(draft, o, command.note)
        case GateReject():
            _reject(draft, o, command.feedback)
    return o.id


def settle(draft: Draft, o: Orchestration) -> None:
    """Complete a pause or a cancel when nothing of the orchestration is on its way or running any more."""
    if not o.is_live or o.outstanding():
        return
    cancelling = o.hold(HoldKind.CANCELLING)
    if cancelling is not None:
        progress.move(draft, o, OrchestrationStatus.CANCELLED, text=cancelling.reason)
        return
    pausing = o.hold(HoldKind.PAUSING)
    if pausing is None:
        return
    draft.emit(e.HoldCleared(orchestration=o.id, hold=HoldKind.PAUSING))
    draft.emit(e.HoldSet(orchestration=o.id, hold=HoldKind.PAUSED, reason=pausing.reason))
    for action in o.open_actions:
        if action.type == "pause":
            draft.emit(e.ActionCompleted(action.id))


def _not_cancelling(o: Orchestration) -> None:
    if o.hold(HoldKind.CANCELLING) is not None:
        raise Refused(Reason.INVALID_STATE, f"{o.id} is being cancelled")


def _pause(draft: Draft, o: Orchestration, command: Pause) -> None:
    _not_cancelling(o)
    for kind in (HoldKind.PAUSED, HoldKind.PAUSING):
        if o.hold(kind) is not None:
            raise Refused(Reason.INVALID_STATE, f"{o.id} is already {kind}")
    _open(draft, o, "pause")
    stop = command.mode is PauseMode.STOP
    draft.emit(e.HoldSet(orchestration=o.id, hold=HoldKind.PAUSING, reason=f"paused ({command.mode}) by {draft.by}", stop=stop))
    settle(draft, draft.orchestration(o.id))


def _resume(draft: Draft, o: Orchestration) -> None:
    _not_cancelling(o)
    held = [hold.kind for hold in o.holds if hold.kind in (HoldKind.PAUSING, HoldKind.PAUSED, HoldKind.BUDGET, HoldKind.QUOTA)]
    if not held:
        shown = o.shown_hold()
        raise Refused(Reason.INVALID_STATE, f"{o.id} is not paused{_instead(o, shown.kind) if shown else ''}")
    for kind in held:
        draft.emit(e.HoldCleared(orchestration=o.id, hold=kind))
    for action in o.open_actions:
        if action.type == "pause":
            draft.emit(e.ActionFailed(action.id, Reason.INVALID_STATE.value, "resumed before everything had stopped"))
    draft.emit(e.ActionCompleted(draft.action_id))
    for run in o.open_runs():
        if run.held:  # its order was never published: queue it anew, with what holds now
            draft.emit(e.RunWithdrawn(orchestration=o.id, run=run.id, attempt=run.attempt))
            draft.queue_again(draft.orchestration(o.id), run, run.previous_error)


def _instead(o: Orchestration, kind: HoldKind) -> str:
    if kind is HoldKind.GATE and o.gate is not None:
        return f"; it waits at gate {o.gate.kind}: `qd gate approve {o.id}` or `qd gate reject {o.id} --feedback TEXT`"
    if kind is HoldKind.BLOCKED:
        return f"; it is blocked: `qd retry {o.id}` or `qd cancel {o.id}`"
    return f"; it is held: {kind}"


def _cancel(draft: Draft, o: Orchestration) -> None:
    _not_cancelling(o)
    _open(draft, o, "cancel")
    draft.emit(e.HoldSet(orchestration=o.id, hold=HoldKind.CANCELLING, reason=f"cancelled by {draft.by}", stop=True))
    settle(draft, draft.orchestration(o.id))


def _open(draft: Draft, o: Orchestration, kind: str) -> None:
    draft.emit(e.ActionOpened(orchestration=o.id, action=draft.action_id, kind=kind))


def _retry(draft: Draft, o: Orchestration) -> None:
    _not_cancelling(o)
    if o.hold(HoldKind.BLOCKED) is None:
        shown = o.shown_hold()
        raise Refused(Reason.INVALID_STATE, f"{o.id} is {o.status} and not blocked{_instead(o, shown.kind) if shown else ''}")
    draft.emit(e.HoldCleared(orchestration=o.id, hold=HoldKind.BLOCKED))
    _open(draft, o, "retry")
    o = draft.orchestration(o.id)
    match o.status:
        case OrchestrationStatus.VALIDATING:
            draft.queue(o, RunKind.VALIDATE, base=o.heads)
        case OrchestrationStatus.PLANNING:
            draft.queue(o, RunKind.PLAN, phase=o.current().id, base=o.heads)
        case OrchestrationStatus.EXECUTING:
            _retry_tasks(draft, o)
        case OrchestrationStatus.REVIEWING if o.current().status is PhaseStatus.REVIEWING:
            progress.review(draft, o)
        case OrchestrationStatus.FINALIZING:
            draft.queue(o, RunKind.FINALIZE, base=o.heads)
        case _:  # finalize was rejected: ask again
            draft.emit(e.ActionCompleted(draft.action_id))
            progress.open_gate(draft, o, GateKind.FINALIZE, None, f"all phases are done; finalize writes branch {o.branch}")


def _retry_tasks(draft: Draft, o: Orchestration) -> None:
    phase = o.current()
    if any(task.status is e.TaskStatus.BLOCKED for task in phase.tasks):
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
            progress.block(draft, o, f"finalize was rejected by {draft.by}: {feedback[:1000]}", None)
