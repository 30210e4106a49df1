"""Two controllers that both believe they are active, each behind the other on another project: neither may lose its place."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from bus.connection import Bus
from bus.errors import Conflict
from bus_schemas import codec
from bus_schemas.decisions import Decision, TimerCause
from bus_schemas.ids import PLANE
from controller.index import Index
from controller.ledger import Ledger
from controller.shelf import Place

pytestmark = pytest.mark.anyio


def opened(data: Path) -> Index:
    index = Index.open(data, "zombie")
    assert index is not None
    return index


async def append(ledger: Ledger, project: str) -> None:
    decision = Decision(at=datetime.now(UTC), cause=TimerCause("test"))
    await ledger.append(project, ledger.head(project), [decision], [msgspec.Raw(codec.encode(decision))], ledger.state(project), 0)


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


async def test_what_was_decided_on_an_older_message_is_not_appended_behind_a_newer_one(bus: Bus) -> None:
    one, other = Ledger(bus, "one"), Ledger(bus, "other")
    await append(one, "shop")
    await other.catch_up()
    base = one.head("shop")
    await append(other, "shop")
    assert await one.was_behind("shop")
    decision = Decision(at=datetime.now(UTC), cause=TimerCause("test"))
    with pytest.raises(Conflict, match="since this was decided"):
        await one.append("shop", base, [decision], [msgspec.Raw(codec.encode(decision))], one.state("shop"), 0)
    assert one.head("shop") == other.head("shop")


async def test_a_message_that_knew_more_of_the_registry_brings_the_registry_along(bus: Bus) -> None:
    one, other = Ledger(bus, "one"), Ledger(bus, "other")
    await append(one, PLANE)
    await other.catch_up()
    await append(other, PLANE)
    decision = Decision(at=datetime.now(UTC), cause=TimerCause("test"))
    encoded = [msgspec.Raw(codec.encode(decision))]
    await other.append("shop", other.head("shop"), [decision], encoded, other.state("shop"), other.head(PLANE).seq)
    foreign: list[str] = []
    one.on_foreign = lambda message: foreign.append(message.project)
    assert await one.was_behind("shop")
    assert one.head(PLANE) == other.head(PLANE)
    assert foreign == ["shop", PLANE]
    assert not await one.was_behind("shop")


async def test_our_own_message_that_somebody_read_back_meanwhile_is_taken_once(bus: Bus) -> None:
    ledger, other = Ledger(bus, "one"), Ledger(bus, "other")
    decision = Decision(at=datetime.now(UTC), cause=TimerCause("test"))
    encoded = [msgspec.Raw(codec.encode(decision))]
    append_once = bus.append

    async def slow(*arguments: Any, **named: Any) -> Any:
        ack = await append_once(*arguments, **named)
        bus.append = append_once  # type: ignore[method-assign]
        await ledger.catch_up_project("shop")
        await append_foreign()
        await ledger.catch_up_project("shop")
        return ack

    async def append_foreign() -> None:
        await other.catch_up()
        await append(other, "shop")

    bus.append = slow  # type: ignore[method-assign]
    appended = await ledger.append("shop", ledger.head("shop"), [decision], encoded, ledger.state("shop"), 0)
    assert appended.head.seq == 1
    assert ledger.head("shop") == other.head("shop")
    assert ledger.head("shop").seq == 2
