from __future__ import annotations

from typing import Any

from bus_schemas import commands as c
from bus_schemas.ids import PLANE
from bus_schemas.reports import PlannedTask, PlanResult, Usage, ValidateResult, Verdict
from bus_schemas.views import ObstacleView, WhyView
from controller.leases import Lost
from controller.why import Surroundings, why
from tests.unit.controller.world import World


def asked(world: World, **around: Any) -> WhyView:
    values = {"nodes": dict(world.states[PLANE].nodes.items()), "online": frozenset(world.online), "ahead": {}, "load": {"n1": 1}, **around}
    return why(world.o, Surroundings(**values))


def first(world: World, **around: Any) -> ObstacleView:
    return asked(world, **around).obstacles[0]


def test_what_runs_is_told_with_its_node_and_model_and_waits_for_nothing() -> None:
    world = World()
    world.start(world.until("validate"))
    found = asked(world)
    assert found.running == ("validate (shop-o1-r2.1) runs on n1 with shell",)
    assert [obstacle.what for obstacle in found.obstacles] == ["phase 1"]


def test_a_run_that_waits_says_whether_it_is_queued_sent_or_its_node_is_away() -> None:
    world = World()
    run = world.until("validate")
    assert "sent to node n1 and is not claimed yet" in first(world).reason
    queued = first(world, ahead={run.id: 3}, load={"n1": 7})
    assert "3 before it, 7 open runs for a capacity of 4" in queued.reason
    offline = first(world, online=frozenset())
    assert (offline.reason, offline.frees) == ("node n1 is offline", "start the node agent of n1")


def test_a_pause_says_what_it_waits_for_and_how_it_ends() -> None:
    world = World()
    world.start(world.until("validate"))
    world.do(c.Pause("shop-o1"))
    assert "when shop-o1-r2.1 on n1 has ended; qd resume shop-o1" in first(world).frees
    world.end(world.only("validate"))
    assert first(world).frees == "qd resume shop-o1"
    held = [obstacle for obstacle in asked(world).obstacles if obstacle.what.startswith("plan")]
    assert held[0].frees == "qd resume shop-o1"


def test_a_cancel_that_waits_for_a_lost_node_says_how_not_to() -> None:
    world = World()
    world.start(world.until("validate"))
    world.online.clear()
    world.duty(Lost("shop-o1", "n1"))
    world.do(c.Cancel("shop-o1"))
    assert "qd cancel shop-o1 --abandon" in first(world).frees
    assert asked(world).running == ("validate (shop-o1-r2.1) runs on n1 with shell, which cannot be reached",)


def test_each_policy_for_a_lost_node_is_freed_another_way() -> None:
    texts = []
    for policy in ("wait", "retry", "move"):
        world = World(overrides={"flow": {"on_node_loss": policy}})
        world.start(world.until("validate"))
        world.online.clear()
        world.duty(Lost("shop-o1", "n1"))
        assert (first(world).reason_code, asked(world).hold) == ("dispatch_node_lost", "node_lost")
        texts.append(first(world).frees)
    assert "gives its runs up" in texts[0]
    assert "goes on elsewhere" in texts[1]
    assert "comes online that offers its models" in texts[2]


def test_a_gate_a_stop_of_the_validator_a_budget_and_a_quota_name_their_way_out() -> None:
    world = World(overrides={"flow": {"human_gates": ["plan"]}})
    while world.o.gate is None:
        world.step()
    assert "qd gate approve shop-o1 or qd gate reject" in first(world).frees
    stopped = World()
    run = stopped.until("validate")
    stopped.end(run, ValidateResult(Verdict.STOP))
    assert first(stopped).frees == "qd retry shop-o1, or qd cancel shop-o1"
    spent = World(overrides={"flow": {"budget_usd": 1.0}})
    spent.end(spent.until("validate"), usage=Usage(1, 1, 2.0))
    assert "flow.budget_usd=N --if-revision 1, then qd resume" in first(spent).frees
    limited = World()
    run = limited.until("validate")
    limited.fail(run, "execution_quota_exhausted", resets_at=limited.now)
    assert first(limited).frees == "by itself at 2026-01-01 00:00 UTC, or qd resume shop-o1"
    limited.do(c.Resume("shop-o1"))
    limited.fail(limited.only("validate"), "execution_quota_exhausted")
    assert first(limited).frees == "qd resume shop-o1"


def planned(**flow: Any) -> World:
    world = World(overrides={"flow": {"max_parallel_tasks": 1, **flow}})
    run = world.until("plan")
    world.end(run, PlanResult((PlannedTask(1, "a"), PlannedTask(2, "b"), PlannedTask(3, "c", depends_on=(1, 2)))))
    return world


def test_tasks_wait_for_their_dependencies_or_for_room() -> None:
    world = planned()
    found = {obstacle.what: obstacle for obstacle in asked(world).obstacles}
    assert found["task 2 of phase 1"].reason == "it is ready; 1 tasks run and max_parallel_tasks is 1"
    assert "flow.max_parallel_tasks=2 --if-revision 1" in found["task 2 of phase 1"].frees
    assert found["task 3 of phase 1"].reason == "it waits for task 1 (in_progress), task 2 (pending)"


def test_under_a_pause_a_ready_task_waits_for_the_resume() -> None:
    world = planned()
    world.start(world.only("task"))
    world.do(c.Pause("shop-o1"))
    found = {obstacle.what: obstacle for obstacle in asked(world).obstacles}
    ready = found["task 2 of phase 1"]
    assert (ready.reason, ready.frees) == ("it is ready, and nothing starts while it is held: pausing", "qd resume shop-o1")
    world.do(c.Cancel("shop-o1"))
    found = {obstacle.what: obstacle for obstacle in asked(world).obstacles}
    assert found["task 2 of phase 1"].frees == "nothing: it is being cancelled"


def test_what_waits_under_two_holds_is_freed_by_both_and_at_a_gate_by_its_judgement() -> None:
    world = World(overrides={"flow": {"human_gates": ["plan"]}})
    world.finish()
    world.do(c.Pause("shop-o1"))
    found = {obstacle.what: obstacle for obstacle in asked(world).obstacles}
    gate = "qd gate show shop-o1, then qd gate approve shop-o1 or qd gate reject shop-o1 --feedback TEXT"
    assert found["task 1 of phase 1"].frees == f"qd resume shop-o1, then {gate}"
    world.do(c.Resume("shop-o1"))
    found = {obstacle.what: obstacle for obstacle in asked(world).obstacles}
    assert found["task 1 of phase 1"].frees == gate


def test_the_budget_that_is_reached_is_the_one_to_raise() -> None:
    world = World(overrides={"flow": {"budget_tokens": 2}})
    world.end(world.until("validate"), usage=Usage(1, 1, 0.0))
    assert first(world).frees == "qd policy set shop-o1 flow.budget_tokens=N --if-revision 1, then qd resume shop-o1"


def test_a_blocked_task_beside_others_that_run_is_retried_when_they_are_done_and_what_depends_on_it_waits_for_that() -> None:
    world = World(overrides={"flow": {"max_parallel_tasks": 2, "max_task_attempts": 1}})
    world.end(world.until("plan"), PlanResult((PlannedTask(1, "a"), PlannedTask(2, "b"), PlannedTask(3, "c", depends_on=(1,)))))
    runs = world.open("task")
    for run in runs:
        world.start(run)
    world.fail(runs[0])
    found = {obstacle.what: obstacle for obstacle in asked(world).obstacles}
    assert found["task 1 of phase 1"].frees == "qd retry shop-o1 --task 1, when nothing else of the phase runs any more"
    assert found["task 3 of phase 1"].frees == "by itself when task 1 is done"
    assert "when nothing else of phase 1 runs any more: `qd why shop-o1`" in world.do(c.Retry("shop-o1", task=1)).message
    world.end(runs[1])
    world.end(world.only("task-review"))
    found = {obstacle.what: obstacle for obstacle in asked(world).obstacles}
    assert found["task 1 of phase 1"].frees == "qd retry shop-o1 --task 1"


def test_a_task_that_is_inserted_into_a_blocked_phase_waits_for_the_retry() -> None:
    world = planned(max_task_attempts=1)
    for _ in range(2):
        run = world.only("task")
        world.start(run)
        world.fail(run)
    world.do(c.TaskInsert("shop-o1", "1", 0, "more", target_revision=1, depends_on=(), blocks=()))
    found = {obstacle.what: obstacle for obstacle in asked(world).obstacles}
    waits = found["task 4 of phase 1"]
    assert (waits.reason, waits.frees) == ("it is ready, and nothing starts while it is held: blocked", "qd retry shop-o1, or qd cancel shop-o1")


def test_a_blocked_task_is_named_with_its_code_and_the_retry() -> None:
    world = planned(max_task_attempts=1)
    for _ in range(2):
        run = world.only("task")
        world.start(run)
        world.fail(run)
    found = {obstacle.what: obstacle for obstacle in asked(world).obstacles}
    assert (found["task 1 of phase 1"].reason_code, found["task 1 of phase 1"].frees) == ("dispatch_cli_exit_nonzero", "qd retry shop-o1 --task 1")
    assert found["task 3 of phase 1"].reason == "it waits for task 1 (blocked), task 2 (blocked)"


def test_later_phases_come_after_the_one_that_stands() -> None:
    world = World(phases=2)
    world.until("validate")
    assert [(o.what, o.reason) for o in asked(world).obstacles][-2:] == [
        ("phase 1", "it comes after the validation"),
        ("phase 2", "it comes after the validation"),
    ]
    world.until("task")
    assert asked(world).obstacles[-1].reason == "it comes after phase 1"


def test_what_has_ended_says_how_and_what_to_do() -> None:
    world = World()
    world.finish()
    assert (first(world).reason, first(world).frees) == ("it is complete", "nothing: the work is on branch qd/basket")
    cancelled = World()
    cancelled.until("validate")
    cancelled.do(c.Cancel("shop-o1"))
    for run in cancelled.open():
        cancelled.withdraw(run)
    assert "it ended cancelled" in first(cancelled).reason
    assert "qd launch shop-d1" in first(cancelled).frees


def test_a_disagreement_of_reviewers_is_a_gate_that_passes_or_has_gaps() -> None:
    from tests.unit.controller.world import GAPS

    world = World(overrides={"model": {"review_consensus": True}})
    run = world.until("review")
    world.end(run)
    world.end(world.only("review"), GAPS)
    assert "(pass)" in first(world).frees
