"""The catalogue: projects, designs, tickets, comments, and the flags and cordons of `plane`. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas import ids
from bus_schemas.decisions import Action, ActionStatus
from bus_schemas.design import MARKERS, phases
from bus_schemas.entities import BODY_BYTES_MAX, DESIGN_MOVES, TICKET_MOVES, Comment, Complexity, Design, Flag, Project, Ticket
from bus_schemas.ids import PLANE, shown
from bus_schemas.reasons import Reason
from controller.draft import Draft, Refused

CatalogueCommand = (
    c.ProjectAdd
    | c.ProjectEdit
    | c.DesignAdd
    | c.DesignEdit
    | c.DesignMark
    | c.DesignMove
    | c.TicketAdd
    | c.TicketEdit
    | c.TicketMove
    | c.CommentAdd
    | c.NodeCordon
    | c.NodeUncordon
    | c.NodeDrain
    | c.FlagSet
    | c.FlagRollback
)


def decide_catalogue(draft: Draft, command: CatalogueCommand) -> Action:
    """Apply a catalogue command; it is completed at once. Raises Refused."""
    about = _decide(draft, command)
    draft.emit(e.ActionCompleted(draft.action_id))
    return about


def _decide(draft: Draft, command: CatalogueCommand) -> Action:
    match command:
        case c.ProjectAdd() | c.ProjectEdit():
            return _project(draft, command)
        case c.DesignAdd():
            return _add_design(draft, command)
        case c.DesignEdit() | c.DesignMark() | c.DesignMove():
            return _change_design(draft, command)
        case c.TicketAdd():
            return _add_ticket(draft, command)
        case c.TicketEdit() | c.TicketMove():
            return _change_ticket(draft, command)
        case c.CommentAdd():
            return _comment(draft, command)
        case c.NodeCordon() | c.NodeUncordon() | c.NodeDrain():
            return _cordon(draft, command)
        case c.FlagSet():
            return _flag(draft, command)
        case c.FlagRollback():
            return _roll_flag_back(draft, command)


def _action(draft: Draft, *, design: str | None = None, ticket: str | None = None, node: str | None = None, revision: int | None = None) -> Action:
    return Action(id=draft.action_id, status=ActionStatus.ACCEPTED, design=design, ticket=ticket, node=node, revision=revision)


def _nothing(what: str) -> Refused:
    return Refused(Reason.MISSING_FIELD, f"nothing to change was named: {what}")


def _project(draft: Draft, command: c.ProjectAdd | c.ProjectEdit) -> Action:
    known = draft.state.projects.get(command.project)
    if isinstance(command, c.ProjectAdd):
        slug = ids.project_id(command.project)
        if slug == PLANE:
            raise Refused(Reason.INVALID_PAYLOAD, f"project {PLANE} is reserved; choose another name")
        if known is not None:
            raise Refused(Reason.INVALID_STATE, f"project {slug} exists already (repo {known.repo})")
        project = Project(slug, command.name or slug, command.repo, command.default_branch, command.check or None, draft.at)
        draft.emit(e.ProjectAdded(project))
        return _action(draft)
    if known is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no project {command.project}")
    if command.name is command.repo is command.default_branch is command.check is None:
        raise _nothing("name, repo, default_branch, check")
    changed = replace(
        known,
        name=known.name if command.name is None else command.name,
        repo=known.repo if command.repo is None else command.repo,
        default_branch=known.default_branch if command.default_branch is None else command.default_branch,
        check=known.check if command.check is None else command.check or None,
    )
    draft.emit(e.ProjectEdited(changed))
    return _action(draft)


def _markers(complexity: Complexity, markers: tuple[str, ...]) -> tuple[str, ...]:
    allowed = MARKERS[Complexity.COMPLEX]
    wrong = [shown(marker) for marker in markers if marker not in allowed]
    if wrong:
        raise Refused(Reason.INVALID_PAYLOAD, f"no marker is called {', '.join(wrong)}; {complexity} needs {', '.join(MARKERS[complexity])}")
    return tuple(dict.fromkeys(markers))


def _body(body: str) -> int:
    """Return the number of phases of a body. Raises Refused where it is too large."""
    size_bytes = len(body.encode())
    if size_bytes > BODY_BYTES_MAX:
        raise Refused(Reason.TOO_LARGE, f"the body has {size_bytes} bytes; at most {BODY_BYTES_MAX}")
    return len(phases(body))


def _add_design(draft: Draft, command: c.DesignAdd) -> Action:
    design = Design(
        id=ids.DesignId(f"{draft.state.project}-d{draft.state.design_count + 1}"),
        project=ids.ProjectId(draft.state.project),
        title=command.title,
        body=command.body,
        complexity=command.complexity,
        completed_markers=_markers(command.complexity, command.markers),
        phase_count=_body(command.body),
    )
    draft.emit(e.DesignAdded(design))
    return _action(draft, design=design.id, revision=1)


def _change_design(draft: Draft, command: c.DesignEdit | c.DesignMark | c.DesignMove) -> Action:
    known = draft.state.designs.get(command.design)
    if known is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no design {command.design}")
    revision = known.revision + 1
    match command:
        case c.DesignEdit():
            if command.title is command.body is command.complexity is None:
                raise _nothing("title, body, complexity")
            count = None if command.body is None else _body(command.body)
            draft.emit(e.DesignEdited(known.id, revision, command.title, command.body, command.complexity, count))
        case c.DesignMark():
            _markers(known.complexity, (command.marker,))
            draft.emit(e.DesignMarked(known.id, command.marker, command.completed, revision))
        case c.DesignMove():
            allowed = DESIGN_MOVES[known.status]
            if command.status not in allowed:
                raise Refused(Reason.INVALID_STATE, f"{known.id} cannot move from {known.status} to {command.status}; allowed: {', '.join(allowed)}")
            draft.emit(e.DesignMoved(known.id, command.status, known.status, revision))
    return _action(draft, design=known.id, revision=revision)


def _design_named(draft: Draft, design: str | None) -> ids.DesignId | None:
    if not design:
        return None
    if draft.state.designs.get(design) is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no design {shown(design)} in project {draft.state.project}")
    return ids.DesignId(design)


def _add_ticket(draft: Draft, command: c.TicketAdd) -> Action:
    ticket = Ticket(
        id=ids.TicketId(f"{draft.state.project}-t{draft.state.ticket_count + 1}"),
        project=ids.ProjectId(draft.state.project),
        title=command.title,
        body=command.body,
        design=_design_named(draft, command.design),
        priority=command.priority,
    )
    draft.emit(e.TicketAdded(ticket))
    return _action(draft, ticket=ticket.id)


def _change_ticket(draft: Draft, command: c.TicketEdit | c.TicketMove) -> Action:
    known = draft.state.tickets.get(command.ticket)
    if known is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no ticket {command.ticket}")
    if isinstance(command, c.TicketMove):
        allowed = TICKET_MOVES[known.status]
        if command.status not in allowed:
            raise Refused(Reason.INVALID_STATE, f"{known.id} cannot move from {known.status} to {command.status}; allowed: {', '.join(allowed)}")
        draft.emit(e.TicketMoved(known.id, command.status, known.status))
    else:
        if command.title is command.body is command.design is command.priority is None:
            raise _nothing("title, body, design, priority")
        draft.emit(e.TicketEdited(known.id, command.title, command.body, _design_named(draft, command.design), command.priority))
    return _action(draft, ticket=known.id)


def _comment(draft: Draft, command: c.CommentAdd) -> Action:
    design, ticket = draft.state.designs.get(command.target), draft.state.tickets.get(command.target)
    if design is None and ticket is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no design or ticket {command.target}")
    draft.emit(e.CommentAdded(Comment(command.target, draft.by or "", command.body, draft.at)))
    return _action(draft, design=design.id if design else None, ticket=ticket.id if ticket else None)


def _cordon(draft: Draft, command: c.NodeCordon | c.NodeUncordon | c.NodeDrain) -> Action:
    node = draft.state.nodes.get(command.node)
    if node is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no node {shown(command.node)}; known: {', '.join(sorted(draft.state.nodes)) or 'none'}")
    draining = isinstance(command, c.NodeDrain)
    cordoned = draining or isinstance(command, c.NodeCordon)
    if node.draining if draining else node.cordoned is cordoned:
        raise Refused(Reason.INVALID_STATE, f"node {node.id} is {'already' if cordoned else 'not'} {'being drained' if draining else 'cordoned'}")
    draft.emit(e.NodeCordonChanged(node.id, cordoned, draining))
    return _action(draft, node=node.id)


def _flag(draft: Draft, command: c.FlagSet) -> Action:
    if command.flag not in set(Flag):
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no flag {shown(command.flag)}; allowed: {', '.join(Flag)}")
    previous = draft.state.flags.get(command.flag, False)
    draft.emit(e.FlagChanged(command.flag, command.on, previous))
    return _action(draft)


def _roll_flag_back(draft: Draft, command: c.FlagRollback) -> Action:
    ids.action_id(command.action)
    flag = next((name for name, change in draft.state.flag_changes.items() if change.action == command.action), None)
    if flag is None:
        last = ", ".join(f"{change.action} ({name})" for name, change in sorted(draft.state.flag_changes.items())) or "none"
        raise Refused(Reason.ENTITY_NOT_FOUND, f"action {command.action} is not the last change of a flag; those are {last}")
    current, change = draft.state.flags.get(flag, False), draft.state.flag_changes[flag]
    draft.emit(e.FlagChanged(flag, change.previous, current))
    return _action(draft)
