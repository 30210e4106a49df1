"""The client of a simulated host: nats-py's own client above a simulated connection instead of a socket.

Owns one connection. What nats-py decides (reconnecting, draining, matching answers to requests, subscriptions and their tasks)
is its own code; replaced is what reads and writes bytes, and every use of the machine's clock and randomness.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from nats import errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from tests.simulation.link import Link

if TYPE_CHECKING:
    from tests.simulation.host import SimHost

NUID_CHARS = 22

Item = tuple[Any, ...]


class _Names:
    """Gives names as nats-py's generator does, from the seed."""

    def __init__(self, host: SimHost) -> None:
        self._host = host

    def next(self) -> bytearray:
        return bytearray(self._host.chance.randbytes(NUID_CHARS // 2).hex().encode())


class _Transport:
    """The client's end of one connection; what comes on one that was given up is not heard any more."""

    def __init__(self, client: SimClient) -> None:
        self._client = client
        self.link: Link | None = None

    def received(self, item: Item) -> None:
        self._client.received(item)

    def ended(self, *, reset: bool) -> None:
        self._client.ended(reset=reset)

    def write(self, item: Item) -> None:
        if self.link is not None:
            self.link.up.send(item)

    def writelines(self, items: list[Item]) -> None:
        for item in items:
            self.write(item)

    async def drain(self) -> None:
        return

    def close(self) -> None:
        if self.link is not None:
            self.link.down.drop()
            self.link.up.end()

    def vanish(self) -> None:
        """Go without a word: the machine is gone."""
        if self.link is not None:
            self.link.down.drop()
            self.link.up.abandon()

    async def wait_closed(self) -> None:
        return


class SimClient(Client):
    """A client of nats-py on a simulated host."""

    _transport: Any
    _pending: list[Any]

    def __init__(self, host: SimHost) -> None:
        super().__init__()
        self._host = host
        self._loop = host.loop
        self._nuid = _Names(host)  # type: ignore[assignment]
        self._context = copy_context()
        self._handshake: asyncio.Future[dict[str, Any]] | None = None
        self._early_end: Exception | None = None
        """That the connection ended before a handshake began: as in nats-py, that reads it then."""
        self._flush_handle: asyncio.Handle | None = None
        self._flushed: list[asyncio.Future[None]] = []
        host.clients.append(self)

    # ── connecting ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _select_next_server(self) -> None:
        """Connect, with a pause after a failure, by the virtual clock."""
        server = self._server_pool[0]
        while True:
            if server.last_attempt is not None:
                await asyncio.sleep(self.options["reconnect_time_wait"])
            server.last_attempt = self._loop.time()
            try:
                self._host.check()
                await self._connect_to_server(server)
                self._current_server = server
                return
            except (OSError, errors.Error, TimeoutError) as error:
                server.reconnects += 1
                self._err = error
                await self._error_cb(error)

    async def _connect_to_server(self, server: Any) -> None:
        network, transport = self._host.network, _Transport(self)
        if self._transport is not None:
            self._transport.close()
        await asyncio.sleep(network.latency_s())
        self._host.check()
        self._early_end = None
        transport.link = network.open(self._host.name, transport, self._context)
        if transport.link is None:
            await asyncio.sleep(self.options["connect_timeout"])
            raise TimeoutError("nats: timeout")
        self._transport = transport
        await asyncio.sleep(network.latency_s())

    async def _process_connect_init(self) -> None:
        if self._early_end is not None:
            raise self._early_end
        self._status = Client.CONNECTING
        self._handshake = asyncio.get_running_loop().create_future()
        self._transport.write(("connect", self.options["name"], self.options["token"]))
        try:
            info = await asyncio.wait_for(self._handshake, self.options["connect_timeout"])
        finally:
            self._handshake = None
        self._server_info = info
        self._max_payload = info["max_payload"]
        self._pongs = []
        self._pings_outstanding = 0
        self._status = Client.CONNECTED
        self._ping_interval_task = asyncio.get_running_loop().create_task(self._ping_interval())

    async def _attempt_reconnect(self) -> None:
        if self._ping_interval_task is not None:
            self._ping_interval_task.cancel()
        self._host.check()
        self._transport.close()
        self._release_flushes()
        self._reconnection_task_future = asyncio.get_running_loop().create_future()
        while True:
            try:
                await self._select_next_server()
                await self._process_connect_init()
                self._host.check()
                assert self._current_server is not None
                self.stats["reconnects"] += 1
                self._current_server.reconnects = 0
                for sid, sub in self._subs.items():
                    self._transport.write(("sub", sid, sub._subject, sub._queue))
                await self._flush_pending()
                await self.flush()
                if self._reconnected_cb is not None:
                    await self._reconnected_cb()
                break
            except (OSError, errors.Error, TimeoutError) as error:
                self._err = error
                await self._error_cb(error)
                self._status = Client.RECONNECTING
            except asyncio.CancelledError:
                break
        future, self._reconnection_task_future = self._reconnection_task_future, None
        if future is not None and not future.done():  # one that was cancelled by the next has none left
            future.set_result(True)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None) -> None:
        """Publish as nats-py does; a dead host's publishes go nowhere."""
        self._host.check()
        await super().publish(subject, payload, reply, headers)

    async def _send_publish(self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None) -> None:
        if subject == "":
            raise errors.BadSubjectError
        shown = None if headers is None else {key.strip(): str(value).strip() for key, value in headers.items()}
        self._pending.append(("pub", subject, reply, bytes(payload), shown))
        self._kick()

    async def _send_subscribe(self, sub: Subscription) -> None:
        self._pending.append(("sub", sub._id, sub._subject, sub._queue))
        self._kick()

    async def _send_unsubscribe(self, sid: int, limit: int = 0) -> None:
        self._pending.append(("unsub", sid, limit))
        self._kick()

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # nats-py writes a ping in front of what it has not written yet
        self._pongs.append(future if future is not None else asyncio.get_running_loop().create_future())
        self._transport.write(("ping",))
        self._kick()

    def _kick(self) -> None:
        if self._flush_handle is None and self.is_connected:
            self._flush_handle = self._loop.call_soon(self._write_pending, context=self._context)

    def _write_pending(self) -> None:
        self._flush_handle = None
        if self.is_connected and self._host.alive:
            items, self._pending = self._pending, []
            self._transport.writelines(items)
        self._release_flushes()

    def _release_flushes(self) -> None:
        waiting, self._flushed = self._flushed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        if not self.is_connected:
            return None
        self._kick()
        if force_flush:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._flushed.append(future)
            await future
        return None

    async def flush(self, timeout: int = 10) -> None:
        """Return when the server has answered a ping."""
        if timeout <= 0:
            raise errors.BadTimeoutError
        if self.is_closed:
            raise errors.ConnectionClosedError
        self._host.check()
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        try:
            await self._send_ping(future)
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise errors.FlushTimeoutError from None

    async def _request_new_style(self, subject: str, payload: bytes, timeout: float = 1, headers: dict[str, Any] | None = None) -> Any:
        if self.is_draining_pubs:
            raise errors.ConnectionDrainingError
        self._host.check()
        if not self._resp_sub_prefix:
            await self._init_request_sub()
        assert self._resp_sub_prefix is not None
        token = self._nuid.next().decode()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._resp_map[token] = future
        try:
            await self.publish(subject, payload, reply=self._resp_sub_prefix.decode() + token, headers=headers)
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise errors.TimeoutError from None
        finally:
            self._resp_map.pop(token, None)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def received(self, item: Item) -> None:
        """Take what the server sent."""
        if not self._host.alive:
            return
        match item[0]:
            case "msg":
                self._message(*item[1:])
            case "pong":
                self._pong()
            case "ping":
                self._transport.write(("pong",))
            case _:
                assert item[0] == "info"
                if self._handshake is not None and not self._handshake.done():
                    self._handshake.set_result(item[1])

    def _message(self, sid: int, subject: str, reply: str, data: bytes, headers: dict[str, str] | None) -> None:
        sub = self._subs.get(sid)
        if sub is None:
            return
        sub._received += 1
        if 0 < sub._max_msgs <= sub._received:
            self._subs.pop(sid, None)
        message = self.msg_class(_client=self, subject=subject, reply=reply, data=data, headers=dict(headers) if headers else None, _sid=sid)
        sub._pending_size += len(data)
        sub._pending_queue.put_nowait(message)

    def _pong(self) -> None:
        if self._pongs:
            future = self._pongs.pop(0)
            if not future.done():
                future.set_result(True)
            self._pongs_received += 1
            self._pings_outstanding = 0

    def ended(self, *, reset: bool) -> None:
        """Take in that the server is gone."""
        if not self._host.alive:
            return
        failure: Exception = ConnectionResetError("the connection was reset") if reset else errors.UnexpectedEOF()
        if self._handshake is not None:
            if not self._handshake.done():
                self._handshake.set_exception(failure)
            return
        if not self.is_connected:
            self._early_end = failure
            return
        self._loop.create_task(self._lost(failure), context=self._context)

    async def _lost(self, failure: Exception) -> None:
        if not isinstance(failure, ConnectionResetError):
            await self._error_cb(failure)
        await self._process_op_err(failure)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def vanish(self, *, silently: bool) -> None:
        """Be gone at once, as with the process; `silently`, as with the machine, not even the server is told."""
        self._pending.clear()
        self._release_flushes()
        transport, self._transport = self._transport, None
        if transport is not None:
            if silently:
                transport.vanish()
            else:
                transport.close()
        self._status = Client.CLOSED
