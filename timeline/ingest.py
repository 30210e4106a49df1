"""Ingest: the ledger's messages into the database, each exactly once, and loud about a ledger that is not what it was.

A ledger that was rewound, made again, or whose chain of hashes is broken stops ingest for good; what was read stays and
is served. There is no silent new start: a human decides, usually by removing the file so that it is made again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import aclosing

import anyio
import anyio.abc
import duckdb

from bus import host
from bus.connection import NO_STREAM, ApiFailure, Bus, Stored
from bus.errors import Unavailable
from bus.failpoint import failpoint
from bus.reader import Reader, StreamState, stream_state
from bus_schemas import codec
from bus_schemas.events import RecordedHead
from bus_schemas.subjects import LEDGER
from bus_schemas.views import AlarmView
from timeline.alarm import alarm, of_head, with_lost
from timeline.batch import IngestPosition, pieces
from timeline.database import Database
from timeline.preparation import Prepared
from timeline.projection import utc
from timeline.store import Unusable, WriteFailed

log = logging.getLogger(__name__)

SUBJECTS = ("qd.ledger.*",)
MESSAGES_MAX = 5000
"""Taken from the reader at once; as many mean that there is more to catch up with."""
BATCH_BYTES = 4 * 1024**2
"""Of one transaction, about: some thousand rows, so that its fixed cost is small and the next is soon ready."""
PACE_S = 0.1
"""Between the starts of two transactions under load: a transaction costs some milliseconds however small it is."""
LOOK_EVERY_S = 1.0
RETRY_S = 0.2
RETRY_MAX_S = 5.0
HOLE_AFTER_S = 5.0
"""Without progress, before the stream is asked whether what comes next is there at all."""
HEADS_AT_ONCE = 16
HEADS_MAX = 1_000_000

_HEADS = "SELECT subject, seq, sha256 FROM ingest_heads ORDER BY seq DESC"


def judge(position: IngestPosition, state: StreamState) -> AlarmView | None:
    """Return why a stream does not continue what was read up to `position`, or None. Pure."""
    if utc(state.created) != position.created:
        return alarm(
            "remade",
            f"stream {position.stream} was made again at {utc(state.created)} UTC; this timeline is of the one made at {position.created} UTC:"
            " remove its file to make it anew",
        )
    if state.last_seq < position.last_seq:
        text = (
            f"stream {position.stream} was rewound: it ends at {state.last_seq}, and {position.last_seq} was read before."
            " Acknowledged decisions are missing from it"
        )
        return alarm("lost-tail", text, seq=position.last_seq, expected=position.last_sha256)
    if state.messages and state.first_seq > position.last_seq + 1:
        text = f"ledger messages {position.last_seq + 1} to {state.first_seq - 1} are missing from stream {position.stream}"
        return alarm("missing", text, seq=position.last_seq + 1)
    return None


class Ingest:
    """Reads the ledger into a database. `state` is `following`, or `stopped` with the reason; a reason while following is trouble being retried."""

    def __init__(self, bus: Bus, database: Database) -> None:
        """Nothing is read before `run`."""
        self._bus, self._database = bus, database
        self._scope = anyio.CancelScope()
        self.state = "following"
        self.reason: str | None = None
        self.alarm: AlarmView | None = None
        self.ledger_seq = 0
        self._heads_are_compared = False
        self._still = (0, 0.0)
        self._retry_s = RETRY_S

    async def run(self) -> None:
        """Read until cancelled; when the ledger cannot be trusted, stop reading and wait."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_now_and_then)
            with self._scope:
                while True:
                    await self._follow_until_trouble()
            await anyio.sleep_forever()

    async def _follow_until_trouble(self) -> None:
        """Follow; after trouble with the file return when it is worth trying again."""
        try:
            await self._follow()
        except* WriteFailed as failed:
            self.reason = f"cannot write, trying again: {failed.exceptions[0]}"
            log.error("%s", self.reason)
            self._database.rewind()
            await anyio.sleep(self._retry_s)
            self._retry_s = min(RETRY_MAX_S, 2 * self._retry_s)
        except* (Unusable, duckdb.Error) as unusable:
            log.critical("the file cannot be used any more and is opened again: %s", unusable.exceptions[0])
            await anyio.sleep(self._retry_s)
            await self._database.open()

    def _stop(self, found: AlarmView) -> None:
        self.state, self.reason, self.alarm = "stopped", found.text, found
        log.critical("ingest is stopped: %s. %s", found.text, found.next_step)
        self._scope.cancel()

    # ── looking at the stream ────────────────────────────────────────────────────────────────────────────────────────

    async def _look_now_and_then(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        """Compare the stream with what was read; stop where it is not the same. No answer of the bus is no answer."""
        position = self._database.ingested  # first: what is read while the bus answers must not look like a rewind
        try:
            state = await stream_state(self._bus, LEDGER)
        except Unavailable:
            return
        except ApiFailure as failure:
            if failure.err_code == NO_STREAM and position is not None and position.last_seq > 0 and self.state == "following":
                self._stop(alarm("gone", f"stream {LEDGER} does not exist any more; {position.last_seq} messages of it were read before"))
            return
        self.ledger_seq = state.last_seq
        try:
            problem = None if position is None else await self._named(judge(position, state), state) or await self._hole(state)
        except (Unavailable, ApiFailure, duckdb.Error) as error:
            log.debug("not looked this time: %s", error)
            return
        if problem is not None and self.state == "following":
            self._stop(problem)

    async def _named(self, found: AlarmView | None, state: StreamState) -> AlarmView | None:
        """Return an alarm with the projects that have lost their newest messages, if that is what it is about."""
        if found is None or found.kind != "lost-tail":
            return found
        return with_lost(found, [head for head in await self._heads() if head.seq > state.last_seq])

    async def _heads(self) -> list[RecordedHead]:
        """Return the newest message that was read of each project, newest first."""
        rows = (await self._database.read(_HEADS, limit=HEADS_MAX)).rows
        return [RecordedHead(subject.rpartition(".")[2], seq, sha256) for subject, seq, sha256 in rows]

    async def _hole(self, state: StreamState) -> AlarmView | None:
        """Return the alarm of messages that the stream counts and does not give: what is damaged in its store never arrives."""
        position, now_s = self._database.ingested, host.monotonic_s()
        last_seq = 0 if position is None else position.last_seq
        if last_seq >= state.last_seq or last_seq != self._still[0] or self.reason is not None:
            self._still = (last_seq, now_s)
        if now_s - self._still[1] < HOLE_AFTER_S:
            return None
        following = await self._bus.next_after(LEDGER, "qd.ledger.>", last_seq)
        if following is not None and following.seq == last_seq + 1:
            return None
        text = f"stream {LEDGER} says that it ends at {state.last_seq}, and gives no message {last_seq + 1}: what is stored there is damaged"
        return alarm("damaged", text, seq=last_seq + 1)

    async def _begin(self) -> IngestPosition:
        """Return the position to go on from, once the stream was seen to be the one that was read before."""
        while True:
            try:
                state = await stream_state(self._bus, LEDGER)
                position = await self._database.begin(LEDGER, utc(state.created))
                problem = await self._named(judge(position, state), state) or await self._other_message(position) or await self._other_heads()
            except (Unavailable, ApiFailure) as error:
                log.warning("waiting for the ledger: %s", error)
                await anyio.sleep(RETRY_S)
                continue
            if problem is not None:
                self._stop(problem)
                await anyio.sleep_forever()
            self.ledger_seq = state.last_seq
            return position

    async def _other_message(self, position: IngestPosition) -> AlarmView | None:
        """Return why the newest message that was read is not in the stream as it was: a tail was lost and others were written in its place."""
        if position.last_seq == 0:
            return None
        stored = await self._bus.next_after(LEDGER, "qd.ledger.>", position.last_seq - 1)
        if stored is not None and stored.seq == position.last_seq and codec.body_sha256(stored.data) == position.last_sha256:
            return None
        found = None if stored is None or stored.seq != position.last_seq else codec.body_sha256(stored.data)
        text = f"ledger message {position.last_seq} is not the one that was read before: the ledger was rewound and written on"
        project = None if stored is None else stored.subject.rpartition(".")[2]
        return alarm("changed", text, project=project, seq=position.last_seq, expected=position.last_sha256, found=found)

    async def _other_heads(self) -> AlarmView | None:
        """Return the alarm of the first project whose newest message is not as it was read; looked at once in a process' life."""
        if self._heads_are_compared:
            return None
        wrong: list[AlarmView] = []
        failures: list[Unavailable | ApiFailure] = []
        limit = anyio.CapacityLimiter(HEADS_AT_ONCE)

        async def compare(noted: RecordedHead) -> None:
            try:
                async with limit:
                    stored = await self._bus.next_after(LEDGER, f"qd.ledger.{noted.project}", noted.seq - 1)
            except (Unavailable, ApiFailure) as error:
                failures.append(error)
                return
            found = codec.body_sha256(stored.data) if stored is not None and stored.seq == noted.seq else None
            if found != noted.sha256:
                wrong.append(of_head(noted, "read before", 0 if stored is None else stored.seq, found))

        async with anyio.create_task_group() as tasks:
            for noted in await self._heads():
                tasks.start_soon(compare, noted)
        if failures:
            raise failures[0]
        self._heads_are_compared = not wrong
        return min(wrong, key=lambda found: found.seq or 0, default=None)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self) -> None:
        """Read from the position on, for ever. Raises WriteFailed and Unusable (in groups): then start again from the position."""
        position = await self._begin()
        reader = Reader(self._bus, LEDGER, SUBJECTS, position.last_seq + 1, batch_max=MESSAGES_MAX)
        restarts = 0
        async with anyio.create_task_group() as tasks, aclosing(reader.batches()) as batches:
            written = anyio.Event()
            written.set()
            async for messages in batches:
                failpoint("timeline.fetched")
                if reader.restarts > restarts:
                    restarts = reader.restarts
                    await self._look()
                started = host.monotonic_s()
                self.ledger_seq = max(self.ledger_seq, messages[-1].seq)
                for piece in pieces(messages, BATCH_BYTES):
                    written = await self._write_behind(tasks, piece, written)
                if len(messages) < MESSAGES_MAX:  # else there is more to catch up with: prepare it meanwhile
                    await written.wait()
                    await anyio.sleep(max(0.0, PACE_S - (host.monotonic_s() - started)))

    async def _write_behind(self, tasks: anyio.abc.TaskGroup, messages: Sequence[Stored], before: anyio.Event) -> anyio.Event:
        """Prepare messages while the batch before is written, then begin to write them; return the event of their being written."""
        prepared = await self._database.prepare(messages, before.wait)
        await before.wait()
        written = anyio.Event()
        tasks.start_soon(self._write, prepared, written)
        if prepared.batch.stopped is not None:
            await written.wait()
            self._stop(prepared.batch.stopped)
            await anyio.sleep_forever()
        return written

    async def _write(self, prepared: Prepared, written: anyio.Event) -> None:
        await self._database.write(prepared)
        self.reason, self._retry_s = None, RETRY_S
        written.set()
