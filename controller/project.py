"""The aggregate: everything one ledger subject knows, and how each event changes it. Pure.

`evolve` is total: a stored event is never refused, and one that names what is not there changes nothing. `replay` is the
fold of it. The same aggregate serves a project and `plane`, which uses the registry, the nodes and the flags.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

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
    state = replace(state, at=decision.at)
    cause, action = decision.cause, decision.action
    if action is None or not isinstance(cause, CommandCause):
        return state
    return replace(
        state,
        actions=state.actions.insert(action.id, receipt_of(decision, cause, action, position)),
        commands=state.commands.insert(action.id, cause.id),
        action_count=state.action_count + 1,
    )


def evolve(state: Aggregate, event: e.Event, at: datetime, because: str | None, by: str | None) -> Aggregate:
    """Return the state after an event of a decision made at `at`, led to by action `because` of principal `by`."""
    match event:
        case e.ActionCompleted():
            return _end_action(state, event.action, at, ActionStatus.COMPLETED, None, "")
        case e.ActionFailed():
            return _end_action(state, event.action, at, ActionStatus.FAILED, event.reason_code, event.message)
        case e.OrchestrationLaunched():
            return _launched(state, event, at, because or "", by or "")
        case e.FlagChanged():
            changes = state.flag_changes if because is None else state.flag_changes.insert(event.flag, FlagChange(because, event.previous))
            return replace(state, flags=state.flags.insert(event.flag, event.on), flag_changes=changes)
        case e.HeadsRecorded():
            return replace(state, heads=state.heads.update({head.project: head for head in event.heads}))
        case e.NodeRegistered():
            return replace(state, nodes=state.nodes.insert(event.node.id, event.node))
        case e.NodeCordonChanged():
            node = state.nodes.get(event.node)
            return (
                state
                if node is None
                else replace(state, nodes=state.nodes.insert(node.id, replace(node, cordoned=event.cordoned, draining=event.draining)))
            )
        case e.ProjectAdded() | e.ProjectEdited():
            return replace(state, projects=state.projects.insert(event.project.id, event.project))
        case e.DesignAdded() | e.DesignEdited() | e.DesignMarked() | e.DesignMoved():
            return _design(state, event, at)
        case e.TicketAdded() | e.TicketEdited() | e.TicketMoved():
            return _ticket(state, event, at)
        case e.CommentAdded():
            target = event.comment.target
            return replace(state, comments=state.comments.insert(target, (*state.comments.get(target, ()), event.comment)))
        case _:
            return _orchestration(state, event, at, because)


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


def _launched(state: Aggregate, event: e.OrchestrationLaunched, at: datetime, action: str, by: str) -> Aggregate:
    orchestration = evolution.launched(event, state.designs.get(event.design), at, action, by, state.project)
    return replace(
        state,
        orchestration_count=state.orchestration_count + 1,
        orchestrations=state.orchestrations.insert(orchestration.id, orchestration),
        live_slugs=state.live_slugs.insert(orchestration.slug, orchestration.id),
    )


def _design(state: Aggregate, event: e.DesignAdded | e.DesignEdited | e.DesignMarked | e.DesignMoved, at: datetime) -> Aggregate:
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


def _ticket(state: Aggregate, event: e.TicketAdded | e.TicketEdited | e.TicketMoved, at: datetime) -> Aggregate:
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


def _orchestration(state: Aggregate, event: evolution.OrchestrationEvent, at: datetime, because: str | None) -> Aggregate:
    known = state.orchestrations.get(event.orchestration)
    if known is None:
        return state
    changed = evolution.evolve(known, event, at, because)
    state = replace(state, orchestrations=state.orchestrations.insert(known.id, changed))
    if known.is_live and not changed.is_live and state.live_slugs.get(known.slug) == known.id:
        state = replace(state, live_slugs=state.live_slugs.remove(known.slug))
    return state


def fold_decision(state: Aggregate, decision: Decision, position: Position | None) -> Aggregate:
    """Return the state after a whole decision."""
    state = evolve_action(state, decision, position)
    by = decision.cause.by if isinstance(decision.cause, CommandCause) else None
    because = decision.action.id if decision.action is not None else decision.because
    for event in decision.events:
        state = evolve(state, event, decision.at, because, by)
    return state


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
