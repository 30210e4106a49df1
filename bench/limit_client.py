"""One round of the limit: its processes on a throw-away bus with the same streams and the same sync, and a bare client.

Owns those processes.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench import work
from bench.figures import Figures
from bench.limit import PENDING_BYTES_MAX, Publisher
from bench.pipeline import WINDOW, Launched, Sizes, measure
from bench.processes import Processes
from bus.bootstrap import Sync, ensure_all, ensure_consumer
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus_schemas import codec, subjects
from bus_schemas.commands import CommandEnvelope, Via
from bus_schemas.decisions import Receipt

RECEIPT_TIMEOUT_S = 60.0


class LimitClient:
    """Publishes launches and reads receipts, no more."""

    def __init__(self, nc: Client, publisher: Publisher) -> None:
        """`open` comes first."""
        self._nc, self._publisher = nc, publisher
        self._subject = subjects.command(subjects.LOCAL_PRINCIPAL, work.PROJECT, "launch", control_lane=False)
        self._waiting: dict[str, asyncio.Future[Receipt]] = {}
        self._made: set[str] = set()
        self._answered = asyncio.Event()

    async def open(self) -> LimitClient:
        """Listen for receipts."""
        subject = f"qd.receipt.{subjects.LOCAL_PRINCIPAL}.*"
        await self._nc.subscribe(subject, cb=self._on_receipt, pending_msgs_limit=1_000_000, pending_bytes_limit=PENDING_BYTES_MAX)
        await self._nc.flush()
        return self

    async def _on_receipt(self, message: Msg) -> None:
        receipt = codec.decode_receipt(message.data)
        self._made.add(receipt.orchestration or "")
        self._answered.set()
        waiting = self._waiting.pop(message.subject.rpartition(".")[2], None)
        if waiting is not None:
            waiting.set_result(receipt)

    def _envelope(self, number: int, series: str) -> CommandEnvelope:
        body = codec.command_body(work.launch(number, series))
        key = work.key(number, series)
        return CommandEnvelope(v=codec.VERSION, type="launch", id=uuid.uuid4().hex, at=datetime.now(UTC), via=Via.API, key=key, body=body)

    async def submit(self, number: int, series: str) -> Launched:
        """Return the receipt of a launch. Raises TimeoutError."""
        envelope = self._envelope(number, series)
        waiting = self._waiting[envelope.id] = asyncio.get_running_loop().create_future()
        await self._publisher.put(self._subject, codec.encode(envelope))
        receipt = await asyncio.wait_for(waiting, RECEIPT_TIMEOUT_S)
        return Launched(receipt.orchestration or "", receipt.duplicate)

    async def flood(self, count: int, series: str) -> int:
        """Submit launches 0 to `count`, `WINDOW` on their way at a time; return how many orchestrations that made."""
        self._made.clear()
        for number in range(count):
            await self._publisher.put(self._subject, codec.encode(self._envelope(number, series)))
            await self._until_answered(number + 1 - WINDOW)
        await self._until_answered(count)
        return len(self._made)

    async def _until_answered(self, count: int) -> None:
        while len(self._made) < count:
            self._answered.clear()
            await asyncio.wait_for(self._answered.wait(), RECEIPT_TIMEOUT_S)

    async def show(self, seq: int) -> None:
        """Nobody answers queries here: what was read from the ledger has been seen."""

    async def position(self) -> int | None:
        """Return None: there is no timeline."""
        return None


async def run(data: Path, sizes: Sizes) -> Figures:
    """Return the figures of one round on a new bus under `data`. Raises WrongCount, ChildEnded and TimeoutError."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(data / "bus"))
        bus = await connect(server.url, "bench", server.credentials)
        stack.push_async_callback(bus.close)
        await ensure_all(bus, sync=Sync.ALWAYS)
        await _node_consumers(bus)
        processes = stack.enter_context(Processes(data))
        _start(processes, server)
        nc = await nats.connect(server.url, token=server.credentials.token or "", pending_size=64 * 1024 * 1024)
        stack.push_async_callback(nc.close)
        client = await LimitClient(nc, await Publisher(nc).open()).open()
        return await measure(bus, client, processes, sizes)


async def _node_consumers(bus: Bus) -> None:
    for node in work.NODES:
        for spec in subjects.node_consumers(node, work.NODE_CAPACITY):
            await ensure_consumer(bus, spec)


def _start(processes: Processes, server: EmbeddedServer) -> None:
    assert server.pid is not None
    processes.watch("nats-server", server.pid)
    arguments = ["--server", server.url, "--token-file", str(server.token_file)]
    processes.start("controller", ["-m", "bench.limit", "controller", *arguments])
    for number, nodes in enumerate(work.NODE_PROCESSES):
        processes.start(f"nodes-{number}", ["-m", "bench.limit", "agent", *arguments, *nodes])
