from __future__ import annotations

from typing import Any

import pytest

from bus_schemas import commands as c
from bus_schemas.reports import PlannedTask, PlanResult
from controller import plan
from controller.orchestration import Phase, Task
from tests.unit.controller.world import World

CHAIN = PlanResult(tuple(PlannedTask(n, f"task {n}", depends_on=(n - 1,) if n > 1 else ()) for n in (1, 2, 3)))
LOOSE = PlanResult(tuple(PlannedTask(n, f"task {n}") for n in (1, 2, 3)))


def planned(result: PlanResult = CHAIN, **overrides: Any) -> World:
    """A world with a planned phase 1, its first task under way."""
    world = World(overrides={"flow": {"max_parallel_tasks": 1, **overrides}, "review": {"enforcement": "phase_only"}})
    run = world.until("plan")
    world.start(run)
    world.end(run, result)
    return world


def phase(world: World) -> Phase:
    return world.o.current()


def task(world: World, number: int) -> Task:
    found = phase(world).task(number)
    assert found is not None
    return found


def queue(world: World) -> list[int]:
    return [known.number for known in plan.waiting(phase(world))]


def insert(world: World, after: int = 1, **fields: Any) -> Any:
    values = {"subject": "new", "depends_on": (), "target_revision": phase(world).revision, **fields}
    return world.do(c.TaskInsert("shop-o1", "1", after, **values))


# ── edit, model, skip ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pending_task_is_edited_and_its_revision_and_the_plans_grow_by_one() -> None:
    world = planned()
    receipt = world.do(c.TaskEdit("shop-o1", "1", 2, 1, subject="better", description="so"))
    assert (receipt.status, receipt.task, receipt.revision) == ("completed", "1.2", 2)
    assert (task(world, 2).subject, task(world, 2).description, task(world, 2).revision) == ("better", "so", 2)
    assert phase(world).revision == 2


def test_only_what_is_named_changes() -> None:
    world = planned()
    world.do(c.TaskEdit("shop-o1", "1", 2, 1, description="so"))
    assert (task(world, 2).subject, task(world, 2).description) == ("task 2", "so")


def test_an_edit_that_names_nothing_is_refused() -> None:
    assert planned().do(c.TaskEdit("shop-o1", "1", 2, 1)).reason_code == "validation_missing_field"


@pytest.mark.parametrize("kind", ["edit", "model", "skip"])
@pytest.mark.parametrize(
    ("phase_id", "number", "revision", "code"),
    [
        ("1", 9, 1, "validation_entity_not_found"),
        ("7", 2, 1, "validation_entity_not_found"),
        ("x", 2, 1, "validation_invalid_payload"),
        ("1", 1, 2, "validation_invalid_state"),  # in progress: the state is looked at before the revision
        ("1", 1, 1, "validation_invalid_state"),
        ("1", 2, 2, "validation_revision_conflict"),
    ],
)
def test_existence_then_state_then_revision_are_checked(kind: str, phase_id: str, number: int, revision: int, code: str) -> None:
    world = planned()
    command: Any = {
        "edit": c.TaskEdit("shop-o1", phase_id, number, revision, subject="s"),
        "model": c.TaskModelSet("shop-o1", phase_id, number, revision, "haiku"),
        "skip": c.TaskSkip("shop-o1", phase_id, number, revision),
    }[kind]
    before = world.project
    assert world.do(command).reason_code == code
    assert world.o == before.orchestrations["shop-o1"]


def test_starting_a_task_adds_one_to_its_revision_so_that_an_edit_that_was_read_before_comes_too_late() -> None:
    world = planned()
    seen = task(world, 2).revision
    world.step()  # task 1 ends, task 2 starts
    assert task(world, 2).status == "in_progress"
    assert task(world, 2).revision == seen + 1
    assert world.do(c.TaskEdit("shop-o1", "1", 2, seen, subject="late")).reason_code == "validation_invalid_state"


def test_a_model_of_its_own_is_used_by_the_run_and_can_be_given_back() -> None:
    world = planned()
    assert world.do(c.TaskModelSet("shop-o1", "1", 2, 1, "gpt-9")).reason_code == "validation_model_unroutable"
    world.do(c.TaskModelSet("shop-o1", "1", 2, 1, "haiku"))
    world.do(c.TaskModelSet("shop-o1", "1", 3, 1, "haiku"))
    world.do(c.TaskModelSet("shop-o1", "1", 3, 2, None))
    world.step()
    assert world.only("task").model == "haiku"
    world.step()
    assert world.only("task").model == "shell"


def test_a_skipped_task_is_never_run_and_what_depends_on_it_goes_on() -> None:
    world = planned()
    assert world.do(c.TaskSkip("shop-o1", "1", 2, 1)).status == "completed"
    world.step()
    assert world.only("task").task == 3
    world.finish()
    assert world.status == "complete"
    assert task_status(world, 2) == "skipped"


def task_status(world: World, number: int) -> str:
    found = world.o.phases[0].task(number)
    assert found is not None
    return found.status.value


def test_skipping_the_last_pending_task_does_not_end_the_phase_before_the_running_one_does() -> None:
    world = planned()
    world.do(c.TaskSkip("shop-o1", "1", 2, 1))
    world.do(c.TaskSkip("shop-o1", "1", 3, 1))
    assert world.status == "executing"
    world.step()
    assert world.status == "reviewing"


# ── insert ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_is_inserted_behind_another_and_what_depended_on_that_waits_for_it() -> None:
    world = planned()
    receipt = insert(world, after=1, depends_on=(1,))
    assert (receipt.status, receipt.task, receipt.revision) == ("completed", "1.4", 2)
    assert queue(world) == [4, 2, 3]
    assert task(world, 2).depends_on == (1, 4)
    assert task(world, 3).depends_on == (2,)
    assert task(world, 4).inserted_by == "ana"
    order = []
    while world.status == "executing":
        order.append(world.step().task)
    assert order == [1, 4, 2, 3]


def test_inserted_as_the_first_it_blocks_what_depends_on_nothing() -> None:
    world = planned(LOOSE)
    insert(world, after=0)
    assert queue(world) == [4, 2, 3]
    assert (task(world, 2).depends_on, task(world, 3).depends_on) == ((4,), (4,))


def test_what_it_blocks_can_be_named_and_may_be_nothing() -> None:
    world = planned(LOOSE)
    insert(world, after=1, blocks=(3,))
    insert(world, after=1, blocks=())
    assert (task(world, 2).depends_on, task(world, 3).depends_on) == ((), (4,))
    assert queue(world) == [5, 4, 2, 3]


def test_a_blocked_task_has_another_revision_so_that_an_edit_sees_the_new_dependency() -> None:
    world = planned()
    insert(world, after=1, depends_on=(1,))
    assert world.do(c.TaskEdit("shop-o1", "1", 2, 1, subject="x")).reason_code == "validation_revision_conflict"


def test_an_inserted_task_that_is_ready_starts_at_once_where_there_is_room() -> None:
    world = planned(LOOSE, max_parallel_tasks=4)
    assert len(world.open("task")) == 3
    insert(world, after=3)
    assert [run.task for run in world.open("task")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"after": 9}, "validation_entity_not_found", "no task 9"),
        ({"target_revision": 7}, "validation_revision_conflict", "revision 1, not 7"),
        ({"depends_on": (8,)}, "validation_dependency_invalid", "depends on task 8, which does not exist"),
        ({"blocks": (8,)}, "validation_dependency_invalid", "blocks task 8, which does not exist"),
        ({"blocks": (1,)}, "validation_dependency_invalid", "blocks task 1, which is in_progress"),
        ({"depends_on": (3,), "blocks": (2,)}, "validation_dependency_invalid", "cycle"),
        ({"model": "gpt-9"}, "validation_model_unroutable", "gpt-9"),
    ],
)
def test_an_insert_that_does_not_fit_is_refused_and_changes_nothing(fields: dict[str, Any], code: str, words: str) -> None:
    world = planned()
    before = world.o
    receipt = insert(world, **fields)
    assert receipt.reason_code == code
    assert words in receipt.message
    assert world.o == before


def test_a_skipped_dependency_is_refused() -> None:
    world = planned()
    world.do(c.TaskSkip("shop-o1", "1", 2, 1))
    receipt = insert(world, after=1, depends_on=(2,), blocks=())
    assert receipt.reason_code == "validation_dependency_invalid"
    assert "is skipped" in receipt.message


def test_phases_without_a_plan_and_finished_phases_take_no_task() -> None:
    world = World(phases=2, overrides={"review": {"enforcement": "phase_only"}})
    world.until("plan")
    assert world.do(c.TaskInsert("shop-o1", "1", 0, "s", (), 0)).reason_code == "validation_invalid_state"
    assert world.do(c.TaskInsert("shop-o1", "2", 0, "s", (), 0)).reason_code == "validation_invalid_state"
    while world.o.phase != "2":
        world.step()
    receipt = world.do(c.TaskInsert("shop-o1", "1", 0, "s", (), world.o.phases[0].revision))
    assert receipt.reason_code == "validation_invalid_state"
    assert "complete" in receipt.message


def test_a_plan_at_its_gate_can_be_changed_before_it_is_approved() -> None:
    world = planned(human_gates=["plan"])
    assert world.holds == {"gate"}
    insert(world, after=0)
    assert not world.open()
    world.do(c.GateApprove("shop-o1"))
    assert world.only("task").task == 4


def test_while_the_tasks_are_verified_nothing_is_inserted_but_under_a_pause_the_check_is_taken_back() -> None:
    world = World(check="make test", overrides={"review": {"enforcement": "phase_only"}})
    world.until("verify")
    assert insert(world, after=1).reason_code == "validation_invalid_state"
    paused = World(check="make test", overrides={"review": {"enforcement": "phase_only"}})
    while (last := paused.until("task")).task != 2:
        paused.step()
    paused.start(last)
    paused.do(c.Pause("shop-o1"))
    paused.end(last)
    assert paused.only("verify").held
    insert(paused, after=2)
    assert not paused.open()
    paused.do(c.Resume("shop-o1"))
    assert paused.only("task").task == 3
    paused.finish()
    assert paused.status == "complete"


# ── pause, block, dry run ────────────────────────────────────────────────────────────────────────────────────────────


def test_under_a_pause_ready_tasks_stay_pending_and_can_be_changed() -> None:
    world = planned()
    run = world.only("task")
    world.start(run)
    world.do(c.Pause("shop-o1"))
    world.end(run)
    assert world.holds == {"paused"}
    assert task(world, 2).status == "pending"
    assert world.do(c.TaskEdit("shop-o1", "1", 2, 1, subject="while it waits")).status == "completed"
    insert(world, after=1, depends_on=(1,))
    assert not world.open()
    world.do(c.Resume("shop-o1"))
    assert world.only("task").task == 4


def test_a_blocked_phase_takes_a_task_and_starts_it_with_the_retry() -> None:
    world = planned(max_task_attempts=1)
    run = world.only("task")
    world.start(run)
    world.fail(run)
    assert world.holds == {"blocked"}
    insert(world, after=0, blocks=())
    assert not world.open()
    world.do(c.Retry("shop-o1"))
    assert world.only("task").task == 4
    world.finish()
    assert world.status == "complete"


def test_one_blocked_task_can_be_retried_alone() -> None:
    world = planned(LOOSE, max_task_attempts=1, max_parallel_tasks=3)
    for run in world.open("task"):
        world.start(run)
        if run.task == 3:
            world.end(run)
        else:
            world.fail(run)
    assert world.holds == {"blocked"}
    assert world.do(c.Retry("shop-o1", "1", 3)).reason_code == "validation_invalid_state"
    assert world.do(c.Retry("shop-o1", "1", 8)).reason_code == "validation_entity_not_found"
    assert world.do(c.Retry("shop-o1", "2")).reason_code == "validation_invalid_state"
    assert world.do(c.Retry("shop-o1", "1", 2)).status == "accepted"
    again = world.only("task")
    assert again.task == 2
    world.start(again)
    world.end(again)
    assert world.holds == {"blocked"}, "task 1 still blocks the phase"
    world.do(c.Retry("shop-o1", task=1))
    world.finish()
    assert world.status == "complete"


def test_a_dry_run_shows_the_queue_before_and_after_and_applying_it_does_exactly_that() -> None:
    world = planned()
    command = c.TaskInsert("shop-o1", "1", 1, "new", (1,), phase(world).revision)
    receipt = world.preview(command)
    assert receipt.diff is not None
    assert (receipt.diff.queue_before, receipt.diff.queue_after) == (("1.2", "1.3"), ("1.4", "1.2", "1.3"))
    assert ("1.4.subject", "", "new") in [(change.path, change.before, change.after) for change in receipt.diff.changes]
    assert ("1.2.depends_on", "1", "1,4") in [(change.path, change.before, change.after) for change in receipt.diff.changes]
    assert phase(world).revision == 1
    world.do(command)
    assert tuple(f"1.{number}" for number in queue(world)) == receipt.diff.queue_after
    assert world.do(command).reason_code == "validation_revision_conflict"


def test_tasks_of_an_ended_or_cancelled_orchestration_are_not_changed() -> None:
    world = planned()
    world.start(world.only("task"))
    world.do(c.Cancel("shop-o1"))
    assert world.do(c.TaskSkip("shop-o1", "1", 2, 1)).reason_code == "validation_invalid_state"
    world.end(world.only("task"))
    assert world.do(c.TaskSkip("shop-o1", "1", 2, 1)).reason_code == "validation_invalid_state"
    assert world.do(c.TaskSkip("shop-o9", "1", 2, 1)).reason_code == "validation_entity_not_found"


def test_a_phase_takes_at_most_five_hundred_tasks() -> None:
    world = planned(PlanResult(tuple(PlannedTask(n, "t", depends_on=(1,) if n > 1 else ()) for n in range(1, 501))))
    assert insert(world, after=1).reason_code == "validation_too_large"
