"""A node is cut off, killed or stopped: what it ran is held, moved or taken up again, as each orchestration's policy says."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus.bootstrap import Sync, ensure_all
from bus.connection import connect
from bus.embedded import EmbeddedServer
from tests.chaos.services import Service, Services

pytestmark = pytest.mark.anyio

MARKERS = ("--complexity", "simple", "--mark", "objective_defined", "--mark", "scope_bounded")


def design(witness: Path, name: str) -> str:
    """One task that says that it began, goes on until a file is there, and says that it ended."""
    return (
        f'## Phase 1\n### Task 1: wait\n```sh\necho "{name} begins $QD_NODE $QD_ATTEMPT" >> {witness}\n'
        f"for i in $(seq 600); do test -e {witness}.{name} && break; sleep 0.1; done\n"
        f'echo "{name} ends $QD_NODE $QD_ATTEMPT" >> {witness}\n```\n'
    )


class World:
    """A controller, a timeline and two nodes, and what the agents wrote down."""

    def __init__(self, services: Services, folder: Path) -> None:
        self.services, self.folder = services, folder
        self.witness = folder / "witness"
        self.second: Service = services._service("n2", ["node", "--name", "n2", "--capacity", "4", "--data", str(folder / "n2")])

    def json(self, *arguments: str, check: bool = True) -> Any:
        return msgspec.json.decode(self.services.qd(*arguments, "-o", "json", check=check).stdout or "null")

    def launch(self, name: str, policy: str) -> str:
        path = self.folder / f"{name}.md"
        path.write_text(design(self.witness, name))
        added = self.json("design", "add", "shop", "--title", name, "--file", str(path), *MARKERS)
        options = ("--node", "n1", "--model", "shell", "--set", f"on_node_loss={policy}", "--set", "enforcement=phase_only")
        o: str = self.json("launch", added["design"], *options)["orchestration"]
        self.services.until(f"{name} has begun", lambda: f"{name} begins n1 1" in self.seen())
        return o

    def seen(self) -> list[str]:
        return self.witness.read_text().splitlines() if self.witness.exists() else []

    def hold(self, o: str) -> str | None:
        found = self.json("show", o)["hold"]
        return None if found is None else str(found["kind"])

    def go_on(self, *names: str) -> None:
        for name in names:
            Path(f"{self.witness}.{name}").touch()

    def ends(self, o: str, deadline_s: float = 30.0) -> None:
        self.services.until(f"{o} has ended", lambda: self.json("show", o)["status"] == "complete", deadline_s)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    repo = tmp_path / "repo"
    repo.mkdir()
    script = "git init -q -b main . && echo start > start && git add . && git -c user.name=x -c user.email=x@x commit -qm start"
    subprocess.run(["sh", "-c", script], cwd=repo, check=True)
    async with EmbeddedServer(tmp_path / "bus") as server:
        bus = await connect(server.url, "test", server.credentials)
        await ensure_all(bus, sync=Sync.ALWAYS)
        await bus.close()
        services = Services(tmp_path, server.url, server.token_file)
        world = World(services, tmp_path)
        started = (services.controller, services.node, world.second)
        try:
            for service in started:
                service.start()
            services.until(
                "both nodes are online", lambda: sum(n["online"] for n in (world.json("node", "ls", check=False) or {"items": ()})["items"]) == 2
            )
            services.qd("project", "add", "shop", "--repo", str(repo))
            yield world
        finally:
            for service in started:
                service.signal(signal.SIGCONT)
                service.stop()


async def test_each_orchestration_of_a_lost_node_goes_the_way_of_its_policy(world: World) -> None:
    waits, moves, given_up = world.launch("waits", "wait"), world.launch("moves", "move"), world.launch("abandoned", "wait")
    world.services.node.kill()
    began = time.monotonic()
    world.services.until("the waiting one is held", lambda: world.hold(waits) == "node_lost", 25)
    assert time.monotonic() - began < 20, "10 s without a beat, and the time to look"
    world.services.until("the moving one began elsewhere", lambda: "moves begins n2 2" in world.seen(), 20)
    assert world.json("show", moves)["node"] == "n2"
    assert "qd retry" in world.json("why", waits)["obstacles"][0]["frees"]
    world.go_on("moves")
    world.ends(moves)
    cancelled = world.json("cancel", given_up, "--yes")
    assert cancelled["status"] == "accepted", "its process may still run: the cancel is honest"
    assert world.json("cancel", given_up, "--abandon", "--yes", "--wait=done")["status"] == "completed"
    assert world.json("show", given_up)["status"] == "cancelled"

    world.services.node.start()
    world.services.until("the node is back and the hold is gone", lambda: world.hold(waits) is None, 25)
    world.go_on("waits")
    world.ends(waits)
    assert [line for line in world.seen() if line.startswith("waits ")] == ["waits begins n1 1", "waits ends n1 1"], "adopted, not done again"
    branch = world.json("show", moves)["branch"]
    assert branch == "qd/moves"


async def test_a_node_that_is_stopped_and_goes_on_does_no_harm_and_its_stale_attempt_is_ended(world: World) -> None:
    moved = world.launch("frozen", "move")
    world.services.node.signal(signal.SIGSTOP)
    world.services.until("it began elsewhere", lambda: "frozen begins n2 2" in world.seen(), 30)
    world.services.node.signal(signal.SIGCONT)
    world.go_on("frozen")
    world.ends(moved)
    runs = [(run["run"], run["status"], run["node"]) for run in world.json("show", moved, "--runs")["items"] if run["kind"] == "task"]
    assert [(status, node) for _, status, node in runs] == [("succeeded", "n2")]
    events = [row["type"] for row in _timeline(world, moved)]
    assert events.count("node-assigned") == 1


def _timeline(world: World, o: str) -> list[dict[str, Any]]:
    world.services.timeline.start()
    try:
        world.services.until("the timeline answers", lambda: world.json("timeline", o, check=False) is not None, 20)
        found: list[dict[str, Any]] = world.json("timeline", o)["items"]
        return found
    finally:
        world.services.timeline.stop()
