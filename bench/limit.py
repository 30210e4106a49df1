"""The limit: the same messages on the same streams with nothing but nats-py, no logic, no state, no recovery.

    client ──▶ CMD ──▶ controller ──▶ LEDGER record + WORK ──▶ agent ──▶ REP started + ended ──▶ controller ──▶ LEDGER record

A hand-optimised pipeline: publishes do not wait for their acks one by one, pulls overlap, and one record is one message. What it
does not do: check, decide, fold, claim, journal, look at an outcome it does not know. The only thing it remembers are its keys.

`python -m bench.limit controller|agent --server URL --token-file FILE [NODE...]` is one of its processes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench import records
from bus_schemas import codec, subjects
from bus_schemas.commands import CommandEnvelope
from bus_schemas.orders import WorkOrder
from bus_schemas.subjects import CONTROLLER_DURABLE

PULL = 512
PENDING_BYTES_MAX = 512 * 1024 * 1024
ACK_TIMEOUT_S = 30.0


class Publisher:
    """Publishes into streams without waiting for each ack; `stored` is the barrier."""

    def __init__(self, nc: Client) -> None:
        """`open` comes first."""
        self._nc = nc
        self._inbox = nc.new_inbox()
        self._sent = self._acked = 0
        self._waiting: asyncio.Future[None] | None = None
        self._most = 0

    async def open(self) -> Publisher:
        """Listen for acks."""
        await self._nc.subscribe(self._inbox, cb=self._on_ack, pending_msgs_limit=1_000_000, pending_bytes_limit=PENDING_BYTES_MAX)
        return self

    async def _on_ack(self, message: Msg) -> None:
        if b'"error"' in message.data:
            raise RuntimeError(message.data)
        self._acked += 1
        if self._waiting is not None and self._sent - self._acked <= self._most and not self._waiting.done():
            self._waiting.set_result(None)

    async def put(self, subject: str, data: bytes) -> None:
        """Send a message to a stream."""
        self._sent += 1
        await self._nc.publish(subject, data, self._inbox)

    async def stored(self, most: int = 0) -> None:
        """Return when all but `most` of the messages sent are stored. Raises TimeoutError."""
        while self._sent - self._acked > most:
            self._most, self._waiting = most, asyncio.get_running_loop().create_future()
            await asyncio.wait_for(self._waiting, ACK_TIMEOUT_S)


class Pull:
    """A pull consumer that always has `PULL` messages asked for."""

    def __init__(self, nc: Client, stream: str, consumer: str) -> None:
        """`open` comes first."""
        self._nc = nc
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = nc.new_inbox()
        self._ready: list[Msg] = []
        self._outstanding = 0
        self._arrived = asyncio.Event()

    async def open(self) -> Pull:
        """Ask for the first messages."""
        await self._nc.subscribe(self._inbox, cb=self._on_message, pending_msgs_limit=1_000_000, pending_bytes_limit=PENDING_BYTES_MAX)
        await self._ask()
        return self

    async def _ask(self) -> None:
        n = PULL - self._outstanding
        self._outstanding += n
        await self._nc.publish(self._subject, b'{"batch":%d,"expires":60000000000}' % n, self._inbox)

    async def _on_message(self, message: Msg) -> None:
        if message.reply:
            self._outstanding -= 1
            self._ready.append(message)
            self._arrived.set()
        else:
            self._outstanding = 0  # the request is over
        if self._outstanding <= PULL // 2:
            await self._ask()

    async def batch(self) -> list[Msg]:
        """Return what has come, at least one message."""
        await self._arrived.wait()
        self._arrived.clear()
        taken, self._ready = self._ready, []
        return taken

    async def ack(self, messages: list[Msg]) -> None:
        """Take messages off the stream, or off what waits."""
        for message in messages:
            await self._nc.publish(message.reply, b"+ACK")


async def _connect(server: str, token: str, name: str) -> Client:
    return await nats.connect(server, name=name, token=token, pending_size=64 * 1024 * 1024)


async def controller(server: str, token: str) -> None:
    """Answer commands, send orders, record ends."""
    nc = await _connect(server, token, "limit controller")
    commands, reports = await Pull(nc, subjects.CMD, CONTROLLER_DURABLE).open(), await Pull(nc, subjects.REP, CONTROLLER_DURABLE).open()
    await asyncio.gather(_commands(nc, commands), _reports(nc, reports))


async def _commands(nc: Client, commands: Pull) -> None:
    publisher = await Publisher(nc).open()
    decoder = msgspec.json.Decoder(CommandEnvelope)
    known: dict[str, int] = {}
    while True:
        batch = await commands.batch()
        receipts: list[tuple[str, bytes]] = []
        for message in batch:
            envelope = decoder.decode(message.data)
            principal = message.subject.split(".", 3)[2]
            number = known.get(envelope.key)
            duplicate = number is not None
            if number is None:
                number = known[envelope.key] = len(known) + 1
                await publisher.put(records.LEDGER_SUBJECT, records.accepted(envelope, number))
                await publisher.put(*records.order(number))
            receipts.append((f"qd.receipt.{principal}.{envelope.id}", records.receipt(envelope, number, duplicate)))
        await publisher.stored()
        for subject, data in receipts:
            await nc.publish(subject, data)
        await commands.ack(batch)


async def _reports(nc: Client, reports: Pull) -> None:
    publisher = await Publisher(nc).open()
    while True:
        batch = await reports.batch()
        for message in batch:
            if message.subject.endswith(".ended"):
                codec.decode_report(message.data)
                await publisher.put(records.LEDGER_SUBJECT, records.ended(message.subject))
        await publisher.stored()
        await reports.ack(batch)


async def agent(server: str, token: str, nodes: list[str]) -> None:
    """Play some nodes: take orders, report them as started and ended."""
    nc = await _connect(server, token, "limit agent")
    await asyncio.gather(*[_node(nc, node) for node in nodes])


async def _node(nc: Client, node: str) -> None:
    publisher = await Publisher(nc).open()
    orders = await Pull(nc, subjects.WORK, f"work-{node}").open()
    decoder = msgspec.json.Decoder(WorkOrder)
    while True:
        batch = await orders.batch()
        now = datetime.now(UTC)
        for message in batch:
            order = decoder.decode(message.data)
            subject = subjects.report(node, order.project, order.run, order.attempt, order.nonce, "")
            await publisher.put(subject + "started", records.started(now))
            await publisher.put(subject + "ended", records.end(now))
        await publisher.stored()
        await orders.ack(batch)


def main(arguments: list[str]) -> int:
    """Be one process of the limit until it is stopped."""
    parser = argparse.ArgumentParser(prog="bench.limit")
    parser.add_argument("role", choices=("controller", "agent"))
    parser.add_argument("--server", required=True)
    parser.add_argument("--token-file", required=True, type=Path)
    parser.add_argument("nodes", nargs="*")
    found = parser.parse_intermixed_args(arguments)
    token = found.token_file.read_text().strip()
    uvloop.run(controller(found.server, token) if found.role == "controller" else agent(found.server, token, found.nodes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
