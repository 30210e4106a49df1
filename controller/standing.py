"""Where an orchestration stands: its status, its holds, its gate, and what an end takes along. Pure."""

from __future__ import annotations

from bus_schemas import events as e
from bus_schemas.entities import TicketStatus
from bus_schemas.events import GateKind, HoldKind, OrchestrationStatus
from bus_schemas.reasons import Reason
from controller.draft import Draft
from controller.orchestration import Orchestration


def move(
    draft: Draft, o: Orchestration, status: OrchestrationStatus, *, phase: str | None = None, code: Reason | None = None, text: str = ""
) -> None:
    """Give an orchestration another status. One that ends takes its open runs and actions along."""
    draft.emit(
        e.OrchestrationMoved(
            orchestration=o.id, status=status, previous=o.status, phase=phase, reason_code=None if code is None else code.value, message=text
        )
    )
    if not draft.orchestration(o.id).is_live:
        _close(draft, o, status, code)


def _close(draft: Draft, o: Orchestration, status: OrchestrationStatus, code: Reason | None) -> None:
    for run in o.open_runs():
        if run.held:
            draft.emit(e.RunWithdrawn(orchestration=o.id, run=run.id, attempt=run.attempt))
    for action in o.open_actions:
        if action.type == "cancel" and status is OrchestrationStatus.CANCELLED:
            draft.emit(e.ActionCompleted(action.id))
        elif action.type == "launch":
            draft.emit(e.ActionFailed(action.id, (code or Reason.CANCELLED).value, f"{o.id} ended as {status} before it was set up"))
        else:
            draft.emit(e.ActionFailed(action.id, Reason.INVALID_STATE.value, f"{o.id} is already {status}"))
    if status is OrchestrationStatus.COMPLETE:
        _move_tickets(draft, o)


def _move_tickets(draft: Draft, o: Orchestration) -> None:
    for ticket_id in o.tickets:
        ticket = draft.state.tickets.get(ticket_id)
        if ticket is not None and ticket.status is TicketStatus.IN_PROGRESS:
            draft.emit(e.TicketMoved(ticket=ticket.id, status=TicketStatus.IN_REVIEW, previous=ticket.status, orchestration=o.id))


def block(draft: Draft, o: Orchestration, reason: str, code: str | None) -> None:
    """Hold an orchestration until an operator retries or cancels."""
    draft.emit(e.HoldSet(orchestration=o.id, hold=HoldKind.BLOCKED, reason=reason, reason_code=code))


def open_gate(draft: Draft, o: Orchestration, gate: GateKind, phase: str | None, subject: str, code: Reason | None = None) -> None:
    """Hold an orchestration until a human judges `subject`."""
    draft.emit(e.GateOpened(orchestration=o.id, gate=gate, phase=phase, subject=subject))
    draft.emit(
        e.HoldSet(
            orchestration=o.id, hold=HoldKind.GATE, reason=f"gate {gate} waits for an operator", reason_code=None if code is None else code.value
        )
    )


def settle(draft: Draft, o: Orchestration) -> None:
    """Complete a pause or a cancel when nothing of the orchestration is on its way or running any more."""
    if not o.is_live or o.outstanding():
        return
    cancelling = o.hold(HoldKind.CANCELLING)
    if cancelling is not None:
        move(draft, o, OrchestrationStatus.CANCELLED, text=cancelling.reason)
        return
    pausing = o.hold(HoldKind.PAUSING)
    if pausing is None:
        return
    draft.emit(e.HoldCleared(orchestration=o.id, hold=HoldKind.PAUSING))
    draft.emit(e.HoldSet(orchestration=o.id, hold=HoldKind.PAUSED, reason=pausing.reason))
    for action in o.open_actions:
        if action.type == "pause":
            draft.emit(e.ActionCompleted(action.id))


def order_anew(draft: Draft, o: Orchestration) -> None:
    """Order the runs again whose orders were never published because of a hold: with the node, model and policy of now."""
    for run in o.open_runs():
        if run.held:
            draft.emit(e.RunWithdrawn(orchestration=o.id, run=run.id, attempt=run.attempt))
            draft.queue_again(draft.orchestration(o.id), run, run.previous_error)
