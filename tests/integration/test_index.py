"""The index on a real nats-server: written behind, read at the start, and an alarm where the ledger is not the one it knew."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from bus.bootstrap import Sync
from bus_schemas import commands as c
from controller.index import Index
from controller.ledger import Ledger
from controller.service import Controller
from tests.integration.ring import ring
from tests.unit.controller.restored import in_memory, whole_states

pytestmark = pytest.mark.anyio


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
        await ledger.write_index()
        states = whole_states(ledger)
        replayed = Ledger(r.bus, "reader")
        await replayed.catch_up()

    assert (late.status, late.reason_code) == ("refused", "validation_invalid_state")
    assert "shop-o7 is complete" in late.message
    assert again.duplicate
    assert again.status == "completed"
    assert [int(o["id"].rpartition("o")[2]) for o in (*listed["items"], *second["items"])] == list(range(80, 0, -1))
    assert replayed.states == states
    assert replayed.heads == ledger.heads
