"""kill -9 in the middle of a design: of the controller, the node agent, the timeline. It completes, and the books agree."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import duckdb
import pytest

from bus.bootstrap import Sync, ensure_all
from bus.connection import connect
from bus.embedded import EmbeddedServer
from bus.errors import Unavailable
from bus.reader import stream_state
from bus.request import ask
from bus_schemas import subjects
from bus_schemas.decisions import CommandCause, Decision
from bus_schemas.events import RunQueued, RunStarted, TaskMoved
from bus_schemas.orders import RunKind
from tests.chaos.services import Services
from tests.integration.ring import decisions_of

pytestmark = pytest.mark.anyio

TABLES = ("events", "actions", "orchestrations", "phases", "tasks", "runs", "gates", "nodes", "flags", "usage", "dead_letter", "ingest_heads")


def design(witness: Path) -> str:
    """Two phases whose tasks say in a file outside of the repository that they ran: the witness."""

    def task(number: int, extra: str = "") -> str:
        return (
            f"### Task {number}: part {number}\n{extra}\n```sh\n"
            f'echo "$QD_RUN.$QD_ATTEMPT" >> {witness}\nsleep 0.6\necho "$QD_RUN" > part-$QD_PHASE-$QD_TASK.txt\n```\n'
        )

    return f"## Phase 1: one\n{task(1)}{task(2)}{task(3, 'Depends on: 1, 2')}\n## Phase 2: two\n{task(1)}"


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    repo = tmp_path / "repo"
    repo.mkdir()
    script = "git init -q -b main . && echo start > start && git add . && git -c user.name=x -c user.email=x@x commit -qm start"
    subprocess.run(["sh", "-c", script], cwd=repo, check=True)
    async with EmbeddedServer(tmp_path / "bus") as server:
        bus = await connect(server.url, "test", server.credentials)
        await ensure_all(bus, sync=Sync.ALWAYS)
        await bus.close()
        made = Services(tmp_path, server.url, server.token_file)
        try:
            for service in made.all:
                service.start()
            yield made
        finally:
            for service in made.all:
                service.stop()


def prepare(services: Services) -> Path:
    """Add project and design, and return the witness file."""
    witness = services.folder / "witness"
    witness.touch()
    body = services.folder / "design.md"
    body.write_text(design(witness))
    services.until("a node is online", lambda: '"online":true' in services.qd("node", "ls", "-o", "json", check=False).stdout.replace(" ", ""))
    services.qd("project", "add", "shop", "--repo", str(services.folder / "repo"), "--check", "ls")
    marks = ["--mark", "objective_defined", "--mark", "scope_bounded"]
    services.qd("design", "add", "shop", "--title", "Parts", "--file", str(body), "--complexity", "simple", *marks)
    return witness


async def decisions(services: Services) -> list[Decision]:
    bus = await connect(services.environment["QD_SERVER"], "test", EmbeddedServer(services.folder / "bus").credentials)
    try:
        return await decisions_of(bus)
    finally:
        await bus.close()


async def timeline_reached(services: Services, seq: int) -> int:
    """Return the newest sequence of the ledger once the timeline that answers has it, and at least `seq`."""
    bus = await connect(services.environment["QD_SERVER"], "test", EmbeddedServer(services.folder / "bus").credentials)
    try:
        with anyio.fail_after(30):
            while True:
                last = (await stream_state(bus, subjects.LEDGER)).last_seq
                try:
                    status = await ask(bus, "timeline-status", timeout_s=2)
                except Unavailable:
                    status = {"position": "0.0", "state": "away"}
                if int(status["position"].partition(".")[0]) >= max(seq, last):
                    assert status["state"] == "following", status
                    return last
                await anyio.sleep(0.1)
    finally:
        await bus.close()


async def the_books_agree(services: Services, witness: Path) -> None:
    """Each key was decided once, each attempt queued and started once, and each start of a task ran its block exactly once."""
    made = await decisions(services)
    keys = Counter((d.cause.project, d.cause.key) for d in made if isinstance(d.cause, CommandCause))
    queued = Counter((event.run, event.attempt) for d in made for event in d.events if isinstance(event, RunQueued))
    tasks = {event.run for d in made for event in d.events if isinstance(event, RunQueued) and event.kind is RunKind.TASK}
    started = Counter((event.run, event.attempt) for d in made for event in d.events if isinstance(event, RunStarted))
    completed = Counter((e.phase, e.task) for d in made for e in d.events if isinstance(e, TaskMoved) and e.status == "completed")
    ran = Counter(witness.read_text().split())

    assert set(keys.values()) == {1}
    assert set(queued.values()) == {1}
    assert set(started.values()) == {1}
    assert ran == Counter({f"{run}.{attempt}": 1 for run, attempt in started if run in tasks})
    assert completed == Counter({("1", 1): 1, ("1", 2): 1, ("1", 3): 1, ("2", 1): 1})


async def the_timeline_equals_a_rebuild(services: Services) -> None:
    """Read the whole ledger into a second file and compare every table, both ways."""
    last = await timeline_reached(services, 0)
    services.timeline.stop()
    again = services.folder / "again"
    rebuild = services.another_timeline(again)
    rebuild.start()
    try:
        assert await timeline_reached(services, last) == last
    finally:
        rebuild.stop()
    original = services.folder / "timeline" / "timeline.duckdb"
    with duckdb.connect(":memory:") as both:
        both.execute(f"ATTACH '{original}' AS one (READ_ONLY)")
        both.execute(f"ATTACH '{again / 'timeline.duckdb'}' AS two (READ_ONLY)")
        for table in TABLES:
            for left, right in (("one", "two"), ("two", "one")):
                differing = both.execute(f"SELECT * FROM {left}.{table} EXCEPT ALL SELECT * FROM {right}.{table}").fetchall()
                assert differing == [], f"{table}: only in {left}"
        assert both.execute("SELECT count(*) FROM one.events").fetchall()[0][0] > 50


@pytest.mark.parametrize("victim", ["controller", "node", "timeline"])
async def test_a_design_completes_although_a_service_is_killed_in_the_middle(services: Services, victim: str) -> None:
    witness = prepare(services)
    services.qd("launch", "shop-d1", "--node", "n1", "--model", "shell", "--idempotency-key", "the-launch")
    services.until("a task runs", lambda: len(witness.read_text().split()) >= 1)
    time.sleep(0.15)
    service = getattr(services, victim)
    service.kill()
    service.start()
    # asked again while things are being put back: the same key is the same launch
    again = services.qd("launch", "shop-d1", "--node", "n1", "--model", "shell", "--idempotency-key", "the-launch", "-o", "json", timeout_s=60)
    assert json.loads(again.stdout)["orchestration"] == "shop-o1"
    watched = await anyio.to_thread.run_sync(lambda: services.qd("watch", "shop-o1", "--exit-status", timeout_s=60))
    shown = json.loads(services.qd("show", "shop-o1", "-o", "json").stdout)

    assert watched.returncode == 0
    assert (shown["status"], shown["hold"]) == ("complete", None)
    await the_books_agree(services, witness)
    await the_timeline_equals_a_rebuild(services)
    log = subprocess.run(["git", "ls-tree", "--name-only", "qd/parts"], cwd=services.folder / "repo", capture_output=True, text=True, check=True)
    assert len(log.stdout.split()) == 5
