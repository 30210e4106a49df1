"""The SQL service: analysts' statements in a process with limits, on a copy that is as new as the data."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest

from bus.request import QueryFailed
from bus_schemas import codec
from tests.integration.timeline_world import World, built, running
from tests.unit.timeline.story import Story, whole_story
from timeline.sql_worker import NOBODY

pytestmark = pytest.mark.anyio

TIMEOUT_S = 2.0
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with built(tmp_path_factory.mktemp("world")) as world, running(world, sql_timeout_s=TIMEOUT_S):
        await world.until_read(await world.tell(whole_story()))
        yield world


async def refused(world: World, sql: str, **params: Any) -> QueryFailed:
    with pytest.raises(QueryFailed) as failed:
        await world.ask("sql", sql=sql, **params)
    return failed.value


async def test_a_statement_is_answered_with_columns_types_rows_and_position(world: World) -> None:
    answer = await world.ask("sql", sql="SELECT id, status, duration_ms, launched_at FROM orchestrations ORDER BY id -- all of them")
    assert answer["columns"] == ["id", "status", "duration_ms", "launched_at"]
    assert answer["types"] == ["VARCHAR", "VARCHAR", "DOUBLE", "TIMESTAMP"]
    assert ["shop-o2", "failed", 1250.0, "2026-11-23T09:00:49.250000Z"] in answer["rows"]
    assert not answer["truncated"]
    assert answer["position"] == (await world.ask("timeline-status"))["position"]


async def test_rows_over_the_limit_are_cut_and_that_is_said(world: World) -> None:
    answer = await world.ask("sql", sql="SELECT seq FROM events ORDER BY seq, idx", limit=2)
    assert (answer["rows"], answer["truncated"]) == ([[1], [2]], True)
    assert len((await world.ask("sql", sql="FROM range(5000)"))["rows"]) == 1000


async def test_macros_times_with_zones_and_nested_values_are_answered(world: World) -> None:
    answer = await world.ask(
        "sql", sql="SELECT now() AS \"a time\", [1, 2] AS l, {a: DATE '2026-11-23'} AS s, 170141183460469231731687303715884105727 AS huge"
    )
    (row,) = answer["rows"]
    assert row[0].endswith("Z")
    assert row[1:] == [[1, 2], {"a": "2026-11-23"}, "170141183460469231731687303715884105727"]
    assert (await world.ask("sql", sql="SELECT [now()] AS l"))["rows"][0][0][0].endswith("Z")
    assert (await world.ask("sql", sql="FROM launch_success()"))["rows"][0][1] == 5


async def test_a_statement_that_is_wrong_or_writes_is_refused_with_the_reason(world: World) -> None:
    wrong = await refused(world, "SELECT * FROM node")
    assert (wrong.code, "Did you mean" in str(wrong)) == ("validation_invalid_payload", True)
    writes = await refused(world, "WITH x AS (DELETE FROM actions RETURNING id) SELECT count(*) FROM x")
    assert (writes.code, str(writes)) == ("validation_invalid_payload", "delete is not allowed: this is for reading")
    reads_files = await refused(world, "SELECT * FROM read_text('/etc/passwd')")
    assert reads_files.code == "validation_invalid_payload"


async def test_an_answer_that_does_not_fit_into_a_reply_is_refused(world: World) -> None:
    assert (await refused(world, "SELECT repeat('x', 1000000)")).code == "validation_too_large"


async def test_a_runaway_statement_is_stopped_in_time_and_ingest_and_other_questions_go_on(world: World) -> None:
    begun = time.monotonic()
    ended: list[tuple[float, QueryFailed]] = []

    async def run_away() -> None:
        error = await refused(world, "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c")
        ended.append((time.monotonic() - begun, error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_away)
        await anyio.sleep(0.3)
        story = Story()
        story.launch("lake")
        seq = await world.tell(story)
        page = await world.ask("timeline", orchestration="lake-o1", min_seq=seq)
        assert len(page["items"]) == 3
        assert (await world.ask("sql", sql="SELECT count(*) FROM runs WHERE project = 'lake'"))["rows"] == [[1]]
        assert not ended
    ((took_s, error),) = ended
    assert error.code == "sql_limit"
    assert TIMEOUT_S <= took_s < TIMEOUT_S + 5.0


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT max(length(repeat('x', (100000000 + i)::INT))) FROM range(100) t(i)",
        "SELECT list(i) FROM range(200000000) t(i)",
        "SELECT length(string_agg(i::VARCHAR, ',')) FROM range(200000000) t(i)",
    ],
)
async def test_a_statement_that_needs_too_much_memory_is_stopped(world: World, sql: str) -> None:
    assert (await refused(world, sql)).code == "sql_limit"


async def test_what_was_just_recorded_is_in_the_next_answer(world: World) -> None:
    for number in range(1, 4):
        story = Story()
        project = f"fresh{number}"
        story.launch(project)
        seq = await world.tell(story)
        answer = await world.ask("sql", sql=f"SELECT count(*) FROM actions WHERE project = '{project}'", min_seq=seq)
        assert answer["rows"] == [[1]]


WALLS = """
import sys
from timeline.sql_worker import _become_nobody, _open
folder, path, statement = sys.argv[1:]
connection = _open(path, folder, 64 * 1024**2)
_become_nobody(folder)
try:
    print("answered", connection.execute(statement).fetchall())
except Exception as error:
    print("refused", type(error).__name__)
"""


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "DELETE FROM actions",
        "WITH x AS (DELETE FROM actions RETURNING id) SELECT count(*) FROM x",
        "WITH c AS (COPY (SELECT 1) TO '{folder}/pwn.csv') SELECT 1",
        "ATTACH '{folder}/x.duckdb' AS x",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "INSTALL httpfs",
    ],
)
def test_what_the_guard_would_miss_meets_the_walls_behind_it(tmp_path: Path, statement: str) -> None:
    path, folder = tmp_path / "t.duckdb", tmp_path / "spill"
    folder.mkdir()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE actions (id VARCHAR)")
    done = subprocess.run(
        [sys.executable, "-c", WALLS, str(folder), str(path), statement.format(folder=folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("refused"), done.stdout + done.stderr
    assert sorted(file.name for file in folder.iterdir()) == []


def test_the_worker_has_no_environment_and_is_nobody_when_started_by_root(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    duckdb.connect(str(path)).close()
    worker = subprocess.Popen(
        [sys.executable, "-s", "-m", "timeline.sql_worker", str(tmp_path), str(64 * 1024**2), "5"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    with worker:
        assert worker.stdout.readline() == b"ready\n"
        endless = "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i FROM r) SELECT count(*) FROM r"
        worker.stdin.write(codec.encode({"path": str(path), "sql": endless, "limit": 1}) + b"\n")
        worker.stdin.flush()
        status = Path(f"/proc/{worker.pid}/status")
        deadline = time.monotonic() + 10
        expected = NOBODY if os.geteuid() == 0 else os.geteuid()
        while f"Uid:\t{expected}\t{expected}" not in status.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert f"Uid:\t{expected}\t{expected}" in status.read_text()
        assert "NoNewPrivs:\t1" in status.read_text()
        worker.kill()


def test_a_spare_worker_goes_away_with_whoever_started_it_and_takes_its_folder_along(tmp_path: Path) -> None:
    folder = tmp_path / "spill"
    folder.mkdir()
    command = [sys.executable, "-s", "-m", "timeline.sql_worker", str(folder), str(64 * 1024**2), "5"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        worker.stdin.close()
        assert worker.wait(timeout=10) == 0
    assert not folder.exists()
