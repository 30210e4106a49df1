"""Asking: a command and its receipt, a query and its answer; and serving queries.

A command is stored in a stream before it counts as sent. No receipt in time means: outcome unknown; the same key asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import anyio
import anyio.abc
import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.micro.request import Request
from nats.micro.service import Service, ServiceConfig

from bus import host
from bus.connection import Bus
from bus.errors import NotSent, Unavailable
from bus.failpoint import failpoint
from bus_schemas import codec, subjects
from bus_schemas.commands import Command, CommandEnvelope, Via, subject_project, type_of
from bus_schemas.decisions import Receipt
from bus_schemas.ids import idempotency_key

RECEIPT_TIMEOUT_S = 30.0
QUERY_TIMEOUT_S = 10.0
QUERIES_AT_ONCE = 64


class TooLarge(Exception):
    """A command over the limit; nothing was sent."""


class OutcomeUnknown(Exception):
    """A command was sent, or may have been, and no receipt came. Asking again with `key` is safe."""

    def __init__(self, message: str, key: str) -> None:
        """Keep the key."""
        super().__init__(message)
        self.key = key


class QueryFailed(Exception):
    """A query was answered with an error; `code` is a reason code."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the code."""
        super().__init__(message)
        self.code = code


def new_key() -> str:
    """Return a new idempotency key."""
    return host.unique()


class CommandClient:
    """Sends commands of one principal and waits for their receipts. Use as an async context manager; safe for many at once."""

    def __init__(self, bus: Bus, via: Via) -> None:
        """Send over `bus`, coming in by `via`."""
        self._bus, self._via = bus, via
        self._waiting: dict[str, asyncio.Future[Receipt]] = {}
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> CommandClient:
        """Listen for receipts before anything is sent."""
        self._subscription = await self._bus.subscribe(subjects.receipt(self._bus.principal, "x")[:-1] + "*", self._on_receipt)
        await self._bus.flush()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop listening."""
        if self._subscription:
            with contextlib.suppress(Exception):
                await self._subscription.unsubscribe()

    async def _on_receipt(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is not None and not waiting.done():
            with contextlib.suppress(codec.Malformed):
                waiting.set_result(codec.decode_receipt(message.data))

    def envelope(
        self,
        command: Command,
        key: str,
        *,
        reason: str | None = None,
        valid_for_s: float | None = None,
        dry_run: bool = False,
        trace: str | None = None,
    ) -> CommandEnvelope:
        """Return the envelope of a command with a new id. Raises BadId for a key that is not valid."""
        return CommandEnvelope(
            v=codec.VERSION,
            type=type_of(command),
            id=host.unique(),
            at=host.now(),
            via=self._via,
            key=idempotency_key(key),
            body=codec.command_body(command),
            reason=reason,
            valid_for_s=valid_for_s,
            dry_run=dry_run,
            trace=trace,
        )

    async def submit(
        self,
        command: Command,
        key: str,
        *,
        reason: str | None = None,
        valid_for_s: float | None = None,
        dry_run: bool = False,
        trace: str | None = None,
        timeout_s: float = RECEIPT_TIMEOUT_S,
    ) -> Receipt:
        """Return the receipt of a command, which is durable when it arrives.

        Raises BadId and TooLarge (nothing sent, cannot be), NotSent (nothing sent, try again), OutcomeUnknown, Rejected.
        """
        envelope = self.envelope(command, key, reason=reason, valid_for_s=valid_for_s, dry_run=dry_run, trace=trace)
        subject = subjects.command(self._bus.principal, subject_project(command), envelope.type, type(command).control_lane)
        return await self.submit_raw(subject, envelope.id, codec.encode(envelope), key, timeout_s)

    async def submit_raw(self, subject: str, command_id: str, data: bytes, key: str, timeout_s: float) -> Receipt:
        """Return the receipt of an encoded command. Raises as `submit`."""
        if len(data) > subjects.COMMAND_BYTES_MAX:
            raise TooLarge(f"the command has {len(data)} bytes; at most {subjects.COMMAND_BYTES_MAX}")
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._waiting[command_id] = future
        try:
            try:
                failpoint("client.before-request")
                await self._bus.append(subject, data, timeout_s=min(timeout_s, 5.0))
                failpoint("client.stored")
            except NotSent:
                raise
            except Unavailable as error:
                if not future.done():
                    raise OutcomeUnknown(f"the command may have been sent: {error}", key) from error
            try:
                receipt = await asyncio.wait_for(future, timeout_s)
                failpoint("client.receipt-read")
                return receipt
            except TimeoutError as error:
                raise OutcomeUnknown(f"the command was sent and not answered within {timeout_s:g} s", key) from error
        finally:
            del self._waiting[command_id]


async def ask(bus: Bus, name: str, params: dict[str, Any] | None = None, *, timeout_s: float = QUERY_TIMEOUT_S) -> dict[str, Any]:
    """Return the answer of a query. Raises QueryFailed with its reason code, and Unavailable."""
    reply = await bus.request_raw(subjects.query(name), codec.encode(params or {}), timeout_s=timeout_s)
    answer = codec.decode_object(reply.data)
    error = answer.get("error")
    if isinstance(error, dict) and "code" in error:
        raise QueryFailed(str(error["code"]), str(error.get("message", "")))
    return answer


QueryHandler = Callable[[dict[str, Any]], Awaitable[Any]]


class QueryService:
    """Answers queries as a nats.micro service, each in a task of its own, while the context is open."""

    def __init__(self, bus: Bus, name: str, version: str, handlers: dict[str, QueryHandler]) -> None:
        """`handlers` take the query's object and return the answer, or raise QueryFailed."""
        self._bus, self._name, self._version, self._handlers = bus, name, version, handlers
        self._service: Service | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._at_once = asyncio.Semaphore(QUERIES_AT_ONCE)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._service = Service(self._bus.nc, ServiceConfig(name=self._name, version=self._version))
            try:
                with contextlib.suppress(nats.errors.FlushTimeoutError):  # the bus is away: it hears of us when it is back
                    await self._service.start()
                for name, handler in self._handlers.items():
                    await self._service.add_endpoint(
                        name=name.replace(".", "-"),
                        subject=subjects.query(name),
                        handler=self._endpoint(handler),
                        queue_group="",
                    )
                task_status.started()
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
                    await asyncio.wait_for(self._service.stop(), 1)

    def _endpoint(self, handler: QueryHandler) -> Callable[[Request], Awaitable[None]]:
        async def start(request: Request) -> None:
            if self._tasks is not None:
                self._tasks.start_soon(self._answer, handler, request)

        return start

    async def _answer(self, handler: QueryHandler, request: Request) -> None:
        async with self._at_once:
            try:
                answer = codec.encode(await handler(codec.decode_object(request.data or b"{}")))
            except QueryFailed as error:
                answer = codec.encode({"error": {"code": error.code, "message": str(error)}})
            except codec.Malformed as error:
                answer = codec.encode({"error": {"code": "validation_invalid_payload", "message": str(error)}})
            if len(answer) > subjects.PAYLOAD_BYTES_MAX:
                answer = codec.encode({"error": {"code": "validation_too_large", "message": f"the answer has {len(answer)} bytes; ask for less"}})
            with contextlib.suppress(nats.errors.Error, msgspec.MsgspecError):
                await request.respond(answer)
