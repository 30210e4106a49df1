"""A client that launches many orchestrations on a node that does nothing: volume, keys that come twice, backlogs.

`python -m tests.chaos.workload_storm` takes the options of `tests.chaos.workload`; `--live` is launches a second.
"""

from __future__ import annotations

import random
import sys

import anyio

from bench import work as bench_work
from bus.connection import Bus
from bus.errors import Unavailable
from bus.request import QueryFailed, ask
from bus_schemas import commands as c
from bus_schemas.entities import Complexity
from tests.chaos.workload import LOOK_EVERY_S, LOOK_TIMEOUT_S, Options, options_of, work
from tests.chaos.workload_calls import Caller, CallLog

AT_ONCE = 64
"""Launches without an answer; more wait here, not on the bus."""


async def storm(bus: Bus, caller: Caller, log: CallLog, options: Options) -> None:
    """Launch until the stop file is there, then return when nothing is live."""
    for name, command in list(log.open.items()):
        await caller.ask(command, name.key)
    await caller.ask(c.ProjectAdd(options.name, options.repo), f"{options.name}-project")
    design = c.DesignAdd(options.name, "Storm", bench_work.DESIGN_BODY, Complexity.SIMPLE, bench_work.MARKERS)
    await caller.ask(design, f"{options.name}-design")
    chance = random.Random(f"{options.seed}/{options.name}/{log.launch_number}")
    number, free = log.launch_number, anyio.Semaphore(AT_ONCE)

    async def launch(command: c.Launch, key: str) -> None:
        async with free:
            await caller.ask(command, key)

    async with anyio.create_task_group() as tasks:
        while not options.stop.exists():
            number += 1
            command = c.Launch(
                design=f"{options.name}-d1", node=options.nodes[0], feature=f"storm {number}", overrides=bench_work.OVERRIDES, preset="balanced"
            )
            for _ in range(2 if chance.random() < 0.05 else 1):
                tasks.start_soon(launch, command, f"{options.name}-launch-{number}")
            await anyio.sleep(chance.expovariate(options.live))
            while free.value == 0:
                await anyio.sleep(0.05)
    await _nothing_live(bus, log, options)


async def _nothing_live(bus: Bus, log: CallLog, options: Options) -> None:
    while True:
        try:
            found = await ask(bus, "orchestrations", {"project": options.name, "status": "launching", "limit": 1}, timeout_s=LOOK_TIMEOUT_S)
        except (Unavailable, QueryFailed):
            await anyio.sleep(LOOK_EVERY_S)
            continue
        if not found["items"]:
            break
        await anyio.sleep(LOOK_EVERY_S)
    for orchestration in list(log.launched):
        log.ended(orchestration, "seen in no list of live ones")


if __name__ == "__main__":
    sys.exit(anyio.run(work, options_of(sys.argv[1:], "tests.chaos.workload_storm"), storm))
