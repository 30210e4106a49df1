"""Two controllers that both believe they are active, each behind the other on another project: neither may lose its place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import anyio
import msgspec
import pytest

from bus.bootstrap import ensure_all
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus_schemas import codec
from bus_schemas.decisions import Decision, TimerCause
from controller.index import Index
from controller.ledger import Ledger
from controller.shelf import Place

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    async with EmbeddedServer(tmp_path / "bus") as server:
        bus = await connect(server.url, "test", server.credentials)
        await ensure_all(bus)
        yield bus
        await bus.close()


def opened(data: Path) -> Index:
    index = Index.open(data, "zombie")
    assert index is not None
    return index


async def append(ledger: Ledger, project: str) -> None:
    decision = Decision(at=datetime.now(UTC), cause=TimerCause("test"))
    await ledger.append(project, [decision], [msgspec.Raw(codec.encode(decision))], ledger.state(project), 0)


async def test_a_zombie_that_still_appended_to_one_project_reads_what_was_appended_to_the_others_meanwhile(bus: Bus) -> None:
    zombie, active = Ledger(bus, "zombie"), Ledger(bus, "active")
    await append(zombie, "shop")
    await active.catch_up()
    await append(active, "shop")
    await append(zombie, "harbour")  # nobody else wrote there, so it is taken
    await append(active, "shop")
    assert await zombie.catch_up() == 3
    assert zombie.stopped == {}
    assert zombie.head("shop") == active.head("shop")
    assert (zombie.whole_seq, zombie.position_seq) == (4, 4)


async def test_own_messages_are_not_read_again_where_nothing_lies_between_them(bus: Bus) -> None:
    ledger = Ledger(bus, "alone")
    for project in ("shop", "harbour", "shop"):
        await append(ledger, project)
    assert ledger.whole_seq == 3
    assert await ledger.catch_up() == 0


async def test_what_is_written_to_the_index_never_claims_a_message_that_was_not_read(bus: Bus, tmp_path: Path) -> None:
    zombie, active = Ledger(bus, "zombie", opened(tmp_path)), Ledger(bus, "active")
    await zombie.start()
    await append(active, "shop")
    await append(zombie, "harbour")
    await zombie.close()
    again = Ledger(bus, "zombie", opened(tmp_path))
    await again.start()
    assert (again.whole_seq, again.position_seq) == (0, 2)
    await again.catch_up()
    await append(active, "shop")
    await again.catch_up()
    assert again.stopped == {}
    assert again.head("shop") == active.head("shop")
    await again.close()


async def test_a_write_to_the_index_that_a_stop_meets_is_done_and_not_half_forgotten(bus: Bus, tmp_path: Path) -> None:
    ledger = Ledger(bus, "stopped", opened(tmp_path))
    await ledger.start()
    await append(ledger, "shop")
    index = ledger.index
    assert index is not None
    with anyio.CancelScope() as scope:
        scope.cancel()
        await index.write(ledger.states, ledger.keys.hand_over(), Place(index.created, ledger.whole_seq, dict(ledger.heads)))
    await append(ledger, "harbour")
    await ledger.close()
    again = Ledger(bus, "stopped", opened(tmp_path))
    await again.start()
    assert again.heads == ledger.heads
    await again.close()
