"""Dispatch: which queued runs are sent to their nodes, withdrawn or stopped. Owns the WORK stream's write side.

Runs wait in the ledger; a node has at most capacity + 1 unclaimed orders, taken round-robin over projects and oldest
first inside one. An order is published after the commit and tried for ever. All of it can be rebuilt from the state.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import NamedTuple

import anyio
import anyio.abc

from bus import host
from bus.connection import ApiFailure, Bus
from bus.errors import Rejected, Unavailable
from bus.failpoint import failpoint
from bus_schemas import codec, subjects
from bus_schemas import events as e
from bus_schemas.decisions import LedgerMessage
from bus_schemas.events import RunStatus
from bus_schemas.ids import orchestration_of, project_of
from bus_schemas.reports import Withdrawn
from controller.ledger import Ledger
from controller.orchestration import NOT_STARTED, Orchestration, Run
from controller.work_orders import is_outdated, order_of, stop_of, stops

log = logging.getLogger(__name__)

RETRY_S = 0.2


class Attempt(NamedTuple):
    """An attempt of a run."""

    run: str
    attempt: int


class Dispatcher:
    """What is queued, unclaimed and open for each node."""

    def __init__(self, bus: Bus, ledger: Ledger, owner: str, tasks: anyio.abc.TaskGroup) -> None:
        """Send over `bus` in tasks of `tasks`."""
        self._bus, self._ledger, self._owner, self._tasks = bus, ledger, owner, tasks
        self._queues: dict[str, dict[str, deque[Attempt]]] = {}
        self._turns: dict[str, deque[str]] = {}
        self._unclaimed: dict[str, set[Attempt]] = {}
        self._node_of: dict[Attempt, str] = {}
        self._recalled: set[tuple[Attempt, bool]] = set()
        self._started: dict[str, set[Attempt]] = {}
        self._dispatched: dict[str, list[e.RunDispatched]] = {}
        self.load: dict[str, int] = {}
        """How many runs each node has open."""

    def rebuild(self) -> None:
        """Start from the state: every run without a start is sent again with its nonce, every hold is enforced again."""
        self._queues.clear()
        self._turns.clear()
        self._unclaimed.clear()
        self._node_of.clear()
        self._recalled.clear()
        self._started.clear()
        self._dispatched.clear()
        self.load.clear()
        for state in list(self._ledger.states.values()):
            if self._ledger.is_stopped(state.project):
                continue
            live = sorted((o for o in state.orchestrations.values() if o.is_live), key=lambda o: (len(o.id), o.id))
            # a map of the state has no order of its own: the oldest goes first, also after a take-over
            for run in sorted((run for o in live for run in o.open_runs()), key=_age):
                self._open(run)
            for o in live:
                self._recall(o)
        self.fill_all()

    def observe(self, message: LedgerMessage) -> None:
        """Take in a message that was just folded: send what it queued, recall what it holds."""
        touched: dict[str, None] = {}
        nodes: dict[str, None] = {}
        for decision in message.decisions:
            for event in decision.events:
                match event:
                    case e.RunQueued():
                        touched[event.orchestration] = None
                        nodes[event.node] = None
                        self._open_queued(message.project, event)
                    case e.RunStarted() | e.RunWithdrawn() | e.RunEnded():
                        touched[event.orchestration] = None
                        nodes[self._settle(Attempt(event.run, event.attempt), ended=not isinstance(event, e.RunStarted))] = None
                    case e.HoldSet() | e.HoldCleared() | e.PolicyChanged() | e.NodeAssigned():
                        touched[event.orchestration] = None
                    case e.NodeRegistered():
                        nodes[event.node.id] = None
                    case _:
                        pass
        state = self._ledger.state(message.project)
        for orchestration in touched:
            o = state.orchestrations.get(orchestration)
            if o is not None:
                self._recall(o)
        for node in nodes:
            self.fill(node)

    def _open_queued(self, project: str, event: e.RunQueued) -> None:
        o = self._ledger.state(project).orchestrations.get(event.orchestration)
        run = None if o is None else o.run(event.run)
        if run is not None and run.attempt == event.attempt and run.is_open:
            self._open(run)

    def _open(self, run: Run) -> None:
        attempt = Attempt(run.id, run.attempt)
        if attempt in self._node_of:
            return
        self._node_of[attempt] = run.node
        self.load[run.node] = self.load.get(run.node, 0) + 1
        if run.status is RunStatus.STARTED:
            self._started.setdefault(run.node, set()).add(attempt)
        if run.status in NOT_STARTED and not run.held:
            project = project_of(run.id)
            queues = self._queues.setdefault(run.node, {})
            if project not in queues:
                queues[project] = deque()
                self._turns.setdefault(run.node, deque()).append(project)
            queues[project].append(attempt)

    def _settle(self, attempt: Attempt, *, ended: bool) -> str:
        node = self._node_of.get(attempt, "")
        self._unclaimed.get(node, set()).discard(attempt)
        if not ended and node:
            self._started.setdefault(node, set()).add(attempt)
        if ended and attempt in self._node_of:
            del self._node_of[attempt]
            self.load[node] -= 1
            self._started.get(node, set()).discard(attempt)
            self._recalled.discard((attempt, True))
            self._recalled.discard((attempt, False))
        return node

    # ── what the watch asks ──────────────────────────────────────────────────────────────────────────────────────────

    def nodes_at_work(self) -> list[str]:
        """Return the nodes that have an open run."""
        return [node for node, count in self.load.items() if count > 0]

    def orchestrations_at(self, node: str) -> list[str]:
        """Return the orchestrations that have an open run at a node, by id."""
        return sorted({orchestration_of(attempt.run) for attempt, at in self._node_of.items() if at == node})

    def started_at(self, node: str) -> set[Attempt]:
        """Return the attempts that a node has claimed and not ended."""
        return self._started.get(node, set())

    def is_open(self, attempt: Attempt, node: str) -> bool:
        """Return whether an attempt is the newest of its run, not ended, and that node's."""
        return self._node_of.get(attempt) == node

    def places(self, o: Orchestration) -> dict[str, int]:
        """Return for each run of an orchestration that is in a node's queue how many orders of its project are before it."""
        found: dict[str, int] = {}
        for queues in self._queues.values():
            for place, attempt in enumerate(queues.get(o.project, ())):
                if orchestration_of(attempt.run) == o.id:
                    found[attempt.run] = place
        return found

    def stop_over(self, attempt: Attempt, node: str) -> None:
        """Tell a node to stop an attempt that is over for us: given up as lost, or stale for another reason."""
        o = self._ledger.state(project_of(attempt.run)).orchestrations.get(orchestration_of(attempt.run))
        run = None if o is None else o.run(attempt.run)
        if run is None or not 1 <= attempt.attempt <= run.attempt or run.sent[attempt.attempt - 1][1] != node:
            return  # not ours, or long over: its report will say what became of it
        data = codec.encode(stop_of(run, attempt.attempt, host.now()))
        self._tasks.start_soon(self._for_ever, subjects.control_order(node, attempt.run, attempt.attempt), data)

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _find(self, attempt: Attempt) -> tuple[Orchestration, Run] | None:
        """Return the attempt as it stands, or None when a newer one took its place."""
        o = self._ledger.state(project_of(attempt.run)).orchestrations.get(orchestration_of(attempt.run))
        run = None if o is None else o.run(attempt.run)
        return None if o is None or run is None or run.attempt != attempt.attempt else (o, run)

    def fill_all(self) -> None:
        """Send to every node what it may have."""
        for node in list(self._queues):
            self.fill(node)

    def fill(self, node: str) -> None:
        """Send a node as many orders as it may have unclaimed."""
        known = self._ledger.plane.nodes.get(node)
        if known is None:
            return
        unclaimed = self._unclaimed.setdefault(node, set())
        while len(unclaimed) < known.capacity + 1:
            attempt = self._next(node)
            if attempt is None:
                return
            unclaimed.add(attempt)
            self._tasks.start_soon(self._send, node, attempt)

    def _next(self, node: str) -> Attempt | None:
        """Take the next attempt that may be sent: projects in turn, oldest first."""
        turns, queues = self._turns.get(node), self._queues.get(node)
        while turns and queues:
            project = turns[0]
            queue = queues[project]
            if not queue:
                turns.popleft()
                del queues[project]
                continue
            turns.rotate(-1)
            attempt = queue.popleft()
            found = self._find(attempt)
            if found is None or (attempt, False) in self._recalled:
                continue  # it is being taken back
            if found[1].status in NOT_STARTED and found[0].is_live and not found[0].is_stopping:
                return attempt
        return None

    async def _send(self, node: str, attempt: Attempt) -> None:
        found = self._find(attempt)
        state = self._ledger.state(project_of(attempt.run))
        project = self._ledger.plane.projects.get(state.project)
        if found is None or project is None or found[1].status not in NOT_STARTED:
            self._unclaimed.get(node, set()).discard(attempt)
            return
        o, run = found
        data = codec.encode(order_of(state, project, o, run, host.now()))
        failpoint("controller.before-order")
        await self._for_ever(subjects.work(node, run.id, run.attempt), data)
        failpoint("controller.ordered")
        if run.status is RunStatus.QUEUED:
            mark = e.RunDispatched(orchestration=o.id, run=run.id, attempt=run.attempt)
            self._dispatched.setdefault(state.project, []).append(mark)

    async def _for_ever(self, subject: str, data: bytes) -> bool:
        """Write once to `subject`; return whether it was this call. Waits while the bus is away."""
        while True:
            try:
                return await self._bus.write_once(subject, data)
            except Rejected as error:
                # the stream is full or refuses it: an operator must see it, and it may pass
                log.error("cannot publish %s: %s", subject, error)
                await anyio.sleep(RETRY_S * 10)
            except Unavailable:
                await anyio.sleep(RETRY_S)

    async def _forget(self, subject: str) -> None:
        """Delete an order that can never start: its claim is kept for a day, and the order must not outlive it."""
        while True:
            try:
                await self._bus.api(f"STREAM.PURGE.{subjects.WORK}", {"filter": subject})
                return
            except (Unavailable, ApiFailure) as error:
                log.warning("cannot delete %s: %s", subject, error)
                await anyio.sleep(RETRY_S)

    def take_dispatched(self, project: str) -> list[e.RunDispatched]:
        """Return what was published since the last call: recorded with the next decision, never by a write of its own."""
        return self._dispatched.pop(project, [])

    def _recall(self, o: Orchestration) -> None:
        """Withdraw what must not start as it was ordered, stop what a pause or a cancel must see the end of."""
        stopping = o.is_stopping
        for run in o.outstanding():
            started = run.status is RunStatus.STARTED
            if not (stops(o) if started else stopping or is_outdated(o, run)):
                continue
            mark = (Attempt(run.id, run.attempt), started)
            if mark not in self._recalled:
                self._recalled.add(mark)
                self._tasks.start_soon(self._withdraw, o.id, run, started)

    async def _withdraw(self, orchestration: str, run: Run, started: bool) -> None:
        """Take the start claim so that the attempt can never start; where the node has it, stop it if that is wanted."""
        project = project_of(orchestration)
        if not started:
            subject = subjects.report(run.node, project, run.id, run.attempt, run.nonce, "started")
            body = Withdrawn(v=codec.VERSION, by=self._owner, at=host.now())
            if await self._for_ever(subject, codec.encode(body)):
                failpoint("controller.withdrawn")
                await self._forget(subjects.work(run.node, run.id, run.attempt))
            return
        o = self._ledger.state(project).orchestrations.get(orchestration)
        if o is not None and stops(o):
            data = codec.encode(stop_of(run, run.attempt, host.now()))
            await self._for_ever(subjects.control_order(run.node, run.id, run.attempt), data)


def _age(run: Run) -> tuple[float, int, str]:
    return (0.0 if run.queued_at is None else run.queued_at.timestamp(), len(run.id), run.id)
