"""The aggregate: everything one ledger subject knows, and how each event changes it. Pure.

`evolve` is total: a stored event is never refused, and one that names what is not there changes nothing. `replay` is the
fold of it. The same aggregate serves a project and `plane`, which uses the registry, the nodes and the flags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace
from rpds import HashTrieMap

from bus_schemas import events as e
from bus_schemas.decisions import ActionStatus, CommandCause, Decision, LedgerMessage, Position, Receipt, receipt_of
from bus_schemas.entities import Comment, Design, Node, Project, Ticket
from bus_schemas.ids import DesignId
from controller import evolution
from controller.orchestration import Orchestration


class FlagChange(Struct, frozen=True):
    """The last change of a flag by an operator: the action, and what the flag was before."""

    action: str
    previous: bool


class Aggregate(Struct, frozen=True):
    """The state of one ledger subject. The maps are persistent: keeping an old state costs nothing."""

    project: str
    at: datetime | None = None
    actions: HashTrieMap[str, Receipt] = HashTrieMap()
    commands: HashTrieMap[str, str] = HashTrieMap()
    """From action to the id of the command that made it, so that a redelivery is told from a repeat."""
    action_count: int = 0
    design_count: int = 0
    ticket_count: int = 0
    orchestration_count: int = 0
    designs: HashTrieMap[str, Design] = HashTrieMap()
    tickets: HashTrieMap[str, Ticket] = HashTrieMap()
    comments: HashTrieMap[str, tuple[Comment, ...]] = HashTrieMap()
    orchestrations: HashTrieMap[str, Orchestration] = HashTrieMap()
    live_slugs: HashTrieMap[str, str] = HashTrieMap()
    projects: HashTrieMap[str, Project] = HashTrieMap()
    nodes: HashTrieMap[str, Node] = HashTrieMap()
    flags: HashTrieMap[str, bool] = HashTrieMap()
    flag_changes: HashTrieMap[str, FlagChange] = HashTrieMap()
    heads: HashTrieMap[str, e.RecordedHead] = HashTrieMap()
    """In `plane`: the newest recorded head of each project."""


def evolve_action(state: Aggregate, decision: Decision, position: Position | None) -> Aggregate:
    """Return the state after a decision's action was recorded, before its events."""
    cause, action = decision.cause, decision.action
    if action is None or not isinstance(cause, CommandCause):
        return replace(state, at=decision.at)
    return replace(
        state,
        at=decision.at,
        actions=state.actions.insert(action.id, receipt_of(decision, cause, action, position)),
        commands=state.commands.insert(action.id, cause.id),
        action_count=state.action_count + 1,
    )


class Cause(NamedTuple):
    """What events of one decision have in common: when it was made, and the action and the principal that led to it."""

    at: datetime
    because: str | None
    by: str | None


def evolve(state: Aggregate, event: e.Event, at: datetime, because: str | None, by: str | None) -> Aggregate:
    """Return the state after an event of a decision made at `at`, led to by action `because` of principal `by`."""
    return _EVOLVE.get(type(event), _orchestration)(state, event, Cause(at, because, by))


def _completed(state: Aggregate, event: e.ActionCompleted, cause: Cause) -> Aggregate:
    return _end_action(state, event.action, cause.at, ActionStatus.COMPLETED, None, "")


def _failed(state: Aggregate, event: e.ActionFailed, cause: Cause) -> Aggregate:
    return _end_action(state, event.action, cause.at, ActionStatus.FAILED, event.reason_code, event.message)


def _flag(state: Aggregate, event: e.FlagChanged, cause: Cause) -> Aggregate:
    changes = state.flag_changes
    if cause.because is not None:
        changes = changes.insert(event.flag, FlagChange(cause.because, event.previous))
    return replace(state, flags=state.flags.insert(event.flag, event.on), flag_changes=changes)


def _heads(state: Aggregate, event: e.HeadsRecorded, cause: Cause) -> Aggregate:
    return replace(state, heads=state.heads.update({head.project: head for head in event.heads}))


def _node(state: Aggregate, event: e.NodeRegistered, cause: Cause) -> Aggregate:
    return replace(state, nodes=state.nodes.insert(event.node.id, event.node))


def _cordon(state: Aggregate, event: e.NodeCordonChanged, cause: Cause) -> Aggregate:
    node = state.nodes.get(event.node)
    if node is None:
        return state
    return replace(state, nodes=state.nodes.insert(node.id, replace(node, cordoned=event.cordoned, draining=event.draining)))


def _project(state: Aggregate, event: e.ProjectAdded | e.ProjectEdited, cause: Cause) -> Aggregate:
    return replace(state, projects=state.projects.insert(event.project.id, event.project))


def _comment(state: Aggregate, event: e.CommentAdded, cause: Cause) -> Aggregate:
    target = event.comment.target
    return replace(state, comments=state.comments.insert(target, (*state.comments.get(target, ()), event.comment)))


def _end_action(state: Aggregate, action: str, at: datetime, status: ActionStatus, code: str | None, message: str) -> Aggregate:
    receipt = state.actions.get(action)
    if receipt is not None:
        ended = replace(receipt, status=status, completed_at=at, reason_code=code or receipt.reason_code, message=message or receipt.message)
        state = replace(state, actions=state.actions.insert(action, ended))
    orchestration = state.orchestrations.get(receipt.orchestration) if receipt is not None and receipt.orchestration else None
    if orchestration is None or not orchestration.open_actions:
        return state
    left = tuple(known for known in orchestration.open_actions if known.id != action)
    return replace(state, orchestrations=state.orchestrations.insert(orchestration.id, replace(orchestration, open_actions=left)))


def _launched(state: Aggregate, event: e.OrchestrationLaunched, cause: Cause) -> Aggregate:
    design = state.designs.get(event.design)
    orchestration = evolution.launched(event, design, cause.at, cause.because or "", cause.by or "", state.project)
    return replace(
        state,
        orchestration_count=state.orchestration_count + 1,
        orchestrations=state.orchestrations.insert(orchestration.id, orchestration),
        live_slugs=state.live_slugs.insert(orchestration.slug, orchestration.id),
    )


def _design(state: Aggregate, event: e.DesignAdded | e.DesignEdited | e.DesignMarked | e.DesignMoved, cause: Cause) -> Aggregate:
    at = cause.at
    if isinstance(event, e.DesignAdded):
        design = replace(event.design, created_at=at, updated_at=at)
        return replace(state, design_count=state.design_count + 1, designs=state.designs.insert(design.id, design))
    known = state.designs.get(event.design)
    if known is None:
        return state
    match event:
        case e.DesignEdited():
            design = replace(
                known,
                title=known.title if event.title is None else event.title,
                body=known.body if event.body is None else event.body,
                complexity=known.complexity if event.complexity is None else event.complexity,
                phase_count=known.phase_count if event.phase_count is None else event.phase_count,
            )
        case e.DesignMarked():
            markers = tuple(marker for marker in known.completed_markers if marker != event.marker)
            design = replace(known, completed_markers=(*markers, event.marker) if event.completed else markers)
        case e.DesignMoved():
            design = replace(known, status=event.status)
    return replace(state, designs=state.designs.insert(known.id, replace(design, revision=event.revision, updated_at=at)))


def _ticket(state: Aggregate, event: e.TicketAdded | e.TicketEdited | e.TicketMoved, cause: Cause) -> Aggregate:
    at = cause.at
    if isinstance(event, e.TicketAdded):
        ticket = replace(event.ticket, created_at=at, updated_at=at)
        return replace(state, ticket_count=state.ticket_count + 1, tickets=state.tickets.insert(ticket.id, ticket))
    known = state.tickets.get(event.ticket)
    if known is None:
        return state
    if isinstance(event, e.TicketMoved):
        ticket = replace(known, status=event.status)
    else:
        ticket = replace(
            known,
            title=known.title if event.title is None else event.title,
            body=known.body if event.body is None else event.body,
            design=known.design if event.design is None else DesignId(event.design),
            priority=known.priority if event.priority is None else event.priority,
        )
    return replace(state, tickets=state.tickets.insert(known.id, replace(ticket, updated_at=at)))


def _orchestration(state: Aggregate, event: evolution.OrchestrationEvent, cause: Cause) -> Aggregate:
    known = state.orchestrations.get(event.orchestration)
    return state if known is None else _changed(state, known, evolution.evolve(known, event, cause.at, cause.because))


def _changed(state: Aggregate, known: Orchestration, changed: Orchestration) -> Aggregate:
    """Return the state with an orchestration as it is after some events."""
    orchestrations = state.orchestrations.insert(known.id, changed)
    if known.is_live and not changed.is_live and state.live_slugs.get(known.slug) == known.id:
        return replace(state, orchestrations=orchestrations, live_slugs=state.live_slugs.remove(known.slug))
    return replace(state, orchestrations=orchestrations)


_EVOLVE: dict[type, Callable[[Aggregate, Any, Cause], Aggregate]] = {
    e.ActionCompleted: _completed,
    e.ActionFailed: _failed,
    e.OrchestrationLaunched: _launched,
    e.FlagChanged: _flag,
    e.HeadsRecorded: _heads,
    e.NodeRegistered: _node,
    e.NodeCordonChanged: _cordon,
    e.ProjectAdded: _project,
    e.ProjectEdited: _project,
    e.DesignAdded: _design,
    e.DesignEdited: _design,
    e.DesignMarked: _design,
    e.DesignMoved: _design,
    e.TicketAdded: _ticket,
    e.TicketEdited: _ticket,
    e.TicketMoved: _ticket,
    e.CommentAdded: _comment,
}
"""What an event changes; every other event changes one orchestration alone."""


def fold_decision(state: Aggregate, decision: Decision, position: Position | None) -> Aggregate:
    """Return the state after a whole decision."""
    state = evolve_action(state, decision, position)
    by = decision.cause.by if isinstance(decision.cause, CommandCause) else None
    because = decision.action.id if decision.action is not None else decision.because
    cause = Cause(decision.at, because, by)
    before: Orchestration | None = None
    now: Orchestration | None = None
    for event in decision.events:
        apply = _EVOLVE.get(type(event))
        # events of one orchestration follow each other: it is put into the state once, after the last of them
        if now is not None and before is not None and (apply is not None or event.orchestration != now.id):  # type: ignore[union-attr]
            state, before, now = _changed(state, before, now), None, None
        if apply is not None:
            state = apply(state, event, cause)
            continue
        if now is None:
            before = now = state.orchestrations.get(event.orchestration)  # type: ignore[union-attr, arg-type]
            if now is None:
                continue
        now = evolution.evolve(now, event, cause.at, because)  # type: ignore[arg-type]
    return state if now is None or before is None else _changed(state, before, now)


def fold(state: Aggregate, message: LedgerMessage, seq: int) -> Aggregate:
    """Return the state after a ledger message stored at `seq`."""
    row = 0
    for decision in message.decisions:
        state = fold_decision(state, decision, Position(seq, row))
        row += len(decision.events) + (decision.action is not None)
    return state


def settled(state: Aggregate, message: LedgerMessage, seq: int) -> Aggregate:
    """Return a state on which a message was decided, now that it is stored at `seq`: its receipts have their positions.

    Equal to the fold of the message on the state before (a test holds it to that), and much cheaper.
    """
    row = 0
    for decision in message.decisions:
        if decision.action is not None:
            receipt = state.actions.get(decision.action.id)
            if receipt is not None:
                state = replace(state, actions=state.actions.insert(receipt.action, replace(receipt, position=str(Position(seq, row)))))
            row += 1
        row += len(decision.events)
    return state


def replay(project: str, messages: Iterable[tuple[int, LedgerMessage]]) -> Aggregate:
    """Return the state after all messages of a subject, given as (sequence, message) in order."""
    state = Aggregate(project)
    for seq, message in messages:
        state = fold(state, message, seq)
    return state
