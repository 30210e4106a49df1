"""What a node and an operator can try against others on a real server with accounts, and that none of it works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from nats.aio.msg import Msg

from bus.connection import Bus
from bus_schemas import subjects
from tests.integration.bus_world import World, answering, built, report

pytestmark = pytest.mark.anyio

SETTLE_S = 0.15
"""How long a server needs at most to answer; the control test of the reply trick shows that it is enough."""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": True})  # of the module: its tests share one server


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with built(tmp_path_factory.mktemp("identity")) as world, answering(world):
        yield world


class Attack(NamedTuple):
    """One publish by somebody who should get nothing from it."""

    title: str
    subject: str
    reply: str = ""
    headers: dict[str, str] | None = None
    body: bytes = b"{}"
    refused: bool = True
    """Whether the server says no at once; else it takes it, and nothing that belongs to another changes."""


A_PULL = b'{"batch":10,"no_wait":true}'
NEXT = "$JS.API.CONSUMER.MSG.NEXT.WORK"
DIRECT_A = "$JS.API.DIRECT.GET.REP." + report("a")


def taken(title: str, subject: str, reply: str = "", headers: dict[str, str] | None = None, body: bytes = b"{}") -> Attack:
    return Attack(title, subject, reply, headers, body, refused=False)


NODE_ATTACKS = (
    Attack("report as b", report("b")),
    Attack("report as anybody", report("*")),
    Attack("log as b", subjects.log("b", "shop-o1-r1", 1)),
    Attack("beat as b", subjects.beat("b")),
    Attack("write the ledger", subjects.ledger("shop")),
    Attack("order work of b", subjects.work("b", "shop-o1-r9", 1)),
    Attack("order work of itself", subjects.work("a", "shop-o1-r9", 1)),
    Attack("stop a run of b", subjects.control_order("b", "shop-o1-r1", 1)),
    Attack("command as ana", "qd.cmd.ana.shop.launch"),
    Attack("command as itself", "qd.cmd.a.shop.launch"),
    Attack("give a receipt", subjects.receipt("ana", "x")),
    Attack("ask a query", subjects.query("ping")),
    Attack("dead letter", subjects.dead_letter("CMD", 1)),
    Attack("take the lease", "$KV.qd-lease.controller"),
    Attack("answer into the inbox of b", "_INBOX_b.x"),
    taken("reply trick: ack into the ledger", report("a", run="shop-o1-r2"), reply="qd.ledger.shop"),
    taken("reply trick: ack into a report of b", report("a", run="shop-o1-r3"), reply=report("b", run="shop-o1-r3")),
    taken("reply trick: ack into the orders of b", report("a", run="shop-o1-r4"), reply="qd.work.b.shop-o1-r4.1"),
    taken("reply trick: ack into a command of ana", report("a", run="shop-o1-r5"), reply="qd.cmd.ana.shop.launch"),
    taken("reply trick: a refused write's error into the ledger", report("a", run="shop-o1-r2"), reply="qd.ledger.shop"),
    taken("reply trick: a status into the ledger", f"{NEXT}.ctl-a", reply="qd.ledger.shop", body=A_PULL),
    taken("reply trick: a delivery into a report of b", f"{NEXT}.work-a", reply=report("b", run="shop-o1-r6"), body=A_PULL),
    taken("reply trick: a read into the ledger", DIRECT_A, reply="qd.ledger.shop", body=b""),
    taken("roll-up of all reports", report("a", run="shop-o1-r10"), headers={"Nats-Rollup": "all"}),
    taken("roll-up of a log", subjects.log("a", "shop-o1-r1", 1), headers={"Nats-Rollup": "all"}),
    taken("roll-up of all beats", subjects.beat("a"), headers={"Nats-Rollup": "all"}),
    taken("take the message id that b might use", report("a", run="shop-o1-r11"), headers={"Nats-Msg-Id": report("b", "ended", nonce="secret")}),
    taken(
        "schedule onto a subject of b", report("a", run="shop-o1-r12"), headers={"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": report("b")}
    ),
    taken("a message that ends by itself", report("a", run="shop-o1-r13"), headers={"Nats-TTL": "1s"}),
    Attack("trace into the ledger", report("a", run="shop-o1-r14"), headers={"Nats-Trace-Dest": "qd.ledger.shop"}),
    Attack("trace into a report of b", subjects.beat("a"), headers={"Nats-Trace-Dest": report("b")}),
    Attack("pull the orders of b", f"{NEXT}.work-b", body=A_PULL),
    Attack("pull the stop orders of b", f"{NEXT}.ctl-b", body=A_PULL),
    Attack("pull as the controller", "$JS.API.CONSUMER.MSG.NEXT.REP.controller", body=A_PULL),
    Attack("ack an order of b", "$JS.ACK.WORK.work-b.1.2.1.1.0", body=b"+ACK"),
    Attack("ack an order of b in the newer form", "$JS.ACK._.x.WORK.work-b.1.2.1.1.0", body=b"+ACK"),
    Attack("next order of b by an ack that looks like ours", "$JS.ACK.WORK.work-b.WORK.work-a.1.1.1", body=b"+NXT"),
    Attack("the same with more tokens", "$JS.ACK.WORK.work-a.WORK.work-b.1.1.1.1.0", body=b"+NXT"),
    Attack("make a consumer of orders", "$JS.API.CONSUMER.CREATE.WORK.mine", body=b'{"stream_name":"WORK","config":{"name":"mine"}}'),
    Attack("make a consumer of the ledger", "$JS.API.CONSUMER.CREATE.LEDGER.mine", body=b'{"stream_name":"LEDGER","config":{"name":"mine"}}'),
    Attack("delete the consumer of b", "$JS.API.CONSUMER.DELETE.WORK.work-b"),
    Attack("pause the consumer of b", "$JS.API.CONSUMER.PAUSE.WORK.work-b", body=b'{"pause_until":"2100-01-01T00:00:00Z"}'),
    Attack("reset the consumer of itself", "$JS.API.CONSUMER.RESET.WORK.work-a"),
    Attack("read the ledger", "$JS.API.STREAM.MSG.GET.LEDGER", body=b'{"seq":1}'),
    Attack("read the ledger directly", "$JS.API.DIRECT.GET.LEDGER.qd.ledger.shop", body=b""),
    Attack("read reports directly", "$JS.API.DIRECT.GET.REP", body=b'{"seq":1}'),
    Attack("read a report of b directly", "$JS.API.DIRECT.GET.REP." + report("b", nonce="secret"), body=b""),
    taken("read by a body that names b", DIRECT_A, body=b'{"last_by_subj":"' + report("b", nonce="secret").encode() + b'"}'),
    taken("read by a body with many subjects", DIRECT_A, body=b'{"multi_last":["qd.rep.b.>"],"batch":10}'),
    taken("read by a body with a sequence", DIRECT_A, body=b'{"seq":1}'),
    Attack("purge reports", "$JS.API.STREAM.PURGE.REP"),
    Attack("delete a stream", "$JS.API.STREAM.DELETE.WORK"),
    Attack("delete a message", "$JS.API.STREAM.MSG.DELETE.REP", body=b'{"seq":1}'),
    Attack("change a stream", "$JS.API.STREAM.UPDATE.REP", body=b'{"name":"REP","subjects":["qd.rep.>"]}'),
    Attack("list the streams", "$JS.API.STREAM.NAMES"),
    Attack("look at a stream", "$JS.API.STREAM.INFO.REP"),
    Attack("ask the server about itself", "$SYS.REQ.SERVER.PING.VARZ"),
)

OPERATOR_ATTACKS = (
    Attack("command as ben", "qd.cmd.ben.shop.launch"),
    Attack("control as ben", "qd.control.ben.shop.pause"),
    Attack("command as anybody", "qd.cmd.*.shop.launch"),
    Attack("receipt of ben", subjects.receipt("ben", "x")),
    Attack("receipt of itself", subjects.receipt("ana", "x")),
    Attack("write the ledger", subjects.ledger("shop")),
    Attack("write the ledger of the plane", subjects.ledger("plane")),
    Attack("report as a node", report("b")),
    Attack("order work", subjects.work("b", "shop-o1-r9", 1)),
    Attack("stop a run", subjects.control_order("b", "shop-o1-r1", 1)),
    Attack("beat as a node", subjects.beat("b")),
    Attack("log as a node", subjects.log("b", "shop-o1-r1", 1)),
    Attack("dead letter", subjects.dead_letter("CMD", 1)),
    Attack("take the lease", "$KV.qd-lease.controller"),
    Attack("answer into the inbox of ben", "_INBOX_ben.x"),
    Attack("delete a stream", "$JS.API.STREAM.DELETE.LEDGER"),
    Attack("purge a stream", "$JS.API.STREAM.PURGE.CMD"),
    Attack("change a stream", "$JS.API.STREAM.UPDATE.LEDGER", body=b'{"name":"LEDGER"}'),
    Attack("read the ledger", "$JS.API.STREAM.MSG.GET.LEDGER", body=b'{"seq":1}'),
    Attack("read a report directly", "$JS.API.DIRECT.GET.REP." + report("b", nonce="secret"), body=b""),
    Attack("pull the commands of all", "$JS.API.CONSUMER.MSG.NEXT.CMD.controller", body=A_PULL),
    Attack("pull the orders of a node", f"{NEXT}.work-b", body=A_PULL),
    Attack("make a consumer of commands", "$JS.API.CONSUMER.CREATE.LEDGER.mine", body=b'{"stream_name":"LEDGER","config":{"name":"mine"}}'),
    Attack("ask the server about itself", "$SYS.REQ.SERVER.PING.VARZ"),
    taken("reply trick: ack into the ledger", "qd.cmd.ana.shop.launch", reply="qd.ledger.shop"),
    taken("reply trick: ack into a command of ben", "qd.cmd.ana.shop.launch", reply="qd.cmd.ben.shop.launch"),
    taken("reply trick: ack into a receipt of ben", "qd.control.ana.shop.pause", reply=subjects.receipt("ben", "x")),
    taken("reply trick: an answer of the controller into the ledger", subjects.query("ping"), reply="qd.ledger.shop"),
    taken("reply trick: the answer of all services into the ledger", "$SRV.PING", reply="qd.ledger.shop"),
    taken("roll-up of all commands", "qd.cmd.ana.shop.launch", headers={"Nats-Rollup": "all"}),
    Attack("trace into the ledger", "qd.cmd.ana.shop.launch", headers={"Nats-Trace-Dest": "qd.ledger.shop"}),
    Attack("trace into a receipt of ben", "qd.cmd.ana.shop.launch", headers={"Nats-Trace-Dest": subjects.receipt("ben", "x")}),
)


def owned(subject: str, name: str) -> bool:
    return subject.split(".")[:1] == ["qd"] and name in subject.split(".")[2:3]


async def everything(controller: Bus, attacker: str) -> dict[str, Any]:
    """Return what the streams hold that is not the attacker's, and how far every other consumer is."""
    found: dict[str, Any] = {}
    for spec in subjects.STREAMS:
        info = await controller.api(f"STREAM.INFO.{spec.name}", {"subjects_filter": ">"})
        found[spec.name] = {name: count for name, count in (info["state"].get("subjects") or {}).items() if not owned(name, attacker)}
        found[f"{spec.name} config"] = info["config"]
        consumers = (await controller.api(f"CONSUMER.LIST.{spec.name}"))["consumers"] or []
        for consumer in consumers:
            if not consumer["name"].endswith(f"-{attacker}") and (spec.name, attacker) not in (("CMD", "ana"), ("CTL", "ana"), ("REP", "a")):
                found[f"{spec.name}/{consumer['name']}"] = (consumer["num_pending"], consumer["num_ack_pending"], consumer["delivered"])
    return found


async def harm_done(world: World, attacker: str, attack: Attack) -> list[str]:
    """Do an attack and return what came of it: what it got to read, what it changed, what it was wrongly allowed."""
    bus = await world.join(attacker)
    heard: list[str] = []
    harm: list[str] = []

    async def on_control(message: Msg) -> None:
        if not owned(message.subject, attacker):
            heard.append(message.subject)

    async def on_answer(message: Msg) -> None:
        if b"of b" in message.data or b"decision" in message.data:
            harm.append(f"read {message.data!r}")

    before = await everything(world.controller, attacker)
    watch = await world.controller.subscribe("qd.>", on_control)
    try:
        inbox = bus.nc.new_inbox()
        await bus.subscribe(f"{inbox}.>", on_answer)
        await world.controller.flush()
        await bus.publish(attack.subject, attack.body, reply=attack.reply or f"{inbox}.1", headers=attack.headers)
        await bus.flush()
        if attack.refused and bus.failure is None:
            harm.append("it was not refused")
        if not attack.refused and bus.failure is not None:
            harm.append(f"it was refused, so that it shows nothing: {bus.failure}")
        if not attack.refused:
            await anyio.sleep(SETTLE_S)
        await world.controller.flush()
    finally:
        await watch.unsubscribe()
        await bus.close()
    after = await everything(world.controller, attacker)
    harm += [f"{subject} was published" for subject in heard if subject != attack.subject]
    harm += [f"{thing}: {before.get(thing)} became {after[thing]}" for thing in after if after[thing] != before.get(thing)]
    return harm


@pytest.mark.parametrize("attack", NODE_ATTACKS, ids=lambda attack: attack.title)
async def test_a_node_can_do_nothing_to_others(world: World, attack: Attack) -> None:
    assert await harm_done(world, "a", attack) == []


@pytest.mark.parametrize("attack", OPERATOR_ATTACKS, ids=lambda attack: attack.title)
async def test_an_operator_can_do_nothing_as_others(world: World, attack: Attack) -> None:
    assert await harm_done(world, "ana", attack) == []


CONTROL_ATTACKS = (
    ("a", "reply trick: ack into the ledger"),
    ("a", "reply trick: ack into a report of b"),
    ("a", "reply trick: ack into the orders of b"),
    ("ana", "reply trick: ack into the ledger"),
    ("ana", "reply trick: ack into a command of ben"),
)


async def test_with_the_same_permissions_in_one_account_the_reply_trick_writes_on_subjects_of_others(tmp_path: Path) -> None:
    # the control: it shows that the tests above can fail, and what accounts of their own are for
    async with built(tmp_path, one_account=True) as world:
        for name, title in CONTROL_ATTACKS:
            attack = next(attack for attack in (NODE_ATTACKS if name == "a" else OPERATOR_ATTACKS) if attack.title == title)
            assert f"{attack.reply} was published" in await harm_done(world, name, attack), title
