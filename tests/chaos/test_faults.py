"""Real faults on a whole installation under work: nothing is lost, done twice or stuck, and the verifier finds nothing wrong.

A short, directed part of what `just chaos` does at length.
"""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import pytest

from bus import failpoint
from tests.chaos import driver, faults
from tests.chaos.driver import Options, Run
from tests.chaos.faults import Ground, Healed, Kind
from tests.chaos.proxy import PARTITION
from tests.chaos.rig import Component, Role

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

TELLING = (
    ("controller.stored", "controller.before-ack"),
    ("node.journaled", "node.claimed", "node.reported"),
    ("node.spawned", "node.spawning", "node.end-journaled"),
    ("timeline.in-transaction", "client.stored"),
)
"""Between a thing that is done and the word that it is; what stands in one line is done one after the other."""


async def kill_at(this: Run, name: str) -> None:
    async def apply(ground: Ground, _: Component | None) -> Healed:
        return await faults.at_failpoint(ground, name, "kill", 45)

    await this.inject(Kind("failpoint", 1, (), apply), None)


async def every_telling_failpoint(this: Run) -> None:
    async def one_after_the_other(names: tuple[str, ...]) -> None:
        for name in names:
            await kill_at(this, name)

    async with anyio.create_task_group() as tasks:
        for names in TELLING:
            tasks.start_soon(one_after_the_other, names)


async def test_a_kill_at_the_most_telling_places_costs_nothing(tmp_path: Path) -> None:
    found = await driver.run(Options(0, seed=1, live=2), tmp_path / "work", tmp_path / "evidence", every_telling_failpoint)
    missed = [name for names in TELLING for name in names if not found["failpoints"][f"{name}:kill"]]
    assert missed == []
    sound(found)


async def zombie_partition_and_twins(this: Run) -> None:
    """The active controller is stalled past its lease; a node is cut off and comes back; a node has a twin all the while."""
    rig = this.rig
    await this.inject(Kind("twin", 1, (), faults.twin, True), None)
    active = await rig.active()
    assert active is not None
    active.process.signal(signal.SIGSTOP)
    await rig.until("the standby is active", lambda: other_is_active(this, active), 30)
    await anyio.sleep(0.5)
    active.process.signal(signal.SIGCONT)  # it still believes that it is the one
    node = rig.components["bravo"]
    node.link.turn(PARTITION)
    await anyio.sleep(4)
    node.link.heal()
    healed_s = rig.note("healed", kind="partition", target=node.name)
    await rig.until("the node beats again", lambda: this.watch.beaten(node, healed_s), 30)


async def other_is_active(this: Run, stalled: Component) -> bool:
    active = await this.rig.active()
    return active is not None and active is not stalled


async def test_a_zombie_a_partition_and_a_twin_cost_nothing(tmp_path: Path) -> None:
    found = await driver.run(Options(0, seed=2, live=2), tmp_path / "work", tmp_path / "evidence", zombie_partition_and_twins)
    sound(found)


def sound(found: dict[str, object]) -> None:
    assert {name: found[name] for name in ("lost", "duplicated", "stuck")} == {"lost": 0, "duplicated": 0, "stuck": 0}, found["samples"]
    assert found["violations"] == []
    assert found["not_recovered"] == []
    assert found["not_quiet"] == {}


def test_every_failpoint_belongs_to_a_role_of_the_rig() -> None:
    assert {faults.role_of(name) for name in failpoint.NAMES} == {role.value for role in Role}


def test_kinds_of_faults_have_names_of_their_own() -> None:
    names = [kind.name for kind in faults.KINDS]
    assert len(names) == len(set(names))
