"""`evolve` is total: every event of the contract folds into every state, and one about what is not there changes nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bus_schemas import events as e
from bus_schemas.decisions import Decision, TimerCause
from bus_schemas.ids import PLANE
from bus_schemas.orders import RunKind
from controller import evolution
from controller.project import Aggregate, evolve, fold_decision
from tests.golden.events import EVENTS, LAUNCHED
from tests.unit.controller.world import T0, World

BY_TYPE = {e.type_of(event): event for event in EVENTS}
MAKING = {
    "flag-changed": "flags",
    "node-registered": "nodes",
    "project-added": "projects",
    "project-edited": "projects",
    "design-added": "designs",
    "ticket-added": "tickets",
    "comment-added": "comments",
    "orchestration-launched": "orchestrations",
    "heads-recorded": "heads",
}
"""Events that need nothing to be there, and the map in which they put something."""

ABOUT_A_PART = [
    name
    for name, event in BY_TYPE.items()
    if {"phase", "task", "run"} & set(event.__struct_fields__)
    and isinstance(getattr(event, "orchestration", None), str)
    and name not in ("phase-moved", "run-queued", "orchestration-moved", "gate-opened", "gate-resolved", "ticket-moved")
]


def fold(state: Aggregate, event: e.Event) -> Aggregate:
    return evolve(state, event, T0, "shop-a1", "ana")


@pytest.mark.parametrize("name", BY_TYPE)
def test_an_event_about_what_is_not_there_changes_nothing(name: str) -> None:
    for project in (PLANE, "shop"):
        before = Aggregate(project)
        after = fold(before, BY_TYPE[name])
        # `!=` of two empty maps is true in rpds, `==` is right
        same = {field for field in before.__struct_fields__ if getattr(before, field) == getattr(after, field)}

        assert (MAKING[name] not in same) if name in MAKING else same == set(before.__struct_fields__)


@pytest.mark.parametrize("name", ABOUT_A_PART)
def test_an_event_about_a_part_that_an_orchestration_does_not_have_changes_nothing_of_it(name: str) -> None:
    launched = msgspec.structs.replace(BY_TYPE["orchestration-launched"], total_phases=0)
    state = fold(Aggregate("shop"), launched)

    assert fold(state, BY_TYPE[name]).orchestrations[LAUNCHED] == state.orchestrations[LAUNCHED]


@pytest.mark.parametrize("name", ["task-moved", "task-edited", "issues-raised", "run-queued", "verdict-recorded"])
def test_an_event_about_a_task_that_a_phase_does_not_have_leaves_the_tasks_alone(name: str) -> None:
    world = World()
    world.until("task")
    event: Any = msgspec.structs.replace(BY_TYPE[name], orchestration="shop-o1", phase="1", task=99)
    after = fold(world.project, event).orchestrations["shop-o1"]

    assert after.current().tasks == world.o.current().tasks


def test_an_attempt_for_a_task_that_is_not_there_is_queued_and_changes_no_plan() -> None:
    world = World()
    queued: Any = msgspec.structs.replace(BY_TYPE["run-queued"], orchestration="shop-o1", kind=RunKind.TASK, phase="1", task=99, base=("c9",))
    before = world.o
    after = fold(world.project, queued).orchestrations["shop-o1"]

    assert after.phases == before.phases
    assert after.runs[:-1] == before.runs
    assert (after.runs[-1].id, after.runs[-1].task, after.runs[-1].base) == (queued.run, 99, ("c9",))


def test_a_decision_about_an_orchestration_that_is_not_there_tells_its_time_and_the_events_beside_it_hold() -> None:
    world = World()
    lost = e.HoldSet(orchestration="shop-o9", hold=e.HoldKind.PAUSED, reason="")
    held = e.HoldSet(orchestration="shop-o1", hold=e.HoldKind.PAUSED, reason="why")
    at = T0 + timedelta(hours=1)
    alone = fold_decision(world.project, Decision(at=at, cause=TimerCause("due"), events=(lost,)), None)
    beside = fold_decision(world.project, Decision(at=at, cause=TimerCause("due"), events=(lost, held, lost)), None)

    assert alone == msgspec.structs.replace(world.project, at=at)
    assert beside.orchestrations["shop-o1"] == evolution.evolve(world.o, held, at, None)
    assert set(beside.orchestrations) == {"shop-o1"}


def test_an_event_of_an_older_attempt_leaves_the_newest_alone() -> None:
    world = World()
    world.fail(world.only("init"))
    run = world.only("init")
    for event in (
        e.RunDispatched(orchestration="shop-o1", run=run.id, attempt=1),
        e.RunStarted(orchestration="shop-o1", run=run.id, attempt=1, node="n1", queue_ms=1.0),
        e.RunWithdrawn(orchestration="shop-o1", run=run.id, attempt=1),
    ):
        assert fold(world.project, event) == world.project


def test_a_dispatch_marks_an_attempt_that_waits_and_never_one_that_has_started() -> None:
    world = World()
    run = world.only("init")
    mark = e.RunDispatched(orchestration="shop-o1", run=run.id, attempt=1)
    dispatched = fold(world.project, mark).orchestrations["shop-o1"].runs[0]
    assert dispatched.status.value == "dispatched"
    world.start(run)

    assert fold(world.project, mark) == world.project


def test_an_end_of_an_action_that_is_not_known_is_not_kept() -> None:
    world = World()
    for end in (e.ActionCompleted("shop-a99"), e.ActionFailed("shop-a99", "x", "y")):
        assert fold(world.project, end) == world.project


def test_an_end_of_a_slug_that_another_orchestration_took_over_leaves_it_taken() -> None:
    world = World()
    taken = msgspec.structs.replace(world.project, live_slugs=world.project.live_slugs.insert("basket", "shop-o9"))
    ended = fold(taken, e.OrchestrationMoved(orchestration="shop-o1", status=e.OrchestrationStatus.FAILED, previous=world.o.status))

    assert ended.live_slugs["basket"] == "shop-o9"
