"""The simulated server answers as the real one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from bus.connection import Credentials, connect
from bus.embedded import EmbeddedServer
from tests.simulation.differential import restarts, run
from tests.simulation.differential_player import flow
from tests.simulation.host import SimHost
from tests.simulation.jetstream import SimServer
from tests.simulation.link import Network
from tests.simulation.loop import SimLoop, simulate

FIRST = 930
COUNT = 300
"""Half of them with a restart of the server in their middle."""


@pytest.mark.anyio
async def test_the_simulated_server_answers_random_sequences_as_the_real_one_does(tmp_path: Path) -> None:
    assert {restarts(seed) for seed in range(FIRST, FIRST + COUNT)} == {True, False}

    outcome = await run(FIRST, COUNT, tmp_path)

    assert outcome.sequences == COUNT
    assert not outcome.divergent, "\n".join(f"seed {seed}: {difference}" for seed, difference in outcome.divergent.items())


def test_the_flow_control_of_the_simulated_server_stops_and_goes_on_where_the_real_one_does(tmp_path: Path) -> None:
    async def really() -> Any:
        async with EmbeddedServer(tmp_path, sync="10m") as server:
            bus = await connect(server.url, "flow", server.credentials)
            try:
                return await flow(bus)
            finally:
                await bus.close()

    async def simulated(loop: SimLoop) -> Any:
        network = Network(loop)
        SimServer(network).start()

        async def play() -> Any:
            return await flow(await connect("nats://sim", "flow", Credentials("local"), retry=True))

        return await SimHost(loop, network, "one").run(play())

    assert simulate(simulated, 1) == anyio.run(really)
