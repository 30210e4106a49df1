"""Logs: what attempts printed, read from the LOG stream by its sequence. Owns an ephemeral consumer for the length of a question.

The server says how much there is for the asked attempts, so an answer with nothing left needs no waiting to be sure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from bus import host
from bus.connection import ApiFailure, Bus
from bus.errors import Unavailable
from bus.pull import Delivery
from bus_schemas import subjects
from bus_schemas.subjects import LOG
from bus_schemas.views import LogChunk

PAGE_BYTES_MAX = 512 * 1024
"""Of the text of one answer; JSON may need up to twice as much for it."""
ARRIVE_TIMEOUT_S = 5.0
IDLE_S = 30


class LogPage(NamedTuple):
    """Chunks in the order in which they were stored, and the cursor to go on from."""

    chunks: list[LogChunk]
    next: int


class Logs:
    """Reads the output of attempts."""

    def __init__(self, bus: Bus) -> None:
        """Read over `bus`."""
        self._bus = bus

    async def page(self, runs: Sequence[str], after: int, limit: int, wait_s: float) -> LogPage:
        """Return up to `limit` chunks of `runs` after the cursor; waits up to `wait_s` for the first one. Raises Unavailable and ApiFailure."""
        if not runs:
            return LogPage([], after)
        arrived: asyncio.Queue[Delivery] = asyncio.Queue()

        async def take(message: Any) -> None:
            arrived.put_nowait(Delivery(self._bus, message))

        inbox = f"{subjects.inbox(self._bus.principal)}.{host.unique()}"
        subscription = await self._bus.subscribe(inbox, take)
        name = f"logs-{host.unique()}"
        try:
            pending = await self._consumer(name, runs, after)
            if pending == 0 and wait_s <= 0:
                return LogPage([], after)
            return await self._pull(name, inbox, arrived, after, min(limit, pending) or 1, 0.0 if pending else wait_s)
        finally:
            with contextlib.suppress(Unavailable, ApiFailure):
                await self._bus.api(f"CONSUMER.DELETE.{LOG}.{name}", timeout_s=0.5)
            with contextlib.suppress(Exception):  # the connection may be gone, and the subscription with it
                await subscription.unsubscribe()

    async def _consumer(self, name: str, runs: Sequence[str], after: int) -> int:
        """Make a consumer and return how many chunks there are for it now."""
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "ack_policy": "none",
            "filter_subjects": [f"qd.log.*.{run}.*" for run in runs],
            "inactive_threshold": int(IDLE_S * 1e9),
            "mem_storage": True,
            "num_replicas": 1,
        }
        made = await self._bus.api(f"CONSUMER.CREATE.{LOG}.{name}", {"stream_name": LOG, "config": config, "action": "create"})
        return int(made["num_pending"])

    async def _pull(self, name: str, inbox: str, arrived: asyncio.Queue[Delivery], after: int, count: int, wait_s: float) -> LogPage:
        expires_s = max(wait_s, ARRIVE_TIMEOUT_S if wait_s <= 0 else 0.0)
        request = b'{"batch":%d,"max_bytes":%d,"expires":%d}' % (count, PAGE_BYTES_MAX, int(expires_s * 1e9))
        await self._bus.publish(f"$JS.API.CONSUMER.MSG.NEXT.{LOG}.{name}", request, reply=inbox)
        chunks: list[LogChunk] = []
        deadline = host.monotonic_s() + expires_s + 0.5
        while len(chunks) < count:
            try:
                message = await asyncio.wait_for(arrived.get(), max(0.0, deadline - host.monotonic_s()))
            except TimeoutError:
                break
            if message.headers.get("Status"):  # no more within the time, or the next one would be too much
                break
            chunks.append(_chunk(message))
        return LogPage(chunks, chunks[-1].cursor if chunks else after)


def _chunk(message: Delivery) -> LogChunk:
    _, _, node, run, attempt = message.subject.split(".")
    offset = message.headers.get("qd-offset", "0")
    return LogChunk(
        run=run,
        attempt=int(attempt),
        node=node,
        offset=int(offset) if offset.isdecimal() else 0,
        at=message.stored_at,
        cursor=message.seq,
        text=message.data.decode("utf-8", "replace"),
    )
