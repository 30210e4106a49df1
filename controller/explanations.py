"""Queries that explain: why something does not move, a policy by revision, the past, what a run was asked, what a drain would do.

Reads only, beside `queries`; every answer carries the ledger position it is true for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import anyio
import msgspec

from bus import host
from bus.connection import Bus
from bus.errors import Unavailable
from bus.request import QueryFailed, QueryHandler
from bus_schemas import ids, views
from bus_schemas.codec import Malformed
from bus_schemas.decisions import Position
from bus_schemas.events import RunStatus
from bus_schemas.policy import policy_hash
from bus_schemas.reasons import Reason
from controller import past, placement, projections
from controller.dispatch import Dispatcher
from controller.freshness import until_folded
from controller.ledger import Ledger
from controller.orchestration import Orchestration
from controller.presence import Presence
from controller.why import Surroundings, why
from controller.work_orders import order_of

Folded = TypeVar("Folded")


class Explanations:
    """The explaining answers of the active controller."""

    def __init__(self, bus: Bus, ledger: Ledger, presence: Presence, dispatcher: Dispatcher) -> None:
        """Answer from the state, from presence, and from the ledger for the past."""
        self._bus, self._ledger, self._presence, self._dispatcher = bus, ledger, presence, dispatcher
        self._one_past = anyio.Lock()

    def handlers(self) -> dict[str, QueryHandler]:
        """Return every query with its handler."""
        return {
            name: self._answering(answer)
            for name, answer in {
                "why": self._why,
                "policy": self._policy,
                "past": self._past,
                "order": self._order,
                "placement": self._placement,
            }.items()
        }

    def _answering(self, answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> QueryHandler:
        async def handler(params: dict[str, Any]) -> Any:
            await until_folded(self._ledger, params.get("min_seq"))
            try:
                return await answer(params)
            except ids.BadId as error:
                raise QueryFailed(Reason.INVALID_PAYLOAD, str(error)) from error

        return handler

    def _position(self) -> str:
        return str(Position(self._ledger.position_seq, 0))

    def _find(self, params: dict[str, Any], field: str) -> Orchestration:
        name = params.get(field)
        if not isinstance(name, str):
            raise QueryFailed(Reason.MISSING_FIELD, f"{field} is missing")
        o = self._ledger.orchestration(ids.orchestration_id(name))
        if o is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no orchestration {name}")
        return o

    async def _why(self, params: dict[str, Any]) -> dict[str, Any]:
        o = self._find(params, "id")
        around = Surroundings(
            nodes=dict(self._ledger.plane.nodes.items()),
            online=self._presence.online(),
            ahead=self._dispatcher.places(o),
            load=self._dispatcher.load,
        )
        return {"position": self._position(), **_built(why(o, around))}

    async def _policy(self, params: dict[str, Any]) -> dict[str, Any]:
        o = self._find(params, "orchestration")
        revision = params.get("revision") or o.policy_revision
        changes = {change.revision: change for change in o.policy_changes}
        if revision == 1:
            found = views.PolicyView(o.id, 1, o.policy_revision, o.policy_hash, o.policy, o.created_at, o.action, ())
        elif revision in changes:
            known = changes[revision]
            found = views.PolicyView(
                o.id, known.revision, o.policy_revision, policy_hash(known.policy), known.policy, known.at, known.action, known.changed
            )
        else:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"the policy of {o.id} has the revisions 1 to {o.policy_revision}, not {revision}")
        return {"position": self._position(), **_built(found)}

    async def _past(self, params: dict[str, Any]) -> dict[str, Any]:
        name = ids.orchestration_id(self._find(params, "id").id)
        try:
            at = Position.parse(str(params.get("at")))
        except ValueError as error:
            raise QueryFailed(Reason.INVALID_PAYLOAD, str(error)) from error
        found = await self._folded(past.orchestration_at(self._bus, name, at, self._ledger.head(ids.project_of(name)).seq))
        if found is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"{name} was not launched yet at {at}")
        o, as_of = found
        return {**_built(projections.orchestration(o, str(at), whole=True)), "as_of": as_of}

    async def _folded(self, fold: Awaitable[Folded]) -> Folded:
        """Return what was folded from the ledger; one at a time, since it is work for the processor."""
        try:
            async with self._one_past:
                return await fold
        except (past.TooLong, Unavailable, Malformed) as error:
            raise QueryFailed(Reason.INTERNAL, str(error)) from error

    async def _order(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params.get("run")
        if not isinstance(name, str):
            raise QueryFailed(Reason.MISSING_FIELD, "run is missing")
        run_id = ids.run_id(name)
        slug = ids.project_of(run_id)
        o = self._ledger.orchestration(ids.orchestration_of(run_id))
        run = None if o is None else o.run(run_id)
        project = self._ledger.plane.projects.get(slug)
        if o is None or run is None or project is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no run {run_id}")
        state = self._ledger.state(slug)
        if not run.is_open:  # its orchestration went on since: the issues are answered, the plan is another
            then = await self._folded(past.when_ordered(self._bus, run_id, run.attempt, self._ledger.head(slug).seq))
            assert then is not None, f"{run_id}.{run.attempt} was never ordered"
            state, o = then, then.orchestrations[o.id]
            run = o.run(run_id) or run
        order = _built(order_of(state, project, o, run, run.queued_at or host.now()))
        # the nonce is what a report is believed by: it is for the node alone
        return {"position": self._position(), **{key: value for key, value in order.items() if key != "nonce"}}

    async def _placement(self, params: dict[str, Any]) -> dict[str, Any]:
        name = ids.node_id(str(params.get("node")))
        if self._ledger.plane.nodes.get(name) is None:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no node {name}")
        here = [o for state in self._ledger.states.values() for o in state.orchestrations.values() if o.is_live and o.node == name]
        items = [self._placed(o) for o in sorted(here, key=lambda o: projections.number(o.id))]
        return {"position": self._position(), "items": [_built(item) for item in items], "next": None}

    def _placed(self, o: Orchestration) -> views.PlacementView:
        online = self._presence.online()
        nodes = [node for node in self._ledger.plane.nodes.values() if node.id in online]
        target = placement.elsewhere(o, nodes, self._dispatcher.load)
        shown = o.shown_hold()
        open_runs = [(run.status is RunStatus.STARTED, f"{run.id}.{run.attempt}") for run in o.open_runs()]
        return views.PlacementView(
            orchestration=o.id,
            status=o.status.value,
            hold=None if shown is None else shown.kind.value,
            running=tuple(name for started, name in open_runs if started),
            waiting=tuple(name for started, name in open_runs if not started),
            target=None if target is None else target.id,
        )


def _built(value: Any) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(value, builtin_types=(datetime,))
    return built
