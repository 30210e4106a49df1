"""The controller on a real nats-server: decided once, dispatched once, taken over, refused with a record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from bus.connection import connect
from bus.pull import PullLoop
from bus.reader import stream_state
from bus.request import QueryFailed
from bus_schemas import codec, subjects
from bus_schemas import commands as c
from bus_schemas.decisions import CommandCause
from bus_schemas.events import RunQueued, RunStarted
from bus_schemas.reports import Ended, InitResult, Outcome
from controller import freshness
from tests.integration.ring import BODY, SHELL, ring

pytestmark = pytest.mark.anyio


async def test_a_design_runs_from_launch_to_complete_and_the_first_start_turned_the_flags_on(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue(check="true")
        node = await r.node()
        receipt = await r.launch()
        o = await r.ended()
        flags = (await r.ask("flags"))["items"]
        action = await r.ask("action", id=receipt.action)

    assert (receipt.status, receipt.orchestration) == ("accepted", "shop-o1")
    assert (o["status"], o["hold"]) == ("complete", None)
    assert action["status"] == "completed"
    assert {flag["flag"] for flag in flags if flag["on"]} == {
        "cp.launch",
        "cp.runtime_controls",
        "cp.policy_reconfiguration",
        "cp.task_reconfiguration",
    }
    assert len(node.started) == len(set(node.started)) == 10


async def test_a_key_is_for_ever_the_same_answer_and_another_body_is_refused(tmp_path: Path) -> None:
    async with ring(tmp_path, controllers=0) as r:
        scope = await r.controller("first")
        await r.active()
        await r.catalogue()
        one = await r.do(c.TicketAdd("shop", "one"), "k")
        again = await r.do(c.TicketAdd("shop", "one"), "k")
        other = await r.do(c.TicketAdd("shop", "two"), "k")
        scope.cancel()
        await r.controller("second")
        after = await r.do(c.TicketAdd("shop", "one"), "k")
        tickets = (await r.ask("tickets", project="shop"))["items"]

    assert (one.duplicate, again.duplicate, after.duplicate) == (False, True, True)
    assert one.action == again.action == after.action
    assert other.reason_code == "validation_idempotency_mismatch"
    assert [ticket["title"] for ticket in tickets] == ["one"]


async def test_many_commands_at_once_share_ledger_messages_and_each_is_decided_once(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        before = (await stream_state(r.bus, subjects.LEDGER)).messages
        receipts: list[str] = []

        async def add(n: int) -> None:
            receipts.append((await r.do(c.TicketAdd("shop", f"t{n}"), f"k{n % 150}")).action)

        async with anyio.create_task_group() as tasks:
            for n in range(300):
                # every second time the same key with the same body
                tasks.start_soon(add, n % 150)
        after = (await stream_state(r.bus, subjects.LEDGER)).messages
        decided = Counter(d.cause.key for d in await r.decisions() if isinstance(d.cause, CommandCause) and d.cause.type == "ticket-add")

    assert set(decided.values()) == {1}
    assert len(decided) == 150
    assert len(set(receipts)) == 150
    assert after - before < 150  # several decisions in one message under load


async def test_two_controllers_at_once_decide_every_key_once(tmp_path: Path) -> None:
    async with ring(tmp_path, controllers=0) as r:
        # both believe that they are active: the lease is only for liveness
        from controller.owner import Ownership

        original = Ownership.acquire

        async def at_once(self: Ownership) -> None:
            return None

        async def for_ever(self: Ownership) -> None:
            await anyio.sleep_forever()

        keep, Ownership.acquire, Ownership.keep = Ownership.keep, at_once, for_ever  # type: ignore[method-assign]
        try:
            await r.controller("one")
            await r.controller("two")
            await r.active()
            await r.catalogue()
            node = await r.node()

            async def launch(n: int) -> None:
                receipt = await r.launch(f"k{n}", feature=f"f{n}")
                assert receipt.status in ("accepted", "completed"), receipt

            async with anyio.create_task_group() as tasks:
                for n in range(40):
                    tasks.start_soon(launch, n)
            for n in range(1, 41):
                await r.ended(f"shop-o{n}", 60)
            decisions = await r.decisions()
        finally:
            Ownership.acquire, Ownership.keep = original, keep  # type: ignore[method-assign]

    keys = Counter(d.cause.key for d in decisions if isinstance(d.cause, CommandCause))
    queued = Counter((event.run, event.attempt) for d in decisions for event in d.events if isinstance(event, RunQueued))
    started = Counter((event.run, event.attempt) for d in decisions for event in d.events if isinstance(event, RunStarted))
    assert set(keys.values()) == set(queued.values()) == set(started.values()) == {1}
    assert Counter(node.started) == started


async def test_a_standby_takes_over_within_five_seconds_of_a_kill_and_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    async with ring(tmp_path, controllers=0) as r:
        environment = {**os.environ, "QD_CONTROLLER_SERVER": r.server.url, "QD_CONTROLLER_TOKEN": r.server.credentials.token or ""}
        active, standby = (
            subprocess.Popen([sys.executable, "-m", "controller"], env={**environment, "QD_CONTROLLER_OWNER": name}, stderr=subprocess.DEVNULL)
            for name in ("one", "two")
        )
        try:
            first = (await r.until("status", lambda status: bool(status["owner"])))["owner"]
            await r.catalogue()
            node = await r.node()
            node.hold.add("task")
            await r.launch()
            await r.until("orchestration", lambda o: o["status"] == "executing", id="shop-o1")
            killed = active if first == "one" else standby
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            at = time.monotonic()
            receipt = await r.do(c.TicketAdd("shop", "while nobody is there"), timeout_s=15)
            took_s = time.monotonic() - at
            node.hold.clear()
            o = await r.ended()
            status = await r.ask("status")
        finally:
            for process in (active, standby):
                process.kill()
                process.wait()

    assert receipt.status == "completed"
    assert status["owner"] != first
    assert took_s < 10  # 5 s to take over, and the ack wait of what the dead one had taken; measured in docs/guarantees.md
    assert o["status"] == "complete"
    assert len(node.started) == len(set(node.started)) == 9  # no check: verify is skipped


async def test_a_pause_withdraws_what_waits_and_nothing_starts_until_resume(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        node = await r.node()
        node.hold.add("plan")
        await r.launch()
        await r.until("orchestration", lambda o: o["status"] == "planning", id="shop-o1")
        pause = await r.do(c.Pause("shop-o1"))
        held = await r.until("orchestration", lambda o: o["hold"] is not None and o["hold"]["kind"] == "paused", id="shop-o1")
        completed = await r.ask("action", id=pause.action)
        started = list(node.started)
        node.hold.clear()
        await anyio.sleep(0.3)
        assert node.started == started
        resume = await r.do(c.Resume("shop-o1"))
        o = await r.ended()

    assert held["status"] == "planning"
    assert (completed["status"], resume.status) == ("completed", "completed")
    assert o["status"] == "complete"


async def test_a_cancel_stops_what_runs_and_ends_when_its_end_is_reported(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        node = await r.node()
        ends = anyio.Event()
        plain_end = node.end

        async def wait_for_stop(order: object) -> None:
            if getattr(order, "kind", None) != "plan":
                await plain_end(order)  # type: ignore[arg-type]
                return
            while not node.stops:
                await anyio.sleep(0.02)
            ended = Ended(codec.VERSION, Outcome.CANCELLED, datetime.now(UTC), reason_code="dispatch_cancelled")
            await r.bus.write_once(node.subject(order, "ended"), codec.encode(ended))  # type: ignore[arg-type]
            ends.set()

        node.end = wait_for_stop  # type: ignore[method-assign]
        await r.launch()
        await r.until("runs", lambda runs: any(x["kind"] == "plan" and x["status"] == "started" for x in runs["items"]), orchestration="shop-o1")
        cancel = await r.do(c.Cancel("shop-o1"))
        o = await r.ended()
        action = await r.ask("action", id=cancel.action)

    assert ends.is_set()
    assert (o["status"], action["status"]) == ("cancelled", "completed")


async def test_reports_that_cannot_be_believed_or_read_are_kept_as_dead_letters_with_the_reason(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        node = await r.node()
        node.hold.add("init")
        await r.launch()
        forged = Ended(codec.VERSION, Outcome.SUCCEEDED, datetime.now(UTC), result=InitResult("x", "/x", "qd/x"))
        good = codec.encode(forged)
        for subject, body in [
            (subjects.report("n1", "shop", "shop-o1-r1", 1, "guessed", "ended"), good),
            (subjects.report("n2", "shop", "shop-o1-r1", 1, "guessed", "ended"), good),
            (subjects.report("n1", "other", "shop-o1-r1", 1, "guessed", "ended"), good),
            (subjects.report("n1", "shop", "shop-o1-r1", 1, "guess2", "ended"), b"{"),
            ("qd.cmd.local.shop.launch", b"not json"),
            ("qd.cmd.local.shop.launch", b'{"v":99}'),
            ("qd.cmd.*.shop.launch", b"{}"),
        ]:
            await r.bus.append(subject, body)
        await r.until("status", lambda status: status["dead_letters"] >= 7)
        receipt = await r.do(c.TicketAdd("shop", "still alive"))
        run = (await r.ask("runs", orchestration="shop-o1"))["items"][0]
        node.hold.clear()
        o = await r.ended()
        whole = (await r.ask("runs", orchestration="shop-o1"))["items"]
        pages = [await r.ask("runs", orchestration="shop-o1", limit=2)]
        while pages[-1]["next"] is not None:
            pages.append(await r.ask("runs", orchestration="shop-o1", limit=2, after=pages[-1]["next"]))
        none = await r.ask("runs", orchestration="shop-o1", after="shop-o1-r999")
        letter = await r.bus.last(subjects.DLQ, "qd.dlq.CMD.*")

    assert receipt.status == "completed"
    assert run["status"] in ("queued", "dispatched")
    assert len(pages) > 1
    assert [run for page in pages for run in page["items"]] == whole
    assert (none["items"], none["next"]) == ([], None)
    assert o["status"] == "complete"
    assert letter is not None


@pytest.mark.parametrize(
    ("verb", "body", "code"),
    [
        ("launch", b'{"design":"shop-d1","node":"n1","colour":"red"}', "validation_invalid_payload"),
        ("launch", b'{"design":"shop-d1"}', "validation_missing_field"),
        ("launch", b'{"design":7,"node":"n1"}', "validation_invalid_payload"),
        ("launch", b'["design"]', "validation_invalid_payload"),
        ("ticket-add", b'{"project":"shop","title":"' + b"x" * 201 + b'"}', "validation_too_large"),
        ("explode", b"{}", "validation_unknown_action"),
        ("ticket-add", b'{"project":"other","title":"t"}', "validation_invalid_payload"),
    ],
)
async def test_a_command_with_a_bad_body_is_refused_with_one_code_and_a_record(tmp_path: Path, verb: str, body: bytes, code: str) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        before = len(await r.decisions())
        now = datetime.now(UTC).isoformat()
        data = b'{"v":1,"type":"%s","id":"id-1","at":"%s","via":"api","key":"bad","body":%s}' % (verb.encode(), now.encode(), body)
        receipt = await r.client.submit_raw(f"qd.cmd.local.shop.{verb}", "id-1", data, "bad", 10)
        decisions = await r.decisions()
        action = await r.ask("action", project="shop", key="bad")

    assert (receipt.status, receipt.reason_code) == ("refused", code)
    assert receipt.message
    assert len(decisions) == before + 1
    assert decisions[-1].events == ()
    assert action["action"] == receipt.action


async def test_an_expired_command_is_refused_and_its_key_stays_free(tmp_path: Path) -> None:
    async with ring(tmp_path, controllers=0) as r:
        scope = await r.controller()
        await r.active()
        await r.catalogue()
        scope.cancel()
        envelope = r.client.envelope(c.TicketAdd("shop", "late"), "k", valid_for_s=0.05)
        await r.bus.append("qd.cmd.local.shop.ticket-add", codec.encode(envelope))
        await anyio.sleep(0.2)
        await r.controller("later")
        refused = await r.until("actions", lambda actions: actions["items"] and actions["items"][0]["status"] == "refused", project="shop")
        receipt = await r.do(c.TicketAdd("shop", "late"), "k")

    assert refused["items"][0]["reason_code"] == "validation_expired"
    assert (receipt.status, receipt.duplicate) == ("completed", False)


async def test_a_dry_run_answers_what_would_be_decided_and_records_nothing(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        await r.node()
        before = len(await r.decisions())
        preview = await r.do(c.Launch("shop-d1", "n1", overrides=SHELL), "k", dry_run=True)
        refused = await r.do(c.Launch("shop-d1", "n1", overrides={"flow": {"x": 1}}), "k", dry_run=True)
        after = len(await r.decisions())
        real = await r.launch("k")

    assert (preview.status, preview.orchestration) == ("accepted", "shop-o1")
    assert (refused.status, refused.reason_code) == ("refused", "validation_invalid_payload")
    assert before == after
    assert (real.status, real.duplicate) == ("accepted", False)


async def test_orders_are_handed_out_in_turn_over_projects_and_never_more_than_a_node_may_have_unclaimed(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        await r.do(c.ProjectAdd("tool", "/tool"))
        await r.do(c.DesignAdd("tool", "T", BODY, c.Complexity.SIMPLE, ("objective_defined", "scope_bounded")))
        from tests.integration.ring import PlayedNode, _consumers

        await PlayedNode(r.bus, "n1", 2).beat()
        await r.until("nodes", lambda nodes: bool(nodes["items"]))
        await _consumers(r.bus, "n1")
        for n in range(6):
            await r.launch(feature=f"f{n}")
        await r.do(c.Launch("tool-d1", "n1", feature="late", overrides=SHELL))
        await anyio.sleep(0.3)
        waiting = (await stream_state(r.bus, subjects.WORK)).messages
        order: list[str] = []
        async with PullLoop(r.bus, subjects.WORK, "work-n1", want=1) as loop:
            while len(order) < 5:
                for delivery in await loop.batch():
                    work = codec.decode_order(delivery.data)
                    order.append(work.project)
                    subject = subjects.report("n1", work.project, work.run, work.attempt, work.nonce, "started")
                    await r.bus.write_once(subject, codec.encode({"type": "started", "v": 1, "boot": "b", "claim": "c", "at": datetime.now(UTC)}))
                    await delivery.ack()

    assert waiting == 3  # capacity 2, and one more
    assert "tool" in order  # six launches of one project do not keep the other waiting


async def test_a_controller_refuses_a_bus_that_can_lose_acknowledged_writes(tmp_path: Path) -> None:
    from bus.bootstrap import Sync, UnsafeSync, ensure_all
    from bus.embedded import EmbeddedServer
    from controller.config import ControllerConfig
    from controller.service import serve

    async with EmbeddedServer(tmp_path, sync='"2m"') as server:
        bus = await connect(server.url, "t", server.credentials)
        await ensure_all(bus, sync=Sync.UNSAFE)
        await bus.close()
        config = ControllerConfig(server=server.url, token=server.credentials.token)
        with pytest.raises(UnsafeSync, match="sync_interval: always"):
            await serve(config)


async def test_the_server_killed_and_restarted_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        node = await r.node()
        node.hold.add("task")
        await r.launch()
        await r.until("orchestration", lambda o: o["status"] == "executing", id="shop-o1")
        before = await r.ask("nodes")
        r.server.kill()
        await r.server.wait()
        await r.server.start()
        node.hold.clear()
        o = await r.ended(deadline_s=40)
        await r.until("nodes", lambda nodes: nodes["items"][0]["last_seen"] > before["items"][0]["last_seen"], 10)
        again = await r.launch(feature="after the restart")

    assert o["status"] == "complete"
    assert again.status == "accepted"  # the beats, which a server keeps in memory only, are there again
    assert len(node.started) == len(set(node.started))


async def test_old_reports_are_deleted_and_the_claim_of_an_open_run_never_is(tmp_path: Path) -> None:
    from controller.janitor import Janitor
    from controller.ledger import Ledger

    async with ring(tmp_path) as r:
        await r.catalogue()
        node = await r.node()
        await r.launch()
        await r.ended()
        plain_end = node.end

        async def never_ends(order: object) -> None:
            if getattr(order, "kind", None) != "plan":
                await plain_end(order)  # type: ignore[arg-type]

        node.end = never_ends  # type: ignore[method-assign]
        await r.launch(feature="second")
        await r.until("runs", lambda runs: any(x["kind"] == "plan" and x["status"] == "started" for x in runs["items"]), orchestration="shop-o2")
        ledger = Ledger(r.bus, "reader")
        await ledger.catch_up()
        janitor = Janitor(r.bus, ledger)
        before = (await stream_state(r.bus, subjects.REP)).messages
        none = await janitor.clean(datetime(2000, 1, 1, tzinfo=UTC))
        purged = await janitor.clean(datetime.now(UTC))
        left = (await stream_state(r.bus, subjects.REP)).messages
        claim = await r.bus.last(subjects.REP, "qd.rep.n1.shop.shop-o2-r3.1.*.started")

    assert (none, purged + left) == (0, before)
    assert left == 1
    assert claim is not None


async def test_a_withdrawn_order_is_gone_from_the_queue_of_its_node(tmp_path: Path) -> None:
    from tests.integration.ring import PlayedNode

    async with ring(tmp_path) as r:
        await r.catalogue()
        await PlayedNode(r.bus, "n1").beat()
        await r.until("nodes", lambda nodes: bool(nodes["items"]))
        await r.launch()
        with anyio.fail_after(5):
            while (await stream_state(r.bus, subjects.WORK)).messages != 1:
                await anyio.sleep(0.02)
        await r.do(c.Pause("shop-o1"))
        await r.until("orchestration", lambda o: o["hold"] is not None and o["hold"]["kind"] == "paused", id="shop-o1")
        with anyio.fail_after(5):
            while (await stream_state(r.bus, subjects.WORK)).messages != 0:
                await anyio.sleep(0.02)


async def test_under_load_the_live_state_is_the_state_that_the_ledger_folds_to(tmp_path: Path) -> None:
    from bus.bootstrap import Sync
    from controller.ledger import Ledger
    from controller.service import Controller

    async with ring(tmp_path, controllers=0) as r:
        controller = Controller(r.bus, "one", Sync.ALWAYS)

        async def be() -> None:
            await controller.stand_by()
            await controller.be_active()

        r.tasks.start_soon(controller.presence.follow, controller.on_beat)
        r.tasks.start_soon(be)
        await r.active()
        await r.catalogue()
        node = await r.node(capacity=16)

        async def launch(n: int) -> None:
            # every third is asked twice at once, every fifth is refused
            feature = "!" if n % 5 == 0 else f"f{n}"
            await r.launch(f"k{n}", feature=feature)
            if n % 3 == 0:
                assert (await r.launch(f"k{n}", feature=feature)).duplicate

        async with anyio.create_task_group() as tasks:
            for n in range(1, 101):
                tasks.start_soon(launch, n)
        await r.until("status", lambda status: status["orchestrations"] == 80 and status["live"] == 0, 60)
        await anyio.sleep(0.2)
        again = Ledger(r.bus, "reader")
        await again.catch_up()
        messages = (await stream_state(r.bus, subjects.LEDGER)).messages

    assert not again.stopped
    assert again.heads == controller.ledger.heads
    assert again.states["shop"] == controller.ledger.states["shop"]
    assert again.states["plane"] == controller.ledger.states["plane"]
    assert len(again.keys) == len(controller.ledger.keys)
    assert messages < 1000  # 100 commands, and 9 runs of 80 orchestrations, each started and ended
    assert len(node.started) == len(set(node.started)) == 720


async def test_an_explanation_waits_for_the_decision_that_it_is_asked_for_like_every_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "WAIT_S", 0.1)
    async with ring(tmp_path) as r:
        for name in ("why", "policy", "past", "order", "placement", "orchestration"):
            seq = (await stream_state(r.bus, subjects.LEDGER)).last_seq
            with pytest.raises(QueryFailed, match=f"not yet at {seq + 50}") as failed:
                await r.ask(name, id="shop-o1", min_seq=seq + 50)
            assert failed.value.code == "validation_invalid_state"
