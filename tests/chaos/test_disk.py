"""Full disks: of the bus by its limit and for real, of the node agent, of the controller, of the timeline. Nothing acknowledged is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from bus.connection import Bus
from bus.errors import NotSent, Rejected
from bus.request import CommandClient, OutcomeUnknown, ask
from bus_schemas import commands as c
from bus_schemas import subjects
from node_agent import process
from tests.chaos import power_checks as checks
from tests.chaos.disk import LoopDisk, why_not
from tests.chaos.disk_full import full, on_a_small_disk, qd, supervise, until
from tests.chaos.power import Cuts, until_ready
from tests.chaos.power_load import PROJECT
from tests.integration.ring import ring
from tests.integration.test_node_agent_processes import prepared, printed

pytestmark = pytest.mark.anyio
LEASE = f"KV_{subjects.LEASE_BUCKET}"
needs_a_disk = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


async def bound(bus: Bus, stream: str, max_bytes: int) -> None:
    """Give a stream another limit."""
    config: dict[str, Any] = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
    await bus.api(f"STREAM.UPDATE.{stream}", {**config, "max_bytes": max_bytes})


async def answers(bus: Bus) -> bool:
    """Return whether a controller is active."""
    try:
        await ask(bus, "status")
    except NotSent:
        return False
    return True


async def load_for(run: Cuts, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await run.load.run(run.bus)


def assert_clean(run: Cuts) -> None:
    report = run.report
    assert (report.lost, report.duplicated, report.repository, report.answers, report.stuck) == ([], [], [], [], [])


async def test_a_ledger_at_its_limit_takes_nothing_and_goes_on_without_a_restart_when_there_is_room(tmp_path: Path) -> None:
    async with ring(tmp_path) as made:
        await made.catalogue()
        used = (await made.bus.api(f"STREAM.INFO.{subjects.LEDGER}"))["state"]["bytes"]
        await bound(made.bus, subjects.LEDGER, used + 100)
        with pytest.raises(OutcomeUnknown):
            await made.do(c.TicketAdd("shop", "one too many"), "key", timeout_s=1.0)
        await bound(made.bus, subjects.LEDGER, -1)
        again = await made.do(c.TicketAdd("shop", "one too many"), "key")
        assert (again.status, again.ticket) == ("completed", "shop-t1")
        # decided once, by the command that waited or by this one
        assert (await made.do(c.TicketAdd("shop", "another"), "other")).ticket == "shop-t2"


async def test_a_queue_of_commands_at_its_limit_refuses_and_control_still_passes(tmp_path: Path) -> None:
    async with ring(tmp_path) as made:
        await made.catalogue()
        await bound(made.bus, subjects.CMD, 100)
        with pytest.raises(Rejected, match="maximum bytes exceeded"):
            await made.do(c.TicketAdd("shop", "no room"), "key")
        refused = await made.do(c.Cancel("shop-o9"), "control")
        assert refused.reason_code == "validation_entity_not_found"
        await bound(made.bus, subjects.CMD, 1024**3)
        assert (await made.do(c.TicketAdd("shop", "no room"), "key")).ticket == "shop-t1"


async def test_a_controller_whose_lease_takes_no_write_stands_by_and_comes_back(tmp_path: Path) -> None:
    async with ring(tmp_path) as made:
        await made.catalogue()
        before = (await made.bus.api(f"STREAM.INFO.{LEASE}"))["config"]["max_bytes"]
        await bound(made.bus, LEASE, 1)
        with anyio.fail_after(15):
            while await answers(made.bus):
                await anyio.sleep(0.1)
        await bound(made.bus, LEASE, before)
        await made.active()


@needs_a_disk
async def test_a_full_disk_under_the_bus_loses_nothing_and_after_a_restart_of_the_server_all_goes_on(tmp_path: Path) -> None:
    async with on_a_small_disk(tmp_path, "bus", 48) as run:
        plane = run.plane
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load_for, run, 2.5)
            await anyio.sleep(1.0)
            async with full(plane.disk):
                await anyio.sleep(0.5)
                told = await qd(plane, "ticket", "add", PROJECT, "--title", "full", "--idempotency-key", "while-full", "--timeout", "2s")
                assert told.returncode in (9, 10), told.stdout + told.stderr
                doctor = await qd(plane, "doctor", "--timeout", "3s")
        assert doctor.returncode == 1, doctor.stdout + doctor.stderr
        await plane.server.stop()
        await run.look()
        run.load.life += 1
        await run.heal()

        assert_clean(run)
        again = await qd(plane, "ticket", "add", PROJECT, "--title", "full", "--idempotency-key", "while-full")
        assert again.returncode == 0, again.stderr


@needs_a_disk
async def test_a_full_disk_under_a_node_agent_ends_it_loudly_and_no_end_is_lost_and_nothing_started_twice(tmp_path: Path) -> None:
    async with on_a_small_disk(tmp_path, "node", 24) as run:
        plane, ends = run.plane, list[int]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervise, plane.node, ends)
            async with anyio.create_task_group() as loads:
                loads.start_soon(run.load.run, run.bus)
                await until("an agent runs", lambda: plane.witness.read_text())
                async with full(plane.disk):
                    await until("the node agent ended", lambda: ends)
                loads.cancel_scope.cancel()
            run.load.life += 1
            await run.heal()
            tasks.cancel_scope.cancel()

        assert 0 not in ends
        assert "No space left on device" in plane.node.log.read_text()
        assert_clean(run)
        found = await checks.found_on(run.bus)
        assert checks.lost_receipts(run.load.acknowledged, found) == []


@needs_a_disk
async def test_a_full_disk_under_the_controller_never_makes_it_decide_wrong_and_never_costs_its_index(tmp_path: Path) -> None:
    async with on_a_small_disk(tmp_path, "controller", 16) as run:
        plane, ends = run.plane, list[int]()
        async with full(plane.disk):  # it goes on in memory, and says so
            await load_for(run, 1.5)
            await until("it says so", lambda: "cannot be written, and memory grows" in plane.controller.log.read_text())
        await load_for(run, 0.5)
        plane.controller.stop()
        async with anyio.create_task_group() as tasks:
            async with full(plane.disk):  # a start without room ends, and leaves the index as it is
                plane.controller.start()
                tasks.start_soon(supervise, plane.controller, ends)
                await until("it ended", lambda: ends)
            run.load.life += 1
            await run.heal()
            tasks.cancel_scope.cancel()

        assert "cannot be opened, and is left as it is" in plane.controller.log.read_text()
        assert list(plane.data("controller").glob("*.unusable*")) == []
        assert_clean(run)
        found = await checks.found_on(run.bus)
        assert (checks.lost_receipts(run.load.acknowledged, found), checks.decided_twice(found)) == ([], [])


@needs_a_disk
async def test_a_full_disk_under_the_timeline_is_told_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async with on_a_small_disk(tmp_path, "timeline", 24) as run:
        plane, ends = run.plane, list[int]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervise, plane.timeline, ends)
            await run.until_timeline_is_there()
            async with full(plane.disk):
                reason = ""
                async with CommandClient(run.bus, c.Via.API) as client:
                    with anyio.fail_after(30):
                        number = 0
                        while "No space left" not in reason:
                            number += 1
                            await run.load.ask(client, f"full-{number}", c.TicketAdd(PROJECT, "x" * 150))
                            reason = str((await ask(run.bus, "timeline-status"))["reason"])
                doctor = await qd(plane, "doctor")
                assert "No space left" in doctor.stdout, doctor.stdout
            await run.heal()
            tasks.cancel_scope.cancel()

        assert ends == []
        assert_clean(run)
        await until_ready(run.bus)


@needs_a_disk
async def test_an_end_that_a_full_disk_has_no_room_for_is_told_when_there_is_room(tmp_path: Path) -> None:
    with LoopDisk(tmp_path, 8) as disk:
        run, spec = prepared(disk.mount / "run", "echo up; while [ ! -e go ]; do sleep 0.05; done; exit 7")
        shim = process.spawn(run, spec)
        await printed(run, b"up\n")
        run.spec.with_suffix(".go").touch()
        async with full(disk):
            os.replace(run.spec.with_suffix(".go"), run.tree / "go")
            await anyio.sleep(1.0)
            assert process.is_alive(shim)
            assert process.read_exit(run) is None
        with anyio.fail_after(10):
            ending = await process.ending(run, shim)
        assert ending is not None
        assert ending.exit_code == 7
