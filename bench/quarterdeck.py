"""One round of Quarterdeck: its real processes on a throw-away bus, and the client that `qd` itself uses.

Owns those processes. Controller, timeline and node agents are started as an operator would start them.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio

from bench import work
from bench.figures import Figures
from bench.pipeline import WINDOW, Launched, Sizes, WrongCount, measure
from bench.processes import Processes
from bench.work import Then
from bus.bootstrap import Sync, ensure_all
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus.errors import Unavailable
from bus.request import CommandClient, QueryFailed, ask
from bus_schemas import commands as c
from bus_schemas.decisions import ActionStatus, Position
from bus_schemas.entities import Complexity

READY_TIMEOUT_S = 30.0
ASK_EVERY_S = 0.05


class QuarterdeckClient:
    """Launches with commands, looks with queries."""

    def __init__(self, bus: Bus, commands: CommandClient) -> None:
        """Both over the same connection."""
        self._bus, self._commands = bus, commands
        self._last = ""

    async def submit(self, number: int, series: str) -> Launched:
        """Return the receipt of a launch. Raises WrongCount for one that is refused."""
        receipt = await self._commands.submit(work.launch(number, series), work.key(number, series))
        if receipt.status is ActionStatus.REFUSED or receipt.orchestration is None:
            raise WrongCount(f"launch {number} of {series} was refused: {receipt.reason_code}: {receipt.message}")
        self._last = receipt.orchestration
        return Launched(receipt.orchestration, receipt.duplicate)

    async def flood(self, count: int, series: str) -> int:
        """Submit launches 0 to `count`, `WINDOW` on their way at a time; return how many orchestrations that made."""
        made: set[str] = set()
        numbers = iter(range(count))

        async def submit_in_turn() -> None:
            for number in numbers:
                made.add((await self.submit(number, series)).orchestration)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(WINDOW, count)):
                tasks.start_soon(submit_in_turn)
        return len(made)

    async def show(self, seq: int) -> None:
        """Return when the timeline answers with what stands in ledger message `seq`."""
        await ask(self._bus, "timeline", {"orchestration": self._last, "min_seq": seq})

    async def position(self) -> int | None:
        """Return the ledger sequence that the timeline is at."""
        return Position.parse((await ask(self._bus, "timeline-status"))["position"]).seq


async def run(data: Path, sizes: Sizes, then: Then) -> Figures:
    """Return the figures of one round on a new bus under `data`. Raises WrongCount, ChildEnded and TimeoutError."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(data / "bus"))
        bus = await connect(server.url, "bench", server.credentials)
        stack.push_async_callback(bus.close)
        await ensure_all(bus, sync=Sync.ALWAYS)
        processes = stack.enter_context(Processes(data))
        _start(processes, server, data, then)
        await _until_ready(bus, processes)
        commands = await stack.enter_async_context(CommandClient(bus, c.Via.API))
        await _catalogue(commands)
        figures = await measure(bus, QuarterdeckClient(bus, commands), processes, sizes)
        await _recount(bus)
        return figures


def _start(processes: Processes, server: EmbeddedServer, data: Path, then: Then) -> None:
    assert server.pid is not None
    processes.watch("nats-server", server.pid)
    token = server.credentials.token or ""
    processes.start("controller", ["-m", "controller"], {"QD_CONTROLLER_SERVER": server.url, "QD_CONTROLLER_TOKEN": token})
    timeline = {"QD_TIMELINE_SERVER": server.url, "QD_TIMELINE_TOKEN": token, "QD_TIMELINE_DATA": str(data / "timeline")}
    processes.start("timeline", ["-m", "timeline"], timeline)
    for number, nodes in enumerate(work.NODE_PROCESSES):
        arguments = ["--server", server.url, "--token-file", str(server.token_file), "--data", str(data / "nodes"), "--then", then]
        processes.start(f"nodes-{number}", ["-m", "bench.null_node", *arguments, *nodes])


async def _until_ready(bus: Bus, processes: Processes) -> None:
    """Return when a controller is active, every node is online and the timeline answers. Raises TimeoutError and ChildEnded."""
    with anyio.fail_after(READY_TIMEOUT_S):
        while not await _is_ready(bus):
            processes.check()
            await anyio.sleep(ASK_EVERY_S)


async def _is_ready(bus: Bus) -> bool:
    try:
        await ask(bus, "timeline-status", timeout_s=1.0)
        nodes = (await ask(bus, "nodes", timeout_s=1.0))["items"]
    except (Unavailable, QueryFailed):
        return False
    return len([node for node in nodes if node["online"]]) == len(work.NODES)


async def _catalogue(commands: CommandClient) -> None:
    await commands.submit(c.ProjectAdd(work.PROJECT, "/nowhere"), "bench-project")
    design = c.DesignAdd(work.PROJECT, "Bench", work.DESIGN_BODY, Complexity.SIMPLE, work.MARKERS)
    receipt = await commands.submit(design, "bench-design")
    if receipt.design != work.DESIGN:
        raise WrongCount(f"the design was not added: {receipt.reason_code}: {receipt.message}")


async def _recount(bus: Bus) -> None:
    """Count once more in DuckDB: every launch is there once, and its `init` has ended once. Raises WrongCount."""
    status = await ask(bus, "status")
    sql = "SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM runs WHERE kind = 'init' AND ended_at IS NOT NULL) FROM orchestrations"
    seq = Position.parse(status["position"]).seq
    row = (await ask(bus, "sql", {"sql": sql, "min_seq": seq}))["rows"][0]
    made = status["orchestrations"]
    if list(row) != [made, made, made] or status["dead_letters"]:
        raise WrongCount(f"the controller knows {made} orchestrations and {status['dead_letters']} dead letters; DuckDB counts {row}")
