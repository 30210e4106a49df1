"""The service of a node: beats, takes orders, claims, runs, reports, stops.

Owns the node's connection, its journal and its data folder. It decides nothing global: what to run comes in orders, what
became of it goes out in reports, and each is written down before it is acted on.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from bus import host
from bus.connection import Bus, connect
from bus.errors import ConsumerGone, Rejected, Unavailable
from bus.failpoint import failpoint
from bus.foreground import ConnectionLost
from bus.pull import Delivery, PullLoop
from bus_schemas import codec, ids, subjects
from bus_schemas.entities import BEAT_EVERY_S
from bus_schemas.orders import StopOrder, WorkOrder
from bus_schemas.reasons import Reason
from bus_schemas.reports import Beat, Ended, Outcome, RunningAttempt
from node_agent import claim, process
from node_agent.attempt import Delivered, Dropped, Finished, Held, StopAsked, Taken, key_of
from node_agent.config import NodeConfig
from node_agent.detection import detected
from node_agent.executor import Executor, RunContext
from node_agent.journal import Journal
from node_agent.runner import Runner
from node_agent.slots import SlotPull

log = logging.getLogger(__name__)

BEAT_TIMEOUT_S = 2.0
CONSUMER_RETRY_S = 0.25


class DataInUse(Exception):
    """Another node agent works in this data folder."""


@contextmanager
def _owned(data: Path) -> Iterator[None]:
    """Hold a data folder alone. Raises DataInUse."""
    data.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataInUse(f"another node agent works in {data}; each node needs a data folder of its own") from error
        yield
    finally:
        os.close(descriptor)


class _Node:
    """One node while it serves."""

    def __init__(self, config: NodeConfig, bus: Bus, executor: Executor, journal: Journal, drain: anyio.Event) -> None:
        self._config, self._bus, self._executor, self._journal, self._drain = config, bus, executor, journal, drain
        self._boot = host.unique()
        self._running: dict[object, RunContext] = {}
        recovered = len(journal.book.open)
        self._pull = SlotPull(bus, config.name, config.capacity, busy=recovered)
        self._idle = anyio.Event()

    @property
    def contexts(self) -> list[RunContext]:
        """What an executor is at work on."""
        return list(self._running.values())

    async def serve(self, tasks: TaskGroup) -> None:
        """Start all loops."""
        for held in list(self._journal.book.open.values()):
            tasks.start_soon(self._attend, held, None)
        tasks.start_soon(self._beats)
        tasks.start_soon(self._orders, tasks)
        tasks.start_soon(self._stops)

    # ── beats ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _beats(self) -> None:
        subject = subjects.beat(self._config.name)
        while True:
            failpoint("node.beat")
            try:
                await self._bus.append(subject, codec.encode(self._beat()), timeout_s=BEAT_TIMEOUT_S)
            except (Unavailable, Rejected) as error:
                log.debug("no beat: %s", error)  # the next one comes soon
            draining = self._drain.is_set()
            with anyio.move_on_after(BEAT_EVERY_S):
                await (anyio.sleep_forever() if draining else self._drain.wait())

    def _beat(self) -> Beat:
        return Beat(
            v=codec.VERSION,
            type="beat",
            node=self._config.name,
            boot=self._boot,
            at=host.now(),
            capacity=self._config.capacity,
            labels=self._config.labels,
            agents=self._executor.offers(),
            running=tuple(RunningAttempt(key.run, key.attempt) for key in self._journal.book.open),
            draining=self._drain.is_set(),
        )

    # ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _orders(self, tasks: TaskGroup) -> None:
        """Take orders until a drain begins. The consumer is made by the controller at our first beat; until then it is asked for."""
        async with self._pull:
            with anyio.CancelScope() as scope:
                tasks.start_soon(self._close_at_drain, scope)
                while True:
                    try:
                        deliveries = await self._pull.orders()
                    except ConsumerGone:
                        await anyio.sleep(CONSUMER_RETRY_S)
                        continue
                    for delivery in deliveries:
                        tasks.start_soon(self._order, delivery)

    async def _close_at_drain(self, scope: anyio.CancelScope) -> None:
        await self._drain.wait()
        scope.cancel()

    async def _order(self, delivery: Delivery) -> None:
        failpoint("node.received")
        order = self._read_order(delivery.data)
        if isinstance(order, str):
            log.error("order %s is refused: %s", delivery.subject, order)
            await delivery.terminate(order)
        elif self._journal.book.knows(key_of(order)):
            await delivery.ack()  # it is in hand, or over
        else:
            taken = Taken(order, host.unique(), host.now())
            try:
                await self._journal.append(taken)
            except OSError:
                await delivery.nak()  # nothing was begun: it may come again at once
                raise
            failpoint("node.journaled")
            await self._attend(Held(taken), delivery)
            return
        await self._pull.release()

    def _read_order(self, data: bytes) -> WorkOrder | str:
        """Return a work order for this node, or why it is none."""
        try:
            order = codec.decode_order(data)
            ids.run_id(order.run)
            ids.token(order.nonce, "nonce")
            if ids.orchestration_of(order.run) != order.orchestration or ids.project_of(order.run) != order.project:
                return f"run {order.run} is not one of {ids.shown(order.orchestration)} in {ids.shown(order.project)}"
        except (codec.Malformed, ids.BadId) as error:
            return str(error)
        return order if order.node == self._config.name else f"it is for node {ids.shown(order.node)}"

    async def _attend(self, held: Held, delivery: Delivery | None) -> None:
        """Bring an attempt to its end: claim, run, report; the delivery is acknowledged when the claim is decided."""
        key, book = held.key, self._journal.book
        ended = held.ended
        if ended is None:
            won = held.spawning is not None or await claim.win(self._bus, held.taken, self._boot)
            failpoint("node.claimed")
            if delivery is not None:
                await delivery.ack()
                failpoint("node.acked")
            if won:
                ended = await self._run(held)
                failpoint("node.exit-seen")
                await self._journal.append(Finished(key, ended))
                failpoint("node.end-journaled")
        if ended is None:
            await self._journal.append(Dropped(key), sync=False)
        else:
            await claim.deliver(self._bus, held.order, ended)
            failpoint("node.reported")
            await self._journal.append(Delivered(key), sync=False)
            await self._executor.forget(held.order)
        if not book.open:
            self._idle.set()
        await self._pull.release()

    async def _run(self, held: Held) -> Ended:
        context = RunContext(held, self._journal)
        self._running[held.key] = context
        try:
            ended = await self._executor.run(held.order, context)
        except Exception as error:  # a bug in one run must not end its neighbours; its text is in the report
            log.exception("%s.%d broke", held.key.run, held.key.attempt)
            detail = f"{type(error).__name__}: {error}"[:2000]
            ended = Ended(v=codec.VERSION, outcome=Outcome.FAILED, at=host.now(), reason_code=Reason.INTERNAL.value, detail=detail)
        del self._running[held.key]
        return ended

    # ── stops ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _stops(self) -> None:
        pull = PullLoop(self._bus, subjects.WORK, f"ctl-{self._config.name}")
        async with pull:
            while True:
                try:
                    deliveries = await pull.batch()
                except ConsumerGone:
                    await anyio.sleep(CONSUMER_RETRY_S)
                    continue
                for delivery in deliveries:
                    await self._stop(delivery)

    async def _stop(self, delivery: Delivery) -> None:
        """Stop an attempt; one that is not here (yet) is remembered, so that it ends at once when it comes."""
        failpoint("node.stop-received")
        try:
            stop: StopOrder = codec.decode_stop(delivery.data)
            ids.run_id(stop.run)
        except (codec.Malformed, ids.BadId) as error:
            log.error("stop order %s is refused: %s", delivery.subject, error)
            await delivery.terminate(str(error))
            return
        key = key_of(stop)
        if key not in self._journal.book.done:
            await self._journal.append(StopAsked(key, stop.reason_code))
            context = self._running.get(key)
            if context is not None:
                context.request_stop(stop.reason_code)
        await delivery.ack()

    async def until_idle(self) -> None:
        """Return when nothing is in hand any more."""
        while self._journal.book.open:
            self._idle = anyio.Event()
            await self._idle.wait()


async def serve(
    config: NodeConfig,
    *,
    executor: Executor | None = None,
    drain: anyio.Event | None = None,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a node until cancelled, or until a drain is over.

    Setting `drain`: no new claims; what runs may go on for `drain_grace_s`, then it is left to its shims (or stopped, see
    `leave_running`). `executor` replaces the one that runs agents. Raises Denied and DataInUse; ConnectionLost, in a group, when
    the connection is gone for good.
    """
    with _owned(config.data):
        bus = await connect(config.server, f"node {config.name}", config.credentials, retry=True)
        try:
            if executor is None:
                wall = config.containment if config.containment != "auto" else (await anyio.to_thread.run_sync(process.walls))[0]
                executor = Runner(config, bus, wall, detected())
            journal = Journal(config.data / "journal" / "journal.jsonl" if executor.recovers else None)
            try:
                await _serve(_Node(config, bus, executor, journal, drain := drain or anyio.Event()), config, bus, executor, drain, task_status)
            finally:
                journal.close()
        finally:
            with anyio.CancelScope(shield=True):
                await bus.close()


async def _serve(node: _Node, config: NodeConfig, bus: Bus, executor: Executor, drain: anyio.Event, task_status: TaskStatus[None]) -> None:
    try:
        async with anyio.create_task_group() as tasks:
            await node.serve(tasks)
            tasks.start_soon(_fail_when_closed, bus)
            task_status.started()
            await drain.wait()
            with anyio.move_on_after(config.drain_grace_s):
                await node.until_idle()
            tasks.cancel_scope.cancel()
    finally:
        executor.leave(node.contexts)


async def _fail_when_closed(bus: Bus) -> None:
    await bus.closed.wait()
    raise ConnectionLost(f"the connection to the bus is gone: {bus.failure}")
