"""The timeline and what goes wrong: kills, lost tails, other ledgers. Each message is written once, and nothing is covered up."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from pathlib import Path

import anyio
import duckdb
import pytest

from bus.connection import connect
from bus_schemas import codec
from tests.integration.timeline_world import DEADLINE_S, World, built, rebuilt, running
from tests.unit.timeline.story import Story, whole_story
from tests.unit.timeline.tables import contents, difference
from timeline.database import Database
from timeline.ingest import Ingest
from timeline.store import Store

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent


async def start_process(world: World) -> asyncio.subprocess.Process:
    """Start a real `python -m timeline`."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "QD_TIMELINE_SERVER": world.server.url,
        "QD_TIMELINE_TOKEN": world.server.credentials.token or "",
        "QD_TIMELINE_DATA": str(world.data),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "timeline", cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )


def long_story(launches: int) -> Story:
    story = Story()
    story.plane()
    story.design()
    for number in range(launches):
        launch = story.launch(phases=2)
        launch.initialised()
        if number % 3 == 0:
            launch.phase("1", repair=True)
            launch.paused_and_resumed()
            launch.finished()
    return story


def a_plain_story() -> Story:
    story = Story()
    story.launch("meadow")
    return story


async def test_killed_in_the_middle_of_ingest_again_and_again_it_equals_a_rebuild(tmp_path: Path) -> None:
    story = long_story(40)
    chance = random.Random(7)
    kills, total = 4, len(story.bodies)
    async with built(tmp_path) as world:
        for number in range(kills):
            process = await start_process(world)
            await world.until_it_answers()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(world.tell, story, number * total // kills, (number + 1) * total // kills)
                await anyio.sleep(chance.uniform(0.0, 0.4))
                process.kill()
            assert await process.wait() == -9
        process = await start_process(world)
        await world.until_it_answers()
        await world.until_read(total)
        process.terminate()
        assert await process.wait() == 0
        assert contents(world.config().database)["ingest_position"][0][2] == total
        assert difference(await rebuilt(world, tmp_path / "rebuilt"), world.config().database) == {}


async def test_a_file_that_was_damaged_is_made_again_and_equals_a_rebuild(tmp_path: Path) -> None:
    async with built(tmp_path) as world:
        seq = await world.tell(whole_story())
        async with running(world):
            await world.until_read(seq)
        world.config().database.write_bytes(b"this is no database")
        async with running(world):
            await world.until_read(seq)
        assert difference(await rebuilt(world, tmp_path / "rebuilt"), world.config().database) == {}


async def test_it_follows_through_a_restart_of_the_bus(tmp_path: Path) -> None:
    story = whole_story()
    async with built(tmp_path) as world, running(world):
        await world.until_read(await world.tell(story, 0, 40))
        await world.server.stop()
        await world.server.start()
        await anyio.sleep(0.3)
        await world.until_read(await world.tell(story, 40))
        assert (await world.status(state="following"))["events"] == 159


async def test_a_ledger_that_was_rewound_stops_ingest_loudly_and_what_was_read_is_still_served(tmp_path: Path) -> None:
    story = whole_story()
    async with built(tmp_path) as world:
        await world.tell(story, 0, 40)
        await world.server.stop()
        shutil.copytree(tmp_path / "bus", tmp_path / "backup")
        await world.server.start()
        bus = await connect(world.server.url, "test", world.server.credentials, retry=True)
        world = world._replace(bus=bus)
        async with running(world):
            await world.until_read(await world.tell(story, 40))
            await world.server.stop()
            shutil.rmtree(tmp_path / "bus")
            shutil.copytree(tmp_path / "backup", tmp_path / "bus")
            await world.server.start()
            status = await world.status(state="stopped")
            assert "was rewound: it ends at 40, and 87 was read before" in status["reason"]
            assert status["position"] == "87.2"
            assert (await world.ask("timeline", orchestration="park-o1"))["items"]
        # a new process says the same, and so it does when the ledger grew past the old end with other decisions
        async with running(world):
            assert "was rewound" in (await world.status(state="stopped"))["reason"]
        other = long_story(30)
        for subject, _ in other.bodies:
            await world.bus.append(subject, b"another decision")
        async with running(world):
            reason = (await world.status(state="stopped"))["reason"]
            assert reason == "ledger message 87 is not the one that was read before: the ledger was rewound and written on"
        assert contents(world.config().database)["ingest_position"][0][2] == 87
        await bus.close()


async def test_a_ledger_that_was_made_again_stops_ingest_at_once_and_at_the_next_start(tmp_path: Path) -> None:
    story = whole_story()
    async with built(tmp_path) as world:
        config = (await world.bus.api("STREAM.INFO.LEDGER"))["config"]
        async with running(world):
            await world.until_read(await world.tell(story, 0, 40))
            await world.bus.api("STREAM.DELETE.LEDGER")
            await world.bus.api("STREAM.CREATE.LEDGER", config)
            reason = (await world.status(state="stopped"))["reason"]
            assert "was made again" in reason or "does not exist any more" in reason
        await world.tell(story)
        async with running(world):
            assert "was made again" in (await world.status(state="stopped"))["reason"]
        world.config().database.unlink()
        async with running(world):
            await world.until_read(len(story.bodies))


async def test_a_broken_chain_of_hashes_stops_ingest_and_names_project_and_sequence(tmp_path: Path) -> None:
    story = whole_story()
    async with built(tmp_path) as world, running(world):
        seq = await world.tell(story)
        forged = codec.decode_ledger(story.bodies[-1][1])
        await world.bus.append("qd.ledger.park", codec.encode(forged))
        await world.tell(a_plain_story())
        status = await world.status(state="stopped")
        assert status["reason"].startswith(f"project park: ledger message {seq + 1} does not follow {seq}")
        assert status["position"] == f"{seq}.2"
        assert status["behind"] >= 1
        assert (await world.ask("sql", sql="SELECT max(seq) FROM events"))["rows"] == [[seq]]


async def test_bytes_that_are_no_decision_are_counted_and_do_not_stop_the_rest(tmp_path: Path) -> None:
    async with built(tmp_path) as world, running(world):
        await world.tell(whole_story())
        await world.bus.append("qd.ledger.lake", b"\x00\xff")
        await world.until_read(await world.tell(a_plain_story()))
        status = await world.status(state="following")
        assert (status["dead_letters"], status["unknown_types"], status["behind"]) == (1, 0, 0)


async def test_what_cannot_be_written_is_tried_again_until_it_can_and_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    story = long_story(20)
    async with built(tmp_path) as world:
        store = Store(world.config().database, memory_bytes=world.config().memory_bytes)
        database = Database(store, world.config().published)
        await database.open()
        ingest = Ingest(world.bus, database)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ingest.run)
            seq = await world.tell(story, 0, 50)
            assert await database.progress.until_seq(seq, DEADLINE_S)
            store._write("ALTER TABLE runs RENAME TO gone")  # as good as a disk that refuses
            seq = await world.tell(story, 50)
            with anyio.fail_after(DEADLINE_S):
                while ingest.reason is None:
                    await anyio.sleep(0.02)
            assert ingest.reason.startswith("cannot write, trying again:")
            assert database.position.seq < seq
            while True:
                try:
                    store._write("ALTER TABLE gone RENAME TO runs")
                    break
                except duckdb.Error:  # just now it tries again
                    await anyio.sleep(0.02)
            assert await database.progress.until_seq(seq, DEADLINE_S)
            assert (ingest.state, ingest.reason) == ("following", None)
            tasks.cancel_scope.cancel()
        await database.close()
        assert difference(await rebuilt(world, tmp_path / "rebuilt"), world.config().database) == {}


async def test_a_connection_to_the_file_that_is_gone_is_made_again_and_reading_goes_on(tmp_path: Path) -> None:
    story = whole_story()
    async with built(tmp_path) as world:
        store = Store(world.config().database, memory_bytes=world.config().memory_bytes)
        database = Database(store, world.config().published)
        await database.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Ingest(world.bus, database).run)
            assert await database.progress.until_seq(await world.tell(story, 0, 50), DEADLINE_S)
            assert store._writes is not None
            store._writes.close()  # as after a fatal error: every later call fails
            assert await database.progress.until_seq(await world.tell(story, 50), DEADLINE_S)
            tasks.cancel_scope.cancel()
        await database.close()
        assert difference(await rebuilt(world, tmp_path / "rebuilt"), world.config().database) == {}
