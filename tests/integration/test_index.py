"""The index on a real nats-server: written behind, read at the start, and an alarm where the ledger is not the one it knew."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from bus.bootstrap import Sync
from bus.request import OutcomeUnknown
from bus_schemas import commands as c
from bus_schemas.decisions import Receipt
from controller.batch import FirstItem
from controller.index import Index
from controller.lane import Lane
from controller.ledger import Ledger
from controller.service import Controller, serve
from tests.integration.ring import SHELL, Ring, ring
from tests.unit.controller.restored import in_memory, whole_states

pytestmark = pytest.mark.anyio

KILLS, SEED = int(os.environ.get("QD_TEST_INDEX_KILLS", "2")), int(os.environ.get("QD_TEST_INDEX_SEED", "1"))
"""Of the controller that writes its index; more of them are for a long run by hand."""


async def _controller(r: Ring, folder: Path) -> anyio.CancelScope:
    """Start a controller with an index in `folder`; return when it answers."""
    scope = anyio.CancelScope()

    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with scope:
            await serve(r.config("indexed").model_copy(update={"data": folder}), task_status=task_status)

    await r.tasks.start(run)
    await r.active()
    return scope


async def _closed(folder: Path) -> None:
    """Return when no controller has the index of `folder` any more."""
    with anyio.fail_after(10), (folder / "index.lock").open() as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                await anyio.sleep(0.02)


async def test_under_load_what_has_ended_leaves_the_memory_and_a_restart_from_the_index_knows_the_same(tmp_path: Path) -> None:
    async with ring(tmp_path, controllers=0) as r:
        ledger = Ledger(r.bus, "one", Index.open(tmp_path / "index", "one"))
        controller = Controller(r.bus, "one", Sync.ALWAYS, ledger)

        async def be() -> None:
            await controller.start()
            await controller.stand_by()
            await controller.be_active()

        r.tasks.start_soon(controller.presence.follow, controller.on_beat)
        r.tasks.start_soon(ledger.keep_index)
        r.tasks.start_soon(be)
        await r.active()
        await r.catalogue()
        await r.node(capacity=16)

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
        with anyio.fail_after(5):
            while in_memory(ledger) != (0, 0):
                await r.do(c.TicketAdd("shop", "one more"), "more")  # lands, so that nothing is built on an older state any more
                await anyio.sleep(0.1)
        late = await r.do(c.Cancel("shop-o7"))
        again = await r.launch("k33", feature="f33")
        listed = await r.ask("orchestrations", project="shop", limit=30)
        second = await r.ask("orchestrations", project="shop", limit=1000, after=listed["next"])
        actions = [action["action"] for action in (await r.ask("actions", project="shop", limit=1000))["items"]]
        older = await _paged(r, "next", project="shop")
        newer = await _paged(r, "previous", project="shop", before=actions[-1])
        await ledger.write_index()
        states = whole_states(ledger)
        replayed = Ledger(r.bus, "reader")
        await replayed.catch_up()

    assert (late.status, late.reason_code) == ("refused", "validation_invalid_state")
    assert "shop-o7 is complete" in late.message
    assert again.duplicate
    assert again.status == "completed"
    assert [int(o["id"].rpartition("o")[2]) for o in (*listed["items"], *second["items"])] == list(range(80, 0, -1))
    assert len(actions) == len(set(actions)) > 100
    assert [name for page in older for name in page] == actions
    assert [name for page in reversed(newer) for name in page] == actions[:-1]
    assert replayed.states == states
    assert replayed.heads == ledger.heads


async def _paged(r: Ring, direction: str, **params: Any) -> list[list[str]]:
    """Return all pages of actions in one direction."""
    pages: list[list[str]] = []
    while True:
        page = await r.ask("actions", limit=17, **params)
        pages.append([action["action"] for action in page["items"]])
        if page[direction] is None:
            return pages
        params = {"project": params["project"], "after" if direction == "next" else "before": page[direction]}


def _data(folder: Path, owner: str) -> Index:
    index = Index.open(folder, owner)
    assert index is not None
    return index


async def test_a_controller_starts_from_its_index_and_folds_only_the_tail(tmp_path: Path) -> None:
    async with ring(tmp_path, controllers=0) as r:
        scope = await _controller(r, tmp_path / "index")
        await r.catalogue()
        for number in range(5):
            await r.do(c.TicketAdd("shop", f"t{number}"), f"k{number}")
        scope.cancel()
        await _closed(tmp_path / "index")
        ledger = Ledger(r.bus, "reader", _data(tmp_path / "index", "reader"))
        await ledger.start()
        known = ledger.position_seq
        tail = await ledger.catch_up()
        states = whole_states(ledger)
        await ledger.close()
        replayed = Ledger(r.bus, "plain")
        count = await replayed.catch_up()

    assert known + tail == count
    assert tail <= 1, "a clean stop leaves at most what was stored after the last write"
    assert states == replayed.states
    assert not ledger.stopped


async def test_two_controllers_in_one_folder_have_a_file_each_and_the_next_takes_a_free_one(tmp_path: Path) -> None:
    first, second = _data(tmp_path, "one"), _data(tmp_path, "two")
    paths = [first.shelf.path.name, second.shelf.path.name]
    first.close()
    third = _data(tmp_path, "three")
    paths.append(third.shelf.path.name)
    second.close()
    third.close()

    assert paths == ["index.sqlite", "index-2.sqlite", "index.sqlite"]
    assert (tmp_path / "index.lock").read_text() == "three"


@pytest.mark.parametrize("damage", ["rubbish", "half", "core", "format", "thing"])
async def test_a_file_that_is_of_no_use_is_moved_aside_and_everything_is_folded_again(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "index"
    async with ring(tmp_path, controllers=0) as r:
        scope = await _controller(r, folder)
        await r.catalogue()
        await r.do(c.TicketAdd("shop", "one"), "k")
        scope.cancel()
        await _closed(folder)
        _damage(folder / "index.sqlite", damage)
        await _controller(r, folder)
        again = await r.do(c.TicketAdd("shop", "one"), "k")
        status = await r.ask("status")

    assert again.duplicate
    assert status["stopped_projects"] == {}
    assert (folder / "index.sqlite.unusable").exists()


def _damage(path: Path, damage: str) -> None:
    if damage == "rubbish":
        path.write_bytes(b"nothing that SQLite knows" * 1000)
    elif damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        with sqlite3.connect(path) as connection:
            if damage == "thing":
                connection.execute("UPDATE things SET body = x'c1' WHERE kind = 'designs'")
            else:
                connection.execute("UPDATE meta SET value = 'another' WHERE name = ?", (damage,))
        connection.close()


async def test_a_ledger_that_lost_its_end_stops_everything_until_an_operator_accepts_it(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    async with ring(tmp_path, controllers=0) as r:
        scope = await _controller(r, folder)
        await r.catalogue()
        scope.cancel()
        await _closed(folder)
    shutil.copytree(tmp_path / "bus", tmp_path / "backup")
    async with ring(tmp_path, controllers=0) as r:
        scope = await _controller(r, folder)
        assert (await r.do(c.TicketAdd("shop", "acknowledged, and lost"), "k2")).status == "completed"
        scope.cancel()
        await _closed(folder)
    shutil.rmtree(tmp_path / "bus")
    shutil.copytree(tmp_path / "backup", tmp_path / "bus")
    async with ring(tmp_path, controllers=0) as r:
        scope = await _controller(r, folder)
        stopped = (await r.ask("status"))["stopped_projects"]
        with pytest.raises(OutcomeUnknown):
            await r.do(c.TicketAdd("shop", "waits"), "k4", timeout_s=1.0)
        scope.cancel()
        await _closed(folder)
        (folder / "index.sqlite").unlink()
        await _controller(r, folder)
        accepted = (await r.ask("status"))["stopped_projects"]
        waited = await r.do(c.TicketAdd("shop", "waits"), "k4")

    assert set(stopped) == {"plane", "shop"}  # the registry records each activation, so it has lost its end too
    assert "lost messages" in stopped["shop"]
    assert str(folder / "index.sqlite") in stopped["shop"]
    assert accepted == {}
    assert waited.status == "completed"


async def test_a_project_whose_newest_message_is_another_one_is_stopped_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    async with ring(tmp_path, controllers=0) as r:
        scope = await _controller(r, folder)
        await r.catalogue()
        await r.do(c.ProjectAdd("tool", "/tool"))
        await r.do(c.TicketAdd("tool", "known"), "k1")
        scope.cancel()
        await _closed(folder)
        with sqlite3.connect(folder / "index.sqlite") as connection:
            connection.execute("UPDATE heads SET sha256 = ? WHERE project = (SELECT id FROM projects WHERE name = 'shop')", ("0" * 64,))
        connection.close()
        await _controller(r, folder)
        stopped = (await r.ask("status"))["stopped_projects"]
        tool = await r.do(c.TicketAdd("tool", "goes on"), "k2")
        again = await r.do(c.TicketAdd("tool", "known"), "k1")
        with pytest.raises(OutcomeUnknown):
            await r.do(c.TicketAdd("shop", "waits"), timeout_s=1.0)

    assert list(stopped) == ["shop"]
    assert "is not the one that was acknowledged" in stopped["shop"]
    assert tool.status == "completed"
    assert again.duplicate


async def test_a_stopped_project_keeps_no_other_waiting_however_much_comes_for_it(tmp_path: Path) -> None:
    async with ring(tmp_path, controllers=0) as r:
        controller = Controller(r.bus, "one", Sync.ALWAYS)
        lane = Lane(controller.ledger, "shop", controller._context, lambda _: [], controller._after)
        for _ in range(3):
            lane.put(FirstItem())
        controller.ledger.stop({"shop": "its chain of hashes is broken"})
        lane.put(FirstItem())
        with anyio.fail_after(1):
            await lane.room(2)

    assert len(lane) == 3


async def test_a_ledger_that_was_made_anew_stops_everything(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    async with ring(tmp_path / "old", controllers=0) as r:
        scope = await _controller(r, folder)
        await r.catalogue()
        scope.cancel()
        await _closed(folder)
    async with ring(tmp_path / "new", controllers=0) as r:
        await _controller(r, folder)
        stopped = (await r.ask("status"))["stopped_projects"]
        with pytest.raises(OutcomeUnknown):
            await r.do(c.ProjectAdd("shop", "/again"), timeout_s=1.0)

    assert set(stopped) == {"plane", "shop"}
    assert all("made anew" in why for why in stopped.values())


async def test_a_controller_that_is_killed_between_writes_knows_every_key_again_and_its_index_is_what_a_replay_gives(tmp_path: Path) -> None:
    folder, rng = tmp_path / "index", random.Random(SEED)
    async with ring(tmp_path, controllers=0) as r:
        environment = {
            **os.environ,
            "QD_CONTROLLER_SERVER": r.server.url,
            "QD_CONTROLLER_TOKEN": r.server.credentials.token or "",
            "QD_CONTROLLER_DATA": str(folder),
        }
        first: dict[int, Receipt] = {}

        async def ask(n: int) -> Receipt:
            return await r.do(c.Launch("shop-d1", "n1", feature=f"f{n}", overrides=SHELL), f"k{n}", timeout_s=60)

        async def launch(n: int) -> None:
            first[n] = await ask(n)

        process = subprocess.Popen([sys.executable, "-m", "controller"], env=environment, stderr=subprocess.DEVNULL)
        try:
            await r.catalogue()
            await r.node(capacity=8)
            for kill in range(KILLS):
                async with anyio.create_task_group() as tasks:
                    for n in range(kill * 12, kill * 12 + 12):
                        tasks.start_soon(launch, n)
                    await anyio.sleep(rng.uniform(0.05, 1.5))
                    process.kill()
                    process.wait()
                    process = subprocess.Popen([sys.executable, "-m", "controller"], env=environment, stderr=subprocess.DEVNULL)
            again = {n: await ask(n) for n in first}
            status = await r.until("status", lambda status: status["live"] == 0, 60)
        finally:
            process.kill()
            process.wait()
        ledger = Ledger(r.bus, "reader", _data(folder, "reader"))
        await ledger.start()
        behind = ledger.position_seq
        await ledger.catch_up()
        states = whole_states(ledger)
        await ledger.close()
        replayed = Ledger(r.bus, "plain")
        await replayed.catch_up()

    assert status["orchestrations"] == len(first) == 12 * KILLS
    assert {n: receipt.action for n, receipt in again.items()} == {n: receipt.action for n, receipt in first.items()}
    assert all(receipt.duplicate for receipt in again.values())
    assert 0 < behind <= replayed.position_seq
    assert not ledger.stopped
    assert states == replayed.states
