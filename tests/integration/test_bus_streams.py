"""Streams and consumers on a real server, and how the outcomes of a write are told apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from bus import reader
from bus.bootstrap import (
    Sync,
    UnsafeSync,
    ensure_all,
    ensure_consumer,
    ensure_stream,
    refuse_unsafe,
    sync_of,
)
from bus.connection import ApiFailure, Bus, Credentials, connect
from bus.embedded import EmbeddedServer
from bus.errors import AlreadyThere, Conflict, ConsumerGone, Denied, NotSent, Rejected, Unavailable
from bus.pull import PullLoop
from bus_schemas import subjects
from bus_schemas.subjects import CONTROLLER_CONSUMERS, STREAMS, ConsumerSpec, StreamSpec

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Served:
    """A server and a connection to it."""

    server: EmbeddedServer
    bus: Bus


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with EmbeddedServer(tmp_path) as server:
        bus = await connect(server.url, "test", server.credentials)
        yield Served(server, bus)
        await bus.close()


@pytest.fixture
async def bus(served: Served) -> Bus:
    await ensure_all(served.bus)
    return served.bus


async def test_everything_is_made_once_and_then_the_same(served: Served) -> None:
    first = await ensure_all(served.bus)
    assert {change.done for change in first} == {"created"}
    assert len(first) == len(STREAMS) + len(CONTROLLER_CONSUMERS)
    second = await ensure_all(served.bus)
    assert [change.thing for change in second] == [change.thing for change in first]
    assert {(change.done, change.detail) for change in second} == {("same", "")}


async def test_a_dry_run_says_what_is_missing_and_makes_nothing(served: Served) -> None:
    assert {(change.done, change.detail) for change in await ensure_all(served.bus, dry_run=True)} == {("differs", "missing")}
    assert (await served.bus.api("STREAM.NAMES"))["streams"] is None


async def test_drift_is_found_named_and_repaired(bus: Bus) -> None:
    report = (await bus.api("STREAM.INFO.REP"))["config"]
    await bus.api("STREAM.UPDATE.REP", {**report, "max_msgs_per_subject": 5})
    commands = (await bus.api("CONSUMER.INFO.CMD.controller"))["config"]
    await bus.api("CONSUMER.CREATE.CMD.controller", {"stream_name": "CMD", "action": "update", "config": {**commands, "ack_wait": 1_000_000_000}})
    await bus.api("CONSUMER.DELETE.CTL.controller")
    wrong = {
        "stream REP": ("differs", "max_msgs_per_subject: 5, should be 1"),
        "consumer CMD/controller": ("differs", "ack_wait: 1000000000, should be 5000000000"),
        "consumer CTL/controller": ("differs", "missing"),
    }
    assert {change.thing: change[1:] for change in await ensure_all(bus, dry_run=True) if change.done != "same"} == wrong
    repaired = {change.thing: change.done for change in await ensure_all(bus) if change.done != "same"}
    assert repaired == {"stream REP": "updated", "consumer CMD/controller": "updated", "consumer CTL/controller": "created"}
    assert {change.done for change in await ensure_all(bus)} == {"same"}


async def test_repairing_a_stream_keeps_what_it_holds(bus: Bus) -> None:
    await bus.append(subjects.ledger("shop"), b"kept")
    ledger = (await bus.api("STREAM.INFO.LEDGER"))["config"]
    await bus.api("STREAM.UPDATE.LEDGER", {**ledger, "max_consumers": 7, "metadata": {"owner": "somebody"}})
    assert [change.thing for change in await ensure_all(bus) if change.done == "updated"] == ["stream LEDGER"]
    found = await bus.last(subjects.LEDGER, subjects.ledger("shop"))
    assert found is not None
    assert found.data == b"kept"
    assert (await bus.api("STREAM.INFO.LEDGER"))["config"]["metadata"]["owner"] == "somebody"


async def test_a_change_that_the_server_cannot_make_is_an_error(bus: Bus) -> None:
    with pytest.raises(ApiFailure, match="storage"):
        await ensure_stream(bus, StreamSpec(subjects.LOG, ("qd.log.*.*.*",), storage="memory"), 1)


async def test_no_stream_lets_anybody_delete_purge_or_roll_up_the_ledger(bus: Bus) -> None:
    await bus.append(subjects.ledger("shop"), b"first")
    with pytest.raises(ApiFailure, match="purge"):
        await bus.api("STREAM.PURGE.LEDGER")
    with pytest.raises(ApiFailure, match="delete"):
        await bus.api("STREAM.MSG.DELETE.LEDGER", {"seq": 1})
    with pytest.raises(Rejected, match="rollup"):
        await bus.append(subjects.ledger("shop"), b"all of it", headers={"Nats-Rollup": "all"})
    assert (await bus.api("STREAM.INFO.LEDGER"))["state"]["messages"] == 1


@pytest.mark.parametrize("sync", [Sync.UNSAFE, Sync.UNKNOWN])
async def test_a_server_that_does_not_sync_is_refused_unless_that_is_allowed(served: Served, sync: Sync) -> None:
    await ensure_all(served.bus, sync=sync)
    with pytest.raises(UnsafeSync, match="--allow-unsafe-sync") as refused:
        await refuse_unsafe(served.bus, allow_unsafe_sync=False)
    assert refused.value.sync is sync
    assert await refuse_unsafe(served.bus, allow_unsafe_sync=True) is sync


async def test_how_a_server_syncs_stays_noted_until_somebody_says_otherwise(served: Served) -> None:
    await ensure_all(served.bus)
    assert await sync_of(served.bus) is Sync.UNKNOWN
    await ensure_all(served.bus, sync=Sync.ALWAYS)
    assert {change.done for change in await ensure_all(served.bus)} == {"same"}
    assert await refuse_unsafe(served.bus, allow_unsafe_sync=False) is Sync.ALWAYS
    await ensure_all(served.bus, sync=Sync.UNSAFE)
    assert await sync_of(served.bus) is Sync.UNSAFE


async def test_a_compare_and_set_that_loses_is_a_conflict_that_names_the_last_sequence(bus: Bus) -> None:
    subject = subjects.ledger("shop")
    first = await bus.append(subject, b"1", expect_last=0)
    with pytest.raises(Conflict) as lost:
        await bus.append(subject, b"2", expect_last=0)
    assert lost.value.last_seq == first.seq
    assert (await bus.append(subject, b"2", expect_last=first.seq)).seq == first.seq + 1


async def test_of_many_writers_with_the_same_expectation_one_wins(bus: Bus) -> None:
    outcomes: list[str] = []

    async def write(number: int) -> None:
        try:
            await bus.append(subjects.ledger("shop"), str(number).encode(), expect_last=0)
        except (Conflict, Unavailable) as error:
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("won")

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(write, number)
    assert outcomes.count("won") == 1
    assert len(outcomes) == 50
    assert (await bus.api("STREAM.INFO.LEDGER"))["state"]["messages"] == 1


async def test_a_second_write_of_a_write_once_subject_finds_the_first(bus: Bus) -> None:
    subject = subjects.report("a", "shop", "shop-o1-r1", 1, "nonce", "started")
    await bus.append(subject, b"boot 1")
    with pytest.raises(AlreadyThere):
        await bus.append(subject, b"boot 2")
    assert not await bus.write_once(subject, b"boot 3")
    assert await bus.read_back(subjects.REP, subject) == b"boot 1"


async def test_where_nobody_listens_nothing_was_sent(served: Served) -> None:
    with pytest.raises(NotSent, match="nobody answers"):
        await served.bus.append(subjects.ledger("shop"), b"{}")
    with pytest.raises(NotSent):
        await served.bus.request_raw(subjects.query("ping"), b"")


async def test_what_a_stream_cannot_take_is_refused_for_good(bus: Bus) -> None:
    with pytest.raises(Rejected, match="exceeds maximum"):
        await bus.append("qd.cmd.local.shop.launch", b"x" * (subjects.COMMAND_BYTES_MAX + subjects.HEADER_BYTES_MAX + 1))
    commands = (await bus.api("STREAM.INFO.CMD"))["config"]
    await bus.api("STREAM.UPDATE.CMD", {**commands, "max_bytes": 1024})
    with pytest.raises(Rejected, match="maximum bytes"):
        await bus.append("qd.cmd.local.shop.launch", b"x" * 2000)


@pytest.mark.parametrize(
    ("subject", "headers"),
    [("qd.ledger." + "a" * 600, None), ("qd.ledger.é", None), ("qd.ledger.shop", {"k": "v" * 5000})],
    ids=["long subject", "not ASCII", "big headers"],
)
async def test_what_would_make_the_server_drop_the_connection_is_refused_before_it_is_sent(
    bus: Bus, subject: str, headers: dict[str, str] | None
) -> None:
    with pytest.raises(Rejected):
        await bus.append(subject, b"{}", headers=headers)
    with pytest.raises(Rejected):
        await bus.publish(subject, b"{}", headers=headers)
    assert bus.is_connected
    assert (await bus.append(subjects.ledger("shop"), b"{}")).seq == 1


async def test_the_next_message_of_a_subject_is_found_and_after_the_last_there_is_none(bus: Bus) -> None:
    for text in (b"1", b"2"):
        await bus.append(subjects.ledger("shop"), text)
        await bus.append(subjects.ledger("other"), b"-")
    first = await bus.next_after(subjects.LEDGER, subjects.ledger("shop"), 0)
    assert first is not None
    second = await bus.next_after(subjects.LEDGER, subjects.ledger("shop"), first.seq)
    assert second is not None
    assert (first.data, second.data, second.seq) == (b"1", b"2", 3)
    assert await bus.next_after(subjects.LEDGER, subjects.ledger("shop"), second.seq) is None
    assert await bus.last(subjects.LEDGER, subjects.ledger("missing")) is None


LINES = ConsumerSpec(subjects.LOG, "all", ("qd.log.>",), ack_wait_s=5.0, max_ack_pending=10)


async def test_a_pull_loop_says_that_its_consumer_is_gone_and_goes_on_when_it_is_made_anew(bus: Bus) -> None:
    await ensure_consumer(bus, LINES)
    async with PullLoop(bus, subjects.LOG, "all") as loop:
        for _ in range(200):
            if (await bus.api("CONSUMER.INFO.LOG.all"))["num_waiting"]:
                break
            await anyio.sleep(0.01)
        await bus.api("CONSUMER.DELETE.LOG.all")
        with anyio.fail_after(5), pytest.raises(ConsumerGone, match="LOG/all: Consumer Deleted"):
            await loop.batch()
        await ensure_consumer(bus, LINES)
        await bus.append(subjects.log("a", "shop-o1-r1", 1), b"line")
        with anyio.fail_after(5):
            assert [delivery.data for delivery in await loop.batch()] == [b"line"]


async def test_a_pull_loop_of_a_consumer_that_never_was_says_so_and_waits_for_it(bus: Bus) -> None:
    async with PullLoop(bus, subjects.LOG, "all") as loop:
        with anyio.fail_after(5), pytest.raises(ConsumerGone, match="nobody answers"):
            await loop.batch()
        await bus.append(subjects.log("a", "shop-o1-r1", 1), b"line")
        await ensure_consumer(bus, LINES)
        with anyio.fail_after(5):
            assert [delivery.data for delivery in await loop.batch()] == [b"line"]


async def test_a_wrong_token_is_denied_and_a_missing_server_is_unavailable(served: Served) -> None:
    with pytest.raises(Denied, match="refused these credentials"):
        await connect(served.server.url, "wrong", Credentials(token="wrong"))
    with pytest.raises(Denied):
        await connect(served.server.url, "wrong", Credentials(token="wrong"), retry=True)
    await served.server.stop()
    with pytest.raises(Unavailable, match="no bus at"):
        await connect(served.server.url, "late", Credentials(token="x"))


async def test_a_slow_reader_gets_everything_and_does_not_fill_the_memory(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "QUEUE_BYTES_MAX", 200_000)
    body, count = b"x" * 20_000, 1_000

    async def write(project: int) -> None:
        for _ in range(count // 50):
            await bus.append(f"qd.ledger.p{project}", body)

    async with anyio.create_task_group() as tasks:
        for project in range(50):
            tasks.start_soon(write, project)
    slow = reader.Reader(bus, "LEDGER", ("qd.ledger.*",), 1, batch_max=10)
    seen: list[int] = []
    waiting_bytes = 0
    async for batch in slow.batches():
        seen += [stored.seq for stored in batch]
        waiting_bytes = max(waiting_bytes, slow._queued_bytes)
        await anyio.sleep(0.01)
        if len(seen) >= count:
            break

    assert seen == list(range(1, count + 1))
    assert slow.restarts == 0
    assert waiting_bytes < count * len(body) // 2
