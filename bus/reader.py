"""Ordered reading of a stream from a sequence on, without acks: for replay, for the timeline, for followers.

An ephemeral push consumer with flow control. A gap in its own numbering means that something was missed: the reader
starts again after the last message it gave, so what it yields is contiguous.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import NamedTuple

import anyio
import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus import host
from bus.connection import ApiFailure, Bus, Stored, stored_at_of
from bus.errors import Unavailable

HEARTBEAT_S = 2.0
SILENCE_S = 5.0
RETRY_S = 0.2
STOP_S = 1.0
HOLE_SILENCE_S = 1.0
HOLE_SILENCES = 2
"""So often in a row nothing comes and nothing is there, before what should be there counts as damaged."""
QUEUE_BYTES_MAX = 64 * 1024**2
"""While more than this is waiting to be taken, the server is not told to go on: a slow reader must not fill the memory."""


class Hole(Exception):
    """A stream says that it holds messages which it cannot give: they are damaged or gone. The message says which."""


class StreamState(NamedTuple):
    """What a stream says of itself; a changed `created` means that it is another stream of the same name."""

    created: datetime
    first_seq: int
    last_seq: int
    messages: int


async def stream_state(bus: Bus, stream: str) -> StreamState:
    """Return the state of a stream. Raises Unavailable and ApiFailure."""
    info = await bus.api(f"STREAM.INFO.{stream}")
    state = info["state"]
    return StreamState(msgspec.convert(info["created"], datetime), state["first_seq"], state["last_seq"], state["messages"])


class Reader:
    """Yields batches of stored messages of `subjects` in order, from `start_seq` on, for ever."""

    def __init__(self, bus: Bus, stream: str, subjects: tuple[str, ...], start_seq: int, *, batch_max: int = 2000) -> None:
        """Say what to read; nothing happens before `batches`."""
        self._bus, self._stream, self._subjects = bus, stream, subjects
        self._next_seq = start_seq
        self._batch_max = batch_max
        self._queue: list[Stored] = []
        self._arrived = asyncio.Event()
        self._consumer_seq = 0
        self._inbox = ""
        self._heard = 0.0
        self._broken = False
        self._queued_bytes = 0
        self._owed: str | None = None
        self._subscription: Subscription | None = None
        self._name: str | None = None
        self.restarts = -1

    async def batches(self) -> AsyncGenerator[list[Stored], None]:
        """Yield what has come, at least one message each time; starts again by itself after gaps and reconnects."""
        forget = self._bus.on_reconnect(self._break)
        try:
            while True:
                await self._start()
                while not self._broken:
                    if not self._queue:
                        self._arrived.clear()
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._arrived.wait(), HEARTBEAT_S)
                        if host.monotonic_s() - self._heard > SILENCE_S:
                            break
                        continue
                    taken, self._queue = self._queue[: self._batch_max], self._queue[self._batch_max :]
                    self._next_seq = taken[-1].seq + 1
                    self._queued_bytes -= sum(len(stored.data) for stored in taken)
                    await self._go_on()
                    yield taken
                await self._stop()
        finally:
            forget()
            # also when cancelled: a subscription that is left behind would be renewed at each reconnect
            with anyio.move_on_after(STOP_S, shield=True):
                await self._stop()

    async def _start(self) -> None:
        self._queue, self._consumer_seq, self._broken, self._queued_bytes, self._owed = [], 0, False, 0, None
        self.restarts += 1
        while True:
            self._inbox = self._bus.nc.new_inbox()
            self._heard = host.monotonic_s()
            name = f"read-{host.unique()}"
            try:
                self._subscription = await self._bus.subscribe(self._inbox, self._on_message)
                config = {
                    "name": name,
                    "deliver_subject": self._inbox,
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": max(1, self._next_seq),
                    "ack_policy": "none",
                    "max_deliver": 1,
                    "flow_control": True,
                    "idle_heartbeat": int(HEARTBEAT_S * 1e9),
                    "inactive_threshold": int(30 * 1e9),
                    "mem_storage": True,
                    "num_replicas": 1,
                    "filter_subjects": list(self._subjects),
                }
                await self._bus.api(f"CONSUMER.CREATE.{self._stream}.{name}", {"stream_name": self._stream, "config": config, "action": "create"})
                self._name = name
                return
            except (Unavailable, ApiFailure):
                await self._stop()
                await asyncio.sleep(RETRY_S)

    async def _stop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
        name, self._name = self._name, None
        if name is not None and self._bus.is_connected:
            with contextlib.suppress(Exception):
                await self._bus.api(f"CONSUMER.DELETE.{self._stream}.{name}", timeout_s=0.5)

    async def _on_message(self, message: Msg) -> None:
        self._heard = host.monotonic_s()
        headers = message.headers or {}
        if headers.get("Status") == "100":
            stalled = headers.get("Nats-Consumer-Stalled")
            if message.reply or stalled:  # flow control: the server waits for our answer
                self._owed = message.reply or stalled
                await self._go_on()
            elif int(headers.get("Nats-Last-Consumer", 0)) != self._consumer_seq:
                self._break()
            return
        tokens = message.reply.split(".")
        meta = tokens[2:] if len(tokens) == 9 else tokens[4:]
        if int(meta[4]) != self._consumer_seq + 1:
            self._break()
            return
        self._consumer_seq += 1
        self._queue.append(Stored(message.subject, int(meta[3]), stored_at_of(int(meta[5])), message.data, headers))
        self._queued_bytes += len(message.data)
        self._arrived.set()

    async def _go_on(self) -> None:
        """Answer the server's flow control, unless too much is waiting."""
        if self._owed is None or self._queued_bytes > QUEUE_BYTES_MAX:
            return
        owed, self._owed = self._owed, None
        with contextlib.suppress(Unavailable):
            await self._bus.publish(owed, b"")

    def _break(self) -> None:
        # what is already queued is contiguous and is given out again after the restart, from the same sequence
        self._broken = True
        self._queue = []
        self._arrived.set()


async def read_up_to(
    bus: Bus, stream: str, subjects: tuple[str, ...], start_seq: int, last_seq: int, *, batch_max: int = 2000
) -> AsyncGenerator[list[Stored], None]:
    """Yield what is stored of `subjects` from `start_seq` to `last_seq`, in order, then end; `last_seq` must be a message of theirs.

    A stored message that is damaged is never delivered, so that a reader would wait for the last one for ever: where nothing comes
    and the stream itself has nothing to give, this raises Hole. Raises Unavailable and ApiFailure when the stream cannot be asked.
    """
    next_seq, silences = start_seq, 0
    while next_seq <= last_seq:
        async with aclosing(Reader(bus, stream, subjects, next_seq, batch_max=batch_max).batches()) as batches:
            while next_seq <= last_seq:
                found: list[Stored] = []
                with anyio.move_on_after(HOLE_SILENCE_S):
                    found = await anext(batches)
                if not found:
                    break
                next_seq, silences = found[-1].seq + 1, 0
                yield [stored for stored in found if stored.seq <= last_seq]
        if next_seq <= last_seq and not await _has_more(bus, stream, subjects, next_seq):
            silences += 1
            if silences >= HOLE_SILENCES:
                raise Hole(f"stream {stream} says that it ends at {last_seq}, and gives nothing from {next_seq} on: what is stored there is damaged")


async def _has_more(bus: Bus, stream: str, subjects: tuple[str, ...], next_seq: int) -> bool:
    for subject in subjects:
        if await bus.next_after(stream, subject, next_seq - 1) is not None:
            return True
    return False
