"""The controller's loops: take in commands, reports and beats; store decisions; answer; dispatch. It decides nothing itself.

Owns the connection. One controller is active at a time (`owner`); a standby folds the ledger and waits. Losing the lease
ends the active part and begins to stand by again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

import anyio
import anyio.abc
from msgspec.structs import replace

from bus import host
from bus.bootstrap import Sync, ensure_consumer, ensure_stream, refuse_unsafe
from bus.connection import ApiFailure, Bus, connect
from bus.errors import Conflict, ConsumerGone, Rejected, Unavailable
from bus.failpoint import failpoint
from bus.foreground import ConnectionLost
from bus.pull import Delivery, PullLoop
from bus.request import QueryService
from bus_schemas import codec, ids, subjects
from bus_schemas.codec import BadCommand
from bus_schemas.decisions import LedgerMessage, Receipt
from bus_schemas.ids import PLANE, BadId
from bus_schemas.reasons import Reason
from bus_schemas.reports import Beat
from controller import heads
from controller.batch import Answer, Batch, BeatItem, CommandItem, DutyItem, FirstItem, HeadsItem, ReportItem
from controller.config import ControllerConfig
from controller.dispatch import Dispatcher
from controller.draft import Context
from controller.explanations import Explanations
from controller.index import Index
from controller.janitor import Janitor
from controller.lane import Lane
from controller.leases import Disowned, Duty
from controller.ledger import Ledger
from controller.owner import Ownership
from controller.presence import Presence
from controller.queries import VERSION, Queries
from controller.shelf import Unusable
from controller.watch import Watch

log = logging.getLogger(__name__)

PULL_AHEAD = 512
"""Messages taken ahead of deciding: at some hundreds a second, well decided before their ack wait of 5 s is over."""
LANE_LENGTH_MAX = 1024
RETRY_S = 0.2
FOLLOW_EVERY_S = 0.5
BEHIND_EVERY_S = 1.0
"""Twice in a row the same message must be unknown, so that one which is just being folded is not taken for another's."""


async def serve(config: ControllerConfig, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Be a controller until cancelled. Raises UnsafeSync, Denied, and ConnectionLost."""
    bus = await connect(config.server, f"controller {config.owner}", config.credentials, retry=True)
    ledger = Ledger(bus, config.owner)
    try:
        ledger = Ledger(bus, config.owner, Index.open(config.data, config.owner))
        sync = await _first_contact(bus, config.allow_unsafe_sync)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch_connection, bus)
            controller = Controller(bus, config.owner, sync, ledger)
            tasks.start_soon(controller.presence.follow, controller.on_beat)
            task_status.started()
            await controller.start()
            tasks.start_soon(ledger.keep_index)
            while True:
                await controller.stand_by()
                await controller.be_active()
    except* Unusable as group:
        raise ConnectionLost(f"the index: {group.exceptions[0]}") from group
    finally:
        with anyio.CancelScope(shield=True):
            await ledger.close()
            await bus.close()


async def _first_contact(bus: Bus, allow_unsafe_sync: bool) -> Sync:
    while True:
        try:
            return await refuse_unsafe(bus, allow_unsafe_sync=allow_unsafe_sync)
        except (Unavailable, ApiFailure) as error:
            log.warning("waiting for the bus to be set up (`qd bus init`): %s", error)
            await anyio.sleep(RETRY_S * 5)


async def _watch_connection(bus: Bus) -> None:
    await bus.closed.wait()
    raise ConnectionLost(bus.failure or "the connection is closed")


class Controller:
    """One controller process: its ledger, and, while it is active, its lanes and its dispatcher."""

    def __init__(self, bus: Bus, owner: str, sync: Sync, ledger: Ledger | None = None) -> None:
        """Nothing is folded yet. Without a ledger that has an index everything is kept in memory."""
        self.bus, self.owner, self.sync = bus, owner, sync
        self.ledger = ledger or Ledger(bus, owner)
        self.presence = Presence(bus)
        self.active_since: datetime | None = None
        self._ownership = Ownership(bus, owner)
        self._lanes: dict[str, Lane] = {}
        self._tasks: anyio.abc.TaskGroup | None = None
        self._dispatcher: Dispatcher | None = None
        self._watch: Watch | None = None
        self._equipped: dict[str, int] = {}
        self._came_back = anyio.Event()
        bus.on_reconnect(self._on_reconnect)

    async def start(self) -> None:
        """Take what the index knows of the ledger."""
        while True:
            try:
                await self.ledger.start()
                return
            except (Unavailable, ApiFailure) as error:
                log.warning("the index cannot be compared with the ledger yet: %s", error)
                await anyio.sleep(RETRY_S * 5)

    async def stand_by(self) -> None:
        """Fold the ledger as it grows; return when the lease is ours and everything is folded."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow)
            await self._ownership.acquire()
            tasks.cancel_scope.cancel()
        while True:
            try:
                count = await self.ledger.catch_up()
                self.ledger.stop(heads.lost(self.ledger.plane.heads, self.ledger.heads))
                log.info("active as %s after folding %d more messages, up to %d", self.owner, count, self.ledger.position_seq)
                return
            except (Unavailable, ApiFailure):
                await anyio.sleep(RETRY_S)

    async def _follow(self) -> None:
        while True:
            try:
                await self.ledger.catch_up()
            except (Unavailable, ApiFailure) as error:
                log.debug("standing by: %s", error)
            await anyio.sleep(FOLLOW_EVERY_S)

    async def be_active(self) -> None:
        """Decide until the lease is lost."""
        try:
            await self._decide()
        finally:
            self._tasks = None

    async def _decide(self) -> None:
        queries = Queries(self.ledger, self.presence, self.owner, self.sync, self.bus)
        async with anyio.create_task_group() as tasks:
            self._tasks, self._lanes, self._equipped = tasks, {}, {}
            if self.ledger.index is not None:
                self.ledger.index.deciding = True
            self.active_since = queries.active_since = host.now()
            self._dispatcher = Dispatcher(self.bus, self.ledger, self.owner, tasks)
            self._dispatcher.rebuild()
            self._watch = Watch(self.ledger, self.presence, self._dispatcher, self._notice)
            self.ledger.on_foreign = self._observe
            self._lane(PLANE).put(FirstItem())
            for beat in list(self.presence.beats.values()):
                self.on_beat(beat)
            explanations = Explanations(self.bus, self.ledger, self.presence, self._dispatcher)
            service = QueryService(self.bus, "qd-controller", VERSION, {**queries.handlers(), **explanations.handlers()})
            tasks.start_soon(service.run)
            tasks.start_soon(Janitor(self.bus, self.ledger).run)
            tasks.start_soon(self._keep_memory_streams)
            tasks.start_soon(self._record_heads)
            tasks.start_soon(self._watch.run)
            tasks.start_soon(self._end_when_behind, tasks.cancel_scope)
            tasks.start_soon(self._pull, subjects.CTL, self._on_command)
            tasks.start_soon(self._pull, subjects.REP, self._on_report)
            tasks.start_soon(self._pull, subjects.CMD, self._on_command)
            try:
                await self._ownership.keep()
                log.warning("the lease is lost; standing by")
                tasks.cancel_scope.cancel()
            finally:
                # a loop that was cancelled may still take in what it has in its hands: the group stays until it has ended
                self.active_since, self.ledger.on_foreign = None, None
                if self.ledger.index is not None:
                    self.ledger.index.stop_deciding()
                with anyio.CancelScope(shield=True):
                    await self._ownership.release()

    async def _end_when_behind(self, active: anyio.CancelScope) -> None:
        """End the active part when another controller appended what this one does not know: it begins again with all of it.

        A controller that was stopped may still store a decision after it was replaced. Nobody would act on it before something else
        is decided in its project; a compare-and-set that is lost there is the quicker way to hear of it.
        """
        before: int | None = None
        while True:
            await anyio.sleep(BEHIND_EVERY_S)
            try:
                unknown = await self.ledger.first_unknown()
            except (Unavailable, ApiFailure) as error:
                log.debug("cannot look for what others appended: %s", error)
                continue
            if unknown is not None and unknown == before:
                log.warning("another controller appended message %d; beginning again from the ledger", unknown)
                active.cancel()
                return
            before = unknown

    async def _record_heads(self) -> None:
        """Have what changed of the heads recorded, now and once a minute."""
        while True:
            # a registry that is stopped decides nothing, and what waits for it would hold up everybody in the end
            count = 0 if self.ledger.is_stopped(PLANE) else heads.pages(self.ledger.plane.heads, self.ledger.heads)
            for _ in range(count):
                self._lane(PLANE).put(HeadsItem())
            await anyio.sleep(heads.EVERY_S)

    async def _keep_memory_streams(self) -> None:
        """Make the streams that live in memory again whenever the server was restarted and has forgotten them."""
        while True:
            back = anyio.Event()
            self._came_back = back
            try:
                for spec in subjects.STREAMS:
                    if spec.storage == "memory":
                        await ensure_stream(self.bus, spec, replicas=1)
            except (Unavailable, ApiFailure) as error:
                log.error("cannot make the streams in memory: %s", error)
                await anyio.sleep(RETRY_S * 5)
                continue
            await back.wait()

    def _on_reconnect(self) -> None:
        self._came_back.set()

    # ── taking in ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _pull(self, stream: str, take: Callable[[Delivery], str | None]) -> None:
        while True:
            try:
                async with PullLoop(self.bus, stream, subjects.CONTROLLER_DURABLE, want=PULL_AHEAD) as loop:
                    while True:
                        for delivery in await loop.batch():
                            why = take(delivery)
                            if why is not None:
                                await self._bury(stream, delivery, why)
                        for lane in list(self._lanes.values()):
                            await lane.room(LANE_LENGTH_MAX)
            except (ConsumerGone, Unavailable) as error:
                log.error("cannot pull from %s: %s", stream, error)
                await anyio.sleep(RETRY_S * 5)

    def _on_command(self, delivery: Delivery) -> str | None:
        """Queue a command; return why it is a dead letter, or None."""
        failpoint("controller.received")
        try:
            subject = subjects.parse_command(delivery.subject)
            envelope = codec.decode_envelope(delivery.data)
            body_hash = codec.body_hash(envelope.type, envelope.body)
        except (BadId, codec.Malformed) as error:
            return str(error)
        command = codec.decode_command(envelope)
        if envelope.type != subject.verb:
            command = BadCommand(Reason.INVALID_PAYLOAD, f"the command is a {ids.shown(envelope.type)} and came as {subject.verb}")
        try:
            ids.idempotency_key(envelope.key)
        except BadId as error:
            return str(error)
        self._route(CommandItem(delivery, subject, envelope, command, body_hash))
        return None

    def _route(self, item: CommandItem) -> None:
        plane = self.ledger.plane
        known = item.subject.project == PLANE or plane.projects.get(item.subject.project) is not None
        self._lane(item.subject.project if known else PLANE).put(item)

    def _on_report(self, delivery: Delivery) -> str | None:
        """Queue a report; return why it is a dead letter, or None."""
        try:
            subject = subjects.parse_report(delivery.subject)
            report = codec.decode_report(delivery.data)
            project = ids.project_of(ids.run_id(subject.run))
        except (BadId, codec.Malformed) as error:
            return str(error)
        if project != subject.project:
            return f"run {subject.run} is not one of project {subject.project}"
        self._lane(project).put(ReportItem(delivery, subject, report))
        return None

    def on_beat(self, beat: Beat) -> None:
        """Register a node that is new or describes itself differently, and make its consumers."""
        if self._tasks is None or self._watch is None:
            return
        self._watch.on_beat(beat)
        if self._equipped.get(beat.node) != beat.capacity:
            self._equipped[beat.node] = beat.capacity
            self._tasks.start_soon(self._equip, beat)
        known = self.ledger.plane.nodes.get(beat.node)
        if known is None or (known.labels, known.capacity, known.agents) != (beat.labels, beat.capacity, beat.agents):
            self._lane(PLANE).put(BeatItem(beat))

    async def _equip(self, beat: Beat) -> None:
        while True:
            try:
                for spec in subjects.node_consumers(beat.node, beat.capacity):
                    await ensure_consumer(self.bus, spec)
                return
            except (Unavailable, ApiFailure) as error:
                log.error("cannot make the consumers of %s: %s", beat.node, error)
                await anyio.sleep(RETRY_S * 5)

    # ── deciding and answering ───────────────────────────────────────────────────────────────────────────────────────

    def _lane(self, project: str) -> Lane:
        lane = self._lanes.get(project)
        if lane is None:
            assert self._tasks is not None
            assert self._dispatcher is not None
            lane = Lane(self.ledger, project, self._context, self._dispatcher.take_dispatched, self._after)
            self._lanes[project] = lane
            self._tasks.start_soon(lane.run)
        return lane

    def _context(self, now: datetime) -> Context:
        assert self._dispatcher is not None
        return Context(now=now, seed=host.random_bytes(16), plane=self.ledger.plane, online=self.presence.online(), load=self._dispatcher.load)

    def _notice(self, project: str, duty: Duty) -> None:
        if isinstance(duty, Disowned) and self._tasks is not None:
            self._tasks.start_soon(self._disown, project, duty)
        else:
            self._lane(project).put(DutyItem(duty))

    async def _disown(self, project: str, duty: Disowned) -> None:
        """Give an attempt up that its node does not know, unless its end is reported already and only waits to be taken in."""
        o = self.ledger.orchestration(ids.orchestration_of(duty.run))
        run = None if o is None else o.run(duty.run)
        if run is None or not 1 <= duty.attempt <= run.attempt:
            return
        nonce, node = run.sent[duty.attempt - 1]
        try:
            ended = await self.bus.last(subjects.REP, subjects.report(node, project, duty.run, duty.attempt, nonce, "ended"))
        except (Unavailable, ApiFailure) as error:
            log.debug("not looked up, it is noticed again: %s", error)
            return
        if ended is None:
            self._lane(project).put(DutyItem(duty))

    def _observe(self, message: LedgerMessage) -> None:
        assert self._dispatcher is not None
        assert self._watch is not None
        self._dispatcher.observe(message)
        self._watch.observe(message)

    async def _after(self, batch: Batch, message: LedgerMessage | None) -> None:
        if message is not None:
            self._observe(message)
            failpoint("controller.observed")
        for answer in batch.answers:
            try:
                await self._answer(answer, batch)
            except Unavailable as error:
                log.warning("not answered, it comes again: %s", error)

    async def _answer(self, answer: Answer, batch: Batch) -> None:
        item = answer.item
        if answer.reroute is not None and isinstance(item, CommandItem):
            self._lane(answer.reroute).put(item)
            return
        if answer.dead_letter is not None and isinstance(item, ReportItem):
            project = item.subject.project
            if await self.ledger.was_behind(project) or self.ledger.foreign_counts.get(project, 0) > batch.foreign_count:
                # what it reports on was decided by another controller: no compare-and-set protects a disbelief
                self._lane(project).put(item)
            else:
                await self._bury(subjects.REP, item.delivery, answer.dead_letter)
            return
        if isinstance(item, CommandItem):
            failpoint("controller.before-receipt")
            receipt = answer.receipt or self._receipt(item, answer)
            if receipt is not None:
                await self.bus.publish(subjects.receipt(item.subject.principal, item.envelope.id), codec.encode(receipt))
            failpoint("controller.before-ack")
            await item.delivery.ack()
            failpoint("controller.acked")
        elif isinstance(item, ReportItem):
            await item.delivery.ack()

    def _receipt(self, item: CommandItem, answer: Answer) -> Receipt | None:
        assert answer.action is not None
        found = self.ledger.receipt(answer.action)
        if found is None:
            return None
        receipt, command = found
        # a redelivery of the very command is no duplicate
        return receipt if not answer.duplicate or command == item.envelope.id else replace(receipt, duplicate=True)

    async def _bury(self, stream: str, delivery: Delivery, why: str) -> None:
        """Keep the bytes of a message that cannot be used, then terminate it; where that fails it comes again."""
        reason = ascii(why)[1:-1][:1000]
        log.warning("dead letter from %s: %s", delivery.subject, reason)
        headers = {"qd-reason": reason, "qd-subject": ascii(delivery.subject)[1:-1][:400]}
        try:
            await self.bus.append(subjects.dead_letter(stream, delivery.seq), delivery.data, headers=headers)
        except (Unavailable, Conflict, Rejected) as error:
            log.error("cannot keep a dead letter: %s", error)
            return
        await delivery.terminate(reason)
