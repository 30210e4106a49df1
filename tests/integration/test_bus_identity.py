"""Two operators and two nodes on a real server with accounts: what each can do, hear and be told."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from nats.aio.msg import Msg

from bus.connection import Bus, Credentials, connect
from bus.embedded import EmbeddedServer, configuration
from bus.errors import Denied, Unavailable
from bus.identity import Identity, Kind, accounts, make_key
from bus.pull import PullLoop
from bus.request import CommandClient, TooLarge, ask, new_key
from bus_schemas import codec, subjects
from bus_schemas.commands import DesignAdd, Pause, ProjectAdd, Via
from bus_schemas.decisions import ActionStatus, Receipt
from tests.integration.bus_world import EVERYBODY, World, answering, built, furnish, report

pytestmark = pytest.mark.anyio

RELOADED = "Reloaded server configuration"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": True})  # of the module: its tests share one server


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with built(tmp_path_factory.mktemp("identity")) as world, answering(world):
        yield world


WIDE = (">", "qd.>", "qd.ledger.>", "qd.cmd.>", "qd.rep.>", "qd.receipt.>", "qd.receipt.*.*", "_INBOX.>", "_R_.>", "$JS.>", "$SYS.>", "*.>")


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        *(("a", subject) for subject in (*WIDE, "_INBOX_b.>", "qd.work.a.>", "qd.work.b.>", "qd.rep.a.>")),
        *(("ana", subject) for subject in (*WIDE, "_INBOX_ben.>", "qd.receipt.ben.>", "qd.cmd.ana.>", "qd.query.>")),
    ],
)
async def test_nobody_listens_to_others(world: World, name: str, subject: str) -> None:
    bus = await world.join(name)
    heard: list[bytes] = []

    async def listen(message: Msg) -> None:
        heard.append(message.data)

    try:
        await bus.subscribe(subject, listen)
        await bus.flush()
        assert "permissions violation for subscription" in (bus.failure or "")
        assert bus.closed.is_set()
        await world.controller.publish(subjects.receipt("ben", "x"), b"for ben")
        await world.controller.flush()
        await bus.flush()
        assert heard == []
    finally:
        await bus.close()


async def test_a_refused_publish_is_a_failure_of_the_connection_that_names_the_subject(world: World) -> None:
    bus = await world.join("a")
    try:
        assert bus.failure is None
        with pytest.raises(Unavailable):
            await bus.append(subjects.ledger("shop"), b"{}", timeout_s=0.3)
        assert bus.failure is not None
        assert '"qd.ledger.shop"' in bus.failure
        assert bus.closed.is_set()
    finally:
        await bus.close()


def receipt_for(command: subjects.CommandSubject, key: str, number: int) -> Receipt:
    return Receipt(
        action=f"{command.project}-a{number}",
        type=command.verb,
        status=ActionStatus.ACCEPTED,
        project=command.project,
        idempotency_key=key,
        requested_by=command.principal,
        received_at=datetime.now(UTC),
    )


async def serve_commands(controller: Bus, stream: str, seen: list[tuple[str, str, str]]) -> None:
    """Answer every command of a stream with a receipt for the principal that its subject names."""
    async with PullLoop(controller, stream, subjects.CONTROLLER_DURABLE) as commands:
        while True:
            for delivery in await commands.batch():
                command = subjects.parse_command(delivery.subject)
                try:
                    envelope = codec.decode_envelope(delivery.data)
                except codec.Malformed as error:
                    await delivery.terminate(str(error))
                    continue
                seen.append((stream, command.principal, command.verb))
                receipt = receipt_for(command, envelope.key, len(seen))
                await controller.publish(subjects.receipt(command.principal, envelope.id), codec.encode(receipt))
                await delivery.ack()


@contextlib.asynccontextmanager
async def controlled(world: World) -> AsyncIterator[list[tuple[str, str, str]]]:
    seen: list[tuple[str, str, str]] = []
    async with anyio.create_task_group() as tasks:
        for stream in (subjects.CMD, subjects.CTL):
            tasks.start_soon(serve_commands, world.controller, stream, seen)
        yield seen
        tasks.cancel_scope.cancel()


async def test_a_command_is_stored_and_answered_under_the_principal_that_the_server_enforced(world: World) -> None:
    ana, ben = await world.join("ana"), await world.join("ben")
    try:
        async with controlled(world) as seen, CommandClient(ana, Via.CLI) as from_ana, CommandClient(ben, Via.CLI) as from_ben:
            one = await from_ana.submit(ProjectAdd(project="shop", repo="/r"), new_key(), timeout_s=5)
            two = await from_ben.submit(ProjectAdd(project="shop", repo="/r"), new_key(), timeout_s=5)
            three = await from_ana.submit(Pause(orchestration="shop-o1"), new_key(), timeout_s=5)
        assert (one.requested_by, two.requested_by, three.requested_by) == ("ana", "ben", "ana")
        assert seen == [("CMD", "ana", "project-add"), ("CMD", "ben", "project-add"), ("CTL", "ana", "pause")]
    finally:
        await ana.close()
        await ben.close()


async def test_a_receipt_of_ben_does_not_reach_ana(world: World) -> None:
    ana, ben = await world.join("ana"), await world.join("ben")
    heard: list[str] = []

    async def listen(message: Msg) -> None:
        heard.append(message.subject)

    try:
        await ana.subscribe("qd.receipt.ana.>", listen)
        await ben.subscribe("qd.receipt.ben.>", listen)
        await ana.flush()
        await ben.flush()
        for name in ("ana", "ben", "local"):
            await world.controller.publish(subjects.receipt(name, "c1"), b"{}")
        await world.controller.flush()
        await ana.flush()
        await ben.flush()
        assert sorted(heard) == ["qd.receipt.ana.c1", "qd.receipt.ben.c1"]
    finally:
        await ana.close()
        await ben.close()


async def test_an_operator_asks_queries_and_gets_the_answers(world: World) -> None:
    ana = await world.join("ana")
    try:
        assert await ask(ana, "ping", {"n": 1}) == {"pong": {"n": 1}}
        services = codec.decode_object((await ana.request_raw("$SRV.PING", b"")).data)
        assert services["name"] == "controller"
    finally:
        await ana.close()


async def test_a_command_of_300_kib_is_refused_before_it_is_sent(world: World) -> None:
    ana = await world.join("ana")
    try:
        stored = (await world.controller.api("STREAM.INFO.CMD"))["state"]["last_seq"]
        async with CommandClient(ana, Via.CLI) as commands:
            with pytest.raises(TooLarge, match="at most 262144"):
                await commands.submit(DesignAdd(project="shop", title="t", body="x" * 300 * 1024), new_key())
        assert (await world.controller.api("STREAM.INFO.CMD"))["state"]["last_seq"] == stored
        assert ana.failure is None
    finally:
        await ana.close()


async def test_a_node_does_all_its_work_from_an_account_of_its_own(tmp_path: Path) -> None:
    async with built(tmp_path) as world:
        node = await world.join("a")
        try:
            async with PullLoop(node, subjects.WORK, "work-a") as orders, PullLoop(node, subjects.WORK, "ctl-a") as stops:
                order = (await orders.batch())[0]
                assert (order.subject, order.data, order.delivered) == ("qd.work.a.shop-o1-r1.1", b"order of a", 1)
                assert abs((datetime.now(UTC) - order.stored_at).total_seconds()) < 10
                claim = report("a")
                assert await node.read_back(subjects.REP, claim) is None
                assert await node.write_once(claim, b"boot 1")
                assert not await node.write_once(claim, b"boot 2")
                assert await node.read_back(subjects.REP, claim) == b"boot 1"
                await order.ack()
                await world.controller.append(subjects.control_order("a", "shop-o1-r1", 1), b"stop")
                await (await stops.batch())[0].ack()
                assert (await node.append(subjects.log("a", "shop-o1-r1", 1), b"output")).stream == subjects.LOG
                assert (await node.append(subjects.beat("a"), b"here")).stream == subjects.BEAT
                assert await node.write_once(report("a", "ended"), b"done")
                await node.flush()
            for durable in ("work-a", "ctl-a"):
                info = await world.controller.api(f"CONSUMER.INFO.WORK.{durable}")
                assert (info["num_pending"], info["num_ack_pending"]) == (0, 0)
            stored = await world.controller.api("STREAM.INFO.WORK", {"subjects_filter": ">"})
            assert stored["state"]["subjects"] == {"qd.work.b.shop-o1-r1.1": 1}
            assert node.failure is None
        finally:
            await node.close()


async def test_what_a_node_got_comes_again_until_it_is_acknowledged_and_can_be_put_off_and_ended(tmp_path: Path) -> None:
    async with built(tmp_path) as world:
        node = await world.join("a")
        try:
            async with PullLoop(node, subjects.WORK, "work-a") as orders:
                first = (await orders.batch())[0]
                await first.in_progress()
                await first.nak(0.1)
                again = (await orders.batch())[0]
                assert (again.seq, again.delivered) == (first.seq, 2)
                await again.terminate("no use for it")
                await node.flush()
            info = await world.controller.api("CONSUMER.INFO.WORK.work-a")
            assert (info["num_pending"], info["num_ack_pending"]) == (0, 0)
        finally:
            await node.close()


async def test_the_newer_form_of_acks_works_with_the_same_permissions(tmp_path: Path) -> None:
    keys = {name: make_key(tmp_path / "keys", name) for _, name in EVERYBODY}
    text = accounts([Identity(kind, name, keys[name].public) for kind, name in EVERYBODY])
    async with EmbeddedServer(tmp_path / "server", authorization=text + "feature_flags { js_ack_fc_v2: true }") as server:
        controller = await connect(server.url, "controller", Credentials("controller", seed_file=keys["controller"].seed_file))
        node = await connect(server.url, "a", Credentials("a", seed_file=keys["a"].seed_file))
        thief = await connect(server.url, "b", Credentials("b", seed_file=keys["b"].seed_file))
        try:
            await furnish(controller)
            async with PullLoop(node, subjects.WORK, "work-a") as orders:
                order = (await orders.batch())[0]
                assert order.reply.startswith("$JS.ACK._.")
                assert (order.data, order.seq, order.delivered) == (b"order of a", 1, 1)
                await thief.publish(order.reply, b"+ACK")
                await thief.flush()
                assert (await controller.api("CONSUMER.INFO.WORK.work-a"))["num_ack_pending"] == 1
                await order.ack()
                await node.flush()
            assert (await controller.api("CONSUMER.INFO.WORK.work-a"))["num_ack_pending"] == 0
            assert (node.failure, thief.failure is None) == (None, False)
        finally:
            for bus in (controller, node, thief):
                await bus.close()


async def test_a_reload_lets_a_new_node_in_and_puts_a_removed_one_out_without_touching_the_others(tmp_path: Path) -> None:
    async with built(tmp_path) as world:
        a, b = await world.join("a"), await world.join("b")
        seed = make_key(tmp_path / "keys", "c")
        changed = [identity for identity in world.identities if identity.name != "b"] + [Identity(Kind.NODE, "c", seed.public)]
        with pytest.raises(Denied):
            await connect(world.server.url, "c", Credentials("c", seed_file=seed.seed_file))
        await reload(world.server, accounts(changed))
        try:
            with anyio.fail_after(10):
                await b.closed.wait()
            c = await connect(world.server.url, "c", Credentials("c", seed_file=seed.seed_file))
            try:
                assert await c.write_once(report("c"), b"boot")
                with pytest.raises(Unavailable):
                    await c.append(report("a"), b"as a", timeout_s=0.3)
            finally:
                await c.close()
            assert log_text(world.server).count("authentication error") <= 3
            assert a.failure is None
            assert await a.write_once(report("a"), b"boot")
            assert a.nc.stats["reconnects"] == 0
        finally:
            await a.close()
            await b.close()


def log_text(server: EmbeddedServer) -> str:
    return server.log_file.read_text()


async def reload(server: EmbeddedServer, authorization: str) -> None:
    """Give a running server another configuration; twice, since the imports of a new account come with the second."""
    store = server.data / "jetstream"
    text = configuration(port=server.port, store=store, store_bytes=50 * 1024**3, sync="always", authorization=authorization)
    (server.data / "nats.conf").write_text(text)
    assert server.pid is not None
    for _ in range(2):
        before = log_text(server).count(RELOADED)
        os.kill(server.pid, signal.SIGHUP)
        for _ in range(250):
            if log_text(server).count(RELOADED) > before:
                break
            await anyio.sleep(0.02)


@pytest.fixture
def strange_seeds(tmp_path: Path) -> dict[str, Path]:
    empty = tmp_path / "empty.nk"
    empty.touch()
    return {"missing": tmp_path / "missing.nk", "empty": empty, "unknown": make_key(tmp_path, "stranger").seed_file, "a folder": tmp_path}


async def test_a_key_that_is_missing_or_unknown_is_denied_and_says_so(world: World, strange_seeds: dict[str, Path]) -> None:
    for what, seed_file in strange_seeds.items():
        with pytest.raises(Denied, match=r"refused these credentials" if what == "unknown" else r"cannot use the key"):
            await connect(world.server.url, what, Credentials("ana", seed_file=seed_file))
    with pytest.raises(Denied):
        await connect(world.server.url, "no key", Credentials("ana"))
    with pytest.raises(Denied):
        await connect(world.server.url, "token", Credentials("ana", token="x"))
