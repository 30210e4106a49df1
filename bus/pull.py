"""Continuous pull of a durable consumer: overlapping pull requests, one inbox, idle heartbeats.

`fetch(n > 1)` of nats-py stalls for its whole time limit after an empty fetch (nats.py #986); this does not, and is
several times faster.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from datetime import datetime
from types import TracebackType

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus import host
from bus.connection import Bus, stored_at_of
from bus.errors import ConsumerGone, Unavailable

HEARTBEAT_S = 2.0
EXPIRES_S = 20.0
MISSED_HEARTBEATS = 2.5
RETRY_S = 0.1
UNANSWERED_S = 2.0
"""For so long nobody may answer our requests, as while a server starts; after that the consumer does not exist."""


class Delivery:
    """A message that a consumer delivered. It comes again unless it is acknowledged or terminated."""

    __slots__ = ("_bus", "_meta", "data", "headers", "reply", "subject")

    def __init__(self, bus: Bus, message: Msg) -> None:
        """Wrap what nats-py gave."""
        self._bus = bus
        self.subject: str = message.subject
        self.data: bytes = message.data
        self.headers: dict[str, str] = message.headers or {}
        self.reply: str = message.reply
        self._meta: list[str] | None = None

    def _tokens(self) -> list[str]:
        # $JS.ACK[.domain.account].stream.consumer.delivered.stream_seq.consumer_seq.timestamp.pending[.token]
        if self._meta is None:
            tokens = self.reply.split(".")
            self._meta = tokens[2:] if len(tokens) == 9 else tokens[4:]
        return self._meta

    @property
    def seq(self) -> int:
        """The stream sequence."""
        return int(self._tokens()[3])

    @property
    def delivered(self) -> int:
        """How often it was delivered, this time included."""
        return int(self._tokens()[2])

    @property
    def stored_at(self) -> datetime:
        """When the stream stored it."""
        return stored_at_of(int(self._tokens()[5]))

    @property
    def pending(self) -> int:
        """How many more wait behind it."""
        return int(self._tokens()[6])

    async def ack(self) -> None:
        """Tell the server that it is done. A lost ack only means one more delivery."""
        with contextlib.suppress(Unavailable):
            await self._bus.publish(self.reply, b"+ACK")

    async def nak(self, delay_s: float = 0.0) -> None:
        """Ask for it again after `delay_s`."""
        body = b"-NAK " + msgspec.json.encode({"delay": int(delay_s * 1e9)}) if delay_s else b"-NAK"
        with contextlib.suppress(Unavailable):
            await self._bus.publish(self.reply, body)

    async def in_progress(self) -> None:
        """Start its ack wait again."""
        with contextlib.suppress(Unavailable):
            await self._bus.publish(self.reply, b"+WPI")

    async def terminate(self, reason: str) -> None:
        """Never deliver it again, for this reason (ASCII, shown in the server's advisory)."""
        text = ascii(reason)[1:-1][:200]
        with contextlib.suppress(Unavailable):
            await self._bus.publish(self.reply, b"+TERM " + text.encode())


class PullLoop:
    """Keeps up to `want` messages asked for; `batch` gives what has come. Use as an async context manager."""

    def __init__(self, bus: Bus, stream: str, consumer: str, *, want: int = 256) -> None:
        """Name the durable consumer; it must exist."""
        self._bus = bus
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self.name = f"{stream}/{consumer}"
        self.want = want
        self.stalls = 0
        self._ready: deque[Delivery] = deque()
        self._outstanding = 0
        self._requests = 0
        self._heard = 0.0
        self._deadline = 0.0
        self._arrived = asyncio.Event()
        self._wake = asyncio.Event()
        self._forget: Callable[[], None] | None = None
        self._gone: ConsumerGone | None = None
        self._unanswered_since: float | None = None
        self._inbox = bus.nc.new_inbox()
        self._subscription: Subscription | None = None
        self._watchdog: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PullLoop:
        """Subscribe the inbox and ask for the first messages."""
        self._subscription = await self._bus.subscribe(f"{self._inbox}.*", self._on_message)
        self._heard = host.monotonic_s()
        self._forget = self._bus.on_reconnect(self.restart)
        self._watchdog = asyncio.create_task(self._watch())
        await self._pull()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop asking; what was delivered and not acknowledged comes again."""
        if self._forget:
            self._forget()
        if self._watchdog:
            self._watchdog.cancel()
        if self._subscription:
            with contextlib.suppress(Exception):
                await self._subscription.unsubscribe()

    @property
    def waiting(self) -> int:
        """How many delivered messages were not taken yet."""
        return len(self._ready)

    async def _pull(self) -> None:
        n = self.want - self._outstanding - len(self._ready)
        if n <= 0:
            return
        self._requests += 1
        body = {"batch": n, "expires": int(EXPIRES_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        self._outstanding += n
        self._deadline = host.monotonic_s() + EXPIRES_S
        with contextlib.suppress(Unavailable):  # the watchdog asks again
            await self._bus.publish(self._subject, msgspec.json.encode(body), reply=f"{self._inbox}.{self._requests}")

    async def _on_message(self, message: Msg) -> None:
        self._heard = host.monotonic_s()
        headers = message.headers
        status = headers.get("Status") if headers else None
        if status != "503":
            self._unanswered_since = None
        if status is None or message.reply:
            self._outstanding = max(0, self._outstanding - 1)
            self._ready.append(Delivery(self._bus, message))
            self._arrived.set()
            if self._outstanding + len(self._ready) <= self.want // 2:
                await self._pull()
            return
        if status == "100":
            return
        description = (headers or {}).get("Description", "")
        if status == "409" and ("Consumer Deleted" in description or "Consumer is push based" in description):
            self._outstanding = 0  # the watchdog asks again: it may be made anew
            self._is_gone(description)
            return
        if status == "503":
            now = host.monotonic_s()
            self._unanswered_since = self._unanswered_since or now
            if now - self._unanswered_since > UNANSWERED_S:
                self._unanswered_since = None
                self._is_gone("nobody answers; there is no such consumer")
        # 404, 408, 409, 503: that request is over; what it still asked for is not coming
        left = int((headers or {}).get("Nats-Pending-Messages") or 0)
        self._outstanding = max(0, self._outstanding - left) if left else 0
        if status in ("409", "503"):
            await asyncio.sleep(RETRY_S)
        await self._pull()

    def _is_gone(self, why: str) -> None:
        self._gone = ConsumerGone(f"{self.name}: {why}")
        self._arrived.set()

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), HEARTBEAT_S / 4)
            self._wake.clear()
            now = host.monotonic_s()
            silent = self._outstanding > 0 and now - self._heard > MISSED_HEARTBEATS * HEARTBEAT_S
            if silent or (self._outstanding and now > self._deadline + 1):
                self.stalls += 1
                self._outstanding, self._heard = 0, now
            if self._outstanding + len(self._ready) <= self.want // 2:
                await self._pull()

    def restart(self) -> None:
        """Forget what was asked for and ask again: after a reconnect the server has forgotten it too. Called by itself then."""
        self._outstanding = 0
        self._wake.set()

    async def batch(self, limit: int = 1024) -> list[Delivery]:
        """Return what has come, at least one message and at most `limit`; waits for the first.

        Raises ConsumerGone; calling again then waits for the consumer to be made anew.
        """
        while not self._ready:
            gone, self._gone = self._gone, None
            if gone:
                raise gone
            self._arrived.clear()
            await self._arrived.wait()
        self._gone = None
        n = min(limit, len(self._ready))
        taken = [self._ready.popleft() for _ in range(n)]
        if self._outstanding + len(self._ready) <= self.want // 2:
            await self._pull()
        return taken
