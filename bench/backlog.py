"""`python -m bench.backlog --launches N`: how soon a pause is applied while N launches are before it; one JSON document on stdout.

Owns a throw-away bus, a real controller process, and a node that claims as many runs as it may and ends none. Measured twice, from the
sending of a pause to its receipt, which is durable: while N launch commands wait to be decided, and while their N runs wait for the node.
Each time for orchestrations whose run has started, and for such as wait in the node's queue.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.abc
import msgspec

from bench import work
from bench.figures import Figures, latency_ms
from bench.machine import machine
from bench.processes import Processes
from bus.bootstrap import Sync, ensure_all
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus.errors import Unavailable
from bus.pull import Delivery, PullLoop
from bus.request import CommandClient, QueryFailed, ask, new_key
from bus_schemas import codec, subjects
from bus_schemas import commands as c
from bus_schemas.decisions import ActionStatus
from bus_schemas.entities import Complexity
from bus_schemas.reports import Beat, RunningAttempt, Started

NODE = work.NODES[0]
CAPACITY = 200
PAUSES = 200
"""Of each kind: half while commands wait, half while runs wait."""
QUEUED_FIRST = CAPACITY + 50
APPENDS_AT_ONCE = 128
DEADLINE_S = 600.0
GOAL_MS = 2000.0

Restart = Callable[[], AbstractAsyncContextManager[None]]
"""Inside it no controller runs."""


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


class SlowNode:
    """Claims what it is sent, until its capacity is used up, and ends nothing."""

    def __init__(self, bus: Bus) -> None:
        """Nothing runs yet."""
        self._bus = bus
        self.running: dict[str, RunningAttempt] = {}
        """By orchestration."""

    async def run(self) -> None:
        """Beat and claim for ever."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beat)
            await _until(lambda: _is_online(self._bus))
            async with PullLoop(self._bus, subjects.WORK, f"work-{NODE}", want=CAPACITY) as loop:
                while True:
                    for delivery in await loop.batch():
                        await self._claim(delivery)

    async def is_full(self) -> bool:
        """Return whether it runs as much as it may."""
        return len(self.running) >= CAPACITY

    async def _beat(self) -> None:
        while True:
            running = tuple(self.running.values())
            beat = Beat(codec.VERSION, "beat", NODE, "boot", datetime.now(UTC), CAPACITY, agents=work.OFFERS, running=running)
            await self._bus.append(subjects.beat(NODE), codec.encode(beat))
            await anyio.sleep(2)

    async def _claim(self, delivery: Delivery) -> None:
        if await self.is_full():
            return  # it waits, unclaimed
        order = codec.decode_order(delivery.data)
        subject = subjects.report(NODE, order.project, order.run, order.attempt, order.nonce, "started")
        claim = Started(codec.VERSION, "boot", delivery.reply, datetime.now(UTC))
        if await self._bus.write_once(subject, codec.encode(claim)):
            self.running[order.orchestration] = RunningAttempt(order.run, order.attempt)
        await delivery.ack()


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    """Return when it is so; the whole bench has a deadline."""
    while True:
        if await true():
            return
        await anyio.sleep(0.1)


async def _is_active(bus: Bus) -> bool:
    try:
        return bool((await ask(bus, "status", timeout_s=1.0))["owner"])
    except (Unavailable, QueryFailed):
        return False


async def _is_online(bus: Bus) -> bool:
    try:
        return any(node["id"] == NODE and node["online"] for node in (await ask(bus, "nodes", timeout_s=1.0))["items"])
    except (Unavailable, QueryFailed):
        return False


class Backlog:
    """The launches that are before the pauses, and the pauses."""

    def __init__(self, bus: Bus, commands: CommandClient, launches: int) -> None:
        """Nothing was sent yet."""
        self._bus, self._commands, self._launches = bus, commands, launches
        self._before = 0

    async def begin(self) -> None:
        """Count what is there before the launches."""
        self._before = await self._made()

    async def flood(self) -> None:
        """Store the launch commands without waiting for their receipts."""
        numbers = iter(range(self._launches))

        async def store() -> None:
            for number in numbers:
                command = msgspec.structs.replace(work.launch(number, "flood"), node=NODE)
                envelope = self._commands.envelope(command, work.key(number, "flood"))
                subject = subjects.command(self._bus.principal, work.PROJECT, envelope.type, False)
                await self._bus.append(subject, codec.encode(envelope))

        async with anyio.create_task_group() as tasks:
            for _ in range(APPENDS_AT_ONCE):
                tasks.start_soon(store)

    async def _made(self) -> int:
        return int((await ask(self._bus, "status"))["orchestrations"])

    async def undecided(self) -> int:
        """Return how many of the launches are not decided."""
        return self._before + self._launches - await self._made()

    async def is_being_decided(self) -> bool:
        """Return whether the controller has begun with them."""
        return await self.undecided() < self._launches

    async def is_decided(self) -> bool:
        """Return whether all launches are decided."""
        return await self.undecided() == 0

    async def pause(self, orchestrations: list[str]) -> list[float]:
        """Pause one after the other; return how long each took to be applied, in seconds. Raises AssertionError for one that is refused."""
        taken_s: list[float] = []
        for orchestration in orchestrations:
            begun = time.perf_counter()
            receipt = await self._commands.submit(c.Pause(orchestration), new_key(), timeout_s=60.0)
            taken_s.append(time.perf_counter() - begun)
            assert receipt.status is not ActionStatus.REFUSED, receipt.message
        return taken_s


async def _catalogue(commands: CommandClient) -> None:
    await commands.submit(c.ProjectAdd(work.PROJECT, "/nowhere"), "bench-project")
    await commands.submit(c.DesignAdd(work.PROJECT, "Bench", work.DESIGN_BODY, Complexity.SIMPLE, work.MARKERS), "bench-design")


async def _targets(bus: Bus, commands: CommandClient, node: SlowNode, tasks: anyio.abc.TaskGroup) -> tuple[list[str], list[str]]:
    """Return orchestrations whose run has started, and such as wait for the node."""
    tasks.start_soon(node.run)
    await _until(lambda: _is_online(bus))
    await _catalogue(commands)
    made: list[str] = []
    for number in range(CAPACITY + QUEUED_FIRST):
        receipt = await commands.submit(msgspec.structs.replace(work.launch(number, "first"), node=NODE), work.key(number, "first"))
        assert receipt.orchestration is not None, receipt.message
        made.append(receipt.orchestration)
    await _until(node.is_full)
    started = [name for name in made if name in node.running]
    return started, [name for name in made if name not in node.running]


async def measure(bus: Bus, commands: CommandClient, launches: int, restart: Restart) -> Figures:
    """Return the figures of one backlog, which comes to be while no controller runs."""
    figures: Figures = {"launches": launches}
    half = PAUSES // 2
    async with anyio.create_task_group() as tasks:
        started, queued = await _targets(bus, commands, SlowNode(bus), tasks)
        backlog = Backlog(bus, commands, launches)
        _say(f"{len(started)} started, {len(queued)} queued; {launches} launches are sent")
        await backlog.begin()
        async with restart():
            await backlog.flood()
        await _until(lambda: _is_active(bus))
        await _until(backlog.is_being_decided)
        for name, chosen in (("while_commands_wait", slice(0, half)), ("while_runs_wait", slice(half, 2 * half))):
            if name == "while_runs_wait":
                await _until(backlog.is_decided)
            part: Figures = {"undecided_before": await backlog.undecided()}
            for kind, orchestrations in (("started", started[chosen]), ("queued", queued[chosen])):
                part[kind] = latency_ms(await backlog.pause(orchestrations))
            part["undecided_after"] = await backlog.undecided()
            figures[name] = part
            _say(f"{name}: {part}")
        tasks.cancel_scope.cancel()
    worst = max(figures[name][kind]["p99"] for name in ("while_commands_wait", "while_runs_wait") for kind in ("started", "queued"))
    figures["pause_applied_p99_ms"], figures["goal_ms"], figures["reached"] = worst, GOAL_MS, worst <= GOAL_MS
    return figures


async def run(data: Path, launches: int) -> Figures:
    """Return the figures on a new bus under `data`. Raises TimeoutError."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(data / "bus"))
        bus = await connect(server.url, "bench", server.credentials)
        stack.push_async_callback(bus.close)
        await ensure_all(bus, sync=Sync.ALWAYS)
        processes = stack.enter_context(Processes(data))
        environment = {
            "QD_CONTROLLER_SERVER": server.url,
            "QD_CONTROLLER_TOKEN": server.credentials.token or "",
            "QD_CONTROLLER_DATA": str(data / "controller"),
        }
        names = iter(("controller", "controller-again"))

        @asynccontextmanager
        async def restart() -> AsyncIterator[None]:
            os.kill(processes.pid("controller"), signal.SIGTERM)
            yield
            processes.start(next(names), ["-m", "controller"], environment)

        processes.start(next(names), ["-m", "controller"], environment)
        commands = await stack.enter_async_context(CommandClient(bus, c.Via.API))
        with anyio.fail_after(DEADLINE_S):
            figures = await measure(bus, commands, launches, restart)
        return figures


def main(arguments: list[str]) -> int:
    """Print the figures; return 0, or 1 where a pause took longer than the goal."""
    parser = argparse.ArgumentParser(prog="bench.backlog", description="How soon a pause is applied behind many launches.")
    parser.add_argument("--launches", type=int, default=10_000)
    found = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="qd-backlog-") as folder:
        figures = {"machine": machine(Path(folder)), **anyio.run(run, Path(folder), found.launches)}
    print(msgspec.json.format(msgspec.json.encode(figures)).decode())
    return 0 if figures["reached"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
