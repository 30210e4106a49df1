from __future__ import annotations

from typing import Any

import pytest

from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.reports import Outcome, PlannedTask, PlanResult
from controller.leases import Back, Disowned, Drained, Due, Lost
from tests.unit.controller.world import World

LOST = Lost("shop-o1", "n1")


def at_work(on_node_loss: str = "wait", **flow: Any) -> World:
    """A world whose validate run has started on n1, which then is not seen any more."""
    world = World(overrides={"flow": {"on_node_loss": on_node_loss, **flow}})
    world.start(world.until("validate"))
    world.online.discard("n1")
    return world


def outcomes(world: World) -> list[str]:
    return [event.outcome.value for event in world.events(e.RunEnded) if isinstance(event, e.RunEnded) and event.reason_code]


# ── wait ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lost_node_holds_its_orchestrations_and_ends_nothing() -> None:
    world = at_work()
    world.duty(LOST)
    assert world.holds == {"node_lost"}
    assert world.only("validate").status == "started"
    assert world.o.holds[0].reason_code == "dispatch_node_lost"


def test_noticing_it_again_records_nothing() -> None:
    world = at_work()
    world.duty(LOST)
    assert world.duty(LOST) is None


def test_a_node_without_outstanding_runs_holds_nobody() -> None:
    world = World(overrides={"flow": {"human_gates": ["plan"]}})
    while not world.o.gate:
        world.step()
    world.online.discard("n1")
    assert world.duty(LOST) is None


def test_when_the_node_is_back_the_run_goes_on_and_its_end_counts() -> None:
    world = at_work()
    world.duty(LOST)
    world.online.add("n1")
    world.duty(Back("shop-o1", "n1"))
    assert not world.holds
    world.end(world.only("validate"))
    assert world.status == "planning"


def test_a_late_but_current_report_counts_while_the_node_is_still_marked_lost() -> None:
    world = at_work()
    world.duty(LOST)
    world.end(world.only("validate"))
    assert world.status == "planning"
    assert world.o.runs[1].status == "succeeded"


def test_a_node_that_is_back_only_for_one_of_two_does_not_free_it() -> None:
    world = at_work()
    world.duty(LOST)
    assert world.duty(Back("shop-o1", "n1")) is None
    assert world.holds == {"node_lost"}


# ── retry ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_by_policy_retry_a_started_run_is_lost_and_its_next_attempt_waits_for_the_same_node() -> None:
    world = at_work("retry")
    world.duty(LOST)
    run = world.only("validate")
    assert (run.attempt, run.node, run.status, run.counted) == (2, "n1", "queued", 1)
    assert world.holds == {"node_lost"}
    assert outcomes(world) == ["lost"]


def test_a_report_of_the_attempt_that_was_given_up_is_stale_and_has_no_effect() -> None:
    world = at_work("retry")
    old = world.only("validate")
    world.duty(LOST)
    world.online.add("n1")
    world.duty(Back("shop-o1", "n1"))
    before = world.o
    world.end(old)
    assert [type(event) for event in world.events()][-1] is e.ReportStale
    assert world.o == before
    world.step()
    assert world.status == "planning"


def test_a_run_that_had_not_started_is_not_lost_its_order_waits_at_the_node() -> None:
    world = World(overrides={"flow": {"on_node_loss": "retry"}})
    world.until("validate")
    world.online.discard("n1")
    world.duty(LOST)
    assert (world.only("validate").attempt, world.only("validate").status) == (1, "queued")
    assert not outcomes(world)


# ── move ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_by_policy_move_it_goes_on_on_another_node_and_is_held_no_longer() -> None:
    world = at_work("move")
    world.add_node("n2")
    world.duty(LOST)
    run = world.only("validate")
    assert (world.o.node, run.node, run.attempt) == ("n2", "n2", 2)
    assert not world.holds
    world.finish()
    assert world.status == "complete"


def test_a_run_that_had_not_started_is_taken_back_before_it_is_ordered_elsewhere() -> None:
    world = World(overrides={"flow": {"on_node_loss": "move"}})
    run = world.until("validate")
    world.add_node("n2")
    world.online.discard("n1")
    world.duty(LOST)
    assert (world.only("validate").node, world.only("validate").attempt) == ("n1", 1), "nothing is ordered twice before it is withdrawn"
    world.withdraw(run)
    assert (world.only("validate").node, world.only("validate").attempt) == ("n2", 2)


def test_where_the_old_node_had_claimed_it_first_that_attempt_goes_on() -> None:
    world = World(overrides={"flow": {"on_node_loss": "move"}})
    run = world.until("validate")
    world.add_node("n2")
    world.online.discard("n1")
    world.duty(LOST)
    world.online.add("n1")
    world.start(run)
    world.end(run)
    assert world.only("plan").node == "n2"


def test_no_node_that_fits_leaves_it_held_until_one_comes() -> None:
    world = at_work("move")
    world.add_node("n2", "haiku")
    world.duty(LOST)
    assert world.holds == {"node_lost"}
    assert world.only("validate").attempt == 1
    assert world.duty(LOST) is None
    world.add_node("n3")
    world.duty(LOST)
    assert world.o.node == "n3"


def test_a_cordoned_node_is_not_moved_to() -> None:
    world = at_work("move")
    world.add_node("n2")
    world.do(c.NodeCordon("n2"))
    world.duty(LOST)
    assert world.o.node == "n1"


def test_the_node_must_offer_the_models_of_pending_tasks_too() -> None:
    world = World(overrides={"flow": {"on_node_loss": "move", "max_parallel_tasks": 1}})
    plan = world.until("plan")
    world.start(plan)
    world.end(plan, PlanResult((PlannedTask(1, "a"), PlannedTask(2, "b", model="haiku"))))
    world.start(world.only("task"))
    world.add_node("n2", "shell")
    world.online.discard("n1")
    world.duty(LOST)
    assert world.o.node == "n1"


# ── operator ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_operator_gives_a_lost_run_up_by_retry_and_it_goes_to_another_node_with_fresh_attempts() -> None:
    world = at_work(max_task_attempts=1)
    world.duty(LOST)
    assert world.do(c.Retry("shop-o1")).reason_code == "validation_node_offline"
    world.add_node("n2")
    receipt = world.do(c.Retry("shop-o1"))
    assert receipt.status == "accepted"
    assert (world.only("validate").node, world.only("validate").attempt) == ("n2", 2)
    assert not world.holds
    world.start(world.only("validate"))
    assert world.project.actions[receipt.action].status == "completed"


def test_a_resume_of_a_lost_one_says_what_to_do_instead() -> None:
    world = at_work()
    world.duty(LOST)
    receipt = world.do(c.Resume("shop-o1"))
    assert receipt.reason_code == "validation_invalid_state"
    assert "qd retry shop-o1" in receipt.message


def test_a_pause_is_honest_it_does_not_complete_while_a_lost_node_may_still_run_something() -> None:
    world = at_work("move")
    world.add_node("n2")
    world.do(c.Pause("shop-o1"))
    world.duty(LOST)
    assert world.holds == {"pausing", "node_lost"}
    world.online.add("n1")
    world.duty(Back("shop-o1", "n1"))
    world.end(world.only("validate"))
    assert world.holds == {"paused"}


def test_a_cancel_waits_for_a_lost_node_unless_the_operator_abandons_its_runs() -> None:
    world = at_work()
    world.duty(LOST)
    first = world.do(c.Cancel("shop-o1"))
    assert (first.status, world.holds) == ("accepted", {"cancelling", "node_lost"})
    assert world.do(c.Cancel("shop-o1")).reason_code == "validation_invalid_state"
    second = world.do(c.Cancel("shop-o1", abandon=True))
    assert world.status == "cancelled"
    assert {world.project.actions[first.action].status, world.project.actions[second.action].status} == {"completed"}
    assert outcomes(world) == ["lost"]


def test_abandon_at_once_on_a_lost_node_cancels_at_once() -> None:
    world = at_work()
    world.duty(LOST)
    assert world.do(c.Cancel("shop-o1", abandon=True)).status == "completed"
    assert world.status == "cancelled"


def test_abandon_does_not_skip_the_wait_for_a_node_that_is_there() -> None:
    world = World()
    world.start(world.until("validate"))
    world.do(c.Cancel("shop-o1", abandon=True))
    assert world.holds == {"cancelling"}


# ── disowned, drained, due ───────────────────────────────────────────────────────────────────────────────────────────


def test_an_attempt_that_its_node_does_not_know_any_more_is_lost_and_done_again() -> None:
    world = World()
    run = world.until("validate")
    world.start(run)
    world.duty(Disowned(run.id, 1))
    assert (world.only("validate").attempt, world.only("validate").counted) == (2, 1)
    assert world.duty(Disowned(run.id, 1)) is None, "it is not the newest any more"


@pytest.mark.parametrize("ended", [True, False])
def test_an_attempt_that_has_ended_or_not_started_is_not_disowned(ended: bool) -> None:
    world = World()
    run = world.until("validate")
    if ended:
        world.start(run)
        world.end(run)
    assert world.duty(Disowned(run.id, 1)) is None


def test_lost_attempts_count_and_run_out() -> None:
    world = World(overrides={"flow": {"max_task_attempts": 2}})
    run = world.until("validate")
    for attempt in (1, 2):
        world.start(world.only("validate"))
        world.duty(Disowned(run.id, attempt))
    assert world.holds == {"blocked"}


def test_a_drained_node_keeps_what_runs_and_the_rest_goes_elsewhere() -> None:
    world = World()
    world.start(world.until("validate"))
    world.add_node("n2")
    assert world.do(c.NodeDrain("n1")).status == "completed"
    world.duty(Drained("shop-o1", "n1"))
    assert (world.o.node, world.only("validate").node) == ("n2", "n1")
    world.end(world.only("validate"))
    assert world.only("plan").node == "n2"


def test_a_drain_waits_where_no_other_node_fits() -> None:
    world = World()
    world.until("validate")
    world.do(c.NodeDrain("n1"))
    assert world.duty(Drained("shop-o1", "n1")) is None
    assert world.o.node == "n1"


def test_a_drained_node_is_cordoned_and_uncordon_ends_both() -> None:
    world = World()
    assert world.do(c.NodeDrain("n9")).reason_code == "validation_entity_not_found"
    world.do(c.NodeCordon("n1"))
    world.do(c.NodeDrain("n1"))
    assert world.do(c.NodeDrain("n1")).reason_code == "validation_invalid_state"
    world.do(c.NodeUncordon("n1"))
    node = world.states["plane"].nodes["n1"]
    assert (node.cordoned, node.draining) == (False, False)


@pytest.mark.parametrize("duty", [LOST, Back("shop-o1", "n1"), Drained("shop-o1", "n1"), Due("shop-o1"), Disowned("shop-o1-r1", 1)])
def test_a_duty_about_what_is_not_there_or_has_ended_changes_nothing(duty: Any) -> None:
    world = World()
    world.finish()
    world.online.clear()
    assert world.status == "complete"
    assert world.duty(duty) is None
    assert World(launch=False).duty(duty) is None


# ── quota and budgets ────────────────────────────────────────────────────────────────────────────────────────────────


def exhausted(world: World, **fields: Any) -> None:
    run = world.open()[0]
    world.start(run)
    world.fail(run, "execution_quota_exhausted", **fields)


def test_a_quota_holds_burns_no_attempt_and_ends_by_itself_at_its_reset_time() -> None:
    world = World()
    world.until("validate")
    until = world.now.replace(hour=5)
    exhausted(world, resets_at=until)
    run = world.only("validate")
    assert (world.holds, run.attempt, run.counted, run.held) == ({"quota"}, 2, 0, True)
    assert world.duty(Due("shop-o1")) is None, "it is not due yet"
    world.now = until
    world.duty(Due("shop-o1"))
    assert not world.holds
    assert not world.only("validate").held
    world.finish()
    assert world.status == "complete"


def test_a_quota_as_often_as_it_comes_never_uses_up_the_attempts() -> None:
    world = World()
    world.until("validate")
    for _ in range(6):
        exhausted(world)
        assert world.holds == {"quota"}
        world.do(c.Resume("shop-o1"))
    world.fail(world.only("validate"))
    assert not world.holds
    assert world.only("validate").counted == 1


def test_a_budget_holds_before_the_next_run_starts_and_lets_running_ones_end() -> None:
    from bus_schemas.reports import Usage

    world = World(overrides={"flow": {"budget_usd": 1.0}})
    run = world.until("validate")
    world.start(run)
    world.end(run, usage=Usage(10, 10, 1.25))
    assert world.holds == {"budget"}
    assert world.only("plan").held
    refused = world.do(c.Resume("shop-o1"))
    assert refused.reason_code == "validation_invalid_state"
    assert "1.25 USD of a budget of 1" in refused.message
    assert "flow.budget_usd" in refused.message
    world.do(c.PolicySet("shop-o1", {"flow": {"budget_usd": 5.0}}, 1))
    world.do(c.Resume("shop-o1"))
    assert not world.holds
    world.finish()
    assert world.status == "complete"


def test_a_budget_of_tokens_and_the_last_run() -> None:
    from bus_schemas.reports import Usage

    world = World(overrides={"flow": {"budget_tokens": 100}})
    run = world.until("finalize")
    world.start(run)
    world.end(run, usage=Usage(100, 10))
    assert world.status == "complete", "there is nothing left to hold"
    other = World(overrides={"flow": {"budget_tokens": 100}})
    run = other.until("validate")
    other.start(run)
    other.fail(run, usage=Usage(100, 0), outcome=Outcome.FAILED)
    assert other.holds == {"budget"}
    assert "flow.budget_tokens" in other.do(c.Resume("shop-o1")).message


def test_a_flag_is_rolled_back_by_the_action_that_changed_it() -> None:
    world = World()
    first = world.do(c.FlagSet("cp.launch", False))
    assert world.do(c.FlagRollback("plane-a99")).reason_code == "validation_entity_not_found"
    back = world.do(c.FlagRollback(first.action))
    assert back.status == "completed"
    assert world.states["plane"].flags["cp.launch"] is True
    assert world.do(c.FlagRollback(first.action)).reason_code == "validation_entity_not_found", "a later action changed it"
    world.do(c.FlagRollback(back.action))
    assert world.states["plane"].flags["cp.launch"] is False
    assert world.do(c.FlagRollback("x")).reason_code == "validation_invalid_payload"


def test_a_pause_is_complete_when_an_operator_gives_up_the_last_run_of_a_lost_node() -> None:
    world = at_work()
    world.do(c.Pause("shop-o1"))
    world.duty(LOST)
    world.add_node("n2")

    world.do(c.Retry("shop-o1"))

    assert world.holds == {"paused"}, "nothing runs any more"
