"""The ledger: the fold of every project, what is live in memory and what has ended in the index, and the one way to append to it.

Owns the LEDGER stream's write side. One append is one compare-and-set on one subject; after an unknown outcome the
ledger itself is asked whether our batch is there, and only then is it tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple

import anyio
import msgspec
from msgspec import Struct

from bus import host
from bus.connection import Bus, Stored
from bus.errors import Conflict, Rejected, Unavailable
from bus.failpoint import failpoint
from bus.reader import Hole, read_up_to, stream_state
from bus_schemas import codec, subjects
from bus_schemas.decisions import CORE_VERSION, Decision, LedgerMessage, Receipt
from bus_schemas.ids import PLANE, project_of
from controller import index_check
from controller.idempotency import KeyIndex
from controller.index import WRITE_EVERY_S, Index
from controller.orchestration import Orchestration
from controller.project import Aggregate, fold, settled
from controller.shelf import Head, Place, Unusable

log = logging.getLogger(__name__)

BATCH_BYTES_MAX = 512 * 1024
"""Of a batch of several decisions; a single larger decision goes alone."""
BATCH_DECISIONS_MAX = 512
RETRY_S = 0.1
REJECTED_RETRY_S = 2.0
BEYOND_MAX = 100_000
"""Messages remembered past one that was not read yet."""
WRITE_RETRY_S = 5.0
"""After the index could not be written; what is new stays in memory."""


class Appended(NamedTuple):
    """A message of ours or of another controller, and where it stands."""

    message: LedgerMessage
    head: Head


class _Frame(Struct, frozen=True):
    """A ledger message whose decisions are encoded already."""

    v: int
    type: str
    project: str
    batch: str
    by: str
    prev: str
    plane_seq: int
    core: int
    decisions: list[msgspec.Raw]


NO_HEAD = Head(0, codec.ZERO_HASH)


class Ledger:
    """State of all projects, with their heads and the key index.

    `position_seq` is the newest message that is folded, `whole_seq` the newest up to which all are: one that still appends while
    another controller does, too, has its own message and not yet what the other wrote to other projects before it.
    """

    def __init__(self, bus: Bus, owner: str, index: Index | None = None) -> None:
        """Start empty; `catch_up` folds what is stored. With an index, `start` takes what it has and `keep_index` writes it on."""
        self._bus, self._owner = bus, owner
        self.index = index
        self._writing = anyio.Lock()
        self._is_alarmed = False
        self.states: dict[str, Aggregate] = {PLANE: Aggregate(PLANE)}
        self.heads: dict[str, Head] = {}
        self.keys = KeyIndex(None if index is None else index.find_key)
        self.position_seq = self.whole_seq = 0
        self._beyond: set[int] = set()
        self._in_flight: set[str] = set()
        self.stopped: dict[str, str] = {}
        self.foreign_counts: dict[str, int] = {}
        """How many messages of each project were read back: what was decided before that was decided on less."""
        self._read_back: Appended | None = None
        self.on_foreign: Callable[[LedgerMessage], None] | None = None
        """Told each message that another controller appended while this one is active."""

    @property
    def plane(self) -> Aggregate:
        """The registry of projects, nodes and flags."""
        return self.states[PLANE]

    def state(self, project: str) -> Aggregate:
        """Return a project's state; empty for one without a decision yet."""
        return self.states.get(project) or Aggregate(project)

    def head(self, project: str) -> Head:
        """Return a project's newest message."""
        return self.heads.get(project, NO_HEAD)

    def is_stopped(self, project: str) -> bool:
        """Return whether nothing may be decided on a project, because its ledger cannot be trusted."""
        return self._is_alarmed or project in self.stopped

    # ── what has ended ───────────────────────────────────────────────────────────────────────────────────────────────

    def orchestration(self, name: str) -> Orchestration | None:
        """Return an orchestration, live or ended, or None. Raises BadId, Unusable."""
        o = self.state(project_of(name)).orchestrations.get(name)
        return o if o is not None or self.index is None else self.index.shelf.orchestration(name)

    def receipt(self, action: str) -> tuple[Receipt, str] | None:
        """Return the receipt of an action and the id of its command, or None. Raises BadId, Unusable."""
        state = self.state(project_of(action))
        receipt = state.actions.get(action)
        if receipt is not None:
            return receipt, state.commands.get(action) or ""
        return None if self.index is None else self.index.shelf.receipt(action)

    def with_orchestration(self, state: Aggregate, name: str) -> Aggregate:
        """Return a state with an orchestration that is to be decided on, if there is one of this name. Raises Unusable."""
        return state if self.index is None else self.index.with_orchestration(state, name)

    def cleared(self, state: Aggregate) -> Aggregate:
        """Return a state that was built on an older one, without what has left the memory since."""
        return state if self.index is None else self.index.cleared(state)

    # ── the index ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Take what the index has, if it is of this ledger. Raises Unavailable, ApiFailure."""
        if self.index is None:
            return
        stored = await stream_state(self._bus, subjects.LEDGER)
        place = self.adopt(self.index)
        difference = await index_check.compared(self._bus, stored, place)
        self.index.created = stored.created.isoformat()
        if difference.whole is None and not difference.projects:
            log.info("the index %s knows the ledger up to %d of %d", self.index.shelf.path, place.seq, stored.last_seq)
            return
        self._alarm(difference)

    def adopt(self, index: Index) -> Place:
        """Take the state that an index has, and return up to where that is; one that cannot be read is begun anew."""
        try:
            place, states = index.shelf.place(), index.shelf.load()
        except Unusable as error:
            index.replace_shelf(str(error))
            place, states = index.shelf.place(), index.shelf.load()
        self.states, self.heads, self.whole_seq = states, dict(place.heads), place.seq
        self.position_seq = max([place.seq, *(head.seq for head in place.heads.values())])
        return place

    def _alarm(self, difference: index_check.Difference) -> None:
        """Stop what the ledger has lost; the rest goes on from the newest message that is still the same."""
        assert self.index is not None
        accept = f"To accept the ledger as it is, stop the controller and delete {self.index.shelf.path}"
        if difference.whole is not None:
            self._is_alarmed = True
            for project in {PLANE, *self.states}:
                self._stop(project, f"{difference.projects.get(project) or difference.whole}. {accept}")
            return
        for project, why in difference.projects.items():
            self._stop(project, f"{why}. {accept}")
        self.position_seq = max((head.seq for project, head in self.heads.items() if project not in self.stopped), default=0)
        self.whole_seq = min(self.whole_seq, self.position_seq)

    async def keep_index(self) -> None:
        """Write to the index what is new, for ever."""
        while self.index is not None:
            with anyio.move_on_after(WRITE_EVERY_S):
                await self.index.arrived.wait()
            if not await self.write_index():
                await anyio.sleep(WRITE_RETRY_S)

    async def write_index(self) -> bool:
        """Write to the index what is not there yet, and let go of what has ended; return whether nothing failed.

        Never waited for on the way of a decision.
        """
        index = self.index
        if index is None or self._is_alarmed or index.shelf.failed is not None:
            return True
        async with self._writing:
            index.arrived = anyio.Event()
            place = Place(index.created, self.whole_seq, dict(self.heads))
            written = await index.write(self.states, self.keys.hand_over(), place)
            if written:
                self.keys.written()
            else:
                self.keys.not_written()
            return written

    async def close(self) -> None:
        """Write what came last, and close the index."""
        if self.index is not None:
            await self.write_index()
            self.index.close()

    # ── folding ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def catch_up(self) -> int:
        """Fold everything stored up to now; return how many messages that were. Raises Unavailable."""
        last_seq = (await stream_state(self._bus, subjects.LEDGER)).last_seq
        if last_seq <= self.whole_seq or self._is_alarmed:
            return 0
        count, stopped, next_seq = 0, len(self.stopped), self.whole_seq + 1
        missing, first_missing = 0, 0
        try:
            async with aclosing(read_up_to(self._bus, subjects.LEDGER, ("qd.ledger.*",), self.whole_seq + 1, last_seq)) as batches:
                async for batch in batches:
                    for stored in batch:
                        if stored.seq != next_seq:
                            missing, first_missing = missing + stored.seq - next_seq, first_missing or next_seq
                        next_seq = stored.seq + 1
                        self.fold_stored(stored)
                        self.whole_seq = max(self.whole_seq, stored.seq)
                        count += 1
                        if self.index is not None and self.index.is_full:
                            await self.write_index()
                    self._beyond = {seq for seq in self._beyond if seq > self.whole_seq}
        except Hole as hole:
            self._stop_all(str(hole))
        if missing > len(self.stopped) - stopped:
            self._stop_all(f"ledger message {first_missing} is missing ({missing} in all), and no chain of hashes says of which project it was")
        return count

    def _stop_all(self, reason: str) -> None:
        # a message that nobody can read any more may be of any project, and the newest of it
        self._is_alarmed = True
        self.stop(dict.fromkeys((PLANE, *self.states), f"{reason}. `qd audit verify` says what else is wrong"))

    async def catch_up_project(self, project: str, batch: str = "") -> Appended | None:
        """Fold what stands after our head of one subject, and the registry as far as others knew it; return our own message of `batch`.

        Each message of others is told of as soon as it is folded. Raises Unavailable; what was folded before stays folded.
        """
        ours: Appended | None = None
        while True:
            stored = await self._bus.next_after(subjects.LEDGER, subjects.ledger(project), self.head(project).seq)
            message = None if stored is None else self.fold_stored(stored)
            if message is None:
                return ours
            self.foreign_counts[project] = self.foreign_counts.get(project, 0) + 1
            if message.batch == batch:
                ours = self._read_back = Appended(message, self.head(project))
            elif self.on_foreign is not None:
                self.on_foreign(message)
            if project != PLANE and message.plane_seq > self.head(PLANE).seq:
                # what is decided next on this project must not know less of the registry than what stands there
                await self.catch_up_project(PLANE)

    def fold_stored(self, stored: Stored) -> LedgerMessage | None:
        """Fold a stored message and return it; None when its project is stopped or it was folded before."""
        project = stored.subject.rpartition(".")[2]
        self._passed(stored.seq)
        head = self.head(project)
        if project in self.stopped or stored.seq <= head.seq:
            return None
        try:
            message = codec.decode_ledger(stored.data)
        except codec.Malformed as error:
            self._stop(project, f"ledger message {stored.seq} does not decode: {error}")
            return None
        if message.prev != head.sha256:
            self._stop(project, f"ledger message {stored.seq} does not follow {head.seq}: the chain of hashes is broken")
            return None
        state = self.state(project)
        if self.index is not None:
            state = self.index.with_all_of(state, message)
        self._take(fold(state, message, stored.seq), message, stored.seq, codec.body_sha256(stored.data))
        return message

    def stop(self, reasons: Mapping[str, str]) -> None:
        """Stop these projects, each for its reason; one that is stopped keeps its first reason."""
        for project, reason in reasons.items():
            if project not in self.stopped:
                self._stop(project, reason)

    def _stop(self, project: str, reason: str) -> None:
        # loudly, and only this project: what does not follow from its ledger must not be decided on
        log.critical("project %s is stopped: %s", project, reason)
        self.stopped[project] = reason

    def _passed(self, seq: int) -> None:
        """Note that a message is folded, or of a project that is stopped."""
        self.position_seq = max(self.position_seq, seq)
        if seq > self.whole_seq:
            self._beyond.add(seq)
        while self.whole_seq + 1 in self._beyond:
            self.whole_seq += 1
            self._beyond.discard(self.whole_seq)
        if len(self._beyond) > BEYOND_MAX:
            self._beyond.clear()  # read again, some day: what is folded is known by its project's head

    def _take(self, state: Aggregate, message: LedgerMessage, seq: int, sha256: str) -> None:
        self.states[message.project] = self.cleared(state)
        self.heads[message.project] = Head(seq, sha256)
        self.keys.add(message)
        self._passed(seq)
        if self.index is not None:
            self.index.note(message)

    async def append(
        self, project: str, base: Head, decisions: Sequence[Decision], encoded: list[msgspec.Raw], after: Aggregate, plane_seq: int
    ) -> Appended:
        """Append decisions that were made on the state as of `base`; return the message and where it stands.

        `after` is the state they lead to, `plane_seq` the message of the registry that they were decided against.

        Raises Conflict when the ledger went on from there, after folding what came in between (decide again); waits as long as the
        outcome is unknown.
        """
        head = self.head(project)
        if head != base:
            raise Conflict(f"{project} was folded up to {head.seq} since this was decided on {base.seq}")
        frame = _Frame(
            v=codec.VERSION,
            type="ledger-message",
            project=project,
            batch=host.unique(),
            by=self._owner,
            prev=head.sha256,
            plane_seq=plane_seq,
            core=CORE_VERSION,
            decisions=encoded,
        )
        data = codec.encode(frame)
        assert len(data) <= subjects.LEDGER_BYTES_MAX, f"a decision of {len(data)} bytes: what it is made of must be bounded"
        self._in_flight.add(project)
        try:
            return await self._append(frame, data, head, decisions, after)
        finally:
            self._in_flight.discard(project)

    async def _append(self, frame: _Frame, data: bytes, head: Head, decisions: Sequence[Decision], after: Aggregate) -> Appended:
        project, batch = frame.project, frame.batch
        while True:
            try:
                ack = await self._bus.append(subjects.ledger(project), data, expect_last=head.seq)
            except Rejected as error:
                # the store is full, say: nothing may be decided past it, and it may pass
                log.critical("the ledger of %s takes no message: %s", project, error)
                await anyio.sleep(REJECTED_RETRY_S)
                continue
            except (Conflict, Unavailable) as error:
                ours, moved = await self._look(project, batch)
                if ours is not None:
                    return ours
                if moved or isinstance(error, Conflict):
                    raise Conflict(f"{project} moved on from {head.seq}") from error
                continue  # not there: the same compare-and-set again, of which at most one can win
            failpoint("controller.stored")
            message = LedgerMessage(
                v=frame.v,
                type=frame.type,
                project=project,
                batch=batch,
                by=self._owner,
                prev=frame.prev,
                plane_seq=frame.plane_seq,
                core=frame.core,
                decisions=tuple(decisions),
            )
            sha256 = codec.body_sha256(data)
            if self.head(project).seq < ack.seq:  # else it was read back already, by somebody who had to know what stands here
                self._take(settled(after, message, ack.seq), message, ack.seq, sha256)
            return Appended(message, Head(ack.seq, sha256))

    async def first_unknown(self) -> int | None:
        """Return the first stored message that is neither folded nor perhaps our own; None: there is none. Raises Unavailable, ApiFailure."""
        last_seq = (await stream_state(self._bus, subjects.LEDGER)).last_seq
        if last_seq <= self.whole_seq or self._is_alarmed:
            return None
        stored = await self._bus.next_after(subjects.LEDGER, "qd.ledger.*", self.whole_seq)
        project = "" if stored is None else stored.subject.rpartition(".")[2]
        if stored is None or stored.seq <= self.head(project).seq or project in self._in_flight or project in self.stopped:
            return None
        return stored.seq

    async def was_behind(self, project: str) -> bool:
        """Return whether the ledger of a project had messages that were not folded; they are now. Raises Unavailable."""
        last = await self._bus.last(subjects.LEDGER, subjects.ledger(project))
        if last is None or last.seq <= self.head(project).seq:
            return False
        await self.catch_up_project(project)
        return True

    async def _look(self, project: str, batch: str) -> tuple[Appended | None, bool]:
        """Fold what stands after our head, however long the bus takes to answer.

        Return our own message of `batch` if it is there, and whether anything was there at all.
        """
        before = self.foreign_counts.get(project, 0)
        ours: Appended | None = None
        while True:
            try:
                ours = await self.catch_up_project(project, batch) or self._own(batch)
                return ours, self.foreign_counts.get(project, 0) > before
            except Unavailable:
                await anyio.sleep(RETRY_S)

    def _own(self, batch: str) -> Appended | None:
        """Return our message of `batch` if a look that was cut off had read it already."""
        known = self._read_back
        return known if known is not None and known.message.batch == batch else None
