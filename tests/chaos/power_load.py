"""The client's side of a power cut: what it asked, and what it was told.

Owns the client log, which is in this process's memory and so survives every cut.
"""

from __future__ import annotations

from pathlib import Path

import anyio
from msgspec import Struct

from bus.connection import Bus
from bus.errors import Rejected, Unavailable
from bus.request import CommandClient, OutcomeUnknown
from bus_schemas import commands as c
from bus_schemas.decisions import Receipt
from tests.chaos.power_plane import NODE

PROJECT = "shop"
DESIGN = "shop-d1"
SHELL = {"model": dict.fromkeys(("validator", "planner", "executor", "reviewer", "reviewer_secondary"), "shell")}
RECEIPT_S = 20.0
PAUSE_S = 0.02
LAUNCH_EVERY_S = 1.2


def design(witness: Path) -> str:
    """Two phases; each task says in the witness, on a disk that stays, that it was started, and leaves a commit."""
    block = 'echo "$QD_RUN.$QD_ATTEMPT" >> {0} && sync -d {0}\nsleep 0.2\necho "$QD_RUN" > "part-$QD_ORCHESTRATION-$QD_PHASE-$QD_TASK"'
    body = f"```sh\n{block.format(witness)}\n```\n"
    return f"## Phase 1: one\n### Task 1: a\n{body}### Task 2: b\n{body}## Phase 2: two\n### Task 1: c\n{body}"


class Asked(Struct):
    """A command that was sent under a key; `receipt` is what came back, None: nobody knows."""

    key: str
    command: c.Command
    life: int
    receipt: Receipt | None = None


class Load:
    """Submits commands as fast as receipts come, and remembers everything."""

    def __init__(self, launches_max: int = 1000) -> None:
        """Nothing was asked yet; at most `launches_max` launches are, in each life."""
        self._launches_max = launches_max
        self.log: list[Asked] = []
        self.life = 0

    @property
    def acknowledged(self) -> list[Asked]:
        """What the client was given a receipt for."""
        return [asked for asked in self.log if asked.receipt is not None]

    async def ask(self, client: CommandClient, key: str, command: c.Command) -> Asked:
        """Submit a command once and log what came of it."""
        asked = Asked(key, command, self.life)
        self.log.append(asked)
        try:
            asked.receipt = await client.submit(command, key, timeout_s=RECEIPT_S)
        except (OutcomeUnknown, Unavailable, Rejected):
            await anyio.sleep(PAUSE_S)
        return asked

    async def catalogue(self, client: CommandClient, repo: Path, witness: Path) -> None:
        """Add the project and its design."""
        added = await self.ask(client, "project", c.ProjectAdd(PROJECT, str(repo), check="ls"))
        assert added.receipt is not None
        assert added.receipt.status == "completed", added.receipt
        markers = ("objective_defined", "scope_bounded")
        drawn = await self.ask(client, "design", c.DesignAdd(PROJECT, "Parts", design(witness), c.Complexity.SIMPLE, markers))
        assert drawn.receipt is not None
        assert drawn.receipt.design == DESIGN, drawn.receipt

    async def run(self, bus: Bus, *, writers: int = 3) -> None:
        """Ask until cancelled: tickets without a pause, a launch now and then."""
        async with CommandClient(bus, c.Via.API) as client, anyio.create_task_group() as tasks:
            for writer in range(writers):
                tasks.start_soon(self._tickets, client, writer)
            tasks.start_soon(self._launches, client)

    async def _tickets(self, client: CommandClient, writer: int) -> None:
        number = 0
        while True:
            number += 1
            key = f"ticket-{self.life}-{writer}-{number}"
            await self.ask(client, key, c.TicketAdd(PROJECT, key))

    async def _launches(self, client: CommandClient) -> None:
        for number in range(1, self._launches_max + 1):
            await self.ask(client, f"launch-{self.life}-{number}", c.Launch(DESIGN, NODE, feature=f"{self.life} {number}", overrides=SHELL))
            await anyio.sleep(LAUNCH_EVERY_S)
