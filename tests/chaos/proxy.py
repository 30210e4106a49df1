"""A TCP proxy that makes bad networks: latency, jitter, narrow lines, resets, cuts, half-open peers, silence in one direction.

Owns one thread with an event loop of its own, so that a driver which waits for something does not hold the traffic back.
Each component connects through a link of its own and can be partitioned alone. Links may be changed from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")

CHUNK_BYTES = 64 * 1024
TICK_S = 0.02
CONNECT_S = 2.0
CALL_S = 10.0
HELD_CHUNKS_MAX = 64
"""Of one direction that are delayed or held; beyond them the sender is held back, as by a full window."""


class Flow(StrEnum):
    """What happens to bytes of one direction."""

    PASS = "pass"
    """They arrive."""
    HOLD = "hold"
    """They arrive when the link heals: what TCP does in a partition that ends before its patience. Nobody new connects."""
    SWALLOW = "swallow"
    """They are lost for good. TCP never loses bytes inside a connection, so that is reset when the link heals."""


class Weather(NamedTuple):
    """How a link is. `up` is from the client to the server. 0 bytes a second is no limit."""

    up: Flow = Flow.PASS
    down: Flow = Flow.PASS
    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    bytes_per_s: int = 0
    refuse: bool = False
    """New connections are reset at once."""
    cut_after_bytes: int | None = None
    """Each connection is reset after so many more bytes in one direction, wherever in a frame that is."""


CLEAR = Weather()
HALF_OPEN = Weather(up=Flow.SWALLOW, down=Flow.SWALLOW)
"""The peer is gone without a word: what is sent is lost, and new connections are taken and never answered."""
PARTITION = Weather(up=Flow.HOLD, down=Flow.HOLD)


class _Pipe:
    """One connection through a link."""

    def __init__(self, link: Link, client: asyncio.StreamWriter) -> None:
        self._link, self._client = link, client
        self._server: asyncio.StreamWriter | None = None
        self.lost_bytes = 0
        self._left: dict[str, int | None] = {}
        self.arm(link.weather)

    def arm(self, weather: Weather) -> None:
        """Count from now to the cut, if there is to be one."""
        self._left = dict.fromkeys(("up", "down"), weather.cut_after_bytes)

    def reset(self) -> None:
        """End both sides with RST, as a machine that has lost its memory does."""
        _reset(self._client)
        if self._server is not None:
            _reset(self._server)

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Serve the connection until one side ends it."""
        if Flow.SWALLOW in (self._link.weather.up, self._link.weather.down):
            await self._swallow(reader)
            return
        while Flow.HOLD in (self._link.weather.up, self._link.weather.down):
            await asyncio.sleep(TICK_S)  # its SYN has not arrived
        upstream = await asyncio.wait_for(asyncio.open_connection(*self._link.upstream), CONNECT_S)
        self._server = upstream[1]
        ways = {
            asyncio.ensure_future(self._copy(reader, self._server, "up")),
            asyncio.ensure_future(self._copy(upstream[0], self._client, "down")),
        }
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if any(way.exception() is None and way.result() == "up" for way in done):
                self._link.closed_by_client_at = time.monotonic()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        self.lost_bytes = 1
        while await reader.read(CHUNK_BYTES):
            pass
        self._link.closed_by_client_at = time.monotonic()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> str:
        """Bring bytes of one direction over until its sender ends, in order, each after the link's delay."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS_MAX)
        carrier = asyncio.ensure_future(self._carry(line, writer, direction))
        try:
            while data := await reader.read(CHUNK_BYTES):
                await line.put((time.monotonic() + self._link.delay_s(), data))
                if carrier.done():
                    break
            if self._link.flow(direction) is Flow.PASS:
                await line.put((0.0, b""))
                await carrier
        finally:
            carrier.cancel()
            await asyncio.gather(carrier, return_exceptions=True)
        return direction

    async def _carry(self, line: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, direction: str) -> None:
        while True:
            due, data = await line.get()
            if not data:
                return
            if (wait_s := due - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            while self._link.flow(direction) is Flow.HOLD:
                await asyncio.sleep(TICK_S)
            if self._link.flow(direction) is Flow.SWALLOW or self.lost_bytes:
                self.lost_bytes += len(data)
            else:
                await self._send(writer, data, direction)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, direction: str) -> None:
        left = self._left[direction]
        if left is not None and len(data) >= left:
            writer.write(data[:left])
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.drain(), CONNECT_S)
            self.reset()
            raise ConnectionResetError("cut")
        if left is not None:
            self._left[direction] = left - len(data)
        if rate := self._link.weather.bytes_per_s:
            await asyncio.sleep(len(data) / rate)
        writer.write(data)
        await writer.drain()


class Link:
    """A port that leads to `upstream`, with its weather. Made by `Proxy.open`."""

    def __init__(self, name: str, upstream: tuple[str, int], loop: asyncio.AbstractEventLoop, seed: int) -> None:
        self.name, self.upstream = name, upstream
        self.weather = CLEAR
        self.accepted = 0
        self.closed_by_client_at: float | None = None
        """Monotonic time of the newest end of a connection that the client's side made."""
        self.port = 0
        self._loop = loop
        self._random = random.Random(seed)
        self._pipes: set[_Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where a client of NATS connects."""
        return f"nats://127.0.0.1:{self.port}"

    # ── from any other thread ────────────────────────────────────────────────────────────────────────────────────────

    def turn(self, weather: Weather) -> None:
        """Change the weather, also of connections that are open; those that lost bytes are reset when bytes pass again."""
        self._call(lambda: self._set(weather))

    def heal(self) -> None:
        """Make the weather clear."""
        self.turn(CLEAR)

    def reset(self) -> int:
        """Reset all connections that are open; return how many."""
        return self._call(lambda: self._reset(self._pipes))

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._pipes)

    def _call(self, work: Callable[[], Result]) -> Result:
        async def there() -> Result:
            return work()

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(CALL_S)

    # ── in the proxy's thread ────────────────────────────────────────────────────────────────────────────────────────

    def flow(self, direction: str) -> Flow:
        """Return what happens to bytes of a direction now."""
        return self.weather.up if direction == "up" else self.weather.down

    def delay_s(self) -> float:
        """Return how long the next bytes are under way."""
        return max(0.0, self.weather.latency_ms + self._random.uniform(-1, 1) * self.weather.jitter_ms) / 1000

    def _set(self, weather: Weather) -> None:
        self.weather = weather
        for pipe in self._pipes:
            pipe.arm(weather)
        if Flow.SWALLOW not in (weather.up, weather.down):
            self._reset({pipe for pipe in self._pipes if pipe.lost_bytes})

    @staticmethod
    def _reset(pipes: set[_Pipe]) -> int:
        for pipe in list(pipes):
            pipe.reset()
        return len(pipes)

    async def listen(self, port: int) -> None:
        """Take connections from now on."""
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """End the port and its connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # a task of our own: the one that asyncio's streams would make complains when it is cancelled
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        pipe = _Pipe(self, writer)
        if self.weather.refuse:
            pipe.reset()
            return
        self._pipes.add(pipe)
        try:
            await pipe.run(reader)
        except (OSError, TimeoutError):
            pass  # that side is gone; the other one is told below
        finally:
            self._pipes.discard(pipe)
            pipe.reset()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    """All links of a rig. Use as a context manager."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.links: dict[str, Link] = {}

    def __enter__(self) -> Proxy:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End all connections and the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(CALL_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)
        self._loop.close()

    def open(self, name: str, upstream: tuple[str, int], port: int = 0) -> Link:
        """Return a new link that listens, on a free port unless one is named."""
        link = Link(name, upstream, self._loop, hash((self._seed, len(self.links))))
        asyncio.run_coroutine_threadsafe(link.listen(port), self._loop).result(CALL_S)
        self.links[name] = link
        return link

    def heal(self) -> None:
        """Make the weather of all links clear."""
        for link in self.links.values():
            link.heal()

    async def _end(self) -> None:
        for link in self.links.values():
            await link.end()
