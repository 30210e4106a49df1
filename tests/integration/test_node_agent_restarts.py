"""The node agent and its ends: killed, drained, cut off and started again; what it had in hand is reported once."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from bus_schemas import codec, subjects
from bus_schemas.reports import (
    Ended,
    Outcome,
    RunningAttempt,
    Started,
)
from node_agent.attempt import Entry, Finished, Spawning, Taken, key_of
from node_agent.journal import Journal
from node_agent.run_dir import run_dir
from node_agent.service import serve
from tests.integration.node_world import (
    NodeProcess,
    World,
    git,
    node,
    processes_with,
    report_subject,
    task_order,
    until,
    world,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


async def test_a_killed_node_agent_finds_its_run_again_and_reports_it_once(made: World) -> None:
    witness = made.folder / "witness"
    gate = made.folder / "gate"
    order = task_order(made, 1, f"echo ran >> {witness}\necho before\nwhile [ ! -e {gate} ]; do sleep 0.05; done\necho after; echo x > x")
    with NodeProcess(made) as first:
        await made.send(order)
        await until(lambda: made.output(order))
        first.kill()
    with NodeProcess(made):
        claimed_by = (await made.started(order)).boot
        await until(lambda: made.has_other_boot(claimed_by))
        assert (await made.beat()).running == (RunningAttempt("shop-o1-r1", 1),)
        gate.touch()
        ended = await made.ended(order)
        assert ended.outcome is Outcome.SUCCEEDED
        assert git(made.repo, "show", f"{ended.head}:x") == "x"
        assert await made.output(order) == b"before\nafter\n"

    assert witness.read_text() == "ran\n"


async def test_what_ended_while_the_node_agent_was_dead_is_reported_at_its_next_start(made: World) -> None:
    witness = made.folder / "witness"
    order = task_order(made, 1, f"echo x > x; sleep 0.4; echo ran >> {witness}")
    with NodeProcess(made) as first:
        await made.send(order)
        await made.started(order)
        await until(lambda: made.has_file("shim.json"))
        first.kill()
    await until(lambda: made.has_file("exit.json"))
    async with node(made):
        ended = await made.ended(order)

    assert (ended.outcome, witness.read_text()) == (Outcome.SUCCEEDED, "ran\n")


async def journalled(made: World, *entries: Entry) -> None:
    """Leave a journal as a node agent that was killed does."""
    journal = Journal(made.folder / "node" / "journal" / "journal.jsonl")
    for entry in entries:
        await journal.append(entry)
    journal.close()


@pytest.mark.parametrize("claimed", [False, True])
async def test_an_attempt_that_was_taken_and_not_spawned_is_run_after_a_restart_under_the_same_claim(made: World, claimed: bool) -> None:
    now = datetime.now(UTC)
    order = task_order(made, 1, "echo ran")
    await journalled(made, Taken(order, "the-claim", now))
    if claimed:
        await made.bus.append(report_subject(order, "started"), codec.encode(Started(codec.VERSION, "old-boot", "the-claim", now)))
    await made.send(order)
    async with node(made):
        assert (await made.ended(order)).outcome is Outcome.SUCCEEDED
        await until(made.orders_are_done)
        assert (await made.started(order)).claim == "the-claim"
    assert await made.output(order) == b"ran\n"


async def test_an_attempt_whose_process_was_never_started_is_lost_and_does_not_count(made: World) -> None:
    now = datetime.now(UTC)
    witness = made.folder / "witness"
    order = task_order(made, 1, f"touch {witness}")
    run_dir(made.folder / "node", order).path.mkdir(parents=True)
    await journalled(made, Taken(order, "the-claim", now), Spawning(key_of(order), order.workspace.base[0], now))
    async with node(made):
        ended = await made.ended(order)
    assert (ended.outcome, ended.reason_code, ended.process_started) == (Outcome.LOST, "dispatch_node_lost", False)
    assert not witness.exists()


async def test_an_end_that_was_not_reported_is_reported_after_a_restart_as_it_was(made: World) -> None:
    now = datetime.now(UTC)
    order = task_order(made, 1, "true")
    ended = Ended(v=codec.VERSION, outcome=Outcome.FAILED, at=now, reason_code="dispatch_cli_exit_nonzero", detail="of old", exit_code=7)
    await journalled(made, Taken(order, "the-claim", now), Spawning(key_of(order), None, now), Finished(key_of(order), ended))
    async with node(made):
        assert await made.ended(order) == ended
        await made.send(order)
        await until(made.orders_are_done)


async def test_a_drained_node_lets_its_run_end_and_takes_no_other(made: World) -> None:
    drain, done = anyio.Event(), anyio.Event()

    async def served() -> None:
        await serve(made.config(), drain=drain)
        done.set()

    order, late = task_order(made, 1, "sleep 0.5"), task_order(made, 2, "true")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(served)
        await made.send(order)
        await made.started(order)
        drain.set()
        await anyio.sleep(0.1)
        assert (await made.beat()).draining
        await made.send(late)
        with anyio.fail_after(5):
            await done.wait()

    assert (await made.ended(order)).outcome is Outcome.SUCCEEDED
    assert await made.bus.last(subjects.REP, report_subject(late, "started")) is None


async def test_the_process_drains_at_TERM_and_leaves_what_is_not_done_in_time_to_its_shim(made: World) -> None:
    gate = made.folder / "gate"
    order = task_order(made, 1, f"echo up; while [ ! -e {gate} ]; do sleep 0.05; done")
    with NodeProcess(made, "--drain-grace-s", "0.2", "--label", "zone=x", "--capacity", "1") as first:
        await made.send(order)
        await until(lambda: made.output(order))
        first.process.terminate()
        await until(lambda: first.process.poll() is not None)
        assert first.process.returncode == 0
    gate.touch()
    async with node(made):
        assert (await made.ended(order)).outcome is Outcome.SUCCEEDED


async def test_a_killed_shim_is_a_lost_run(made: World) -> None:
    mark = f"qd-lost-{os.getpid()}"
    order = task_order(made, 1, f"(setsid sh -c ': {mark}; sleep 300' &)\necho up; : {mark}; sleep 300")
    async with node(made):
        await made.send(order)
        await until(lambda: made.output(order))
        identity = next((made.folder / "node" / "runs").glob("*/shim.json"))
        os.kill(json.loads(identity.read_text())["pid"], signal.SIGKILL)
        ended = await made.ended(order)

    assert (ended.outcome, ended.reason_code, ended.process_started) == (Outcome.LOST, "dispatch_node_lost", True)
    assert processes_with(mark) == []


async def test_a_node_that_shall_leave_nothing_behind_stops_its_runs_when_it_ends(made: World) -> None:
    order = task_order(made, 1, "echo here; sleep 300")
    async with node(made, leave_running=False):
        await made.send(order)
        await until(lambda: made.output(order))
    await until(lambda: made.has_file("exit.json"))
    async with node(made):
        assert (await made.ended(order)).outcome is Outcome.CANCELLED


async def test_a_report_waits_for_the_server_and_is_stored_once(made: World) -> None:
    gate = made.folder / "gate"
    order = task_order(made, 1, f"while [ ! -e {gate} ]; do sleep 0.05; done")
    async with node(made):
        await made.send(order)
        await made.started(order)
        made.server.kill()
        gate.touch()
        await anyio.sleep(0.5)
        await made.server.stop()
        await made.server.start()
        await until(lambda: made.bus.is_connected)
        assert (await made.ended(order)).outcome is Outcome.SUCCEEDED
        assert (await made.do(task_order(made, 2, "true"))).outcome is Outcome.SUCCEEDED
