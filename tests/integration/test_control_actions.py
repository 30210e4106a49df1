"""Control over the real bus: ahead of thousands of launches, fair between projects, and what becomes of runs that nobody answers for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from bus.reader import stream_state
from bus_schemas import codec, subjects
from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import CommandCause, Decision
from bus_schemas.entities import Complexity
from bus_schemas.ids import project_of
from bus_schemas.orders import RunKind, WorkOrder
from bus_schemas.reports import Ended, Outcome
from tests.integration.ring import BODY, SHELL, PlayedNode, Ring, ring

pytestmark = pytest.mark.anyio

FLOOD = 2000
APPENDS_AT_ONCE = 64


class PatientNode(PlayedNode):
    """A node whose runs of some kinds start and do not end until they are let go."""

    kept: frozenset[str] = frozenset()

    async def end(self, order: WorkOrder) -> None:
        while order.kind.value in self.kept and order.attempt == 1:
            await anyio.sleep(0.05)
        await super().end(order)


async def patient(r: Ring, name: str = "n1", capacity: int = 4, kept: tuple[str, ...] = ()) -> PatientNode:
    node = PatientNode(r.bus, name, capacity)
    node.kept = frozenset(kept)
    return await r.join(node)


async def runs(r: Ring, orchestration: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await r.ask("runs", orchestration=orchestration))["items"]
    return sorted(found, key=lambda run: len(run["run"]))


async def started(r: Ring, orchestration: str, kind: str) -> None:
    """Return when a run of this kind has started."""
    wanted = (kind, "started")
    await r.until("runs", lambda found: wanted in {(run["kind"], run["status"]) for run in found["items"]}, orchestration=orchestration)


async def flood(r: Ring, count: int) -> None:
    """Store launch commands; nobody waits for their receipts."""
    numbers = iter(range(count))

    async def store() -> None:
        for number in numbers:
            envelope = r.client.envelope(c.Launch("shop-d1", "n1", feature=f"flood {number}", overrides=SHELL), f"flood-{number}")
            await r.bus.append(subjects.command(r.bus.principal, "shop", envelope.type, False), codec.encode(envelope))

    async with anyio.create_task_group() as tasks:
        for _ in range(APPENDS_AT_ONCE):
            tasks.start_soon(store)


def commands_of(decisions: list[Decision]) -> list[str]:
    """The types of all commands in the order in which they were decided."""
    return [decision.cause.type for decision in decisions if isinstance(decision.cause, CommandCause)]


async def test_a_pause_and_a_change_of_policy_are_decided_ahead_of_thousands_of_launches(tmp_path: Path) -> None:
    taken_s: dict[str, float] = {}
    async with ring(tmp_path, controllers=0) as r:
        scope = await r.controller("first")
        await r.active()
        await r.catalogue()
        node = await patient(r, capacity=1, kept=("init",))
        await r.launch(feature="started")
        await started(r, "shop-o1", "init")
        node.hold.add("init")
        for feature in ("waiting", "changed"):
            assert (await r.launch(feature=feature)).status == "accepted"
        scope.cancel()
        await flood(r, FLOOD)

        async def steer(name: str, command: c.Command) -> None:
            receipt = await r.do(command, timeout_s=30.0)
            taken_s[name] = anyio.current_time() - begun
            assert receipt.status in ("accepted", "completed"), receipt

        async with anyio.create_task_group() as tasks:
            begun = anyio.current_time()
            tasks.start_soon(steer, "pause of a started one", c.Pause("shop-o1"))
            tasks.start_soon(steer, "pause of a waiting one", c.Pause("shop-o2"))
            tasks.start_soon(steer, "policy", c.PolicySet("shop-o3", {"flow": {"max_parallel_tasks": 3}}, 1))
            await anyio.sleep(0.5)  # stored behind all launches
            await r.controller("second")
            await r.active()
            begun = anyio.current_time()
        paused = await r.ask("orchestration", id="shop-o1")
        await r.until("orchestration", lambda o: o["hold"]["kind"] == "paused", id="shop-o2")
        decided = commands_of(await r.decisions())

    launches_before = {kind: decided[: decided.index(kind)].count("launch") - 3 for kind in ("pause", "set-policy")}
    assert max(launches_before.values()) < FLOOD / 4, launches_before
    assert max(taken_s.values()) < 5.0, taken_s  # `bench.backlog` holds it to 2 s, on a machine that does nothing else
    assert paused["hold"]["kind"] == "pausing"


async def test_two_projects_take_turns_at_one_node_which_has_at_most_one_order_more_than_it_can_run(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        assert (await r.do(c.ProjectAdd("mill", "/mill"))).status == "completed"
        await r.do(c.DesignAdd("mill", "Wheel", BODY, Complexity.SIMPLE, ("objective_defined", "scope_bounded")))
        node = await patient(r, capacity=2, kept=("init",))
        node.hold.add("init")
        for project, count in (("shop", 8), ("mill", 5)):
            for number in range(count):
                assert (await r.launch(design=f"{project}-d1", feature=f"f{number}")).status == "accepted"
        await anyio.sleep(0.5)
        unclaimed = (await stream_state(r.bus, subjects.WORK)).messages
        node.hold.clear()
        with anyio.fail_after(10):
            while len(node.started) < 13:
                await anyio.sleep(0.05)
        order = [project_of(run) for run in node.received]  # those that wait in it start in any order

    assert unclaimed == 3
    assert order[:3] == ["shop"] * 3, "nobody else was there"
    assert sorted(order[3:5]) == sorted(order[5:7]) == sorted(order[7:9]) == ["mill", "shop"]
    assert [run for run in node.received if run.startswith("shop")] == [f"shop-o{n}-r1" for n in range(1, 9)], "the oldest first"


async def test_a_drain_takes_what_waits_to_another_node_and_lets_what_runs_end(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        node = await patient(r, capacity=1, kept=("validate",))
        other = await patient(r, "n2")
        running = (await r.launch(feature="running")).orchestration or ""
        await started(r, running, "validate")
        node.hold.add("init")
        waiting = (await r.launch(feature="waiting")).orchestration or ""
        assert (await r.do(c.NodeDrain("n1"))).status == "completed"
        done = await r.ended(waiting)
        assert {run["node"] for run in await runs(r, running)} == {"n1"}
        node.kept = frozenset()
        moved = await r.ended(running)
        places = {run["run"]: run["node"] for run in await runs(r, running)}

    assert (done["status"], done["node"], moved["status"], moved["node"]) == ("complete", "n2", "complete", "n2")
    assert all(run.startswith(f"{running}-") for run, _ in node.started), "nothing that waited was started where it had waited"
    assert sorted(run for run, at in places.items() if at == "n1") == [f"{running}-r1", f"{running}-r2"]
    assert {run for run, _ in other.started if run.startswith(f"{running}-")} == {run for run, at in places.items() if at == "n2"}


async def test_a_quota_holds_until_its_reset_time_and_ends_by_itself(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        node = await patient(r)
        resets_at = datetime.now(UTC) + timedelta(seconds=3)

        def refused_once(order: WorkOrder) -> Ended | None:
            if order.kind is not RunKind.PLAN or order.attempt > 1:
                return None
            code = "execution_quota_exhausted"
            return Ended(v=codec.VERSION, outcome=Outcome.FAILED, at=datetime.now(UTC), reason_code=code, detail="limit", resets_at=resets_at)

        node.outcome_of = refused_once
        await r.launch()
        held = await r.until("orchestration", lambda o: o["hold"] is not None, id="shop-o1")
        seen_at = datetime.now(UTC)
        done = await r.ended()
        ended_at = datetime.now(UTC)
        plan = next(run for run in await runs(r, "shop-o1") if run["kind"] == "plan")

    assert held["hold"]["kind"] == "quota"
    assert seen_at < resets_at < ended_at
    assert (done["status"], done["hold"]) == ("complete", None)
    assert plan["status"] == "succeeded"
    assert [attempt for run, attempt in node.started if run == plan["run"]] == [1, plan["attempt"]], "between them nothing was tried"


async def test_an_attempt_that_its_node_does_not_know_is_lost_and_done_again_and_stopped_where_it_turns_up_after_all(tmp_path: Path) -> None:
    async with ring(tmp_path) as r:
        await r.catalogue()
        node = await patient(r, kept=("init",))
        await r.launch()
        await started(r, "shop-o1", "init")
        node.running.clear()  # as a node does that starts with a fresh data folder
        begun = anyio.current_time()
        done = await r.ended(deadline_s=20)
        taken_s = anyio.current_time() - begun
        attempts = {run["kind"]: run["attempt"] for run in await runs(r, "shop-o1")}
        lost = [event for d in await r.decisions() for event in d.events if isinstance(event, e.RunEnded) and event.outcome is Outcome.LOST]
        node.running.add(("shop-o1-r1", 1))  # a twin has it
        with anyio.fail_after(15):
            while not node.stops:
                await anyio.sleep(0.1)

    assert 9 < taken_s < 15
    assert [(event.run, event.attempt, event.reason_code, event.detail) for event in lost] == [
        ("shop-o1-r1", 1, "dispatch_node_lost", "node n1 does not know this attempt any more")
    ]
    assert (done["status"], attempts["init"], attempts["validate"]) == ("complete", 2, 1)
    assert node.stops == ["shop-o1-r1"]
