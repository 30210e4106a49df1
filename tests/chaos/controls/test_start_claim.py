"""Control 5: no start claim. Two node agents under one name get the same order; the witness must show both starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from bus.connection import Bus
from bus_schemas import codec, subjects
from node_agent import claim
from node_agent.attempt import Taken
from node_agent.service import serve
from tests.integration.node_world import World, task_order, until, world

pytestmark = pytest.mark.anyio

COPIES = 8
"""As many deliveries of one order as make it certain that both twins get one."""


def started_more_than_once(witness: Path) -> list[str]:
    """Return the attempts of which an agent says more than once that it was started."""
    return [attempt for attempt, count in Counter(witness.read_text().split()).items() if count > 1]


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


async def twins_run(made: World, number: int) -> list[str]:
    """Give one order to two node agents with one name and a data folder each; return the attempts that were started twice."""
    witness = made.folder / f"witness-{number}"
    order = task_order(made, number, f'echo "$QD_RUN.$QD_ATTEMPT" >> {witness}; sleep 0.5')
    folders = [made.folder / f"twin-{number}-{twin}" for twin in ("a", "b")]
    async with anyio.create_task_group() as tasks:
        for folder in folders:
            config = made.config(data=folder)
            await tasks.start(lambda task_status, config=config: serve(config, task_status=task_status))
        for copy in range(COPIES):
            await made.bus.append(subjects.work(order.node, order.run, order.attempt + copy), codec.encode(order))
        journals = [folder / "journal" / "journal.jsonl" for folder in folders]
        await until(lambda: all(order.nonce in journal.read_text() for journal in journals))
        await made.ended(order)
        await until(made.orders_are_done)
        await anyio.sleep(0.6)  # whoever lost the race for the end report is over by then, too
        tasks.cancel_scope.cancel()
    return started_more_than_once(witness)


async def test_without_the_start_claim_twins_start_one_attempt_twice_and_with_it_once(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await twins_run(made, 1) == []

    async def unclaimed(bus: Bus, taken: Taken, boot: str) -> bool:
        await genuine(bus, taken, boot)
        return True

    genuine = claim.win
    monkeypatch.setattr(claim, "win", unclaimed)
    assert await twins_run(made, 2) == ["shop-o1-r2.1"]
