"""The watch: what the controller notices by itself, second by second, and puts before the decider.

Owns nothing but what it remembers between two looks: which nodes are away, which attempts a node no longer names, which holds end by
themselves. What it says is out of date or said twice changes nothing: the decision looks at the state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import anyio

from bus import host
from bus_schemas import events as e
from bus_schemas.decisions import LedgerMessage
from bus_schemas.events import HoldKind
from bus_schemas.ids import project_of
from bus_schemas.policy import OnNodeLoss
from bus_schemas.reports import Beat
from controller.dispatch import Attempt, Dispatcher
from controller.leases import Back, Disowned, Drained, Due, Duty, Lost
from controller.ledger import Ledger
from controller.orchestration import Orchestration
from controller.presence import Presence

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
MOVE_AGAIN_S = 5.0
"""A lost orchestration for which no node fitted is tried again so often."""
UNNAMED_S = 10.0
"""An attempt that a node's beats do not name for so long is not known to it; one that they name too much is stopped after as long.
Long enough for a claim or an end to come through the bus."""


class Watch:
    """Looks at presence, beats and holds; `put` is told what was noticed, with the project it is for."""

    def __init__(self, ledger: Ledger, presence: Presence, dispatcher: Dispatcher, put: Callable[[str, Duty], None]) -> None:
        """Begin with the holds that stand in the state."""
        self._ledger, self._presence, self._dispatcher, self._put = ledger, presence, dispatcher, put
        self._held: set[str] = set()
        self._lost_said: dict[tuple[str, str], float] = {}
        self._unnamed: dict[Attempt, float] = {}
        self._too_much: dict[Attempt, float] = {}
        for state in list(ledger.states.values()):
            for o in state.orchestrations.values():
                if o.is_live and any(_ends_by_itself(hold.kind) for hold in o.holds):
                    self._held.add(o.id)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await anyio.sleep(LOOK_EVERY_S)

    def observe(self, message: LedgerMessage) -> None:
        """Take in a message that was just folded: which holds it set."""
        for decision in message.decisions:
            for event in decision.events:
                if isinstance(event, e.HoldSet) and _ends_by_itself(event.hold):
                    self._held.add(event.orchestration)

    def look(self) -> None:
        """Notice what is due now."""
        online = self._presence.online()
        now_s = host.monotonic_s()
        for node in self._dispatcher.nodes_at_work():
            if node not in online:
                self._lost(node, now_s)
        for o in list(self._standing()):
            if o.hold(HoldKind.NODE_LOST) is not None and all(run.node in online for run in o.outstanding()):
                self._put(o.project, Back(o.id, o.node))
            if any(hold.until is not None and hold.until <= host.now() for hold in o.holds):
                self._put(o.project, Due(o.id))
        for known in sorted(self._ledger.plane.nodes.values(), key=lambda node: node.id):
            if known.draining:
                for orchestration in self._dispatcher.orchestrations_at(known.id):
                    self._drained(orchestration, known.id, now_s)

    def _standing(self) -> Iterator[Orchestration]:
        """Yield the held orchestrations; forget those that are held no longer."""
        for orchestration in sorted(self._held):
            o = self._ledger.state(project_of(orchestration)).orchestrations.get(orchestration)
            if o is None or not o.is_live or not any(_ends_by_itself(hold.kind) for hold in o.holds):
                self._held.discard(orchestration)
            else:
                yield o

    def _lost(self, node: str, now_s: float) -> None:
        for orchestration in self._dispatcher.orchestrations_at(node):
            o = self._ledger.state(project_of(orchestration)).orchestrations.get(orchestration)
            if o is None:
                continue
            said_s = self._lost_said.get((orchestration, node))
            if o.hold(HoldKind.NODE_LOST) is not None and (o.active_policy.flow.on_node_loss is not OnNodeLoss.MOVE or o.node != node):
                continue
            if said_s is None or now_s - said_s >= MOVE_AGAIN_S:
                self._lost_said[orchestration, node] = now_s
                self._put(o.project, Lost(orchestration, node))

    def _drained(self, orchestration: str, node: str, now_s: float) -> None:
        o = self._ledger.state(project_of(orchestration)).orchestrations.get(orchestration)
        said_s = self._lost_said.get((orchestration, node))
        if o is not None and o.node == node and (said_s is None or now_s - said_s >= MOVE_AGAIN_S):
            self._lost_said[orchestration, node] = now_s
            self._put(o.project, Drained(orchestration, node))

    # ── beats ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_beat(self, beat: Beat) -> None:
        """Compare what a node says it runs with what it has claimed. Twins speak in turn: an attempt is known if one of them names it."""
        now_s = host.monotonic_s()
        named = {Attempt(known.run, known.attempt) for known in beat.running}
        started = self._dispatcher.started_at(beat.node)
        for attempt in named:
            self._unnamed.pop(attempt, None)
        for attempt in sorted(started - named):
            first_s = self._unnamed.setdefault(attempt, now_s)
            if now_s - first_s >= UNNAMED_S:
                del self._unnamed[attempt]
                log.warning("node %s does not know %s.%d any more", beat.node, attempt.run, attempt.attempt)
                self._put(project_of(attempt.run), Disowned(attempt.run, attempt.attempt))
        for attempt in sorted(named):
            if self._dispatcher.is_open(attempt, beat.node):
                self._too_much.pop(attempt, None)
                continue
            first_s = self._too_much.setdefault(attempt, now_s)
            if now_s - first_s >= UNNAMED_S:
                self._too_much[attempt] = now_s
                log.warning("node %s still runs %s.%d, which is over; it is told to stop it", beat.node, attempt.run, attempt.attempt)
                self._dispatcher.stop_over(attempt, beat.node)
        for memory in (self._unnamed, self._too_much):
            for attempt, since_s in list(memory.items()):
                if now_s - since_s > 6 * UNNAMED_S:
                    del memory[attempt]  # its node says nothing of it any more, or nothing at all


def _ends_by_itself(kind: HoldKind) -> bool:
    return kind in (HoldKind.NODE_LOST, HoldKind.QUOTA)
