"""The simulation's substrate: the real services come up on it, the same seed does the same, a crash has no after-effects."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import anyio

from bus.bootstrap import Sync, ensure_all
from bus.connection import Credentials, connect
from bus.request import CommandClient, ask
from bus_schemas import commands as c
from bus_schemas.decisions import Receipt
from controller.config import ControllerConfig
from controller.service import serve
from tests.simulation.host import SimHost
from tests.simulation.jetstream import SimServer
from tests.simulation.link import Network
from tests.simulation.loop import SimLoop, simulate

URL = "nats://sim:4222"


class Seen(NamedTuple):
    receipt: Receipt
    items: list[dict[str, object]]
    steps: int
    digest: int


async def submitted(loop: SimLoop) -> Seen:
    network = Network(loop)
    server = SimServer(network)
    server.start()
    controller = SimHost(loop, network, "controller")
    operator = SimHost(loop, network, "operator")

    async def operate() -> tuple[Receipt, list[dict[str, object]]]:
        bus = await connect(URL, "operator", Credentials("local"), retry=True)
        await ensure_all(bus, sync=Sync.ALWAYS)
        async with CommandClient(bus, c.Via.CLI) as client:
            receipt = await client.submit(c.ProjectAdd("shop", "/repo"), "key-1")
            answer = await ask(bus, "projects")
        await bus.close()
        return receipt, answer["items"]

    serving = controller.run(serve(ControllerConfig(server=URL, owner="c1")))
    receipt, items = await operator.run(operate())
    await anyio.sleep(10)
    serving.cancel()
    return Seen(receipt, items, loop.steps, loop.digest)


def test_the_real_controller_answers_a_command_in_the_simulation() -> None:
    seen = simulate(submitted, 1)
    assert seen.receipt.status == "completed", seen.receipt
    assert [item["id"] for item in seen.items] == ["shop"]
