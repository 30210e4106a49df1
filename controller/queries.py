"""Queries about the state, answered from the fold: what is live from memory, what has ended from the index.

Reads only; every answer carries the ledger position it is true for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import msgspec

from bus import host
from bus.bootstrap import Sync
from bus.connection import ApiFailure, Bus
from bus.errors import Unavailable
from bus.reader import stream_state
from bus.request import QueryFailed, QueryHandler
from bus_schemas import codec, ids, subjects, views
from bus_schemas.decisions import Position, Receipt
from bus_schemas.entities import Flag
from bus_schemas.reasons import Reason
from controller import projections
from controller.freshness import until_folded
from controller.idempotency import Known
from controller.ledger import Ledger
from controller.orchestration import Orchestration
from controller.presence import Presence
from controller.project import Aggregate
from controller.shelf import Filter
from controller.shelf_codec import microseconds

T = TypeVar("T")
Place = tuple[int, Any]
"""Where a thing stands in a list, newest first: the moment in microseconds, and what orders those of the same one."""

LIMIT_DEFAULT, LIMIT_MAX = 100, 1000
PAGE_BYTES_MAX = 700 * 1024
"""Of the runs in one answer, which may be less than `limit`: an answer is one message of the bus."""
VERSION = "1.0.0"


class Queries:
    """The answers of the active controller."""

    def __init__(self, ledger: Ledger, presence: Presence, owner: str, sync: Sync, bus: Bus) -> None:
        """Answer from `ledger` and `presence`."""
        self._ledger, self._presence, self._owner, self._sync, self._bus = ledger, presence, owner, sync, bus
        self.active_since = host.now()

    def handlers(self) -> dict[str, QueryHandler]:
        """Return every query with its handler."""
        answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "projects": self._projects,
            "project": self._project,
            "designs": self._designs,
            "design": self._design,
            "tickets": self._tickets,
            "ticket": self._ticket,
            "orchestrations": self._orchestrations,
            "orchestration": self._orchestration,
            "runs": self._runs,
            "gates": self._gates,
            "gate": self._gate,
            "actions": self._actions,
            "action": self._action,
            "nodes": self._nodes,
            "node": self._node,
            "flags": self._flags,
        }
        handlers = {name: self._waiting(answer) for name, answer in answers.items()}
        handlers["status"] = self._status
        return handlers

    def _waiting(self, answer: Callable[[dict[str, Any]], Any]) -> QueryHandler:
        async def handler(params: dict[str, Any]) -> Any:
            await until_folded(self._ledger, params.get("min_seq"))
            try:
                found = answer(params)
            except ids.BadId as error:
                raise QueryFailed(Reason.INVALID_PAYLOAD, str(error)) from error
            if isinstance(found, dict):
                return {"position": self._position, **found}
            return {"position": self._position, **msgspec.to_builtins(found, builtin_types=(datetime,))}

        return handler

    @property
    def _position(self) -> str:
        return str(Position(self._ledger.position_seq, 0))

    # ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _text(self, params: dict[str, Any], name: str) -> str:
        value = params.get(name)
        if not isinstance(value, str):
            raise QueryFailed(Reason.MISSING_FIELD, f"{name} is missing")
        return value

    def _states(self, params: dict[str, Any]) -> list[Aggregate]:
        project = params.get("project")
        if project is None:
            return [self._ledger.states[name] for name in sorted(self._ledger.states)]
        name = ids.project_id(project)
        if name != ids.PLANE and self._ledger.plane.projects.get(name) is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no project {name}")
        return [self._ledger.state(name)]

    def _find(self, params: dict[str, Any]) -> Orchestration:
        name = "id" if "id" in params else "orchestration"
        orchestration = ids.orchestration_id(self._text(params, name))
        o = self._ledger.orchestration(orchestration)
        if o is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no orchestration {orchestration}")
        return o

    def _place(self, at: datetime, id_: str) -> Place:
        index = self._ledger.index
        return microseconds(at), projections.number(id_) if index is None else index.shelf.rank(id_)

    def _place_of_orchestration(self, o: Orchestration) -> Place:
        return self._place(o.created_at, o.id)

    def _place_of_receipt(self, receipt: Receipt) -> Place:
        return self._place(receipt.received_at, receipt.action)

    @staticmethod
    def _limit(params: dict[str, Any]) -> int:
        return min(LIMIT_MAX, max(1, int(params.get("limit") or LIMIT_DEFAULT)))

    @staticmethod
    def _newest(live: Iterable[T], ended: Iterator[T] | None, place: Callable[[T], Place], after: Place | None, count: int) -> list[T]:
        """Return the newest things behind `after`: those in memory, and those in the index, which come in this order already."""
        found = heapq.nlargest(count, (thing for thing in live if after is None or place(thing) < after), key=place)
        if ended is None:
            return found
        return list(islice(heapq.merge(found, islice(ended, count), key=place, reverse=True), count))

    @staticmethod
    def _nearest(live: Iterable[T], ended: Iterator[T] | None, place: Callable[[T], Place], before: Place, count: int) -> list[T]:
        """Return the oldest things ahead of `before`, oldest first: those in memory, and those in the index, which come in this order already."""
        found = heapq.nsmallest(count, (thing for thing in live if place(thing) > before), key=place)
        if ended is None:
            return found
        return list(islice(heapq.merge(found, islice(ended, count), key=place), count))

    @staticmethod
    def _page(items: Iterable[Any], params: dict[str, Any], key: Callable[[Any], str]) -> dict[str, Any]:
        """Return one page of items, newest first; `after` is the id that the page before ended with."""
        limit = Queries._limit(params)
        found = list(items)
        after = params.get("after")
        if after is not None:
            place = next((index for index, item in enumerate(found) if key(item) == after), None)
            found = found[place + 1 :] if place is not None else []
        page = found[:limit]
        return {"items": page, "next": key(page[-1]) if len(found) > limit else None}

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _projects(self, params: dict[str, Any]) -> Any:
        plane = self._ledger.plane
        views_ = [projections.project(plane.projects[name], self._ledger.state(name)) for name in sorted(plane.projects)]
        return {"items": views_, "next": None}

    def _project(self, params: dict[str, Any]) -> Any:
        name = ids.project_id(self._text(params, "id"))
        project = self._ledger.plane.projects.get(name)
        if project is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no project {name}")
        return projections.project(project, self._ledger.state(name))

    def _designs(self, params: dict[str, Any]) -> Any:
        found = [design for state in self._states(params) for design in state.designs.values()]
        found.sort(key=lambda design: projections.number(design.id))
        page = self._page(found, params, lambda design: design.id)
        return {**page, "items": [projections.design(design) for design in page["items"]]}

    def _design(self, params: dict[str, Any]) -> Any:
        design_id = ids.design_id(self._text(params, "id"))
        state = self._ledger.state(ids.project_of(design_id))
        design = state.designs.get(design_id)
        if design is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no design {design_id}")
        return projections.design(design, body=True, comments=state.comments.get(design_id, ()))

    def _tickets(self, params: dict[str, Any]) -> Any:
        wanted = params.get("design")
        found = [t for state in self._states(params) for t in state.tickets.values() if wanted is None or t.design == wanted]
        found.sort(key=lambda ticket: projections.number(ticket.id))
        page = self._page(found, params, lambda ticket: ticket.id)
        return {**page, "items": [projections.ticket(ticket) for ticket in page["items"]]}

    def _ticket(self, params: dict[str, Any]) -> Any:
        ticket_id = ids.ticket_id(self._text(params, "id"))
        state = self._ledger.state(ids.project_of(ticket_id))
        ticket = state.tickets.get(ticket_id)
        if ticket is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no ticket {ticket_id}")
        return projections.ticket(ticket, body=True, comments=state.comments.get(ticket_id, ()))

    def _orchestrations(self, params: dict[str, Any]) -> Any:
        wanted, states, limit = params.get("status"), self._states(params), self._limit(params)
        after = None
        if params.get("after") is not None:
            last = self._ledger.orchestration(ids.orchestration_id(params["after"]))
            if last is None:
                return {"items": [], "next": None}
            after = self._place_of_orchestration(last)
        live = (o for state in states for o in state.orchestrations.values() if wanted is None or o.status == wanted)
        found = self._newest(live, self._ended_orchestrations(params, after), self._place_of_orchestration, after, limit + 1)
        position = self._position
        items = [projections.orchestration(o, position) for o in found[:limit]]
        return {"items": items, "next": items[-1].id if len(found) > limit else None}

    def _ended_orchestrations(self, params: dict[str, Any], after: Place | None) -> Iterator[Orchestration] | None:
        index = self._ledger.index
        if index is None:
            return None
        stored = index.shelf.orchestrations(Filter(params.get("project"), params.get("status")), after)
        return (o for o in stored if o.id not in self._ledger.state(o.project).orchestrations)

    def _orchestration(self, params: dict[str, Any]) -> Any:
        o = self._find(params)
        return projections.orchestration(o, self._position, whole=True)

    def _runs(self, params: dict[str, Any]) -> Any:
        o, after = self._find(params), params.get("after")
        first = 0
        if after is not None:
            place = o.place_of(ids.run_id(after))
            first = len(o.runs) if place is None else place + 1
        limit = self._limit({"limit": params.get("limit") or LIMIT_MAX})
        items: list[views.RunView] = []
        size_bytes = 0
        for run in o.runs[first : first + limit]:
            view = projections.run(run)
            size_bytes += len(codec.encode(view))
            if items and size_bytes > PAGE_BYTES_MAX:
                break
            items.append(view)
        return {"items": items, "next": items[-1].run if first + len(items) < len(o.runs) else None}

    def _gates(self, params: dict[str, Any]) -> Any:
        found = [o for state in self._states(params) for o in state.orchestrations.values() if o.gate is not None and o.is_live]
        gates = [view for o in found if (view := projections.gate(o)) is not None]
        return {"items": sorted(gates, key=lambda view: view.since), "next": None}

    def _gate(self, params: dict[str, Any]) -> Any:
        o = self._find(params)
        view = projections.gate(o)
        if view is None:
            raise QueryFailed(Reason.INVALID_STATE, f"{o.id} is {o.status} and waits at no gate")
        return view

    def _actions(self, params: dict[str, Any]) -> Any:
        wanted, status, since = params.get("orchestration"), params.get("status"), params.get("since")
        if wanted is not None:
            params = {**params, "project": ids.project_of(ids.orchestration_id(wanted))}
        wanted_of = Filter(params.get("project"), status, wanted, None if since is None else msgspec.convert(since, datetime))
        states, limit = self._states(params), self._limit(params)
        live = (receipt for state in states for receipt in state.actions.values() if _fits(receipt, wanted_of))
        if params.get("before") is not None:
            return self._actions_before(params["before"], live, wanted_of, limit)
        after = None
        if params.get("after") is not None:
            after = self._place_of_action(params["after"])
            if after is None:
                return {"items": [], "next": None, "previous": None}
        found = self._newest(live, self._ended_receipts(wanted_of, after), self._place_of_receipt, after, limit + 1)
        items = found[:limit]
        previous = items[0].action if items and after is not None else None
        return {"items": items, "next": items[-1].action if len(found) > limit else None, "previous": previous}

    def _actions_before(self, action: Any, live: Iterable[Receipt], wanted: Filter, limit: int) -> Any:
        """Return the page of actions that ends right ahead of `action`, newest first; there is one after it: that of `action`."""
        before = self._place_of_action(action)
        if before is None:
            return {"items": [], "next": None, "previous": None}
        ended = self._ended_receipts(wanted, before, newer=True)
        found = self._nearest(live, ended, self._place_of_receipt, before, limit + 1)
        items = found[:limit][::-1]
        return {"items": items, "next": items[-1].action if items else None, "previous": items[0].action if len(found) > limit else None}

    def _place_of_action(self, action: Any) -> Place | None:
        found = self._ledger.receipt(ids.action_id(action))
        return None if found is None else self._place_of_receipt(found[0])

    def _ended_receipts(self, wanted: Filter, place: Place | None, *, newer: bool = False) -> Iterator[Receipt] | None:
        index = self._ledger.index
        if index is None:
            return None
        stored = index.shelf.receipts(wanted, place, newer=newer)
        return (receipt for receipt in stored if receipt.action not in self._ledger.state(ids.project_of(receipt.action)).actions)

    def _action(self, params: dict[str, Any]) -> Any:
        if "id" in params:
            action = ids.action_id(self._text(params, "id"))
            found = self._ledger.receipt(action)
        else:
            known: Known | None = self._ledger.keys.find(self._text(params, "project"), self._text(params, "key"))
            action = ids.ActionId("") if known is None else ids.ActionId(known.action)
            found = None if known is None else self._ledger.receipt(known.action)
        if found is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no action {action or 'with this key'}")
        # `position` of an action is where its decision stands
        return {**msgspec.to_builtins(found[0], builtin_types=(datetime,))}

    def _nodes(self, params: dict[str, Any]) -> Any:
        return {"items": [self._node_view(name) for name in sorted(self._ledger.plane.nodes)], "next": None}

    def _node(self, params: dict[str, Any]) -> Any:
        name = ids.node_id(self._text(params, "id"))
        if self._ledger.plane.nodes.get(name) is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no node {name}")
        return self._node_view(name)

    def _node_view(self, name: str) -> views.NodeView:
        beat = self._presence.beats.get(name)
        online = name in self._presence.online()
        return projections.node(self._ledger.plane.nodes[name], beat, online, self._presence.seen_at.get(name))

    def _flags(self, params: dict[str, Any]) -> Any:
        flags = self._ledger.plane.flags
        return {"items": [views.FlagView(flag.value, flags.get(flag.value, False)) for flag in Flag], "next": None}

    async def _status(self, params: dict[str, Any]) -> Any:
        try:
            dead_letters = (await stream_state(self._bus, subjects.DLQ)).messages
        except (Unavailable, ApiFailure):
            dead_letters = -1
        states = self._ledger.states.values()
        return views.StatusView(
            owner=self._owner,
            active_since=self.active_since,
            sync=self._sync.value,
            version=VERSION,
            position=self._position,
            projects=len(self._ledger.plane.projects),
            orchestrations=sum(state.orchestration_count for state in states),
            live=sum(len(state.live_slugs) for state in states),
            nodes_online=len(self._presence.online()),
            dead_letters=dead_letters,
            stopped_projects=dict(self._ledger.stopped),
        )


def _fits(receipt: Receipt, wanted: Filter) -> bool:
    return (
        (wanted.orchestration is None or receipt.orchestration == wanted.orchestration)
        and (wanted.status is None or receipt.status == wanted.status)
        and (wanted.since is None or receipt.received_at >= wanted.since)
    )
