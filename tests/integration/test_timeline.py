"""The timeline against a real bus: what it answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from bus.bootstrap import UnsafeSync
from bus.request import QueryFailed
from bus_schemas import events as e
from bus_schemas import subjects
from bus_schemas.orders import RunKind
from tests.integration.timeline_world import World, built, running
from tests.unit.timeline.story import Story, whole_story
from timeline import database, queries
from timeline.service import serve

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with built(tmp_path) as world, running(world):
        yield world


@pytest.fixture(scope="module")
async def told_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One world for all questions that change nothing."""
    async with built(tmp_path_factory.mktemp("world")) as world, running(world):
        await world.until_read(await world.tell(whole_story()))
        yield world


def code(failed: pytest.ExceptionInfo[QueryFailed]) -> str:
    return str(failed.value.code)


async def test_the_timeline_of_an_orchestration_is_paged_both_ways_and_each_row_comes_once(told_world: World) -> None:
    world = told_world
    whole = await world.ask("timeline", orchestration="shop-o1", limit=1000)
    positions = [row["position"] for row in whole["items"]]
    assert whole["position"] == "87.2"
    assert not whole["more"]
    assert len(positions) == len(set(positions)) > 100

    forward, after = [], None
    while True:
        page = await world.ask("timeline", orchestration="shop-o1", limit=7, after=after)
        if not page["items"]:
            break
        forward += [row["position"] for row in page["items"]]
        after = page["next"]
    assert forward == positions

    backward: list[str] = []
    before: str | None = "999999999.0"
    while before is not None:
        page = await world.ask("timeline", orchestration="shop-o1", limit=7, before=before)
        backward = [row["position"] for row in page["items"]] + backward
        before = page["previous"] if page["more"] else None
    assert backward == positions

    runs = await world.ask("timeline", orchestration="shop-o1", category="run", type="run-ended", limit=1000)
    assert {row["type"] for row in runs["items"]} == {"run-ended"}


async def test_actions_are_found_by_type_and_outcome_and_paged_both_ways(told_world: World) -> None:
    world = told_world
    whole = (await world.ask("past-actions", limit=1000))["items"]
    names = [action["action"] for action in whole]
    assert len(names) == len(set(names)) > 10
    assert [action["received_at"] for action in whole] == sorted((action["received_at"] for action in whole), reverse=True)

    pages = [await world.ask("past-actions", limit=4)]
    while pages[-1]["next"] is not None:
        pages.append(await world.ask("past-actions", limit=4, after=pages[-1]["next"]))
    assert [action["action"] for page in pages for action in page["items"]] == names
    back = [await world.ask("past-actions", limit=4, before=pages[-1]["items"][-1]["action"])]
    while back[-1]["previous"] is not None:
        back.append(await world.ask("past-actions", limit=4, before=back[-1]["previous"]))
    assert [action["action"] for page in reversed(back) for action in page["items"]] == names[:-1]

    refused = await world.ask("past-actions", code="validation_invalid_state", orchestration="shop-o1")
    assert refused["items"] == [one for one in whole if (one["reason_code"], one["orchestration"]) == ("validation_invalid_state", "shop-o1")] != []
    assert {one["type"] for one in (await world.ask("past-actions", type="pause", status="completed"))["items"]} == {"pause"}
    nothing = {"items": [], "next": None, "previous": None}
    for params in ({"type": "no-such"}, {"after": "shop-a99999"}):
        found = await world.ask("past-actions", **params)
        assert {name: found[name] for name in nothing} == nothing


async def test_the_attempts_of_an_orchestration_are_its_rows_of_runs(told_world: World) -> None:
    attempts = await told_world.ask("attempts", orchestration="shop-o1")
    runs = await told_world.ask("sql", sql="SELECT run, attempt, status FROM runs WHERE orchestration = 'shop-o1' ORDER BY queued_at, attempt")
    found = [dict(zip(attempts["columns"], row, strict=True)) for row in attempts["rows"]]
    assert [[one["run"], one["attempt"], one["status"]] for one in found] == runs["rows"] != []
    assert (await told_world.ask("attempts", orchestration="shop-o99"))["rows"] == []


async def test_who_may_have_an_older_copy_waits_for_no_new_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def count(**params: Any) -> int:
        return int((await world.ask("sql", sql="SELECT count(*) FROM actions", **params))["rows"][0][0])

    story = Story()
    story.launch()
    seq, told = await world.tell(story), len(story.bodies)
    assert await count(min_seq=seq) == 1
    story.launch()
    seq = await world.tell(story, told)
    await world.until_read(seq)
    monkeypatch.setattr(database, "AGE_COPIES", 1e9)
    assert await count(may_be_older=True) == 1
    assert await count(may_be_older=True, min_seq=seq) == 2
    monkeypatch.setattr(database, "AGE_COPIES", 0.0)
    assert await count(may_be_older=True) == 2


async def test_a_row_tells_who_when_what_and_everything_else(told_world: World) -> None:
    rows = (await told_world.ask("timeline", orchestration="shop-o1", limit=1000))["items"]
    pause = next(row for row in rows if row["type"] == "pause" and row["status"] == "accepted")
    assert (pause["by"], pause["via"], pause["category"], pause["action"]) == ("ana", "cli", "action", "shop-a4")
    assert pause["summary"] == "pause of shop-o1 accepted: lunch"
    assert pause["at"].endswith("Z")
    assert pause["detail"]["reason"] == "lunch"
    refused = next(row for row in rows if row["status"] == "refused")
    assert refused["reason_code"] == "validation_invalid_state"


async def test_following_answers_as_soon_as_something_happens_and_not_for_others(world: World) -> None:
    story = Story()
    first, other = story.launch(), story.launch()
    seq = await world.tell(story)
    known = await world.ask("timeline", orchestration=first.o, min_seq=seq)
    told = len(story.bodies)
    answered: list[tuple[float, dict[str, Any]]] = []

    async def follow() -> None:
        page = await world.ask("timeline", orchestration=first.o, after=known["next"], wait_s=15)
        answered.append((time.monotonic(), page))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        other.started(other.init)
        await world.tell(story, told)
        await anyio.sleep(0.5)
        assert not answered  # the other one moved, this one did not
        first.started(first.init)
        written = time.monotonic()
        await world.tell(story, told + 1)
    ((at, page),) = answered
    assert [row["type"] for row in page["items"]] == ["run-started"]
    assert at - written < 5.0

    begun = time.monotonic()
    page = await world.ask("timeline", orchestration=first.o, after=page["next"], wait_s=0.3)
    assert page["items"] == []
    assert 0.25 <= time.monotonic() - begun < 5.0


@pytest.mark.parametrize(
    ("query", "params", "expected"),
    [
        ("timeline", {}, "validation_invalid_payload"),
        ("past-actions", {"type": 7}, "validation_invalid_payload"),
        ("past-actions", {"after": "shop-o1"}, "validation_invalid_payload"),
        ("past-actions", {"project": "*"}, "validation_invalid_payload"),
        ("timeline", {"orchestration": "shop-o99"}, "validation_entity_not_found"),
        ("timeline", {"orchestration": "*"}, "validation_invalid_payload"),
        ("timeline", {"orchestration": ["shop-o1"]}, "validation_invalid_payload"),
        ("timeline", {"orchestration": "shop-o1", "after": "x"}, "validation_invalid_payload"),
        ("timeline", {"orchestration": "shop-o1", "limit": 0}, "validation_invalid_payload"),
        ("timeline", {"orchestration": "shop-o1", "limit": 1001}, "validation_invalid_payload"),
        ("timeline", {"orchestration": "shop-o1", "wait_s": 21}, "validation_invalid_payload"),
        ("timeline", {"orchestration": "shop-o1", "type": 5}, "validation_invalid_payload"),
        ("timeline", {"orchestration": "shop-o1", "min_seq": "7"}, "validation_invalid_payload"),
        ("report", {}, "validation_invalid_payload"),
        ("report", {"name": ["launches"]}, "validation_invalid_payload"),
        ("report", {"name": "launches", "by": "moon"}, "validation_invalid_payload"),
        ("report", {"name": "launches", "since": "yesterday"}, "validation_invalid_payload"),
        ("tables", {"describe": "moons"}, "validation_entity_not_found"),
        ("sql", {}, "validation_missing_field"),
        ("sql", {"sql": "   "}, "validation_missing_field"),
        ("sql", {"sql": "SELECT 1", "limit": 10_001}, "validation_invalid_payload"),
        ("logs", {}, "validation_invalid_payload"),
        ("logs", {"run": "x"}, "validation_invalid_payload"),
        ("logs", {"run": "shop-o99-r1"}, "validation_entity_not_found"),
        ("logs", {"orchestration": "shop-o1", "after": -1}, "validation_invalid_payload"),
    ],
)
async def test_a_query_that_makes_no_sense_is_answered_with_its_code(told_world: World, query: str, params: dict[str, Any], expected: str) -> None:
    with pytest.raises(QueryFailed) as failed:
        await told_world.ask(query, **params)
    assert code(failed) == expected


async def test_reports_carry_their_position_and_the_statement_that_made_them(told_world: World) -> None:
    world = told_world
    report = await world.ask("report", name="launches")
    row = dict(zip(report["columns"], report["rows"][0], strict=True))
    assert (row["requested"], row["completed"], row["failed"], row["pending"]) == (5, 2, 1, 1)
    assert report["position"] == "87.2"
    assert report["sql"] == "FROM launch_success(NULL, NULL, NULL)"
    again = await world.ask("sql", sql=report["sql"])
    assert (again["columns"], again["rows"]) == (report["columns"], report["rows"])
    since = await world.ask("report", name="failures", since="2026-11-23T09:00:30Z", by="category")
    assert since["sql"].startswith("FROM failure_distribution_by('category', TIMESTAMP '2026-11-23 09:00:30'")


async def test_tables_and_columns_are_listed_with_what_they_are(told_world: World) -> None:
    world = told_world
    tables = await world.ask("tables")
    kinds = {(row[0], row[1]) for row in tables["rows"]}
    assert {("table", "events"), ("view", "gate_wait"), ("macro", "launch_success")} <= kinds
    assert all(row[2] for row in tables["rows"])
    columns = await world.ask("tables", describe="runs")
    assert ["queue_ms", "DOUBLE"] in [row[:2] for row in columns["rows"]]
    macro = await world.ask("tables", describe="launch_success")
    assert [row[0] for row in macro["rows"]] == ["since", "until", "bucket"]


async def test_output_is_paged_by_cursor_for_a_run_or_a_whole_orchestration_and_followed(world: World) -> None:
    story = Story()
    launch = story.launch()
    launch.initialised()
    second = story.queued(launch.o, RunKind.PLAN, "1")
    launch.tell(second)
    await world.until_read(await world.tell(story))

    async def say(run: str, offset: int, text: str, attempt: int = 1) -> None:
        await world.bus.append(subjects.log("mini-1", run, attempt), text.encode(), headers={"qd-offset": str(offset)})

    for index in range(5):
        await say(launch.init, index * 6, f"line {index}")
        await say("shop-o2-r1", index * 6, "of another orchestration")
        await say(second.run, index * 6, f"plan {index}")
    page = await world.ask("logs", orchestration=launch.o, run=launch.init, limit=3)
    assert [(chunk["text"], chunk["offset"], chunk["attempt"], chunk["node"]) for chunk in page["items"]] == [
        (f"line {index}", index * 6, 1, "mini-1") for index in range(3)
    ]
    rest = await world.ask("logs", run=launch.init, after=page["next"])
    assert [chunk["text"] for chunk in rest["items"]] == ["line 3", "line 4"]
    end = await world.ask("logs", run=launch.init, after=rest["next"])
    assert (end["items"], end["next"]) == ([], rest["next"])
    both = await world.ask("logs", orchestration=launch.o)
    assert [chunk["text"] for chunk in both["items"]] == [text for index in range(5) for text in (f"line {index}", f"plan {index}")]

    async with anyio.create_task_group() as tasks:
        followed: list[dict[str, Any]] = []

        async def follow() -> None:
            followed.append(await world.ask("logs", orchestration=launch.o, after=both["next"], wait_s=15))

        tasks.start_soon(follow)
        await anyio.sleep(0.2)
        await say(second.run, 30, "späte Zeile")
    assert [chunk["text"] for chunk in followed[0]["items"]] == ["späte Zeile"]


async def test_a_follower_hears_a_run_that_began_while_it_waited(world: World) -> None:
    story = Story()
    launch = story.launch()
    seq = await world.tell(story)
    await world.until_read(seq)
    async with anyio.create_task_group() as tasks:
        followed: list[dict[str, Any]] = []

        async def follow() -> None:
            followed.append(await world.ask("logs", orchestration=launch.o, wait_s=15))

        tasks.start_soon(follow)
        told = len(story.bodies)
        new = story.queued(launch.o, RunKind.VALIDATE)
        launch.tell(new)
        await world.until_read(await world.tell(story, told))
        await world.bus.append(subjects.log("mini-1", new.run, 1), b"hello")
    assert [chunk["text"] for chunk in followed[0]["items"]] == ["hello"]


async def test_what_does_not_come_is_an_error_that_says_how_far_we_are(told_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = told_world
    seq = int((await world.ask("timeline-status"))["position"].split(".")[0])
    monkeypatch.setattr(queries, "MIN_SEQ_WAIT_S", 0.3)
    with pytest.raises(QueryFailed, match=f"the timeline is at {seq}, not yet at {seq + 5}") as failed:
        await world.ask("report", name="launches", min_seq=seq + 5)
    assert code(failed) == "validation_invalid_state"


async def test_it_waits_for_a_bus_that_is_not_set_up_yet_and_refuses_one_that_may_lose_writes(tmp_path: Path) -> None:
    async with built(tmp_path, sync=None) as world:
        with pytest.raises(UnsafeSync):
            await serve(world.config())
        await world.bus.api("STREAM.DELETE.LEDGER")
        with anyio.move_on_after(0.5) as scope:
            await serve(world.config())
        assert scope.cancelled_caught
    async with built(tmp_path / "allowed", sync=None) as world, running(world, allow_unsafe_sync=True):
        assert (await world.ask("timeline-status"))["state"] == "following"


async def test_an_event_is_visible_soon_after_it_was_stored(world: World) -> None:
    story = Story()
    launch = story.launch()
    await world.until_read(await world.tell(story))
    told = len(story.bodies)
    launch.tell(e.OrchestrationMoved(launch.o, e.OrchestrationStatus.VALIDATING, e.OrchestrationStatus.LAUNCHING))
    await anyio.sleep(0.2)  # idle: the next message is written at once
    begun = time.monotonic()
    seq = await world.tell(story, told)
    page = await world.ask("timeline", orchestration=launch.o, min_seq=seq, before="999999.0", limit=1)
    assert page["items"][0]["status"] == "validating"
    assert time.monotonic() - begun < 2.0
