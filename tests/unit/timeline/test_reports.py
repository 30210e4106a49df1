"""Reports and macros: the numbers that operators ask for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from bus.connection import Stored
from bus_schemas import events as e
from tests.unit.timeline.story import Story, whole_story
from timeline.reports import REPORTS, BadReport, find, time_of, with_values
from timeline.store import Store

Filled = Callable[[list[Stored]], Store]
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def table(store: Store, sql: str) -> list[dict[str, Any]]:
    found = store.read(sql)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_every_report_runs_on_an_empty_and_on_a_full_file_and_says_what_it_is(filled: Filled, open_store: Callable[[str], Store]) -> None:
    full, empty = filled(whole_story().stored()), open_store("empty")
    for report in REPORTS.values():
        sql = with_values(report.sql, {"since": datetime(2026, 11, 1), "until": None})
        assert report.description
        assert full.read(sql).rows, report.name
        empty.read(sql)
    assert {"launches", "latency", "failures", "nodes", "cost"} <= set(REPORTS)


def test_the_launch_success_rate_counts_completed_and_failed_and_tells_pending_and_refused_apart(filled: Filled) -> None:
    (row,) = table(filled(whole_story().stored()), "FROM launch_success()")
    assert (row["requested"], row["completed"], row["failed"], row["pending"], row["refused"]) == (5, 2, 1, 1, 1)
    assert row["launch_success_rate"] == round(2 / 3, 4)
    assert (row["orchestrations_complete"], row["orchestrations_failed"], row["orchestrations_live"]) == (1, 1, 2)
    assert row["orchestration_success_rate"] == 0.5


def test_without_launches_there_are_no_rates(filled: Filled) -> None:
    story = Story()
    story.plane()
    store = filled(story.stored())
    (row,) = table(store, "FROM launch_success()")
    assert (row["requested"], row["launch_success_rate"], row["orchestration_success_rate"]) == (0, None, None)
    assert table(store, "FROM launch_success(NULL, NULL, INTERVAL 1 DAY)") == []


def test_launches_fall_into_buckets_by_when_they_were_received_and_until_is_exclusive(filled: Filled) -> None:
    story = Story()
    story.tick(60)
    for _ in range(2):
        story.launch().initialised()
        story.tick(3600)
    store = filled(story.stored())
    hours = table(store, "FROM launch_success(NULL, NULL, INTERVAL 1 HOUR)")
    assert [(row["bucket"].hour, row["completed"]) for row in hours] == [(9, 1), (10, 1)]
    (second,) = table(store, "SELECT received_at FROM actions ORDER BY seq DESC LIMIT 1")
    (row,) = table(store, f"FROM launch_success(NULL, TIMESTAMP '{second['received_at']}')")
    assert row["requested"] == 1
    (row,) = table(store, f"FROM launch_success(TIMESTAMP '{second['received_at']}')")
    assert row["requested"] == 1


def test_action_latency_has_each_stage_by_type_and_the_queue_wait_of_runs_by_itself(filled: Filled) -> None:
    rows = {(row["type"], row["stage"]): row for row in table(filled(whole_story().stored()), "FROM action_latency()")}
    done = rows["launch", "accepted_to_completed"]
    assert (done["count"], done["p50_ms"], done["p99_ms"]) == (2, 1250.0, 1250.0)
    assert rows["launch", "received_to_accepted"]["count"] == 4
    assert rows["launch", "received_to_completed"]["count"] == 2
    assert rows["pause", "accepted_to_completed"]["p50_ms"] == 3000.0
    assert (rows["run", "queued_to_started"]["count"], rows["run", "queued_to_started"]["p95_ms"]) == (19, 250.0)


def test_percentiles_of_latency_are_those_of_the_values(filled: Filled) -> None:
    story = Story()
    launch = story.launch()
    launch.initialised()
    for number in range(1, 101):
        action = story.next_action("shop")
        story.asked("shop", "pause", e.ActionOpened(launch.o, action, "pause"), orchestration=launch.o)
        story.told("shop", action, e.ActionCompleted(action), seconds=number / 1000)
    (row,) = table(filled(story.stored()), "FROM action_latency() WHERE type = 'pause' AND stage = 'accepted_to_completed'")
    assert (row["count"], row["p50_ms"], row["max_ms"]) == (100, 50.5, 100.0)
    assert (row["p95_ms"], row["p99_ms"]) == (round(1 + 0.95 * 99, 1), round(1 + 0.99 * 99, 1))


def test_failures_are_counted_by_type_and_reason_refusals_included(filled: Filled) -> None:
    rows = table(filled(whole_story().stored()), "SELECT type, status, reason_code, count, share FROM failure_distribution() ORDER BY ALL")
    assert [tuple(row.values()) for row in rows] == [
        ("launch", "failed", "execution_init_failed", 1, 0.3333),
        ("launch", "refused", "validation_not_ready", 1, 0.3333),
        ("pause", "refused", "validation_invalid_state", 1, 0.3333),
    ]


def test_the_operator_timeline_has_each_row_of_an_orchestration_once_and_in_order(filled: Filled) -> None:
    store = filled(whole_story().stored())
    rows = table(store, "FROM operator_timeline('shop-o1')")
    (count,) = store.read("SELECT count(*) FROM events WHERE orchestration = 'shop-o1'").rows[0]
    places = [tuple(int(part) for part in row["position"].split(".")) for row in rows]
    assert len(rows) == count
    assert places == sorted(set(places))
    assert rows[0]["summary"] == "launch of shop-d1 accepted as shop-o1 on mini-1"
    assert rows[-1]["summary"] == "orchestration complete"


def test_stuck_finds_what_waits_longer_than_asked(filled: Filled) -> None:
    store = filled(whole_story().stored())
    rows = table(store, "SELECT kind, id FROM stuck(INTERVAL 1 MINUTE) ORDER BY ALL")
    assert [tuple(row.values()) for row in rows] == [("action", "park-a2"), ("gate", "shop-o3"), ("run", "park-o1-r1.1")]
    assert table(store, "FROM stuck(INTERVAL 1000 DAY)") == []


def test_gates_repairs_nodes_models_and_cost_have_their_answers(filled: Filled) -> None:
    store = filled(whole_story().stored())
    assert table(store, "SELECT gate, opened, waiting, approved, wait_p50_s FROM gate_wait") == [
        {"gate": "plan", "opened": 2, "waiting": 1, "approved": 1, "wait_p50_s": 1.0}
    ]
    assert [(row["phase"], row["repairs"], row["remediation_phases"]) for row in table(store, "FROM repair_hotspots")] == [("2", 1, 1)]
    assert table(store, "SELECT node, attempts, failed, queued FROM node_occupancy") == [{"node": "mini-1", "attempts": 20, "failed": 1, "queued": 1}]
    assert {(row["role"], row["success_rate"]) for row in table(store, "FROM model_comparison")} == {
        ("executor", 1.0),
        ("planner", 1.0),
        ("reviewer", 1.0),
    }
    (cost,) = table(store, "FROM cost_by('model')")
    assert (cost["group"], cost["attempts"], float(cost["usd"]), cost["input_tokens"]) == ("opus-4", 16, 0.16, 16_000)


def test_a_report_is_found_by_name_and_field_or_says_what_there_is() -> None:
    assert find("launches", None).name == "launches"
    assert find("launches", "day").name == "launches by day"
    with pytest.raises(BadReport, match="no report is called 'x'; there are cost, failures, latency, launches, nodes"):
        find("x", None)
    with pytest.raises(BadReport, match="it can be told apart by project, node, day"):
        find("latency", "moon")
    with pytest.raises(BadReport, match="it cannot be told apart by a field"):
        find("nodes", "moon")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (None, None),
        ("24h", datetime(2026, 11, 22, 12, 0)),
        ("90m", datetime(2026, 11, 23, 10, 30)),
        ("2w", datetime(2026, 11, 9, 12, 0)),
        ("2026-11-23", datetime(2026, 11, 23)),
        ("2026-11-23T09:00:00Z", datetime(2026, 11, 23, 9, 0)),
        ("2026-11-23T09:00:00+02:00", datetime(2026, 11, 23, 7, 0)),
    ],
)
def test_times_are_iso_or_a_length_before_now(text: str | None, time: datetime | None) -> None:
    assert time_of(text, NOW) == time


@pytest.mark.parametrize("text", ["", "yesterday", "24", "h", "-1h", "999999w", 5, "2026-13-01", "'; DROP TABLE events"])
def test_a_time_that_is_none_is_refused(text: Any) -> None:
    with pytest.raises(BadReport, match="is not valid: an ISO time"):
        time_of(text, NOW)


def test_the_text_of_a_report_can_be_run_again() -> None:
    sql = with_values("FROM x($since, $until)", {"since": datetime(2026, 11, 23, 9), "until": None})
    assert sql == "FROM x(TIMESTAMP '2026-11-23 09:00:00', NULL)"
