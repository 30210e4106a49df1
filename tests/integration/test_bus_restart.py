"""The bus when its server is killed with SIGKILL and comes back: nothing acknowledged is lost, nothing comes out of order."""

from __future__ import annotations

import contextlib
import time

import anyio
import pytest

from bus.bootstrap import ensure_consumer
from bus.connection import Bus, Stored
from bus.embedded import EmbeddedServer
from bus.errors import NotSent, Unavailable
from bus.pull import PullLoop
from bus.reader import Reader
from bus_schemas import subjects
from bus_schemas.subjects import ConsumerSpec

pytestmark = pytest.mark.anyio

KILLS = 3
RECOVERY_S = 2.0
"""Within which a loop gets messages again after the server is back; measured well under one second."""


async def crash(server: EmbeddedServer, *, down_s: float = 0.0) -> None:
    server.kill()
    await server.wait()
    if down_s:
        await anyio.sleep(down_s)
    await server.start()


async def append_surely(bus: Bus, subject: str, data: bytes) -> int:
    """Append until it is acknowledged, and return how often that was tried."""
    for tries in range(1, 200):
        try:
            await bus.append(subject, data, timeout_s=0.5)
        except Unavailable:
            await anyio.sleep(0.05)
        else:
            return tries
    raise AssertionError(f"{subject} was never stored")


async def test_a_pull_loop_loses_nothing_over_crashes_of_the_server(server: EmbeddedServer, bus: Bus) -> None:
    await ensure_consumer(bus, ConsumerSpec(subjects.LOG, "all", ("qd.log.>",), ack_wait_s=2.0, max_ack_pending=1000))
    wanted = {f"line {number}" for number in range(600)}
    got: set[str] = set()

    async def write() -> None:
        for number in range(600):
            await append_surely(bus, subjects.log("a", f"shop-o1-r{number + 1}", 1), f"line {number}".encode())

    async def kill() -> None:
        for _ in range(KILLS):
            await anyio.sleep(0.15)
            await crash(server)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks, PullLoop(bus, subjects.LOG, "all") as loop:
            tasks.start_soon(write)
            tasks.start_soon(kill)
            while got != wanted:
                for delivery in await loop.batch():
                    got.add(delivery.data.decode())
                    await delivery.ack()
    assert bus.nc.stats["reconnects"] == KILLS


async def test_a_reader_gives_each_message_once_and_in_order_over_crashes_of_the_server(server: EmbeddedServer, bus: Bus) -> None:
    read: list[Stored] = []

    async def write() -> None:
        for number in range(600):
            await append_surely(bus, subjects.ledger("shop"), str(number).encode())

    async def kill() -> None:
        for _ in range(KILLS):
            await anyio.sleep(0.15)
            await crash(server)

    reader = Reader(bus, subjects.LEDGER, ("qd.ledger.>",), 1)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks, contextlib.aclosing(reader.batches()) as batches:
            tasks.start_soon(write)
            tasks.start_soon(kill)
            async for batch in batches:
                read += batch
                if read[-1].data == b"599":
                    break
    assert [message.seq for message in read] == list(range(1, len(read) + 1))
    numbers = [int(message.data) for message in read]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(600))
    assert reader.restarts >= KILLS


async def test_pull_loop_and_reader_are_back_soon_after_the_server(server: EmbeddedServer, bus: Bus) -> None:
    await ensure_consumer(bus, ConsumerSpec(subjects.LOG, "all", ("qd.log.>",), ack_wait_s=30.0, max_ack_pending=1000))
    reader = Reader(bus, subjects.LOG, ("qd.log.>",), 1)
    async with contextlib.aclosing(reader.batches()) as batches, PullLoop(bus, subjects.LOG, "all") as loop:
        await bus.append(subjects.log("a", "shop-o1-r1", 1), b"before")
        assert [message.data for message in await anext(batches)] == [b"before"]
        await (await loop.batch())[0].ack()
        await bus.flush()
        await crash(server, down_s=0.3)
        since = time.monotonic()
        await append_surely(bus, subjects.log("a", "shop-o1-r2", 1), b"after")
        assert [message.data for message in await anext(batches)] == [b"after"]
        # the ack of the first may have gone down with the server: then it comes again
        assert b"after" in [delivery.data for delivery in await loop.batch()]
        assert time.monotonic() - since < RECOVERY_S


async def test_what_was_not_sent_is_never_stored_and_what_was_acknowledged_always_is(server: EmbeddedServer, bus: Bus) -> None:
    acknowledged: set[str] = set()
    not_sent: set[str] = set()
    unknown: set[str] = set()

    async def write() -> None:
        for number in range(400):
            subject = subjects.ledger(f"p{number}")
            try:
                await bus.append(subject, b"{}", timeout_s=0.3)
            except NotSent:
                not_sent.add(subject)
                await anyio.sleep(0.005)
            except Unavailable:
                unknown.add(subject)
            else:
                acknowledged.add(subject)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await anyio.sleep(0.1)
        await crash(server, down_s=0.5)
    await bus.flush()
    info = await bus.api(f"STREAM.INFO.{subjects.LEDGER}", {"subjects_filter": ">"})
    stored = set(info["state"]["subjects"])
    assert acknowledged
    assert not_sent
    assert acknowledged <= stored
    assert not stored & not_sent
    assert stored <= acknowledged | unknown


async def test_nothing_that_was_published_while_the_server_was_away_appears_later(server: EmbeddedServer, bus: Bus) -> None:
    server.kill()
    await server.wait()
    with anyio.fail_after(5):
        while bus.is_connected:
            await anyio.sleep(0.01)
    for number in range(5):
        with pytest.raises(NotSent):
            await bus.append(subjects.ledger("shop"), str(number).encode(), timeout_s=0.2)
        with pytest.raises(Unavailable):
            await bus.publish(subjects.log("a", "shop-o1-r1", 1), b"output")
    await server.start()
    assert await append_surely(bus, subjects.ledger("shop"), b"the only one") >= 1
    assert (await bus.api(f"STREAM.INFO.{subjects.LEDGER}"))["state"]["messages"] == 1
    assert (await bus.api(f"STREAM.INFO.{subjects.LOG}"))["state"]["messages"] == 0
