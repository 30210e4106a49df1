"""What a stretch of the ledger touched of an aggregate, and an aggregate without what has ended, or with it again. Pure.

An ended thing is dropped only where the aggregate holds the value that was stored: another one is newer and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from msgspec.structs import replace

from bus_schemas import events as e
from bus_schemas.decisions import ActionStatus, LedgerMessage, Receipt
from controller.orchestration import Orchestration
from controller.project import Aggregate

ORCHESTRATIONS, ACTIONS = "orchestrations", "actions"

Ids = Callable[[Any], tuple[str, ...]]


def _at(path: str) -> Ids:
    id_of = attrgetter(path)
    return lambda event: (id_of(event),)


_TOUCHES: dict[type, tuple[tuple[str, Ids], ...]] = {
    e.FlagChanged: (("flags", _at("flag")), ("flag_changes", _at("flag"))),
    e.HeadsRecorded: (("heads", lambda event: tuple(head.project for head in event.heads)),),
    e.NodeRegistered: (("nodes", _at("node.id")),),
    e.NodeCordonChanged: (("nodes", _at("node")),),
    e.ProjectAdded: (("projects", _at("project.id")),),
    e.ProjectEdited: (("projects", _at("project.id")),),
    e.DesignAdded: (("designs", _at("design.id")),),
    e.DesignEdited: (("designs", _at("design")),),
    e.DesignMarked: (("designs", _at("design")),),
    e.DesignMoved: (("designs", _at("design")),),
    e.TicketAdded: (("tickets", _at("ticket.id")),),
    e.TicketEdited: (("tickets", _at("ticket")),),
    e.TicketMoved: (("tickets", _at("ticket")),),
    e.CommentAdded: (("comments", _at("comment.target")),),
    e.ActionCompleted: ((ACTIONS, _at("action")),),
    e.ActionFailed: ((ACTIONS, _at("action")),),
}
"""Which things an event changes; every other event is about an orchestration alone."""

Touched = dict[str, dict[str, None]]
"""Ids by kind, each once, in the order in which they were touched first."""


class Ended(NamedTuple):
    """Ended things of one project, as they were stored."""

    orchestrations: dict[str, Orchestration]
    receipts: dict[str, Receipt]


def touched_by(messages: Iterable[LedgerMessage], states: Mapping[str, Aggregate]) -> dict[str, Touched]:
    """Return for each project what its messages touched; `states` are those after the messages."""
    found: dict[str, Touched] = {}
    for message in messages:
        touched = found.setdefault(message.project, {})
        for decision in message.decisions:
            if decision.action is not None:
                touched.setdefault(ACTIONS, {})[decision.action.id] = None
            for event in decision.events:
                _touch(touched, event)
    for project, touched in found.items():
        _with_orchestrations_of_actions(touched, states[project])
    return found


def _touch(touched: Touched, event: Any) -> None:
    kinds = _TOUCHES.get(type(event))
    if kinds is None:
        touched.setdefault(ORCHESTRATIONS, {})[event.orchestration] = None
        return
    for kind, ids_of in kinds:
        for name in ids_of(event):
            touched.setdefault(kind, {})[name] = None


def _with_orchestrations_of_actions(touched: Touched, state: Aggregate) -> None:
    """An action that ends is taken off the open ones of its orchestration."""
    for action in touched.get(ACTIONS, ()):
        receipt = state.actions.get(action)
        if receipt is not None and receipt.orchestration is not None and receipt.orchestration in state.orchestrations:
            touched.setdefault(ORCHESTRATIONS, {})[receipt.orchestration] = None


def is_over(o: Orchestration) -> bool:
    """Return whether nothing of an orchestration is open any more, so that nothing will be decided on it."""
    return not o.is_live and not o.open_actions and not o.open_runs()


def is_answered(receipt: Receipt) -> bool:
    """Return whether the outcome of an action stands."""
    return receipt.status is not ActionStatus.ACCEPTED


def forgetting(state: Aggregate, ended: Ended) -> Aggregate:
    """Return the state without what has ended and is stored, as far as it is still the same."""
    orchestrations, actions, commands = state.orchestrations, state.actions, state.commands
    for name, o in ended.orchestrations.items():
        if _same(orchestrations.get(name), o):
            orchestrations = orchestrations.remove(name)
    for name, receipt in ended.receipts.items():
        if _same(actions.get(name), receipt):
            actions = actions.remove(name)
            commands = commands.discard(name)
    if orchestrations is state.orchestrations and actions is state.actions:
        return state
    return replace(state, orchestrations=orchestrations, actions=actions, commands=commands)


def _same(found: object, stored: object) -> bool:
    # equal, not only identical: an overlay and the ledger each give a receipt its position
    return found is stored or found == stored


def remembering(state: Aggregate, o: Orchestration) -> Aggregate:
    """Return the state with an orchestration that was dropped from it."""
    return replace(state, orchestrations=state.orchestrations.insert(o.id, o))


def remembering_action(state: Aggregate, receipt: Receipt, command: str) -> Aggregate:
    """Return the state with a receipt that was dropped from it."""
    return replace(state, actions=state.actions.insert(receipt.action, receipt), commands=state.commands.insert(receipt.action, command))


def named_in(state: Aggregate, message: LedgerMessage) -> tuple[set[str], set[str]]:
    """Return the orchestrations and the actions that a message is about and the state does not have: new ones, or dropped ones."""
    orchestrations: set[str] = set()
    actions: set[str] = set()
    made: set[str] = set()
    for decision in message.decisions:
        if decision.action is not None:
            made.add(decision.action.id)
        for event in decision.events:
            _name(event, type(event), state, made, orchestrations, actions)
    return orchestrations - made, actions - made


def _name(event: Any, kind: type, state: Aggregate, made: set[str], orchestrations: set[str], actions: set[str]) -> None:
    if kind is e.OrchestrationLaunched:
        made.add(event.orchestration)
    elif kind is e.ActionCompleted or kind is e.ActionFailed:
        if event.action not in state.actions:
            actions.add(event.action)
    elif kind not in _TOUCHES and event.orchestration not in state.orchestrations:
        orchestrations.add(event.orchestration)
