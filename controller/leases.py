"""Leases: what happens to the runs of a node that is not seen any more, comes back, or is drained (domain §8). Pure.

A node's beat renews the lease of its runs. One that is not seen for 10 s holds its orchestrations under `node_lost`: their runs are
unreachable, not ended. They become `lost`, for good, by the policy `retry` or `move`, by an operator's retry, or when the node that is
back does not know them any more. What the cut-off process still does has no effect: its attempt is not the newest, its refs are its own.
"""

from __future__ import annotations

from msgspec import Struct

from bus_schemas import events as e
from bus_schemas.codec import VERSION
from bus_schemas.decisions import Decision, TimerCause
from bus_schemas.events import HoldKind, RunStatus
from bus_schemas.ids import orchestration_of
from bus_schemas.policy import OnNodeLoss
from bus_schemas.reasons import Reason
from bus_schemas.reports import Ended, Outcome
from controller import placement, progress, standing
from controller.draft import Context, Draft, Refused
from controller.orchestration import Orchestration, Run
from controller.project import Aggregate


class Lost(Struct, frozen=True):
    """A node of an orchestration's runs was not seen for 10 s."""

    orchestration: str
    node: str


class Back(Struct, frozen=True):
    """A node of an orchestration under `node_lost` is seen again."""

    orchestration: str
    node: str


class Disowned(Struct, frozen=True):
    """A node that is there does not know an attempt which it had claimed."""

    run: str
    attempt: int


class Drained(Struct, frozen=True):
    """An orchestration is to leave a node that is drained."""

    orchestration: str
    node: str


class Due(Struct, frozen=True):
    """A hold of an orchestration has reached the time at which it ends by itself."""

    orchestration: str


Duty = Lost | Back | Disowned | Drained | Due
"""What the controller has noticed by itself."""


def decide_duty(state: Aggregate, duty: Duty, context: Context) -> Decision | None:
    """Return what a duty changes; None where it is out of date, or there is nothing to do (yet)."""
    o = state.orchestrations.get(orchestration_of(duty.run) if isinstance(duty, Disowned) else duty.orchestration)
    if o is None or not o.is_live:
        return None
    draft = Draft(state, TimerCause(_NAMES[type(duty)]), context, o.action)
    match duty:
        case Lost():
            _lost(draft, o, duty.node)
        case Back():
            _back(draft, o)
        case Disowned():
            run = o.run(duty.run)
            if run is None or run.attempt != duty.attempt or run.status is not RunStatus.STARTED:
                return None
            _lose(draft, o, run, f"node {run.node} does not know this attempt any more")
        case Drained():
            if o.node == duty.node:
                _move(draft, o, f"node {duty.node} is drained")
        case Due():
            _due(draft, o)
    return draft.done() if draft.events else None


_NAMES: dict[type, str] = {Lost: "node-lost", Back: "node-back", Disowned: "disowned", Drained: "node-drained", Due: "hold-due"}


def unreachable(o: Orchestration, online: frozenset[str]) -> tuple[Run, ...]:
    """Return the outstanding runs of an orchestration whose node is not seen."""
    return tuple(run for run in o.outstanding() if run.node not in online)


def _lost(draft: Draft, o: Orchestration, node: str) -> None:
    gone = unreachable(o, draft.context.online)
    if not gone:
        return
    if o.hold(HoldKind.NODE_LOST) is None:
        reason = f"node {node} was not seen for 10 s; {len(gone)} of its runs cannot be reached"
        draft.emit(e.HoldSet(orchestration=o.id, hold=HoldKind.NODE_LOST, reason=reason, reason_code=Reason.NODE_LOST.value))
    if o.hold(HoldKind.CANCELLING) is not None or o.hold(HoldKind.PAUSING) is not None:
        return  # nothing new is to start: whether the old runs are to be given up is the operator's word
    match o.active_policy.flow.on_node_loss:
        case OnNodeLoss.WAIT:
            return
        case OnNodeLoss.MOVE:
            if not _move(draft, draft.orchestration(o.id), f"node {node} is lost"):
                return
            draft.emit(e.HoldCleared(orchestration=o.id, hold=HoldKind.NODE_LOST))
        case OnNodeLoss.RETRY:
            pass
    for run in gone:
        if run.status is RunStatus.STARTED:
            _lose(draft, draft.orchestration(o.id), run, f"node {node} was not seen for 10 s")


def _move(draft: Draft, o: Orchestration, reason: str) -> bool:
    """Give an orchestration another node; return whether one fits. What waits on the old one is taken back by the dispatcher."""
    target = placement.elsewhere(o, draft.context.online_nodes(), draft.context.load)
    if target is None:
        return False
    draft.emit(e.NodeAssigned(orchestration=o.id, node=target.id, previous=o.node, reason=reason))
    standing.order_anew(draft, draft.orchestration(o.id))
    return True


def _lose(draft: Draft, o: Orchestration, run: Run, detail: str) -> None:
    """End an attempt as lost, and go on as after a failure."""
    end_as_lost(draft, o, run, detail)
    ended = draft.orchestration(o.id).run(run.id)
    assert ended is not None
    report = Ended(v=VERSION, outcome=Outcome.LOST, at=draft.at, reason_code=Reason.NODE_LOST.value, detail=detail)
    progress.run_ended(draft, draft.orchestration(o.id), ended, report)
    standing.settle(draft, draft.orchestration(o.id))


def end_as_lost(draft: Draft, o: Orchestration, run: Run, detail: str) -> None:
    """Record that nobody can say how far an attempt came."""
    draft.emit(
        e.RunEnded(
            orchestration=o.id,
            run=run.id,
            attempt=run.attempt,
            node=run.node,
            outcome=Outcome.LOST,
            reason_code=Reason.NODE_LOST.value,
            detail=detail,
        )
    )


def _back(draft: Draft, o: Orchestration) -> None:
    if o.hold(HoldKind.NODE_LOST) is not None and not unreachable(o, draft.context.online):
        draft.emit(e.HoldCleared(orchestration=o.id, hold=HoldKind.NODE_LOST))


def retry_lost(draft: Draft, o: Orchestration) -> None:
    """Give up what a lost node held and order it anew: there if it is seen again, else on another node. Raises Refused."""
    if o.node not in draft.context.online and not _move(draft, o, f"retried by {draft.by} while node {o.node} was lost"):
        raise Refused(
            Reason.NODE_OFFLINE, f"node {o.node} is offline, and no other online node offers {', '.join(placement.models_needed(o, o.active_policy))}"
        )
    draft.emit(e.HoldCleared(orchestration=o.id, hold=HoldKind.NODE_LOST))
    for run in unreachable(o, draft.context.online):
        if run.status is RunStatus.STARTED:
            end_as_lost(draft, draft.orchestration(o.id), run, f"given up by {draft.by} while node {run.node} was lost")
            draft.queue_again(draft.orchestration(o.id), run, run.previous_error)


def _due(draft: Draft, o: Orchestration) -> None:
    for hold in o.holds:
        if hold.until is not None and hold.until <= draft.at:
            draft.emit(e.HoldCleared(orchestration=o.id, hold=hold.kind))
    if draft.events:
        progress.resume(draft, draft.orchestration(o.id))
