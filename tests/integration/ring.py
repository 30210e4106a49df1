"""A real ring for tests: nats-server, controllers, and a node played by the test over the real bus."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.abc

from bus.bootstrap import Sync, ensure_all
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus.errors import Unavailable
from bus.pull import Delivery, PullLoop
from bus.reader import Reader, stream_state
from bus.request import CommandClient, QueryFailed, ask, new_key
from bus_schemas import codec, subjects
from bus_schemas import commands as c
from bus_schemas.decisions import Decision, Receipt
from bus_schemas.orders import RunKind, WorkOrder
from bus_schemas.reports import (
    Beat,
    Ended,
    FinalizeResult,
    InitResult,
    Outcome,
    PlannedTask,
    PlanResult,
    Result,
    ReviewResult,
    RunningAttempt,
    Started,
    TaskResult,
    ValidateResult,
    Verdict,
    VerifyResult,
)
from bus_schemas.routing import AgentOffer
from controller.config import ControllerConfig
from controller.service import serve

SHELL = {"model": dict.fromkeys(("validator", "planner", "executor", "reviewer", "reviewer_secondary"), "shell")}
BODY = "## Phase 1\n### Task 1: a\n```sh\ntrue\n```\n"


def result_of(order: WorkOrder) -> Result:
    head = f"c-{order.run}"
    results: dict[RunKind, Result] = {
        RunKind.INIT: InitResult("c0", "/clone", order.workspace.branch),
        RunKind.VALIDATE: ValidateResult(Verdict.PASS),
        RunKind.PLAN: PlanResult((PlannedTask(1, "a"), PlannedTask(2, "b", depends_on=(1,)))),
        RunKind.TASK: TaskResult("c0", head),
        RunKind.TASK_REVIEW: ReviewResult(Verdict.PASS),
        RunKind.VERIFY: VerifyResult(True, 0),
        RunKind.REVIEW: ReviewResult(Verdict.PASS),
        RunKind.FINALIZE: FinalizeResult(head, order.workspace.branch),
    }
    return results[order.kind]


class PlayedNode:
    """A node over the real bus whose runs end as `outcome_of` says; None lets the order wait. Counts what it started."""

    def __init__(self, bus: Bus, name: str = "n1", capacity: int = 4) -> None:
        self.bus, self.name, self.capacity = bus, name, capacity
        self.received: list[str] = []
        self.started: list[tuple[str, int]] = []
        self.running: set[tuple[str, int]] = set()
        self.stops: list[str] = []
        self.hold: set[str] = set()
        self.outcome_of: Callable[[WorkOrder], Ended | None] = lambda _: None

    async def beat(self) -> None:
        offers = (AgentOffer("shell", "1", ("shell",)),)
        running = tuple(RunningAttempt(run, attempt) for run, attempt in self.running)
        beat = Beat(codec.VERSION, "beat", self.name, "boot", datetime.now(UTC), self.capacity, agents=offers, running=running)
        await self.bus.append(subjects.beat(self.name), codec.encode(beat))

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beats)
            tasks.start_soon(self._stops)
            await self._work(tasks)

    async def _beats(self) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                await self.beat()
            await anyio.sleep(2)

    async def _stops(self) -> None:
        async with PullLoop(self.bus, subjects.WORK, f"ctl-{self.name}", want=16) as loop:
            while True:
                for delivery in await loop.batch():
                    self.stops.append(codec.decode_stop(delivery.data).run)
                    await delivery.ack()

    async def _work(self, tasks: anyio.abc.TaskGroup) -> None:
        async with PullLoop(self.bus, subjects.WORK, f"work-{self.name}", want=16) as loop:
            while True:
                for delivery in await loop.batch():
                    tasks.start_soon(self._order, delivery)

    async def _order(self, delivery: Delivery) -> None:
        order = codec.decode_order(delivery.data)
        self.received.append(order.run)
        while order.kind.value in self.hold or not self.bus.is_connected:
            await anyio.sleep(0.02)
        if await self.bus.write_once(self.subject(order, "started"), codec.encode(Started(codec.VERSION, "boot", delivery.reply, datetime.now(UTC)))):
            self.started.append((order.run, order.attempt))
            self.running.add((order.run, order.attempt))
            await delivery.ack()
            await self.end(order)
            self.running.discard((order.run, order.attempt))
        else:
            await delivery.ack()

    async def end(self, order: WorkOrder) -> None:
        ended = self.outcome_of(order) or Ended(
            v=codec.VERSION,
            outcome=Outcome.SUCCEEDED,
            at=datetime.now(UTC),
            result=result_of(order),
            head=f"c-{order.run}" if order.kind is RunKind.TASK else None,
        )
        await self.bus.write_once(self.subject(order, "ended"), codec.encode(ended))

    def subject(self, order: WorkOrder, kind: str) -> str:
        return subjects.report(self.name, order.project, order.run, order.attempt, order.nonce, kind)


Played = TypeVar("Played", bound=PlayedNode)


async def decisions_of(bus: Bus) -> list[Decision]:
    """Every decision of the ledger, read from the stream itself."""
    last = (await stream_state(bus, subjects.LEDGER)).last_seq
    found: list[Decision] = []
    if not last:
        return found
    async with aclosing(Reader(bus, subjects.LEDGER, ("qd.ledger.*",), 1).batches()) as batches:
        async for batch in batches:
            for stored in batch:
                found.extend(codec.decode_ledger(stored.data).decisions)
            if batch[-1].seq >= last:
                break
    return found


class Ring:
    """What a test talks to."""

    def __init__(self, server: EmbeddedServer, bus: Bus, client: CommandClient, tasks: anyio.abc.TaskGroup) -> None:
        self.server, self.bus, self.client, self.tasks = server, bus, client, tasks

    async def do(self, command: c.Command, key: str | None = None, **options: Any) -> Receipt:
        return await self.client.submit(command, key or new_key(), timeout_s=options.pop("timeout_s", 15.0), **options)

    async def ask(self, name: str, **params: Any) -> dict[str, Any]:
        return await ask(self.bus, name, params)

    async def until(self, name: str, condition: Callable[[dict[str, Any]], bool], deadline_s: float = 20.0, **params: Any) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        with anyio.move_on_after(deadline_s):
            while True:
                with contextlib.suppress(QueryFailed, Unavailable):
                    answer = await self.ask(name, **params)
                    if condition(answer):
                        return answer
                await anyio.sleep(0.03)
        raise AssertionError(f"{name} {params} never came to be as wanted; last: {answer}")

    async def catalogue(self, repo: str = "/repo", check: str | None = None) -> None:
        assert (await self.do(c.ProjectAdd("shop", repo, check=check))).status == "completed"
        markers = ("objective_defined", "scope_bounded")
        assert (await self.do(c.DesignAdd("shop", "Basket", BODY, c.Complexity.SIMPLE, markers))).status == "completed"

    async def launch(self, key: str | None = None, **fields: Any) -> Receipt:
        return await self.do(c.Launch(**{"design": "shop-d1", "node": "n1", "overrides": SHELL, **fields}), key)

    async def ended(self, orchestration: str = "shop-o1", deadline_s: float = 20.0) -> dict[str, Any]:
        return await self.until("orchestration", lambda o: o["ended_at"] is not None, deadline_s, id=orchestration)

    async def decisions(self) -> list[Decision]:
        return await decisions_of(self.bus)

    def config(self, owner: str | None = None) -> ControllerConfig:
        fields: dict[str, Any] = {"server": self.server.url, "token": self.server.credentials.token}
        return ControllerConfig(**fields, **({"owner": owner} if owner else {}))

    async def controller(self, owner: str | None = None) -> anyio.CancelScope:
        """Start a controller in this process; cancelling the scope stops it."""
        scope = anyio.CancelScope()

        async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            with scope:
                await serve(self.config(owner), task_status=task_status)

        await self.tasks.start(run)
        return scope

    async def active(self) -> None:
        await self.until("status", lambda status: bool(status["owner"]))

    async def node(self, name: str = "n1", capacity: int = 4) -> PlayedNode:
        """Start a played node once its consumers are there."""
        return await self.join(PlayedNode(self.bus, name, capacity))

    async def join(self, node: Played) -> Played:
        """Start a played node of any kind once its consumers are there."""
        name = node.name
        await node.beat()
        await self.until("nodes", lambda nodes: any(item["id"] == name and item["online"] for item in nodes["items"]))
        await _consumers(self.bus, name)
        self.tasks.start_soon(node.run)
        return node


async def _consumers(bus: Bus, name: str) -> None:
    from bus.connection import ApiFailure

    with anyio.fail_after(10):
        for durable in (f"work-{name}", f"ctl-{name}"):
            while True:
                try:
                    await bus.api(f"CONSUMER.INFO.{subjects.WORK}.{durable}")
                    break
                except ApiFailure:
                    await asyncio.sleep(0.02)


@asynccontextmanager
async def ring(data: Path, *, controllers: int = 1) -> AsyncIterator[Ring]:
    """A server with its streams, some controllers, and a client."""
    async with EmbeddedServer(data / "bus") as server:
        bus = await connect(server.url, "test", server.credentials)
        try:
            await ensure_all(bus, sync=Sync.ALWAYS)
            async with anyio.create_task_group() as tasks, CommandClient(bus, c.Via.API) as client:
                made = Ring(server, bus, client, tasks)
                for number in range(controllers):
                    await made.controller(f"ctl-{number}")
                if controllers:
                    await made.active()
                yield made
                tasks.cancel_scope.cancel()
        finally:
            await bus.close()
