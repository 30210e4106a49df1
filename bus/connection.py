"""One connection to NATS with the client rules of the house: short pings, endless reconnects, no ghost publishes.

Owns the nats-py client. A CLOSED connection never comes back, so whoever serves exits and a supervisor restarts it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus import host
from bus.errors import AlreadyThere, Conflict, Denied, NotSent, Rejected, Unavailable
from bus_schemas.subjects import HEADER_BYTES_MAX, LOCAL_PRINCIPAL, SUBJECT_BYTES_MAX, inbox

EXPECTED_LAST_SUBJECT_SEQ = "Nats-Expected-Last-Subject-Sequence"

WRONG_LAST_SEQ = 10071
"""Checked against the applied state: certain."""
WRITE_IN_FLIGHT = 10164
"""Another write of that subject is in flight and may still fail: not a conflict yet."""
STORE_FAILED = 10077
NO_MESSAGE = 10037
NO_STREAM = 10059

PING_EVERY_S = 2
RECONNECT_WAIT_S = 0.1
CONNECT_TIMEOUT_S = 2.0
APPEND_TIMEOUT_S = 5.0
PENDING_MSGS_MAX = 1_000_000
PENDING_BYTES_MAX = 512 * 1024 * 1024

EX_TEMPFAIL = 75
"""Exit code of a service whose connection closed for good (sysexits.h)."""


class Credentials(NamedTuple):
    """Who connects: the principal, and how it is proven (one of token and nkey seed file, or neither)."""

    principal: str = LOCAL_PRINCIPAL
    token: str | None = None
    seed_file: Path | None = None


class PubAck(NamedTuple):
    """Where a message was stored."""

    stream: str
    seq: int


class Stored(NamedTuple):
    """A message as a stream keeps it."""

    subject: str
    seq: int
    stored_at: datetime
    data: bytes
    headers: dict[str, str]


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    error: _ApiError | None = None


_ack = msgspec.json.Decoder(_Ack)

Handler = Callable[[Msg], Awaitable[None]]


class _Entry:
    """A callback with an identity of its own, since the same one may be registered twice."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback


class Bus:
    """A connection, and the few ways in which the house writes and reads.

    `closed` is set when the connection is gone for good; `failure` then says why.
    """

    def __init__(self, url: str, credentials: Credentials) -> None:
        """Prepare a connection that `connect` opens."""
        self.url = url
        self.principal = credentials.principal
        self.closed = asyncio.Event()
        self.failure: str | None = None
        self.errors = 0
        self._opening = False
        self._closing: asyncio.Task[None] | None = None
        self._nc = host.current.get().client()
        self.credentials = credentials
        self._reconnected: list[_Entry] = []

    @property
    def nc(self) -> Client:
        """The nats-py client; for this package only."""
        return self._nc

    @property
    def is_connected(self) -> bool:
        """Whether the server is there right now."""
        return bool(self._nc.is_connected)

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each reconnect; it must not raise and not wait. Calling what is returned ends that."""
        entry = _Entry(callback)
        self._reconnected.append(entry)

        def forget() -> None:
            if entry in self._reconnected:
                self._reconnected.remove(entry)

        return forget

    async def open(self, name: str, *, retry: bool) -> None:
        """Connect. Raises Unavailable when there is no server (with `retry`: waits for it) and Denied when it refuses us."""
        options: dict[str, Any] = {
            "servers": [self.url],
            "name": name,
            "inbox_prefix": inbox(self.principal).encode(),
            "ping_interval": PING_EVERY_S,
            "max_outstanding_pings": 2,
            "reconnect_time_wait": RECONNECT_WAIT_S,
            "max_reconnect_attempts": -1,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "pending_size": 0,
            "drain_timeout": 3,
            "error_cb": self._on_error,
            "closed_cb": self._on_closed,
            "reconnected_cb": self._on_reconnected,
        }
        if self.credentials.token:
            options["token"] = self.credentials.token
        if self.credentials.seed_file:
            options["nkeys_seed_str"] = _seed_of(self.credentials.seed_file)
        while True:
            try:
                await asyncio.wait_for(self._try_once(options), CONNECT_TIMEOUT_S + 1.0)
                return
            except (OSError, nats.errors.Error, TimeoutError) as error:
                text = str(error) or type(error).__name__
                with contextlib.suppress(Exception):
                    await self._nc.close()
                self.closed.clear()
                self._nc = host.current.get().client()
                if "uthorization" in text or "uthentication" in text:
                    raise Denied(f"{self.url} refused these credentials: {text}") from error
                if not retry:
                    raise Unavailable(f"no bus at {self.url}: {text}") from error
            await asyncio.sleep(RECONNECT_WAIT_S * 2)

    async def _try_once(self, options: dict[str, Any]) -> None:
        # nats-py retries a first connection for ever when reconnects are endless, whatever the server says; what its error
        # callback raises comes out of `connect`
        self._opening = True
        try:
            await self._nc.connect(**options)
        finally:
            self._opening = False

    async def _on_error(self, error: Exception) -> None:
        if self._opening:
            raise error
        self.errors += 1
        text = str(error).lower()
        if "permissions violation" in text or "authorization" in text:
            self.failure = str(error)
            self.closed.set()
        if "authorization" in text and self._closing is None:
            # our key was taken away: nats-py would ask again ten times a second, for ever
            self._closing = asyncio.create_task(self._nc.close())

    async def _on_closed(self) -> None:
        if self.failure is None:
            self.failure = "the connection is closed"
        self.closed.set()

    async def _on_reconnected(self) -> None:
        for entry in list(self._reconnected):
            entry.callback()

    async def close(self) -> None:
        """Close, sending what is buffered; never raises."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._nc.drain(), 4)
        with contextlib.suppress(Exception):
            await self._nc.close()

    async def append(
        self,
        subject: str,
        data: bytes,
        *,
        expect_last: int | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = APPEND_TIMEOUT_S,
    ) -> PubAck:
        """Store a message and return where, once it is on disk. With `expect_last`: only if that is the subject's last sequence.

        Raises Conflict, AlreadyThere, Rejected (all certain: nothing of ours was stored) or Unavailable (unknown).
        """
        if expect_last is not None:
            headers = {**(headers or {}), EXPECTED_LAST_SUBJECT_SEQ: str(expect_last)}
        check_limits(subject, headers)
        reply = await self.request_raw(subject, data, headers=headers, timeout_s=timeout_s)
        ack = _ack.decode(reply.data)
        if ack.error is None:
            return PubAck(ack.stream, ack.seq)
        raise _append_error(subject, ack.error)

    async def write_once(self, subject: str, data: bytes) -> bool:
        """Return True when this call wrote the one message of `subject`, False when it was there. Raises Unavailable, Rejected."""
        try:
            await self.append(subject, data)
        except (AlreadyThere, Conflict):
            return False
        return True

    async def publish(self, subject: str, data: bytes, *, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """Publish without storage and without an answer. Raises Unavailable."""
        check_limits(subject, headers)
        try:
            await self._nc.publish(subject, data, reply, headers)
        except nats.errors.Error as error:
            raise Unavailable(f"cannot publish: {error}") from error

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Return when the server has taken everything published so far. Raises Unavailable."""
        try:
            # nats-py writes its PING in front of what is still buffered, so that the answer would say nothing about that
            await asyncio.wait_for(self._nc._flush_pending(force_flush=True), timeout_s)
            await self._nc.flush(int(max(1, timeout_s)))
        except (nats.errors.Error, TimeoutError) as error:
            raise Unavailable(f"the bus did not answer: {error}") from error

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Call `handler` for each message of `subject`, one after the other. Raises Unavailable."""
        try:
            return await self._nc.subscribe(
                subject, queue=queue, cb=handler, pending_msgs_limit=PENDING_MSGS_MAX, pending_bytes_limit=PENDING_BYTES_MAX
            )
        except nats.errors.Error as error:
            raise Unavailable(f"cannot subscribe {subject}: {error}") from error

    async def request_raw(self, subject: str, data: bytes, *, headers: dict[str, str] | None = None, timeout_s: float = APPEND_TIMEOUT_S) -> Msg:
        """Return the first answer. Raises Unavailable: nobody there, or no answer in time (the request may have been taken)."""
        try:
            return await self._nc.request(subject, data, timeout=timeout_s, headers=headers)
        except nats.errors.NoRespondersError as error:
            raise NotSent(f"nobody answers on {subject}") from error
        except (nats.errors.OutboundBufferLimitError, nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError) as error:
            raise NotSent(f"no connection to {self.url}") from error
        except (nats.errors.Error, TimeoutError, asyncio.InvalidStateError) as error:
            raise Unavailable(f"no answer on {subject} within {timeout_s:g} s: {error or type(error).__name__}") from error

    async def api(self, name: str, body: dict[str, Any] | None = None, *, timeout_s: float = APPEND_TIMEOUT_S) -> dict[str, Any]:
        """Return the answer of the JetStream API. Raises Unavailable, or ApiFailure with the server's code."""
        reply = await self.request_raw(f"$JS.API.{name}", b"" if body is None else msgspec.json.encode(body), timeout_s=timeout_s)
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        if "error" in answer:
            raise ApiFailure(name, int(answer["error"].get("err_code", 0)), str(answer["error"].get("description", "")))
        return answer

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the newest message of a subject as the stream's leader has it, or None. Raises Unavailable."""
        return await self._get(stream, {"last_by_subj": subject})

    async def next_after(self, stream: str, subject: str, seq: int) -> Stored | None:
        """Return the first message of a subject after `seq` as the stream's leader has it, or None. Raises Unavailable."""
        return await self._get(stream, {"seq": seq + 1, "next_by_subj": subject})

    async def read_back(self, stream: str, subject: str) -> bytes | None:
        """Return the newest body of a subject by direct get, which an identity may be allowed for its own subjects only. Raises Unavailable."""
        reply = await self.request_raw(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"")
        status = (reply.headers or {}).get("Status")
        if status == "404":
            return None
        if status:
            raise Unavailable(f"cannot read {subject} back: status {status}")
        return bytes(reply.data)

    async def _get(self, stream: str, body: dict[str, Any]) -> Stored | None:
        try:
            found = (await self.api(f"STREAM.MSG.GET.{stream}", body))["message"]
        except ApiFailure as failure:
            if failure.err_code == NO_MESSAGE:
                return None
            raise
        return Stored(
            subject=found["subject"],
            seq=found["seq"],
            stored_at=msgspec.convert(found["time"], datetime),
            data=msgspec.convert(found.get("data", ""), bytes),
            headers={},
        )


class ApiFailure(Exception):
    """The JetStream API refused; `err_code` is the server's."""

    def __init__(self, api: str, err_code: int, description: str) -> None:
        """Keep the code."""
        super().__init__(f"{api}: {description} ({err_code})")
        self.err_code = err_code
        self.description = description


def _seed_of(seed_file: Path) -> str:
    # read here: nats-py takes a seed file only without its last newline, and a missing one would look like a missing server
    from bus.identity import BadIdentity, public_of  # here: it costs 30 ms, which most starts need not pay

    try:
        public_of(seed_file)
        return seed_file.read_text().strip()
    except (OSError, BadIdentity) as error:
        raise Denied(f"cannot use the key {seed_file}: {error}") from error


def _append_error(subject: str, error: _ApiError) -> Exception:
    if error.err_code == WRONG_LAST_SEQ:
        last = error.description.rpartition(" ")[2]
        return Conflict(f"{subject}: {error.description}", int(last) if last.isdecimal() else None)
    if error.err_code == STORE_FAILED and "per subject" in error.description:
        return AlreadyThere(f"{subject}: {error.description}")
    full = error.err_code == STORE_FAILED and error.description.endswith("exceeded")
    if error.err_code == WRITE_IN_FLIGHT or (error.code == 503 and not full):
        return Unavailable(f"{subject}: {error.description} ({error.err_code})")
    return Rejected(f"{subject}: {error.description} ({error.err_code})")


def check_limits(subject: str, headers: dict[str, str] | None) -> None:
    """Raise Rejected for a subject or headers that would make the server drop the connection."""
    if len(subject) > SUBJECT_BYTES_MAX or not subject.isascii():
        raise Rejected(f"subject of {len(subject)} characters: at most {SUBJECT_BYTES_MAX}, ASCII")
    if headers and sum(len(key) + len(value) + 4 for key, value in headers.items()) > HEADER_BYTES_MAX:
        raise Rejected(f"headers are over {HEADER_BYTES_MAX} bytes")


async def connect(url: str, name: str, credentials: Credentials | None = None, *, retry: bool = False) -> Bus:
    """Return an open connection. Raises Unavailable (without `retry`) and Denied."""
    bus = Bus(url, credentials or Credentials())
    await bus.open(name, retry=retry)
    return bus


def stored_at_of(timestamp_ns: int) -> datetime:
    """Return a JetStream time in nanoseconds as UTC, microseconds kept."""
    return datetime.fromtimestamp(timestamp_ns // 1000 / 1_000_000, UTC)
