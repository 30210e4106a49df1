"""The projection: tables that depend on the ledger alone."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from bus.connection import Stored
from bus_schemas import codec
from bus_schemas import events as e
from bus_schemas.decisions import rows
from bus_schemas.reports import Outcome, Usage
from tests.unit.timeline.conftest import CREATED, MEMORY_BYTES
from tests.unit.timeline.feeding import Feeder, ingest
from tests.unit.timeline.story import Story, whole_story
from tests.unit.timeline.tables import difference
from timeline.batch import IngestPosition
from timeline.board import Board
from timeline.changes import dollars
from timeline.preparation import Preparation
from timeline.projection import project, utc
from timeline.rows import TABLES, EventRow
from timeline.store import Store

OpenStore = Callable[[str], Store]


def cut(messages: list[Stored], seed: int, longest: int) -> list[list[Stored]]:
    chance = random.Random(seed)
    pieces, start = [], 0
    while start < len(messages):
        end = start + chance.randint(1, longest)
        pieces.append(messages[start:end])
        start = end
    return pieces


def one(store: Store, sql: str) -> tuple[Any, ...]:
    (row,) = store.read(sql).rows
    return row


def test_every_table_has_the_columns_of_its_row_in_their_order(open_store: OpenStore) -> None:
    store = open_store("a")
    for kind, table in TABLES.items():
        fields = kind._fields if issubclass(kind, EventRow) else kind.__struct_fields__
        assert store.read(f"FROM {table}").columns == fields


def test_every_row_of_the_ledger_becomes_one_event_at_its_position() -> None:
    story, board = whole_story(), Board()
    for stored in story.stored():
        message = codec.decode_ledger(stored.data)
        projected = [(row.event.seq, row.event.idx) for row in project(board, message, stored.seq, stored.stored_at)]
        assert projected == [tuple(row.position) for row in rows(message, stored.seq)]


@pytest.mark.parametrize("longest", [1, 4, 30])
def test_tables_do_not_depend_on_how_the_ledger_was_cut_nor_on_restarts(open_store: OpenStore, tmp_path: Path, longest: int) -> None:
    messages = whole_story().stored()
    whole = open_store("whole")
    ingest(whole, messages)
    whole.close()

    path = tmp_path / "cut" / "timeline.duckdb"
    store = Store(path, memory_bytes=MEMORY_BYTES)
    store.open()
    store.begin("LEDGER", CREATED)
    feeder = Feeder(store)
    for index, piece in enumerate(cut(messages, longest, longest)):
        if index % 20 == 3:  # forget everything that is not in the file
            store.close()
            assert store.open() is None
            feeder = Feeder(store)
        feeder.ingest(piece)
    store.close()

    assert difference(whole.path, path) == {}


def test_every_batch_may_be_the_first_after_a_start(open_store: OpenStore) -> None:
    messages = whole_story().stored()
    whole, cut_up = open_store("whole"), open_store("cut-up")
    ingest(whole, messages)
    for message in messages:
        ingest(cut_up, [message])  # each time with nothing but the file
    whole.close()
    cut_up.close()
    assert difference(whole.path, cut_up.path) == {}


def test_messages_that_were_read_before_are_passed_over(open_store: OpenStore) -> None:
    messages = whole_story().stored()
    store = open_store("a")
    ingest(store, messages[:50])
    before = store.position
    ingest(store, messages[:50])
    assert store.position == before
    ingest(store, messages[20:])
    assert one(store, "SELECT count(*), count(DISTINCT (seq, idx)), max(seq) FROM events") == (159, 159, len(messages))


def test_a_gap_in_the_sequence_stops_before_it(open_store: OpenStore) -> None:
    messages = whole_story().stored()
    store = open_store("a")
    batch = ingest(store, messages[:10] + messages[11:])
    assert batch.stopped is not None
    assert batch.stopped.text == "ledger message 11 is missing: 12 came after 10"
    assert store.position is not None
    assert store.position.last_seq == 10
    assert one(store, "SELECT max(seq) FROM events") == (10,)


def test_a_broken_chain_of_hashes_stops_and_names_project_and_sequence(open_store: OpenStore) -> None:
    story = whole_story()
    good = story.stored()
    forged = good[-1]._replace(data=good[-1].data.replace(b'"prev":"', b'"prev":"0', 1))
    store = open_store("a")
    batch = ingest(store, [*good[:-1], forged])
    assert batch.stopped is not None
    assert batch.stopped.text.startswith(f"project park: ledger message {len(good)} does not follow {len(good) - 1}:")
    assert store.position is not None
    assert store.position.last_seq == len(good) - 1
    assert ingest(store, [forged]).stopped == batch.stopped


def test_bytes_that_do_not_decode_are_kept_with_the_error_and_the_position_goes_on(open_store: OpenStore) -> None:
    story = Story()
    story.plane()
    story.write_raw("shop", b"\xff not a ledger message")
    story.design()
    store = open_store("a")
    assert ingest(store, story.stored()).stopped is None
    seq, subject, error, data = one(store, "SELECT seq, subject, error, data FROM dead_letter")
    assert (seq, subject, data) == (4, "qd.ledger.shop", b"\xff not a ledger message")
    assert "does not decode" in error
    assert store.position is not None
    assert (store.position.last_seq, store.position.dead_letters) == (5, 1)


def test_an_unknown_event_is_kept_as_it_came_beside_its_known_neighbours_and_counted(open_store: OpenStore) -> None:
    story = Story()
    story.plane()
    story.design()
    launch = story.launch()
    known = story.bodies[-1][1]
    unknown = b'{"type":"moon-phase-changed","orchestration":"shop-o1","attempt":3,"phase":7,"shine":0.5},'
    launch_body = known.replace(b'"events":[', b'"events":[' + unknown, 1)
    story.bodies.pop()
    story.write_raw("shop", launch_body)
    launch.initialised()
    store = open_store("a")
    assert ingest(store, story.stored()).stopped is None
    row = one(store, "SELECT idx, orchestration, attempt, phase, payload->>'$.shine', summary FROM events WHERE type = 'moon-phase-changed'")
    assert row == (1, "shop-o1", 3, None, "0.5", "event of a type this version does not know: moon-phase-changed")
    assert one(store, "SELECT status, attempts FROM orchestrations") == ("validating", 1)
    assert store.position is not None
    assert store.position.unknown_types == 1


def test_a_known_event_with_a_value_from_a_newer_version_is_unknown_and_changes_nothing(open_store: OpenStore) -> None:
    story = Story()
    story.launch()
    data = story.bodies[-1][1].replace(b'"kind":"init"', b'"kind":"dream"', 1)
    story.bodies.pop()
    story.write_raw("shop", data)
    store = open_store("a")
    assert ingest(store, story.stored()).stopped is None
    assert store.read("SELECT type FROM events ORDER BY idx").rows == [("launch",), ("orchestration-launched",), ("run-queued",)]
    assert store.read("FROM runs").rows == []
    assert store.position is not None
    assert store.position.unknown_types == 1


def test_an_action_is_refused_completed_failed_or_still_open(filled: Callable[[list[Stored]], Store]) -> None:
    store = filled(whole_story().stored())
    found = store.read(
        "SELECT id, type, status, reason_code, completed_at IS NOT NULL FROM actions WHERE project IN ('shop', 'park') ORDER BY seq"
    ).rows
    assert found == [
        ("shop-a1", "design-add", "completed", None, True),
        ("shop-a2", "launch", "completed", None, True),
        ("shop-a3", "gate-approve", "completed", None, True),
        ("shop-a4", "pause", "completed", None, True),
        ("shop-a5", "resume", "completed", None, True),
        ("shop-a6", "pause", "refused", "validation_invalid_state", False),
        ("shop-a7", "launch", "failed", "execution_init_failed", True),
        ("shop-a8", "launch", "completed", None, True),
        ("park-a1", "launch", "refused", "validation_not_ready", False),
        ("park-a2", "launch", "accepted", None, False),
    ]


def test_an_actions_times_are_from_the_command_to_the_ledger_and_from_accepted_to_completed(filled: Callable[[list[Stored]], Store]) -> None:
    store = filled(whole_story().stored())
    accept, complete, total, expected = one(
        store,
        "SELECT accept_ms, complete_ms, total_ms, date_diff('us', a.received_at, e.stored_at) / 1000.0"
        " FROM actions a JOIN events e USING (seq, idx) WHERE a.id = 'shop-a2'",
    )
    assert (accept, complete, total) == (expected, 2250.0 - 1000.0, expected + 1250.0)
    assert one(store, "SELECT accept_ms, complete_ms, total_ms, accepted_at FROM actions WHERE id = 'shop-a6'") == (None, None, None, None)
    assert one(store, "SELECT complete_ms FROM actions WHERE id = 'shop-a1'") == (0.0,)


def test_an_idempotency_key_is_known_by_its_hash_only(filled: Callable[[list[Stored]], Store]) -> None:
    store = filled(whole_story().stored())
    (count,) = one(store, "SELECT count(*) FROM events WHERE payload::VARCHAR LIKE '%shop-launch-2%'")
    assert count == 0
    assert one(store, "SELECT key_hash = sha256('shop-launch-2') FROM actions WHERE id = 'shop-a2'") == (True,)


def test_an_orchestration_tells_when_it_was_launched_ready_and_ended_and_what_it_cost(filled: Callable[[list[Stored]], Store]) -> None:
    store = filled(whole_story().stored())
    between = "date_diff('us', launched_at, ended_at) / 1000.0"
    sql = f"SELECT status, hold, phase, repairs, attempts, tokens, usd::DOUBLE, duration_ms, {between} FROM orchestrations"
    status, hold, phase, repairs, attempts, tokens, usd, duration_ms, between_ms = one(store, f"{sql} WHERE id = 'shop-o1'")
    assert (status, hold, phase, repairs, attempts) == ("complete", None, "2.5", 1, 17)
    assert (tokens, usd) == (16 * 1200, 0.16)
    assert duration_ms == between_ms
    assert one(store, f"{sql} WHERE id = 'shop-o3'")[:2] == ("validating", "gate")


def test_tasks_count_their_attempts_and_keep_their_commits(filled: Callable[[list[Stored]], Store]) -> None:
    store = filled(whole_story().stored())
    found = one(
        store, "SELECT subject, status, attempts, base, head, duration_ms FROM tasks WHERE orchestration = 'shop-o1' AND phase = '1' AND task = 2"
    )
    assert found == ("add part 2", "completed", 1, "a", "b", 1250.0)


def test_a_gate_waits_until_it_is_resolved_or_its_orchestration_ends(filled: Callable[[list[Stored]], Store]) -> None:
    story = whole_story()
    waiting = "shop-o3"
    story.told("shop", "shop-a8", e.OrchestrationMoved(waiting, e.OrchestrationStatus.CANCELLED, e.OrchestrationStatus.VALIDATING), seconds=5)
    store = filled(story.stored())
    assert store.read("SELECT orchestration, status, principal, wait_ms > 0 FROM gates ORDER BY seq").rows == [
        ("shop-o1", "approved", "ben", True),
        (waiting, "dropped", None, True),
    ]


def test_an_event_of_an_orchestration_that_was_never_launched_changes_no_table(filled: Callable[[list[Stored]], Store]) -> None:
    story = Story()
    story.told(
        "shop", None, e.PhaseMoved("shop-o9", "1", e.PhaseStatus.COMPLETE), e.ActionCompleted("shop-a99"), e.HoldSet("shop-o9", e.HoldKind.GATE, "")
    )
    store = filled(story.stored())
    assert store.read("SELECT orchestration, type FROM events ORDER BY idx").rows == [
        ("shop-o9", "phase-moved"),
        (None, "action-completed"),
        ("shop-o9", "hold-set"),
    ]
    assert one(store, "SELECT (SELECT count(*) FROM phases) + (SELECT count(*) FROM actions) + (SELECT count(*) FROM orchestrations)") == (0,)


@pytest.mark.parametrize("time", [datetime(2026, 11, 23, 9, 30), datetime(2026, 11, 23, 11, 30, tzinfo=timezone(timedelta(hours=2)))])
def test_a_time_is_kept_in_utc_without_its_zone_and_one_without_a_zone_is_in_utc(time: datetime) -> None:
    assert utc(time) == datetime(2026, 11, 23, 9, 30)


class Watched(list[Stored]):
    """Messages that note, when they are read, whether garbage is collected meanwhile."""

    collected: bool | None = None

    def __iter__(self) -> Iterator[Stored]:
        self.collected = gc.isenabled()
        return super().__iter__()


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_while_messages_are_read_and_afterwards_as_before(enabled: bool) -> None:
    messages = Watched(whole_story().stored()[:3])
    preparation = Preparation(IngestPosition("LEDGER", CREATED), {}, {}, ())
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        read = preparation.read(messages)
        after = gc.isenabled()
    finally:
        (gc.enable if was_enabled else gc.disable)()

    assert [one.stored.seq for one in read] == [1, 2, 3]
    assert (messages.collected, after) == (False, enabled)


@pytest.mark.parametrize("usd", [1e30, -1.0, float("inf"), float("nan")])
def test_a_price_that_cannot_be_is_no_price(usd: float) -> None:
    assert dollars(usd) is None


def test_usage_beyond_all_reason_does_not_keep_the_rest_from_being_written(filled: Callable[[list[Stored]], Store]) -> None:
    story = Story()
    launch = story.launch()
    ended = e.RunEnded(launch.o, launch.init, 1, "mini-1", Outcome.FAILED, exit_code=-(2**60), usage=Usage(2**53, 2**53, 1e300))
    launch.tell(ended)
    store = filled(story.stored())
    assert one(store, "SELECT status, usd, input_tokens FROM runs") == ("failed", None, 2**53)
