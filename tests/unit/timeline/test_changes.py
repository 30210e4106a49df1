"""What each event changes on the board: of what is there, and nothing of what is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from bus_schemas import codec
from bus_schemas import events as e
from bus_schemas.decisions import Action, ActionStatus, Decision, LedgerMessage, TimerCause
from bus_schemas.orders import RunKind
from bus_schemas.reports import PlannedTask
from tests.golden.events import EVENTS, LAUNCHED
from timeline.board import Board
from timeline.changes import ms_between
from timeline.projection import Projected, project
from timeline.reading import UnknownCause
from timeline.rows import OrchestrationRow, PhaseRow, RunRow, TaskRow

AT = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
BY_TYPE = {e.type_of(event): event for event in EVENTS}
STANDING_ALONE = {"flag-changed", "node-registered", "orchestration-launched"}
"""Events that change a table though nothing is there yet."""
OF_A_PART = [
    name
    for name in BY_TYPE
    if name
    in (
        "phase-planned",
        "repair-started",
        "verify-recorded",
        "task-moved",
        "task-edited",
        "task-inserted",
        "run-dispatched",
        "run-started",
        "run-withdrawn",
        "run-ended",
        "gate-resolved",
    )
]
ORDER = "shop-o12"


def told(board: Board, *events: e.Event, seconds: int = 0, cause: Any = None, action: Action | None = None) -> list[Projected]:
    """Project one decision with these events."""
    at = AT + timedelta(seconds=seconds)
    decision = Decision(at=at, cause=cause or TimerCause("test"), action=action, events=events)
    message = LedgerMessage(1, "ledger-message", "shop", "b", "test", codec.ZERO_HASH, 0, 1, (decision,))
    return list(project(board, message, 7, at))


def launched() -> Board:
    board = Board()
    told(board, BY_TYPE["orchestration-launched"])
    return board


def with_a_plan() -> Board:
    board = launched()
    tasks = (PlannedTask(1, "one", model="opus"), PlannedTask(2, "two", depends_on=(1,)))
    told(board, e.PhasePlanned(orchestration=ORDER, phase="1", revision=1, tasks=tasks))
    return board


def rows_of(projected: list[Projected], kind: type) -> list[Any]:
    return [row for one in projected for row in one.changed if isinstance(row, kind)]


@pytest.mark.parametrize("name", BY_TYPE)
def test_an_event_about_what_is_not_there_is_a_row_of_its_own_and_changes_no_other(name: str) -> None:
    (projected,) = told(Board(), BY_TYPE[name])

    assert projected.event.type == name
    assert bool(projected.changed) is (name in STANDING_ALONE)


@pytest.mark.parametrize("name", OF_A_PART)
def test_an_event_about_a_part_that_an_orchestration_does_not_have_changes_nothing(name: str) -> None:
    assert LAUNCHED == ORDER
    event = BY_TYPE[name]
    if "phase" in event.__struct_fields__:
        event = msgspec.structs.replace(event, phase="7")
    (projected,) = told(launched(), event)

    assert projected.changed == ()


def test_parts_are_looked_up_of_an_orchestration_that_is_there() -> None:
    board = with_a_plan()
    told(board, e.RunQueued(ORDER, f"{ORDER}-r1", 1, "n", RunKind.INIT, "n1", "node", "", 1))

    assert [board.run(*key) is not None for key in ((ORDER, f"{ORDER}-r1", 1), (ORDER, f"{ORDER}-r1", 2), ("shop-o9", "shop-o9-r1", 1))] == [
        True,
        False,
        False,
    ]
    assert [board.task(*key) is not None for key in ((ORDER, "1", 2), (ORDER, "1", 9), ("shop-o9", "1", 1))] == [True, False, False]


def test_an_edit_changes_what_it_names_and_the_revisions_of_task_and_plan() -> None:
    board = with_a_plan()
    edited = told(board, e.TaskEdited(ORDER, "1", 1, revision=2, plan_revision=2, subject="uno"))
    task, phase = rows_of(edited, TaskRow)[0], rows_of(edited, PhaseRow)[0]
    assert (task.subject, task.model, task.revision, phase.revision) == ("uno", "opus", 2, 2)
    given_back = told(board, e.TaskEdited(ORDER, "1", 1, revision=3, plan_revision=3, model=""))
    task = rows_of(given_back, TaskRow)[0]

    assert (task.subject, task.model, task.revision) == ("uno", None, 3)


def test_an_inserted_task_is_one_more_and_what_it_blocks_waits_for_it() -> None:
    inserted = told(
        with_a_plan(), e.TaskInserted(ORDER, "1", plan_revision=2, task=3, subject="between", after=1, depends_on=(1,), blocks=(2, 9), by="ana")
    )
    tasks, (phase,) = rows_of(inserted, TaskRow), rows_of(inserted, PhaseRow)

    assert [(task.task, task.subject, task.depends_on, task.revision) for task in tasks] == [(3, "between", "1", 1), (2, "two", "1,3", 2)]
    assert (phase.revision, phase.tasks) == (2, 3)


def test_a_skip_by_an_operator_is_a_revision_of_the_plan_and_a_start_is_not() -> None:
    board = with_a_plan()
    started = told(board, e.TaskMoved(ORDER, "1", 1, e.TaskStatus.IN_PROGRESS, 2))
    skipped = told(board, e.TaskMoved(ORDER, "1", 2, e.TaskStatus.SKIPPED, 2, plan_revision=2), seconds=3)

    assert rows_of(started, PhaseRow) == []
    assert [phase.revision for phase in rows_of(skipped, PhaseRow)] == [2]
    assert rows_of(skipped, TaskRow)[0].ended_at is not None


def test_policy_and_node_of_an_orchestration_are_the_newest() -> None:
    board = launched()
    changed = told(board, msgspec.structs.replace(BY_TYPE["policy-changed"], revision=4), seconds=1)
    moved = told(board, e.NodeAssigned(ORDER, "n2", "n1", "node n1 is lost"), seconds=2)
    (o,) = rows_of(moved, OrchestrationRow)

    assert rows_of(changed, OrchestrationRow)[0].policy_revision == 4
    assert (o.policy_revision, o.node, o.changed_at) == (4, "n2", (AT + timedelta(seconds=2)).replace(tzinfo=None))


def test_a_dispatch_that_comes_after_the_start_keeps_the_status() -> None:
    board = launched()
    run = f"{ORDER}-r1"
    told(board, e.RunQueued(ORDER, run, 1, "n", RunKind.INIT, "n1", "node", "", 1))
    assert rows_of(told(board, e.RunDispatched(ORDER, run, 1)), RunRow)[0].status == "dispatched"
    told(board, e.RunStarted(ORDER, run, 1, "n1"))

    assert rows_of(told(board, e.RunDispatched(ORDER, run, 1)), RunRow)[0].status == "started"
    assert rows_of(told(board, e.RunWithdrawn(ORDER, run, 1)), RunRow)[0].counts is False


def test_a_cause_that_only_a_newer_version_knows_is_nobodys() -> None:
    projected = told(Board(), BY_TYPE["flag-changed"], cause=UnknownCause("oracle"))
    assert (projected[0].event.principal, projected[0].event.via) == (None, None)
    action = Action(id="shop-a1", status=ActionStatus.ACCEPTED, orchestration=ORDER)
    asked, *_ = told(Board(), cause=UnknownCause("oracle"), action=action)

    assert (asked.event.category, asked.event.type, asked.event.action) == ("action", "unknown", "shop-a1")
    assert (asked.known, asked.changed) == (False, ())


@pytest.mark.parametrize(
    ("start", "end", "ms"), [(None, AT, None), (AT, None, None), (AT, AT + timedelta(seconds=2), 2000.0), (AT, AT - timedelta(1), 0.0)]
)
def test_a_time_between_is_never_negative_and_unknown_where_an_end_is(start: datetime | None, end: datetime | None, ms: float | None) -> None:
    assert ms_between(start, end) == ms


def test_rows_of_the_board_beyond_its_bound_are_dropped_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from timeline import board as boards

    monkeypatch.setattr(boards, "ORCHESTRATIONS_MAX", 1)
    board = launched()
    told(board, msgspec.structs.replace(BY_TYPE["orchestration-launched"], orchestration="shop-o13"))
    board.written()

    assert list(board.families) == ["shop-o13"]
